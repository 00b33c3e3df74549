"""Units that one task reads one after another, and units that end early because they are large."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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
)

from sentiment.output.attempts import Marker, marker_of
from sentiment.output.folder import Output
from sentiment.scoring import execution, job, reading
from sentiment.scoring.packed import pack, unpack
from sentiment.scoring.pipeline import Work
from sentiment.scoring.reading import Reader
from sentiment.settings.jobs import ScoreConfig
from sentiment.source.cut import cut_into_units
from sentiment.source.index import index_shard
from sentiment.source.listing import list_shards
from sentiment.source.options import BY_DEFAULT
from sentiment.source.shards import Unit

LONG = "A fine film. " * 400


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units that end after some 40 kB in memory."""
    monkeypatch.setattr(reading, "_UNIT_BYTES", 40_000)


def repeated(path: Path, rows: int = 50) -> Path:
    """A Parquet shard that says a long text once for all of its rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": [LONG] * rows, "id": list(range(rows))}), path)
    return path


@pytest.mark.usefixtures("small_units")
def test_a_unit_that_ends_early_is_several_files(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    repeated(tmp_path / "lake" / "a.parquet")
    summary = jobs.run(tmp_path / "lake", "--output", out)
    assert summary.ledger.labelled == 50
    assert len(data_files(out)) > 3
    assert is_complete(out)
    assert_every_row_once(out, 50)
    done = jobs.units
    again = jobs.run(tmp_path / "lake", "--output", out)
    assert (again.ledger.reused, jobs.units) == (50, done)


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_run_that_dies_within_such_a_unit_goes_on(
    jobs: InProcess, tmp_path: Path, out: Path, at: int
) -> None:
    repeated(tmp_path / "lake" / "a.parquet")

    def die(number: int, _: Unit) -> None:
        if number == at:
            raise Kill

    jobs.before_unit = die
    with pytest.raises(Kill):
        jobs.run(tmp_path / "lake", "--output", out)
    assert len(data_files(out)) == at
    assert not is_complete(out)
    jobs.before_unit = None
    summary = jobs.run(tmp_path / "lake", "--output", out)
    assert summary.ledger.reused > 0
    assert is_complete(out)
    assert_every_row_once(out, 50)


@pytest.mark.usefixtures("small_units")
def test_a_source_that_changes_within_such_a_unit_costs_no_row(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    path = repeated(tmp_path / "lake" / "a.parquet")

    def change(number: int, _: Unit) -> None:
        if number == 2:
            repeated(path, rows=60)

    jobs.before_unit = change
    error = jobs.failing(tmp_path / "lake", "--output", out)
    assert error.exit_code == 3
    assert not is_complete(out)
    jobs.before_unit = None
    summary = jobs.run(tmp_path / "lake", "--output", out)
    assert summary.ledger.labelled + summary.ledger.reused == 60
    assert_every_row_once(out, 60)
    assert is_complete(out)


def gz(path: Path, rows: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as file:
        file.write("text\n" + "".join(f'"{GOOD[row % 3]} {row}"\n' for row in range(rows)))
    return path


def test_a_pass_marks_what_it_has_read_as_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If its process dies, all of its units are read again, but only one was being read."""
    monkeypatch.setattr("sentiment.source.cut._CUT_ROWS", 2)
    [shard] = list_shards([str(gz(tmp_path / "a.csv.gz", 6))]).shards
    index = index_shard(shard)
    assert index.columns is not None
    units = cut_into_units(index, 2)
    output = Output.open(str(tmp_path / "out"))
    reader = Reader(tuple(units), index.columns, BY_DEFAULT, output.location, "run")
    for _ in range(5):
        blocks = reader()
        next(blocks)
        next(blocks)
    for unit in units[:2]:
        marker = Marker.from_json(output.read(marker_of(unit.unit_id)))
        assert marker is not None
        assert (marker.noted, marker.crashes.total()) == (None, 0)


def test_work_is_done_slice_after_slice(
    jobs: InProcess, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray holds every task of a pipeline in the memory of the driver."""
    monkeypatch.setattr("sentiment.source.cut._CUT_ROWS", 2)
    monkeypatch.setattr(execution, "_PIPELINE_UNITS", 4)
    for name in "abcde":
        gz(tmp_path / "lake" / f"{name}.csv.gz", 6)  # 3 units each
    works = []
    pipeline: Callable[..., object] = execution.run_pipeline

    def noted(work: Work, callback: object) -> object:
        works.append(work)
        return pipeline(work, callback)

    monkeypatch.setattr(execution, "run_pipeline", noted)
    summary = jobs.run(tmp_path / "lake", "--output", out, "--unit-rows", "2")
    assert summary.ledger.labelled == 30
    assert [len(work.passes) for work in works] == [1] * 5
    assert [work.rows_before for work in works] == [0, 6, 12, 18, 24]
    assert_every_row_once(out, 30)


def test_a_block_is_packed_as_it_is() -> None:
    block = pa.table(
        {
            "text": pa.chunked_array([["a"], ["b", None]]),
            "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
            "nothing": pa.nulls(3),
            "ids": pa.array([[1, 2], None, []], pa.list_(pa.int32())),
        },
        schema=pa.schema(
            [
                pa.field("text", pa.string(), nullable=True),
                pa.field("kind", pa.dictionary(pa.int32(), pa.string()), nullable=False),
                pa.field("nothing", pa.null()),
                pa.field("ids", pa.list_(pa.int32())),
            ]
        ),
    )
    for rows in (block, block.slice(1, 1), block.slice(0, 0)):
        packed = pack(rows)
        assert packed.num_rows == 1
        found = unpack(packed)
        assert found.equals(rows)
        assert found.schema == rows.schema


@pytest.mark.ray
def test_ray_keeps_the_units_of_a_pass_apart(
    local_ray: None, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentiment.source.cut._CUT_ROWS", 8)
    lake, out = tmp_path / "lake", tmp_path / "out"
    gz(lake / "a.csv.gz", 44)
    pq.write_table(
        pa.table({"text": [f"{GOOD[row % 3]} {row}" for row in range(30)]}), lake / "b.parquet"
    )
    summary = job.score(
        ScoreConfig(
            sources=[str(lake)],
            output=str(out),
            model=str(tiny_model),
            precision="fp32",
            unit_rows=8,
            quiet=True,
        )
    )
    assert summary.ledger.labelled == 74
    assert len(data_files(out)) == 6 + 4
    assert len(labels_in(out)) == 74
    assert_every_row_once(out, 74)


def test_task_workers_import_no_heavy_library() -> None:
    """A worker imports the modules of the stages that it runs, once per process."""
    script = "import sys, sentiment.scoring.packed; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert not {"torch", "transformers"} & set(done.stdout.split())
