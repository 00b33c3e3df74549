"""The output is one table to every reader that people point at it, by folder or by glob."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from in_process import InProcess

from sentiment.output.layout import REJECTED_FOLDER

# Names of folders and files that some reader or glob may take for something else.
NAMES = ("plain", "a,b", "a b", "50%", "a#b", "città 😀", "{a}", "a;b", "a&b=c")


@pytest.fixture
def made(jobs: InProcess, tmp_path: Path, out: Path) -> Path:
    """An output with labels, rejects, files without rows and the figures of a run."""
    lake = tmp_path / "lake"
    for name in NAMES:
        folder = lake / f"shop={name}"
        folder.mkdir(parents=True)
        table = pa.table({"id": range(4), "text": ["good", "bad", None, "fine"]})
        pq.write_table(table, folder / f"{name}.parquet")
    (lake / "shop=plain" / "a torn.parquet").write_bytes(b"PAR1 torn")
    jobs.run(lake, "--output", out, "--max-rejected", "1", "--unit-rows", "2")
    return out


def expected() -> list[tuple[Any, ...]]:
    return sorted((name, row) for name in NAMES for row in (0, 1, 3))


def test_the_output_has_private_files_of_parquet(made: Path) -> None:
    """Else the tests below would pass whatever they are called."""
    private = [path for path in (made / REJECTED_FOLDER).rglob("*") if path.is_file()]
    assert len(private) == len(NAMES) + 1
    assert all(pq.ParquetFile(path).metadata.num_rows for path in private)


def test_pyarrow(made: Path) -> None:
    table = ds.dataset(made, partitioning="hive").to_table()
    assert (
        sorted(zip(*table.select(["shop", "id"]).to_pydict().values(), strict=True)) == expected()
    )


def test_pandas(made: Path) -> None:
    frame = pd.read_parquet(made)
    assert sorted(zip(frame["shop"].astype(str), frame["id"], strict=True)) == expected()
    rejects = pd.read_parquet(made / REJECTED_FOLDER)
    assert set(rejects["reason"]) == {"null_text", "unreadable_file"}


@pytest.mark.parametrize("pattern", ["**/*.parquet", "shop=*/*.parquet"])
def test_duckdb(made: Path, pattern: str) -> None:
    query = f"select shop, id from read_parquet('{made}/{pattern}', hive_partitioning=true)"
    assert sorted(duckdb.sql(query).fetchall()) == expected()


@pytest.mark.parametrize("pattern", ["**/*.parquet", "shop=*/*.parquet"])
def test_polars(made: Path, pattern: str) -> None:
    frame = pl.scan_parquet(f"{made}/{pattern}", hive_partitioning=True).collect()
    assert sorted(frame.select("shop", "id").rows()) == expected()


def test_spark_would_see_the_same_files(made: Path) -> None:
    """Spark skips names that start with `_` or `.`, and reads every other file of a folder."""
    seen = [
        path
        for path in made.rglob("*")
        if path.is_file()
        and not any(part.startswith(("_", ".")) for part in path.relative_to(made).parts)
    ]
    assert {path.suffix for path in seen} == {".parquet"}
    assert len({str(pq.read_schema(path)) for path in seen}) == 1
