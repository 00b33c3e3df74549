"""What is done, what is left, and what goes: subtraction over ranges of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.errors import OutputError
from sentiment.output.commit import Stamp, commit_rowless, serialise
from sentiment.output.committed import read_committed
from sentiment.output.finish import finish, mark_incomplete
from sentiment.output.folder import Output
from sentiment.output.layout import reject_file_of
from sentiment.output.plan import Plan, plan_run
from sentiment.output.receipt import Footer
from sentiment.source.shards import Damage, Shard, ShardIndex, Unit

COLUMNS = pa.schema([("text", pa.string())])
STAMP = Stamp("model", "config", "0.1.0", "sentiment")


def shard(name: str = "a.parquet", fingerprint: str = "fp", folder: str = "dt=1") -> Shard:
    return Shard(f"/lake/{folder}/{name}", folder, name, fingerprint, 1000)


def parquet(rows: int, fingerprint: str = "fp", damage: Damage | None = None) -> ShardIndex:
    return ShardIndex(shard(fingerprint=fingerprint), rows, COLUMNS, damage=damage)


def text(rows: int, cuts: Sequence[int] = (0,), damage: Damage | None = None) -> ShardIndex:
    # 100 bytes of header, 10 bytes a record.
    offsets = tuple((cut, 100 + 10 * cut) for cut in cuts)
    return ShardIndex(shard("a.csv"), rows, COLUMNS, offsets, damage)


def footer(unit: Unit, config: str = "config", rejected: int = 0) -> Footer:
    return Footer(
        unit.unit_id,
        unit.shard.uri,
        unit.shard.fingerprint,
        unit.first_row,
        unit.last_row,
        unit.rows - rejected if unit.rows else 0,
        rejected,
        "model",
        config,
        "0.1.0",
    )


def plan(
    *indexes: ShardIndex,
    committed: Sequence[Footer] = (),
    unit_rows: int = 10,
    on_change: str = "refuse",
) -> Plan:
    grouped = by_source({one.unit_id: one for one in committed})
    return plan_run(
        indexes, grouped, config_digest="config", unit_rows=unit_rows, on_change=on_change
    )


def by_source(done: Mapping[str, Footer]) -> dict[str, list[Footer]]:
    grouped: dict[str, list[Footer]] = {}
    for one in done.values():
        grouped.setdefault(one.source_file, []).append(one)
    return grouped


def finish_all(output: Output, result: Plan, done: Mapping[str, Footer]) -> list[str]:
    """Finish every folder of a plan; the folders that are not complete."""
    found = [
        finish(output, folder, shards, by_source(done)) for folder, shards in result.folders.items()
    ]
    return [one.folder for one in found if one is not None]


def rejecting(one: Footer) -> Footer:
    """The footer of a unit with rejects; these are an empty file."""
    return replace(one, reject_file=reject_file_of(one.unit_id, b""))


def write(output: Output, one: Footer) -> None:
    output.write(one.unit_id, serialise(pa.table({"text": pa.array([], pa.string())}), one))


def files(output: Output) -> list[str]:
    root = Path(output.location)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output.open(str(tmp_path / "out"))


# Which rows are left.


@st.composite
def indexes(draw: st.DrawFn) -> ShardIndex:
    rows = draw(st.integers(1, 200))
    if draw(st.booleans()):
        return parquet(rows)
    cuts = draw(st.sets(st.integers(0, rows - 1), max_size=12))
    return text(rows, sorted({0, *cuts}))


def assert_tiles(index: ShardIndex, ranges: Sequence[tuple[int, int]]) -> None:
    covered = [row for first, last in sorted(ranges) for row in range(first, last + 1)]
    assert covered == list(range(index.rows))


@given(indexes(), st.integers(1, 250), st.integers(1, 250), st.data())
def test_what_is_committed_and_what_is_left_cover_every_row_once(
    index: ShardIndex, before: int, now: int, data: st.DataObject
) -> None:
    done = [one for one in plan(index, unit_rows=before).units if data.draw(st.booleans())]
    result = plan(index, committed=[footer(unit) for unit in done], unit_rows=now)
    [left] = result.shards
    assert [one.unit_id for one in left.reused] == [unit.unit_id for unit in done]
    assert left.superseded == ()
    ranges = [(one.first_row, one.last_row) for one in [*left.reused, *left.units]]
    assert_tiles(index, ranges)


@given(
    indexes(),
    st.lists(st.tuples(st.integers(0, 220), st.integers(0, 60)), max_size=6),
    st.integers(1, 250),
)
def test_any_set_of_committed_ranges_is_completed(
    index: ShardIndex, ranges: list[tuple[int, int]], unit_rows: int
) -> None:
    # Overlapping, beyond the end, between the cuts: whatever does not fit is superseded.
    units = [Unit(index.shard, first, first + more) for first, more in dict.fromkeys(ranges)]
    committed = [footer(unit) for unit in units]
    [left] = plan(index, committed=committed, unit_rows=unit_rows).shards
    kept = [(one.first_row, one.last_row) for one in left.reused]
    assert_tiles(index, [*kept, *((one.first_row, one.last_row) for one in left.units)])
    assert sum(one.rows for one in [*left.reused, *left.units]) == left.expected
    written = {unit.unit_id for unit in left.units}
    gone = {one.unit_id for one in left.superseded}
    assert gone | written >= {one.unit_id for one in committed} - {
        one.unit_id for one in left.reused
    }
    assert not gone & written


def test_nothing_is_left_when_everything_is_committed() -> None:
    index = parquet(25)
    [left] = plan(index, committed=[footer(unit) for unit in plan(index).units]).shards
    assert left.done
    assert sum(one.rows for one in left.reused) == left.expected == 25


def test_files_of_another_unit_size_count_once() -> None:
    index = parquet(30)
    committed = [footer(Unit(index.shard, *ends)) for ends in [(0, 19), (10, 19), (0, 9)]]
    [left] = plan(index, committed=committed).shards
    assert [one.unit_id for one in left.reused] == [committed[0].unit_id]
    assert [(unit.first_row, unit.last_row) for unit in left.units] == [(20, 29)]
    assert {one.unit_id for one in left.superseded} == {one.unit_id for one in committed[1:]}


# Shards that changed.


def test_a_changed_shard_is_scored_again() -> None:
    old = [footer(unit) for unit in plan(parquet(25, "old")).units]
    [left] = plan(parquet(25, "new"), committed=old).shards
    assert left.reused == ()
    assert len(left.units) == 3
    # Same ranges, same names: overwritten, so there is nothing to remove.
    assert left.superseded == ()


def test_a_shard_that_shrank_gets_rid_of_its_longer_files() -> None:
    old = [footer(unit) for unit in plan(parquet(25, "old")).units]
    [left] = plan(parquet(12, "new"), committed=old).shards
    assert [unit.last_row for unit in left.units] == [9, 11]
    assert [one.unit_id for one in left.superseded] == [old[1].unit_id, old[2].unit_id]


def test_a_shard_that_shrank_to_nothing_gets_its_file_without_rows() -> None:
    old = [footer(unit) for unit in plan(parquet(25, "old")).units]
    [left] = plan(parquet(0, "new"), committed=old).shards
    assert (left.units, left.rowless, left.expected) == ((), True, 0)
    assert len(left.superseded) == 3


def test_an_empty_shard_is_done_once(output: Output) -> None:
    index = parquet(0)
    assert plan(index).shards[0].rowless
    one = commit_rowless(output, STAMP, index)
    [left] = plan(index, committed=[one]).shards
    assert left.done
    assert left.reused == (one,)


def test_damage_is_committed_once_and_counts_as_one_row(output: Output) -> None:
    damage = Damage(20, "unreadable_rows", "broken gzip")
    index = text(20, (0, 10), damage)
    [left] = plan(index).shards
    assert (left.expected, left.rowless, len(left.units)) == (21, True, 2)
    done = [footer(unit) for unit in left.units]
    done.append(commit_rowless(output, STAMP, index))
    [again] = plan(index, committed=done).shards
    assert again.done
    assert sum(one.rows for one in again.reused) == again.expected


def test_a_file_that_became_readable_drops_its_reject(output: Output) -> None:
    # Permissions change neither size nor time, so the fingerprint is the same.
    index = text(20, (0, 10))
    damage = Damage(-1, "unreadable_file", "permission denied")
    one = commit_rowless(output, STAMP, ShardIndex(index.shard, 0, None, damage=damage))
    [left] = plan(index, committed=[one]).shards
    assert (left.reused, left.superseded, left.rowless) == ((), (one,), False)
    assert sum(unit.rows for unit in left.units) == left.expected == 20


# Outputs of other settings.


def test_other_settings_are_refused() -> None:
    index = parquet(5)
    [unit] = plan(index).units
    with pytest.raises(OutputError, match=r"dt=1/a.parquet-.*--on-change rescore"):
        plan(index, committed=[footer(unit, config="other")])


def test_other_settings_are_replaced_on_request() -> None:
    index = parquet(25)
    old = [footer(Unit(index.shard, 0, 24), config="other")]
    [left] = plan(index, committed=old, on_change="rescore").shards
    assert left.reused == ()
    assert len(left.units) == 3
    assert left.superseded == tuple(old)


# What lies in an output folder.


def test_committed_files_are_found_by_shard(output: Output) -> None:
    index = parquet(25)
    done = [footer(unit) for unit in plan(index).units]
    other = footer(Unit(shard("b.parquet"), 0, 9))
    for one in [*done, other]:
        write(output, one)
    committed = read_committed(output, [index.shard])
    assert committed.footers == {index.shard.identity: done}
    assert sorted(committed.data_files) == sorted(one.unit_id for one in [*done, other])


def test_files_of_others_are_left_alone(output: Output) -> None:
    [unit] = plan(parquet(5)).units
    output.write("dt=1/notes.parquet", b"not even Parquet")
    output.write("dt=1/part-00000-x-y.parquet", b"")
    output.write(f"dt=1/.{unit.file_name}.1234abcd", b"half")
    output.write("dt=1/_SUCCESS", b"")
    committed = read_committed(output, [unit.shard])
    assert committed.footers == {}
    assert committed.complete == {"dt=1"}


@pytest.mark.parametrize("content", [b"", b"PAR1 torn", b"PAR1" + bytes(40) + b"PAR1"])
def test_a_torn_file_is_named(output: Output, content: bytes) -> None:
    [unit] = plan(parquet(5)).units
    output.write(unit.unit_id, content)
    with pytest.raises(OutputError, match=rf"{unit.file_name}: its footer cannot be read"):
        read_committed(output, [unit.shard])


def test_a_file_of_ours_that_is_not_ours_is_named(output: Output) -> None:
    [unit] = plan(parquet(5)).units
    (Path(output.location) / "dt=1").mkdir(parents=True)
    pq.write_table(pa.table({"text": ["x"]}), output.path(unit.unit_id))
    with pytest.raises(OutputError, match=rf"{unit.file_name}: was not written by sentiment"):
        read_committed(output, [unit.shard])


# _SUCCESS.


def committed_all(output: Output, result: Plan) -> dict[str, Footer]:
    done = [footer(unit) for unit in result.units]
    for one in done:
        write(output, one)
    return {one.unit_id: one for one in done}


def test_success_goes_before_the_first_write_and_comes_when_all_is_there(output: Output) -> None:
    result = plan(parquet(25))
    output.write("dt=1/_SUCCESS", b"")
    mark_incomplete(output, result)
    assert files(output) == []
    done = committed_all(output, result)
    assert finish_all(output, result, done) == []
    assert files(output) == sorted([*done, "dt=1/_SUCCESS"])


def test_a_partition_with_a_missing_unit_gets_no_success(output: Output) -> None:
    result = plan(parquet(25), ShardIndex(shard(folder="dt=2"), 5, COLUMNS))
    done = committed_all(output, result)
    del done[result.units[1].unit_id]
    assert finish_all(output, result, done) == ["dt=1"]
    assert [name for name in files(output) if "_SUCCESS" in name] == ["dt=2/_SUCCESS"]


def test_a_partition_without_the_file_of_its_damage_gets_no_success(output: Output) -> None:
    damage = Damage(-1, "unreadable_file", "no footer")
    index = ShardIndex(shard(), 0, None, damage=damage)
    result = plan(index)
    assert finish_all(output, result, {}) == ["dt=1"]
    one = commit_rowless(output, STAMP, index)
    assert finish_all(output, result, {one.unit_id: one}) == []


def test_a_partition_that_is_done_keeps_its_success(output: Output) -> None:
    index = parquet(5)
    result = plan(index, committed=[footer(unit) for unit in plan(index).units])
    output.write("dt=1/_SUCCESS", b"")
    mark_incomplete(output, result)
    assert files(output) == ["dt=1/_SUCCESS"]


def test_an_interrupted_run_that_had_all_but_success_is_completed(output: Output) -> None:
    index = parquet(5)
    done = committed_all(output, plan(index))
    result = plan(index, committed=[*done.values()])
    assert finish_all(output, result, {}) == []
    assert files(output) == sorted([*done, "dt=1/_SUCCESS"])


def test_files_that_the_output_does_not_hold_give_no_success(output: Output) -> None:
    """A worker may have written them to a disk that nobody else sees."""
    result = plan(parquet(25))
    done = committed_all(output, result)
    lost = result.units[1].unit_id
    output.delete(lost)
    found = finish(output, "dt=1", result.shards, by_source(done))
    assert found is not None
    assert f"1 files that were committed are not in the output, first {output.path(lost)}" in (
        found.reason
    )
    assert not output.exists("dt=1/_SUCCESS")


def test_files_of_ours_that_nobody_knows_go(output: Output) -> None:
    """A run that had lost its lease may have written one after the listing."""
    result = plan(parquet(25))
    done = committed_all(output, result)
    stray = rejecting(footer(Unit(result.units[0].shard, 3, 7), rejected=1))
    write(output, stray)
    assert stray.reject_file is not None
    output.write(stray.reject_file, b"")
    assert finish_all(output, result, done) == []
    assert files(output) == sorted([*done, "dt=1/_SUCCESS"])


@pytest.mark.parametrize("last", ["the one that reported", "the late one"])
def test_of_two_attempts_that_reject_in_other_words_the_last_one_counts(
    output: Output, last: str
) -> None:
    result = plan(parquet(5))
    [unit] = result.units
    reported = rejecting(footer(unit, rejected=1))
    late = replace(reported, reject_file=reject_file_of(unit.unit_id, b"late"))
    written = reported if last == "the one that reported" else late
    for one in (reported, late):
        assert one.reject_file is not None
        output.write(one.reject_file, b"")
    write(output, written)
    assert finish_all(output, result, {unit.unit_id: reported}) == []
    assert files(output) == sorted(["dt=1/_SUCCESS", unit.unit_id, str(written.reject_file)])


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ([(0, 9), (10, 19)], None),
        ([(0, 9)], "row 10 is in no file"),
        ([(10, 19)], "row 0 is in no file"),
        ([(0, 9), (5, 19)], "row 5 is in two files"),
    ],
)
def test_other_sources_of_a_folder_must_be_whole(
    output: Output, others: list[tuple[int, int]], why: str | None
) -> None:
    for first, last in others:
        unit = Unit(shard("other.parquet"), first, last)
        write(output, replace(footer(unit), shard_rows=20))
    result = plan(parquet(25))
    done = committed_all(output, result)
    found = finish(output, "dt=1", result.shards, by_source(done))
    assert output.exists("dt=1/_SUCCESS") == (why is None)
    if why is not None:
        assert found is not None
        assert not found.is_ours
        assert f"/lake/dt=1/other.parquet was left half-done, {why}" in found.reason


def test_superseded_files_go_with_their_rejects_when_the_new_ones_are_there(
    output: Output,
) -> None:
    old = [rejecting(footer(unit, rejected=1)) for unit in plan(parquet(25, "old")).units]
    for one in old:
        write(output, one)
        assert one.reject_file is not None
        output.write(one.reject_file, b"")
    result = plan(parquet(12, "new"), committed=old)
    finish_all(output, result, {})
    assert len(files(output)) == 6, "nothing goes while something is missing"
    done = committed_all(output, result)
    assert finish_all(output, result, done) == []
    assert files(output) == sorted([*done, "dt=1/_SUCCESS"])


def test_a_rewritten_file_without_rows_is_not_removed(output: Output) -> None:
    old = commit_rowless(output, STAMP, parquet(0, "old"))
    result = plan(parquet(0, "new"), committed=[old])
    new = commit_rowless(output, STAMP, parquet(0, "new"))
    assert new.unit_id == old.unit_id
    assert finish_all(output, result, {new.unit_id: new}) == []
    assert files(output) == sorted([new.unit_id, "dt=1/_SUCCESS"])


def test_output_at_the_top_needs_no_folder(output: Output) -> None:
    result = plan(ShardIndex(shard(folder=""), 5, COLUMNS))
    done = committed_all(output, result)
    assert finish_all(output, result, done) == []
    assert files(output) == sorted([*done, "_SUCCESS"])
    [unit] = result.units
    assert list(read_committed(output, [unit.shard]).footers) == [unit.shard.identity]
