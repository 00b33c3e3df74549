"""The commit protocol, stopped at every point where a process can die.

Whole lives of an output: night after night shards come, change, vanish and come back, units grow
and shrink, models change, and power fails at any storage operation. What reading and scoring would
give is made up here, a pure function of shard, row and model; the planning, the commits and the
order of writes are the real ones.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from memory_output import FragileOutput, Fuse, MemoryFiles, Moment, PowerCut

from sentiment.block import (
    CARRIER_FIELDS,
    DETAIL,
    LABEL,
    OFF_LABEL,
    RAW,
    READ_SEC,
    REASON,
    ROW,
    ROW_END,
    SCORE,
    SCORE_SEC,
    STAGE,
    TOKENISE_SEC,
    TOKENS,
    TRUNCATED,
    UNIT,
)
from sentiment.output.commit import Stamp, commit_rowless, commit_unit
from sentiment.output.committed import read_committed
from sentiment.output.finish import finish, mark_incomplete
from sentiment.output.folder import Output
from sentiment.output.gone import retire
from sentiment.output.layout import REJECTED_FOLDER, SUCCESS_FILE
from sentiment.output.plan import plan_run
from sentiment.output.receipt import Footer
from sentiment.source.shards import Damage, Shard, ShardFormat, ShardIndex, Unit

COLUMNS = pa.schema([("text", pa.string())])
PLACES = [("dt=1", "a.parquet"), ("dt=1", "b.csv"), ("dt=2", "c.jsonl"), ("", "d.parquet")]
URIS = [f"/lake/{folder}/{name}" if folder else f"/lake/{name}" for folder, name in PLACES]
FOLDERS = sorted({folder for folder, _ in PLACES})
VERSIONS = 2
MODELS = 2

# Row number to what became of it: a label, or the reason of its reject. DAMAGED stands at the row
# where damage starts, and at row 0 where it is the whole shard: that differs in words only.
DAMAGED = ("reject", "damage")
Answers = dict[int, tuple[str, str]]


@dataclass(frozen=True)
class Version:
    """What a shard holds at one time. Its number is its fingerprint."""

    rows: int
    cut_rows: int
    damaged: bool


@dataclass(frozen=True)
class State:
    """A shard in one night: which version, and whether the file can be opened at all."""

    version: int
    readable: bool = True


Lake = tuple[State | None, ...]


@dataclass(frozen=True)
class Night:
    """One run over the lake.

    Attributes:
        lake: The state of each place; None where there is no shard.
        order: Seed of the order in which units are scored.
        retire: Whether the output of shards that are gone is removed.
        fails_after: Storage operations until the power fails; None for never.
    """

    lake: Lake
    model: int
    unit_rows: int
    order: int
    retire: bool
    fails_after: int | None
    moment: Moment


@dataclass(frozen=True)
class Life:
    """The life of an output. After the last night comes one more, like it, without a power cut."""

    versions: tuple[tuple[Version, ...], ...]
    nights: tuple[Night, ...]


@st.composite
def lives(draw: st.DrawFn) -> Life:
    version = st.builds(Version, st.integers(0, 9), st.integers(1, 4), st.booleans())
    versions = [draw(st.tuples(*[version] * VERSIONS)) for _ in PLACES]
    states = [State(version) for version in range(VERSIONS)]
    state = st.sampled_from([None, *states, *states, State(0, readable=False)])
    nights: list[Night] = []
    for _ in range(draw(st.integers(1, 6))):
        before = nights[-1] if nights else None
        fresh = st.tuples(*[state] * len(PLACES)).filter(any)
        # Mostly the same command again: that is where a run goes on from what another left.
        lake = st.just(before.lake) | fresh if before else fresh
        model = st.just(before.model) | st.integers(0, MODELS - 1) if before else st.just(0)
        size = st.just(before.unit_rows) | st.integers(1, 6) if before else st.integers(1, 6)
        nights.append(
            Night(
                lake=draw(lake),
                model=draw(model),
                unit_rows=draw(size),
                order=draw(st.integers(0, 3)),
                retire=draw(st.booleans()),
                fails_after=draw(st.integers(0, 40)),
                moment=draw(st.sampled_from(["before", "torn", "after"])),
            )
        )
    return Life(tuple(versions), tuple(nights))


def shard_at(place: int, state: State, version: Version) -> Shard:
    folder, name = PLACES[place]
    kinds: dict[str, ShardFormat] = {"parquet": "parquet", "csv": "csv", "jsonl": "jsonl"}
    # Permissions change neither size nor time: an unreadable shard keeps its fingerprint.
    fingerprint = f"v{state.version}"
    return Shard(
        URIS[place], folder, name, kinds[name.rpartition(".")[2]], fingerprint, 10 * version.rows
    )


def index_of(shard: Shard, state: State, version: Version) -> ShardIndex:
    if not state.readable:
        return ShardIndex(shard, 0, None, damage=Damage(-1, "unreadable_file", "not permitted"))
    damage = Damage(version.rows, "unreadable_rows", "torn") if version.damaged else None
    cuts: tuple[tuple[int, int | None], ...] = ((0, None),)
    if shard.format != "parquet":
        starts = range(0, max(1, version.rows), version.cut_rows)
        cuts = tuple((row, 7 + 10 * row) for row in starts)
    return ShardIndex(shard, version.rows, COLUMNS, cuts, damage)


def indexes_of(life: Life, lake: Lake) -> list[ShardIndex]:
    found = []
    for place, state in enumerate(lake):
        if state is not None:
            version = life.versions[place][state.version]
            found.append(index_of(shard_at(place, state, version), state, version))
    return found


def answer(shard: Shard, row: int, model: int) -> tuple[str, str]:
    """What becomes of a row: some cannot be read, some this model fails on."""
    key = f"{shard.uri} {shard.fingerprint}"
    if zlib.crc32(f"{key} {row // 3}".encode()) % 7 == 0:
        return "reject", "unreadable_rows"
    chance = zlib.crc32(f"{key} {row} {model}".encode()) % 12
    if chance < 3:
        return "reject", ("null_text", "empty_text", "scoring_error")[chance]
    return "label", f"{'positive' if chance < 8 else 'negative'} {shard.fingerprint} {model}"


def truth(index: ShardIndex, model: int) -> Answers:
    """What an uninterrupted run makes of a shard."""
    answers = {row: answer(index.shard, row, model) for row in range(index.rows)}
    if index.damage is not None:
        answers[max(0, index.damage.first_row)] = DAMAGED
    return answers


def scored(unit: Unit, model: int) -> pa.Table:
    """A block as the scorer would leave it; rows that are lost together share one reject."""
    records: list[dict[str, Any]] = []
    for row in range(unit.first_row, unit.last_row + 1):
        kind, said = answer(unit.shard, row, model)
        last = records[-1] if records else None
        if last and said == last[REASON] == "unreadable_rows" and last[ROW_END] == row - 1:
            last[ROW_END] = row
            continue
        good = kind == "label"
        records.append(
            {
                "text": f"row {row}" if good else None,
                ROW: row,
                ROW_END: row,
                STAGE: None if good else "score",
                REASON: None if good else said,
                DETAIL: None,
                RAW: None,
                READ_SEC: 0.0,
                TOKENS: 3,
                TRUNCATED: False,
                TOKENISE_SEC: 0.0,
                LABEL: said if good else None,
                SCORE: 0.75 if good else None,
                OFF_LABEL: 0.125 if good else None,
                SCORE_SEC: 0.0,
            }
        )
    fields = [field for field in CARRIER_FIELDS if field.name != UNIT]
    schema = pa.schema(
        [
            *COLUMNS,
            *fields,
            pa.field(TOKENS, pa.int32()),
            pa.field(TRUNCATED, pa.bool_()),
            pa.field(TOKENISE_SEC, pa.float32()),
            pa.field(LABEL, pa.string()),
            pa.field(SCORE, pa.float32()),
            pa.field(OFF_LABEL, pa.float32()),
            pa.field(SCORE_SEC, pa.float32()),
        ]
    )
    block = pa.Table.from_pylist(records, schema)
    units = pa.DictionaryArray.from_arrays(
        pa.array([0] * len(records), pa.int32()), pa.array([unit.to_json()])
    )
    return block.append_column(UNIT, units)


def run(
    output: FragileOutput, indexes: Sequence[ShardIndex], night: Night, places: Sequence[str] = ()
) -> None:
    """A run as `sentiment.scoring.job` goes about it; units are committed in random order.

    Args:
        places: Shards the sources would hold if they were there.
    """
    stamp = Stamp(f"model {night.model}", f"config {night.model}", "0.1.0", "sentiment")
    uris = {index.shard.uri for index in indexes}
    committed = read_committed(output, [index.shard for index in indexes])
    plan = plan_run(
        indexes,
        committed.footers,
        config_digest=stamp.config_digest,
        unit_rows=night.unit_rows,
        on_change="rescore",
    )
    gone = [one for one in committed_files(output) if one.source_file in set(places) - uris]
    mark_incomplete(output, plan)
    done: dict[str, list[Footer]] = defaultdict(list)
    folders = plan.folders

    def complete(folder: str) -> None:
        if night.retire:
            retire(output, [footer for footer in gone if footer.folder == folder])
        was_complete = folder in committed.complete
        found = finish(output, folder, folders[folder], done, was_complete=was_complete)
        assert found is None or not found.is_ours

    for one in plan.shards:
        if one.rowless:
            footer = commit_rowless(output, stamp, one.index)
            done[footer.source_file].append(footer)
    units = plan.units
    missing = Counter(unit.shard.folder for unit in units)
    for folder in plan.folders:
        if not missing[folder]:
            complete(folder)
    Random(night.order).shuffle(units)
    for unit in units:
        footer = commit_unit(output, stamp, unit, scored(unit, night.model))
        done[footer.source_file].append(footer)
        missing[unit.shard.folder] -= 1
        if not missing[unit.shard.folder]:
            complete(unit.shard.folder)
    if night.retire:
        retire(output, gone)
    reused = [footer for one in plan.shards for footer in one.reused]
    counted = sum(one.rows for footers in [*done.values(), reused] for one in footers)
    assert counted == sum(one.expected for one in plan.shards)


def committed_files(output: FragileOutput) -> list[Footer]:
    """Footers of all data files; costs no storage operation that the power could cut."""
    found = []
    for path in Output.list_tree(output, ""):
        if path.endswith(".parquet") and not path.startswith("_") and "/." not in f"/{path}":
            with output.filesystem.open_input_file(output.path(path)) as file:
                footer = Footer.from_metadata(pq.ParquetFile(file).metadata.metadata)
            assert footer is not None
            found.append(footer)
    return found


# What is in the output.


@dataclass
class Found:
    """What the files of one shard say.

    Attributes:
        answers: All that is said of each row; more than one where rows are doubled.
        stamps: Fingerprint and configuration of its data files.
        unpaired: Reject files without a data file, and data files that miss theirs.
        total: Rows of the shard, as its files tell.
    """

    answers: dict[int, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    stamps: set[tuple[str, str]] = field(default_factory=set)
    unpaired: list[str] = field(default_factory=list)
    total: int = 0


def look(files: Mapping[str, bytes], folder: str) -> dict[str, Found]:
    """What a reader sees in one folder and its rejects, by shard."""
    found: dict[str, Found] = defaultdict(Found)
    named = set()
    for name, data in files_in(files, folder):
        file = pq.ParquetFile(pa.BufferReader(data))
        footer = Footer.from_metadata(file.metadata.metadata)
        assert footer is not None
        one = found[footer.source_file]
        one.stamps.add((footer.fingerprint, footer.config_digest))
        one.total = footer.shard_rows or 0
        for row in file.read(["sentiment", "sentiment_source_row"]).to_pylist():
            one.answers[row["sentiment_source_row"]].append(("label", row["sentiment"]))
        rejects = f"out/{footer.reject_file}"
        named.add(rejects)
        said = 0
        if rejects in files:
            said = sum(_note(reject, found) for reject in rejects_in(files[rejects]))
        if said != footer.rejected:
            one.unpaired.append(name)
    private = f"{REJECTED_FOLDER}/{folder}" if folder else REJECTED_FOLDER
    for name, data in files_in(files, private):
        if f"out/{private}/{name}" not in named:
            found[rejects_in(data)[0]["source_file"]].unpaired.append(name)
    return found


def rejects_in(data: bytes) -> list[dict[str, Any]]:
    return list(pq.read_table(pa.BufferReader(data)).to_pylist())


def _note(reject: Mapping[str, Any], found: dict[str, Found]) -> int:
    """Add what a reject says of its rows; returns how many they are."""
    answers = found[reject["source_file"]].answers
    first, last = reject["source_row"], reject["source_row_end"]
    if last is None:
        answers[max(0, first)].append(DAMAGED)
        return 1
    for row in range(first, last + 1):
        answers[row].append(("reject", reject["reason"]))
    return int(last - first + 1)


def files_in(files: Mapping[str, bytes], folder: str) -> Iterator[tuple[str, bytes]]:
    """Parquet files directly in a folder that a reader would open, by name."""
    start = f"out/{folder}/" if folder else "out/"
    for path, data in sorted(files.items()):
        name = path[len(start) :]
        if path.startswith(start) and "/" not in name and not name.startswith((".", "_")):
            yield name, data


def problems(
    files: Mapping[str, bytes], folder: str, due: Sequence[tuple[ShardIndex, int]]
) -> list[str]:
    """How a folder differs from what it should hold once it is complete.

    Shards that are gone keep their output, which nobody can check any more.
    """
    found = look(files, folder)
    wrong = []
    for index, model in due:
        one = found[index.shard.uri]
        expected = truth(index, model)
        doubled = sorted(row for row, said in one.answers.items() if len(said) > 1)
        seen = {row: said[0] for row, said in one.answers.items()}
        differ = sorted(row for row in expected if row in seen and seen[row] != expected[row])
        stamp = (index.shard.fingerprint, f"config {model}")
        for what, rows in [
            ("lost", sorted(expected.keys() - seen.keys())),
            ("doubled", doubled),
            ("unknown", sorted(seen.keys() - expected.keys())),
            ("different", differ),
            ("unpaired", one.unpaired),
            ("superseded", sorted(one.stamps - {stamp})),
        ]:
            if rows:
                wrong.append(f"{index.shard.uri}: {what}: {rows}")
    return wrong


def strays(files: Mapping[str, bytes], life: Life, night: Night) -> list[str]:
    """Shards that are gone and still have data files."""
    there = {index.shard.uri for index in indexes_of(life, night.lake)}
    found = [look(files, folder) for folder in FOLDERS]
    return sorted({uri for one in found for uri, files in one.items() if files.stamps} - there)


def half_done(files: Mapping[str, bytes], folder: str, due: set[str]) -> list[str]:
    """Shards that are gone and of which a folder holds a part, or two versions."""
    return [
        uri
        for uri, one in look(files, folder).items()
        if uri not in due
        and (
            len(one.stamps) > 1
            or any(len(said) > 1 for said in one.answers.values())
            or not set(range(one.total)) <= one.answers.keys()
        )
    ]


def due_in(life: Life, night: Night, folder: str) -> list[tuple[ShardIndex, int]]:
    """What a folder holds once a night's run is through."""
    indexes = indexes_of(life, night.lake)
    return [(index, night.model) for index in indexes if index.shard.folder == folder]


def success(files: Mapping[str, bytes], folder: str) -> bool:
    return (f"out/{folder}/{SUCCESS_FILE}" if folder else f"out/{SUCCESS_FILE}") in files


def live(life: Life) -> Counter[str]:
    """Run every night, and check after each what its run, whole or not, has left.

    Returns:
        How often what happened, to see that the interesting things do.
    """
    store, seen = MemoryFiles(), Counter[str]()
    # What each folder was complete with when its `_SUCCESS` was written.
    complete: dict[str, Night] = {}
    nights = [*life.nights, replace(life.nights[-1], fails_after=None)]
    for number, night in enumerate(nights):
        try:
            run(
                FragileOutput.over(store, Fuse(night.fails_after, night.moment)),
                indexes_of(life, night.lake),
                night,
                URIS,
            )
            seen["runs that ended"] += 1
            if night.retire:
                assert strays(store.files, life, night) == [], f"night {number}"
            for folder in FOLDERS:
                if due := due_in(life, night, folder):
                    assert problems(store.files, folder, due) == [], f"night {number}"
                    there = {index.shard.uri for index, _ in due}
                    left = half_done(store.files, folder, there)
                    assert success(store.files, folder) == (not left), f"night {number}: {folder}"
                    seen["folders beside half-done work"] += bool(left)
                    if not left:
                        complete[folder] = night
        except PowerCut:
            seen["power cuts"] += 1
        for folder in FOLDERS:
            if success(store.files, folder):
                told = [problems(store.files, folder, due_in(life, night, folder))]
                if folder in complete and told != [[]]:
                    told.append(
                        problems(store.files, folder, due_in(life, complete[folder], folder))
                    )
                assert [] in told, f"night {number}: {folder} has {SUCCESS_FILE}, but {told}"
                if told[0] == []:
                    complete[folder] = night
    return seen


@pytest.fixture(autouse=True, scope="module")
def _quick_counts() -> Iterator[None]:
    """Metrics are not what is tested here, and pandas takes most of the time of a small unit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sentiment.output.commit.count_unit", lambda **_: {})
        yield


def _lives(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


# Power cuts that once lost or doubled rows, or would have: between the reject file of a unit and
# its data file, and while the output of a shard that comes back was removed.
SHARD = ((Version(9, 4, False), Version(3, 4, False)),) * len(PLACES)
ALONE: Lake = (None, None, None, State(0))
WITH_ANOTHER: Lake = (State(0), State(0), None, None)
ANOTHER: Lake = (None, State(0), None, None)
QUIET = Night(ALONE, 0, 5, 0, retire=False, fails_after=None, moment="before")
UNITS_CHANGE = Life(
    SHARD,
    tuple(
        replace(QUIET, unit_rows=size, fails_after=cut) for cut in range(4, 20) for size in (5, 3)
    ),
)
MODEL_COMES_BACK = Life(
    SHARD,
    tuple(
        replace(QUIET, model=model, fails_after=cut)
        for cut in range(4, 20)
        for model, cut in ((0, None), (1, cut))
    ),
)
SHARD_COMES_BACK = Life(
    SHARD,
    tuple(
        replace(QUIET, lake=lake, retire=True, fails_after=cut)
        for cut in range(1, 20)
        for lake, cut in ((WITH_ANOTHER, None), (ANOTHER, cut))
    ),
)


@example(SHARD_COMES_BACK)
@example(UNITS_CHANGE)
@example(MODEL_COMES_BACK)
@_lives(40)
@given(lives())
def test_every_row_is_there_once_whatever_died_when(life: Life) -> None:
    live(life)


@pytest.mark.faults
@pytest.mark.timeout(1800)
@_lives(int(os.environ.get("SENTIMENT_TEST_LIVES", "2000")))
@given(lives())
def test_every_row_is_there_once_in_thousands_of_lives(life: Life) -> None:
    live(life)


def test_shards_that_share_a_key_keep_their_own_files(monkeypatch: pytest.MonkeyPatch) -> None:
    # 64 bits: nobody will see it happen, and nothing may depend on that.
    for module in ("source.shards", "output.committed", "output.finish"):
        monkeypatch.setattr(f"sentiment.{module}.hash_of", lambda identity: "0" * 16)
    shards = [
        Shard(f"/lake/day={day}/part-0.parquet", f"day={day}", "part-0.parquet", "parquet", "v0", 9)
        for day in (1, 2)
    ]
    assert shards[0].key == shards[1].key
    indexes = [ShardIndex(one, 9, COLUMNS) for one in shards]
    store = MemoryFiles()
    for _ in range(2):
        run(FragileOutput.over(store, Fuse()), indexes, QUIET)
        for index in indexes:
            assert problems(store.files, index.shard.folder, [(index, 0)]) == []
