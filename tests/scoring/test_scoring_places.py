"""A source has one identity and one place in an output, however it is named."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from in_process import (
    GOOD,
    InProcess,
    assert_every_row_once,
    data_files,
    is_complete,
    labels_in,
    rejects_in,
    write_csv,
    write_parquet,
)

from sentiment.errors import ConfigError, RejectedRowsError, SourceError
from sentiment.output.commit import serialise
from sentiment.output.folder import Output
from sentiment.output.receipt import Footer
from sentiment.source.options import ReadOptions
from sentiment.verification.job import check


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    write_csv(tmp_path / "lake" / "en" / "reviews.csv", GOOD)
    return tmp_path / "lake"


@pytest.mark.parametrize("first", ["", "en", "en/reviews.csv", "*/reviews.csv"])
@pytest.mark.parametrize("second", ["", "en", "en/reviews.csv", "*/reviews.csv"])
def test_a_lake_and_its_parts_are_the_same_rows(
    jobs: InProcess, lake: Path, out: Path, first: str, second: str
) -> None:
    jobs.run(lake / first, "--output", out)
    again = jobs.run(lake / second, "--output", out)
    assert again.ledger.reused == 3
    assert_every_row_once(out, 3)


@pytest.mark.parametrize("order", [("", "dt=1", "dt=1/en"), ("dt=1/en", "dt=1", "")])
def test_partitions_may_be_named_from_any_level(
    jobs: InProcess, tmp_path: Path, out: Path, order: tuple[str, ...]
) -> None:
    write_csv(tmp_path / "lake" / "dt=1" / "en" / "x.csv", GOOD)
    for part in order:
        jobs.run(tmp_path / "lake" / part, "--output", out)
        assert_every_row_once(out, 3)
    [path] = data_files(out)
    assert is_complete(out, str(path.parent.relative_to(out)))


def test_a_link_is_what_it_leads_to(jobs: InProcess, tmp_path: Path, out: Path) -> None:
    write_csv(tmp_path / "real" / "reviews.csv", GOOD)
    (tmp_path / "current").symlink_to(tmp_path / "real")
    (tmp_path / "one.csv").symlink_to(tmp_path / "real" / "reviews.csv")
    real, current, one = (tmp_path / name for name in ("real", "current", "one.csv"))
    for sources in ([current], [real], [current, real], [one], [f"file://{real}"]):
        summary = jobs.run(*sources, "--output", out)
        assert summary.ledger.expected == 3
        assert_every_row_once(out, 3)
    assert {file for file, _, _ in labels_in(out)} == {str(real / "reviews.csv")}


def test_a_link_that_leads_elsewhere_tonight_is_another_source(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    for day in ("monday", "tuesday"):
        write_csv(tmp_path / day / "reviews.csv", GOOD)
        link = tmp_path / "current"
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / day)
        jobs.run(link, "--output", out)
    assert_every_row_once(out, 6)


@pytest.mark.parametrize("name", ["_reviews.csv", ".reviews.csv"])
def test_rows_of_a_hidden_file_are_seen_by_readers(
    jobs: InProcess, tmp_path: Path, out: Path, name: str
) -> None:
    write_csv(tmp_path / name, GOOD)
    for _ in range(2):
        jobs.run(tmp_path / name, "--output", out)
        assert ds.dataset(out, format="parquet").count_rows() == 3
        assert_every_row_once(out, 3)


@pytest.mark.parametrize(
    ("path", "pattern", "folder"),
    [
        ("_date=2026-11-20/r.csv", "", "%5Fdate=2026-11-20"),
        ("de/_old/r.csv", "*/_old/*.csv", "de/%5Fold"),
        ("de/.old/r.csv", "*/.old/*", "de/%2Eold"),
    ],
)
def test_rows_of_a_hidden_folder_are_seen_by_readers(
    jobs: InProcess, tmp_path: Path, out: Path, path: str, pattern: str, folder: str
) -> None:
    write_csv(tmp_path / "lake" / path, GOOD)
    source = tmp_path / "lake" / pattern
    jobs.run(source, "--output", out)
    assert is_complete(out, folder)
    assert jobs.run(source, "--output", out).ledger.reused == len(GOOD)
    seen = ds.dataset(out, format="parquet", partitioning="hive").to_table()
    assert seen.num_rows == len(GOOD)
    if "=" in folder:
        assert set(seen.column("_date").to_pylist()) == {"2026-11-20"}
    assert (
        check(
            Output.open(str(out)), deep=True, sources=[str(source)], options=ReadOptions()
        ).problems
        == ()
    )


@pytest.mark.parametrize("key", ["sentiment", "Sentiment", "SENTIMENT_SCORE"])
def test_a_partition_named_like_an_added_column_is_refused(
    jobs: InProcess, tmp_path: Path, out: Path, key: str
) -> None:
    write_csv(tmp_path / "lab" / f"{key}=positive" / "r.csv", GOOD)
    error = jobs.failing(tmp_path / "lab", "--output", out)
    assert isinstance(error, SourceError)
    assert f"a partition {key!r}" in str(error)
    assert "--prefix" in str(error)
    assert not out.exists()
    jobs.run(tmp_path / "lab", "--output", out, "--prefix", "mood")


@pytest.mark.parametrize("column", ["sentiment", "Sentiment", "sentiment_Source_Row"])
def test_a_column_named_like_an_added_one_is_refused(
    jobs: InProcess, tmp_path: Path, out: Path, column: str
) -> None:
    write_csv(tmp_path / "r.csv", [(text, "x") for text in GOOD], f"text,{column}")
    error = jobs.failing(tmp_path / "r.csv", "--output", out)
    assert f"a column {column!r}" in str(error)


@pytest.mark.parametrize(
    ("source", "output"),
    [("lake", "lake/scored"), ("lake", "lake"), ("lake/*", "lake/out"), ("lake/en", "lake")],
)
def test_source_and_output_do_not_lie_in_each_other(
    jobs: InProcess, tmp_path: Path, lake: Path, source: str, output: str
) -> None:
    error = jobs.failing(tmp_path / source, "--output", tmp_path / output)
    assert isinstance(error, ConfigError)
    assert "beside it" in str(error)
    assert sorted(os.listdir(lake)) == ["en"]


def test_an_output_beside_what_a_glob_takes_is_fine(
    jobs: InProcess, tmp_path: Path, lake: Path
) -> None:
    jobs.run(lake / "en" / "*.csv", "--output", lake / "scored")
    jobs.run(lake / "en" / "*.csv", "--output", lake / "scored")
    assert_every_row_once(lake / "scored", 3)


def test_one_name_in_many_folders_is_many_sources(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    for number in range(20):
        write_csv(tmp_path / "in" / f"{number}" / "r.csv", GOOD[:1])
    jobs.run(tmp_path / "in" / "*" / "r.csv", "--output", out)
    assert_every_row_once(out, 20)
    assert len(data_files(out)) == 20


# Outputs of earlier versions.


def rename_as_earlier(out: Path, shown: str) -> None:
    """Give data files the names and footers of earlier versions: 8 digits, the typed location."""
    for path in data_files(out):
        table = pq.read_table(path, partitioning=None)
        footer = Footer.from_metadata(pq.read_metadata(path).metadata)
        assert footer is not None
        stem, digits, first, last = path.name.rsplit("-", 3)
        earlier = path.with_name(f"{stem}-{digits[:8]}-{first}-{last}")
        values = {**asdict(footer), "unit_id": str(earlier.relative_to(out)), "source_file": shown}
        for name in ("epoch", "shard_rows", "reject_file"):
            values.pop(name)
        old = Footer(**values)
        path.unlink()
        earlier.write_bytes(serialise(table.replace_schema_metadata(None), old))


@pytest.mark.parametrize("typed", ["real", "current"])
def test_files_of_an_earlier_version_are_reused(
    jobs: InProcess, tmp_path: Path, out: Path, typed: str
) -> None:
    write_parquet(tmp_path / "real" / "dt=1" / "r.parquet", GOOD)
    (tmp_path / "current").symlink_to(tmp_path / "real")
    jobs.run(tmp_path / "real", "--output", out)
    rename_as_earlier(out, str(tmp_path / typed / "dt=1" / "r.parquet"))
    before = {path: path.read_bytes() for path in data_files(out)}
    for source in ("current", "real", "real/dt=1"):
        assert jobs.run(tmp_path / source, "--output", out).ledger.reused == 3
    assert {path: path.read_bytes() for path in data_files(out)} == before


def test_a_file_that_somebody_moved_is_reused_where_it_lies(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    write_parquet(tmp_path / "lake" / "dt=1" / "r.parquet", GOOD)
    jobs.run(tmp_path / "lake", "--output", out)
    [path] = data_files(out)
    (out / "archive").mkdir()
    path.rename(out / "archive" / path.name)
    assert jobs.run(tmp_path / "lake", "--output", out).ledger.reused == 3
    assert_every_row_once(out, 3)


def test_one_source_of_a_folder_gives_no_word_for_the_others(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    """`_SUCCESS` must not stand beside another source's half-done work."""
    for name in ("a", "b"):
        write_parquet(tmp_path / "lake" / "dt=1" / f"{name}.parquet", GOOD)
    jobs.run(tmp_path / "lake", "--output", out, "--unit-rows", "1")
    assert is_complete(out, "dt=1")
    [*_, last] = data_files(out)
    last.unlink()
    (out / "dt=1" / "_SUCCESS").unlink()
    jobs.run(tmp_path / "lake" / "dt=1" / "a.parquet", "--output", out)
    assert not is_complete(out, "dt=1")
    jobs.run(tmp_path / "lake", "--output", out)
    assert is_complete(out, "dt=1")
    assert_every_row_once(out, 6)


def test_columns_of_any_case_pass(jobs: InProcess, tmp_path: Path, out: Path) -> None:
    (tmp_path / "lake").mkdir()
    pq.write_table(pa.table({"text": GOOD, "Mood": [1, 2, 3]}), tmp_path / "lake" / "r.parquet")
    jobs.run(tmp_path / "lake", "--output", out)
    assert_every_row_once(out, 3)


def test_columns_that_differ_in_case_only_are_refused(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    """In one file, or between files. The other files are labelled."""
    lake = tmp_path / "lake"
    lake.mkdir()
    for name, other in (("a", "Mood"), ("b", "Mood"), ("c", "mood"), ("d", "Text")):
        table = pa.table({"text": GOOD, other: [1, 2, 3]})
        pq.write_table(table, lake / f"{name}.parquet")
    summary = jobs.run(lake, "--output", out, "--max-rejected", "1")
    assert (summary.ledger.labelled, dict(summary.rejected)) == (6, {"unusable_columns": 2})
    details = [row["detail"] for row in rejects_in(out)]
    assert "differs from column 'Mood' of the other files in case only" in details[0]
    assert "'Text', 'text' differ in case only" in details[1]


# Shards whose columns cannot be used.

UNUSABLE = {
    "without.csv": b"id,review\n1,a\n",
    "twice.csv": b"text,text\na,b\n",
    "clash.csv": b"text,Sentiment\na,b\n",
    "reserved.csv": b"text,_sentiment_row\na,b\n",
    "without.tsv": b"id\treview\n1\ta\n",
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_shard_with_unusable_columns_costs_itself(
    jobs: InProcess, tmp_path: Path, out: Path, name: str
) -> None:
    write_csv(tmp_path / "lake" / "good.csv", GOOD)
    (tmp_path / "lake" / name).write_bytes(UNUSABLE[name])
    error = jobs.failing(tmp_path / "lake", "--output", out)
    assert isinstance(error, RejectedRowsError), "one reject of four rows is more than 1 %"
    for _ in range(2):
        summary = jobs.run(tmp_path / "lake", "--output", out, "--max-rejected", "0.5")
        assert summary.rejected == {"unusable_columns": 1}
        [reject] = rejects_in(out)
        assert (reject["source_row"], reject["source_row_end"]) == (-1, None)
        assert str(tmp_path / "lake" / name) in reject["detail"]
        assert_every_row_once(out, 4)
        assert is_complete(out)
    write_csv(tmp_path / "lake" / name.replace("jsonl", "csv"), GOOD)
    (tmp_path / "lake" / "without.jsonl").unlink(missing_ok=True)
    jobs.run(tmp_path / "lake", "--output", out, "--on-deleted", "retire")
    assert_every_row_once(out, 6)


def test_a_lake_without_any_usable_shard_is_refused(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    (tmp_path / "lake").mkdir()
    for name, content in UNUSABLE.items():
        (tmp_path / "lake" / name).write_bytes(content)
    error = jobs.failing(tmp_path / "lake", "--output", out)
    assert error.exit_code == 2
    assert not out.exists()


# Columns of types that pyarrow does not make by itself.

EXTENSIONS = {
    "tensor": lambda: pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((3, 4), np.float32)),
    "tensor of tensors": lambda: pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((3, 2, 2))),
    "uuid": lambda: pa.array([b"0" * 16] * 3, pa.uuid()),
    "json": lambda: pa.array(["{}", "1", "[]"], pa.json_()),
    "nulls": lambda: pa.nulls(3),
    "map": lambda: pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int64())),
}


@pytest.mark.parametrize("kind", EXTENSIONS)
@pytest.mark.parametrize("texts", [GOOD, (GOOD[0], "", GOOD[1])], ids=["good", "a reject"])
def test_columns_of_any_type_pass_unchanged(
    jobs: InProcess, tmp_path: Path, out: Path, kind: str, texts: tuple[str, ...]
) -> None:
    (tmp_path / "lake").mkdir()
    table = pa.table({"text": list(texts), "x": EXTENSIONS[kind]()})
    pq.write_table(table, tmp_path / "lake" / "r.parquet", row_group_size=2)
    pq.write_table(table.slice(0, 0), tmp_path / "lake" / "empty.parquet")
    jobs.run(tmp_path / "lake", "--output", out, "--max-rejected", "1")
    assert_every_row_once(out, 3)
    found = [path for path in data_files(out) if path.name.startswith("r.")]
    kept = pa.concat_tables(pq.read_table(path, partitioning=None) for path in found)
    good = [n for n, text in enumerate(texts) if text]
    # A column of nulls alone is text: what a later file holds could not be read beside it.
    assert kept["x"].type == (pa.string() if kind == "nulls" else table["x"].type)
    assert kept["x"].to_pylist() == [table["x"].to_pylist()[n] for n in good]
