"""What passes is no verdict on a row: sources that change, faults of storage, runs that overlap."""

from __future__ import annotations

import dataclasses
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from in_process import (
    GOOD,
    InProcess,
    Kill,
    assert_every_row_once,
    data_files,
    is_complete,
    labels_in,
    rejects_in,
    write_csv,
    write_parquet,
)

from sentiment.block import ROW, TRANSIENT_REASONS, reject_rows
from sentiment.errors import LeaseLostError, LedgerError, OutputError
from sentiment.output.attempts import Marker, marker_of
from sentiment.output.folder import Output
from sentiment.output.holder import Holder
from sentiment.output.layout import ATTEMPTS_FOLDER, LEASE_FILE
from sentiment.scoring import execution, indexing, job, night, stages
from sentiment.source.formats import compression
from sentiment.source.listing import list_shards
from sentiment.source.shards import Unit


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        write_csv(tmp_path / "lake" / "dt=1" / f"{name}.csv", GOOD)
    return tmp_path / "lake"


# The account and the listing.


def test_what_workers_commit_to_a_disk_of_their_own_is_not_in_the_output(
    jobs: InProcess, lake: Path, out: Path, tmp_path: Path
) -> None:
    jobs.commit_to = str(tmp_path / "disk of another node")
    error = jobs.failing(lake, "--output", out)
    assert isinstance(error, LedgerError)
    assert error.exit_code == 3
    assert "is --output storage that every node sees?" in str(error)
    assert not is_complete(out, "dt=1")
    jobs.commit_to = None
    assert jobs.run(lake, "--output", out).ledger.labelled == 9
    assert_every_row_once(out, 9)
    assert is_complete(out, "dt=1")


def test_a_file_that_vanishes_during_the_run_is_missed(
    jobs: InProcess, lake: Path, out: Path
) -> None:
    jobs.run(lake / "dt=1" / "a.csv", "--output", out)
    [done] = data_files(out)

    def lose(number: int, unit: Unit) -> None:
        done.unlink(missing_ok=True)

    jobs.before_unit = lose
    error = jobs.failing(lake, "--output", out)
    assert done.name in str(error)
    assert not is_complete(out, "dt=1")
    jobs.before_unit = None
    jobs.run(lake, "--output", out)
    assert_every_row_once(out, 9)


# Sources that change.


def grow(path: Path) -> None:
    with path.open("a") as file:
        file.write("Appended while it ran.\n")


@pytest.mark.parametrize("kind", ["appended", "gone", "replaced"])
def test_a_source_that_changes_during_a_run_keeps_its_old_rows(
    jobs: InProcess, lake: Path, out: Path, kind: str
) -> None:
    jobs.run(lake, "--output", out)
    before = labels_in(out)
    hot = lake / "dt=1" / "b.csv"
    grow(hot)

    def change(number: int, unit: Unit) -> None:
        if kind == "appended":
            grow(hot)
        elif kind == "gone":
            hot.unlink(missing_ok=True)
        else:
            write_csv(hot, ["Another review.", *GOOD, "And one more.", "And one more."])

    jobs.before_unit = change
    error = jobs.failing(lake, "--output", out)
    assert isinstance(error, LedgerError)
    assert str(hot) in str(error)
    assert labels_in(out) == before, "old rows stay until the new ones are there"
    assert rejects_in(out) == []
    assert not is_complete(out, "dt=1")
    jobs.before_unit = None
    if kind == "gone":
        write_csv(hot, GOOD)
    jobs.run(lake, "--output", out)
    rows = len(hot.read_text().splitlines()) - 1
    assert_every_row_once(out, 6 + rows)
    assert is_complete(out, "dt=1")


def test_a_run_that_waits_for_the_lease_lists_afterwards(
    jobs: InProcess, lake: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would act on what it listed before the other run ended."""
    order: list[str] = []
    hold, listing = job.hold, night.list_shards

    @contextmanager
    def holding(*arguments: Any) -> Iterator[Any]:
        order.append("lease")
        with hold(*arguments) as lease:
            yield lease

    def list_later(*arguments: Any) -> Any:
        order.append("list")
        return listing(*arguments)

    monkeypatch.setattr(job, "hold", holding)
    monkeypatch.setattr(night, "list_shards", list_later)
    jobs.run(lake, "--output", out)
    assert order == ["lease", "list"]


# Two writers.


def expire_lease(out: Path) -> None:
    """Sixty seconds without a sign of life: as if it were released."""
    output = Output.open(str(out))
    holder = Holder.from_bytes(output.read(LEASE_FILE))
    assert holder is not None
    output.write(LEASE_FILE, dataclasses.replace(holder, released=True).to_bytes())


def test_a_suspended_run_changes_nothing_once_another_has_taken_over(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    source = write_parquet(tmp_path / "r.parquet", [GOOD[n % 3] for n in range(64)])

    def taken_over(number: int, unit: Unit) -> None:
        if number != 1 or unit.rows != 16:
            return
        expire_lease(out)
        jobs.run(source, "--output", out, "--unit-rows", "64")
        assert_every_row_once(out, 64)

    jobs.before_unit = taken_over
    error = jobs.failing(source, "--output", out, "--unit-rows", "16")
    assert isinstance(error, LeaseLostError)
    assert error.exit_code == 3
    assert_every_row_once(out, 64)
    assert is_complete(out)
    jobs.before_unit = None
    assert jobs.run(source, "--output", out, "--unit-rows", "16").ledger.reused == 64


def test_a_fault_that_another_run_has_made_names_the_lost_lease(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    """The other run has removed the folder of the markers, for example."""
    source = write_parquet(tmp_path / "r.parquet", [GOOD[n % 3] for n in range(64)])

    def fails(number: int, unit: Unit) -> None:
        if unit.rows == 16:
            expire_lease(out)
            jobs.run(source, "--output", out, "--unit-rows", "64")
            raise OutputError("attempts/1.json cannot be written (No such file or directory)")

    jobs.before_unit = fails
    error = jobs.failing(source, "--output", out, "--unit-rows", "16")
    assert isinstance(error, LeaseLostError)
    assert_every_row_once(out, 64)


def test_a_commit_that_was_late_takes_its_file_back(
    jobs: InProcess, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is suspended between its last look at the lease and the end of its write."""
    source = write_parquet(tmp_path / "r.parquet", [GOOD[n % 3] for n in range(64)])
    write, seen = Output.write, [0]

    def late(self: Output, relative: str, data: bytes) -> None:
        if relative.endswith("-0000000015.parquet") and not seen[0]:
            seen[0] = 1
            self.check_fence()
            lease = Output.open(str(out))
            holder = Holder.from_bytes(lease.read(LEASE_FILE))
            assert holder is not None
            write(lease, LEASE_FILE, dataclasses.replace(holder, released=True).to_bytes())
            jobs.run(source, "--output", out, "--unit-rows", "64")
            write(dataclasses.replace(self, fence=None), relative, data)
            return
        write(self, relative, data)

    monkeypatch.setattr(Output, "write", late)
    error = jobs.failing(source, "--output", out, "--unit-rows", "16")
    assert isinstance(error, LeaseLostError)
    assert seen == [1]
    assert_every_row_once(out, 64)


# Faults of storage that pass.


class FaultyFile(io.RawIOBase):
    """A file that cannot be read while there are faults left, but for its ends."""

    def __init__(self, path: str, faults: list[Exception]) -> None:
        self.file, self.faults = io.BytesIO(Path(path).read_bytes()), faults
        self.size = os.path.getsize(path)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, *where: int) -> int:
        return self.file.seek(*where)

    def tell(self) -> int:
        return self.file.tell()

    def read(self, size: int = -1) -> bytes:
        if self.faults and 4 < self.file.tell() < self.size * 3 // 4:
            raise self.faults.pop()
        return self.file.read(size)

    def close(self) -> None:
        self.file.close()


def fault_at(kind: str) -> Exception:
    return {
        "gcs": OSError("google::cloud::Status(UNAVAILABLE: Retry policy exhausted)"),
        "stale": OSError(116, "Stale file handle"),
        "io": OSError(5, "Input/output error"),
    }[kind]


@pytest.mark.parametrize("kind", ["gcs", "stale", "io"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_read_error_that_passes_rejects_nothing(
    jobs: InProcess, tmp_path: Path, out: Path, kind: str, times: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    texts = [f"{GOOD[n % 3]} {n}" for n in range(3000)]
    source = write_parquet(tmp_path / "r.parquet", texts, row_group_size=1000)
    faults: list[Exception] = []

    class Files:
        def open_input_file(self, path: str) -> pa.NativeFile:
            return pa.PythonFile(FaultyFile(path, faults), mode="r")

    real = compression.open_filesystem
    monkeypatch.setattr(compression, "open_filesystem", lambda uri: (Files(), real(uri)[1]))

    def arm(number: int, unit: Unit) -> None:
        if number == 0 and not faults and jobs.units == 0:
            faults.extend(fault_at(kind) for _ in range(times))

    jobs.before_unit = arm
    try:
        jobs.run(source, "--output", out, "--max-rejected", "1")
    except LedgerError:
        assert times > 1
        assert not is_complete(out)
        jobs.run(source, "--output", out)
    assert faults == []
    assert rejects_in(out) == []
    assert_every_row_once(out, 3000)
    assert is_complete(out)


def test_a_node_that_does_not_see_the_source_rejects_nothing(
    jobs: InProcess, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_parquet(tmp_path / "r.parquet", [GOOD[n % 3] for n in range(300)])

    def unmount(number: int, unit: Unit) -> None:
        if source.exists():
            source.rename(tmp_path / "hidden")

    jobs.before_unit = unmount
    error = jobs.failing(source, "--output", out, "--max-rejected", "1")
    assert "does not see it" in str(error)
    assert rejects_in(out) == []
    assert labels_in(out) == {}
    jobs.before_unit = None
    (tmp_path / "hidden").rename(source)
    jobs.run(source, "--output", out)
    assert_every_row_once(out, 300)


def test_a_listing_fault_is_no_verdict_on_the_file(
    jobs: InProcess, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A footer that cannot be read once: the file is not damaged."""
    source = write_parquet(tmp_path / "r.parquet", GOOD)
    real, left = compression.open_filesystem, [1]

    def failing_once(uri: str) -> Any:
        if left[0]:
            left[0] -= 1
            raise OSError(5, "Input/output error")
        return real(uri)

    monkeypatch.setattr(compression, "open_filesystem", failing_once)
    jobs.run(source, "--output", out)
    assert left == [0]
    assert rejects_in(out) == []
    assert_every_row_once(out, 3)


def test_damage_that_stays_is_rejected_once_and_looked_at_again(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    source = write_parquet(tmp_path / "r.parquet", GOOD)
    whole = source.read_bytes()
    source.write_bytes(whole[:-6])
    for _ in range(2):
        summary = jobs.run(source, "--output", out, "--max-rejected", "1")
        [reject] = rejects_in(out)
        assert reject["reason"] == "unreadable_file"
        assert summary.ledger.expected == 1
    source.write_bytes(whole)
    jobs.run(source, "--output", out)
    assert rejects_in(out) == []
    assert_every_row_once(out, 3)


def test_a_link_that_leads_nowhere_is_rejected_but_costs_no_label(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    """A mount may be missing tonight; a link that never led anywhere holds no rows."""
    source = write_parquet(tmp_path / "mount" / "r.parquet", GOOD)
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "r.parquet").symlink_to(source)
    (tmp_path / "lake" / "never.parquet").symlink_to("nowhere")
    jobs.run(tmp_path / "lake", "--output", out, "--max-rejected", "1")
    [reject] = rejects_in(out)
    assert reject["reason"] == "unreadable_file"
    assert len(labels_in(out)) == 3
    source.parent.rename(tmp_path / "unmounted")
    error = jobs.failing(tmp_path / "lake", "--output", out, "--max-rejected", "1")
    assert "lake/r.parquet: leads nowhere now; its labels stay" in str(error)
    assert len(labels_in(out)) == 3
    (tmp_path / "unmounted").rename(source.parent)
    summary = jobs.run(tmp_path / "lake", "--output", out, "--max-rejected", "1")
    assert summary.ledger.reused >= 3
    assert_every_row_once(out, 4)


# Crashes of workers.


@pytest.mark.parametrize("stage", ["read", "tokenise", "score"])
def test_deaths_that_no_driver_has_seen_count_for_nothing(
    jobs: InProcess, tmp_path: Path, out: Path, stage: str
) -> None:
    source = write_parquet(tmp_path / "r.parquet", GOOD)
    [shard] = list_shards([str(source)]).shards
    crashes = Counter({f"{stage} 0-3": 9, f"{stage} 1-2": 9})
    marker = Marker("token of a dead run", shard.fingerprint, crashes, (stage, "0-3"))
    Output.open(str(out)).write(marker_of(Unit(shard, 0, 2).unit_id), marker.to_json())
    jobs.run(source, "--output", out)
    assert rejects_in(out) == []
    assert_every_row_once(out, 3)
    assert not (out / ATTEMPTS_FOLDER).exists()


def test_a_killed_driver_leaves_what_the_next_run_needs_no_more(
    jobs: InProcess, lake: Path, out: Path
) -> None:
    def kill(number: int, unit: Unit) -> None:
        if number == 2:
            raise Kill

    jobs.before_unit = kill
    with pytest.raises(Kill):
        jobs.run(lake, "--output", out)
    jobs.before_unit = None
    jobs.run(lake, "--output", out)
    assert_every_row_once(out, 9)
    assert not (out / ATTEMPTS_FOLDER).exists()


# What a run with nothing to do does.


def test_a_run_with_nothing_to_do_opens_no_source(
    jobs: InProcess, lake: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(lake / "dt=2" / "r.parquet", GOOD)
    jobs.run(lake, "--output", out)

    def refuse(*_: Any) -> Any:
        raise AssertionError("a source was read again")

    for name in ("layout_of", "index_delimited", "index_json", "index_groups"):
        monkeypatch.setattr(f"sentiment.source.index.{name}", refuse)
    summary = jobs.run(lake, "--output", out)
    assert (summary.ledger.reused, summary.ledger.expected) == (12, 12)
    assert jobs.units == 4


def test_only_what_is_new_is_opened(
    jobs: InProcess, lake: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.run(lake, "--output", out)
    new = write_csv(lake / "dt=1" / "d.csv", GOOD)
    opened: list[str] = []
    index = indexing.index_shards

    def watching(shards: Any, *rest: Any, **settings: Any) -> Any:
        opened.extend(shard.uri for shard in shards)
        return index(shards, *rest, **settings)

    monkeypatch.setattr(indexing, "index_shards", watching)
    assert jobs.run(lake, "--output", out).ledger.labelled == 3
    assert opened == [str(new)]


# A late attempt of a unit.


@pytest.mark.parametrize("dies_at", ["data", "rejects", "never"])
def test_a_late_attempt_of_a_unit_harms_nothing(
    jobs: InProcess, tmp_path: Path, out: Path, dies_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_csv(tmp_path / "r.csv", [*GOOD, ""])
    late: list[Callable[[], object]] = []
    pipeline = jobs.pipeline

    def twice(work: Any, callback: Any = None) -> Iterator[Any]:
        late.append(lambda: list(pipeline(work, callback)))
        yield from pipeline(work, callback)

    monkeypatch.setattr(execution, "run_pipeline", twice)
    jobs.run(source, "--output", out, "--max-rejected", "1")
    before = labels_in(out)
    write = Output.write

    def dying(self: Output, relative: str, data: bytes) -> None:
        is_data = not relative.startswith("_sentiment")
        if relative.endswith((".parquet", ".pq")) and is_data == (dies_at == "data"):
            raise Kill
        write(self, relative, data)

    # Its fence would stop it once another run has begun; this one has merely ended.
    monkeypatch.setattr("sentiment.output.fence.Fence.check", lambda *_: None)
    if dies_at != "never":
        monkeypatch.setattr(Output, "write", dying)
        with pytest.raises(Kill):
            late[0]()
        monkeypatch.undo()
    else:
        late[0]()
    assert labels_in(out) == before
    [path] = data_files(out)
    assert pq.read_metadata(path).num_rows == 3
    assert [one["reason"] for one in rejects_in(out)] == ["empty_text"]


def test_no_error_names_a_review(jobs: InProcess, lake: Path, out: Path) -> None:
    jobs.commit_to = "/dev/null/nowhere"
    error = jobs.failing(lake, "--output", out)
    assert isinstance(error, OutputError)
    assert not any(text in str(error) for text in GOOD)


# Rejects that another run may not find.


def test_a_replay_of_what_may_pass_leaves_the_rest(
    jobs: InProcess, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_parquet(tmp_path / "r.parquet", [GOOD[0], "", GOOD[1], GOOD[2]])
    real = stages.tokenise_block

    def crashing(rows: pa.Table, *rest: Any) -> pa.Table:
        block = real(rows, *rest)
        bad = [n for n, row in enumerate(block[ROW].to_pylist()) if row == 2]
        return reject_rows(
            block, bad, "tokenise", ["tokenising_error"] * len(bad), [None] * len(bad)
        )

    monkeypatch.setattr(stages, "tokenise_block", crashing)
    jobs.run(source, "--output", out, "--unit-rows", "2", "--max-rejected", "1")
    reasons = [one["reason"] for one in rejects_in(out)]
    assert sorted(reasons) == ["empty_text", "tokenising_error"]
    monkeypatch.setattr(stages, "tokenise_block", real)
    jobs.units = 0
    assert jobs.run(source, "--output", out, "--max-rejected", "1").ledger.reused == 4
    summary = jobs.run(source, "--output", out, "--max-rejected", "1", again=TRANSIENT_REASONS)
    assert jobs.units == 1, "the unit of the empty text is left alone"
    assert summary.ledger.labelled == 2
    assert [one["reason"] for one in rejects_in(out)] == ["empty_text"]
    assert_every_row_once(out, 4)
