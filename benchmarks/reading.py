"""How fast sources are read, against the readers of pyarrow, DuckDB and pandas.

    python benchmarks/reading.py [--rows N] [--folder FOLDER]

Makes a Parquet, a CSV and a JSON Lines file of N clean reviews and reads each with every reader in
one process, one thread each, the best of three. Ours is both what planning does, which reads text
once to find its records, and the reading of all units. Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
from peers.machine import described, machine

from sentiment.source.cut import cut_into_units
from sentiment.source.index import index_shard
from sentiment.source.listing import list_shards
from sentiment.source.read import ShardReader
from sentiment.source.shards import ShardIndex

WORDS = ("good", "bad", "slow", "film", "soup", "phone", "service", "was", "not", "never")
UNIT_ROWS = 32_768
REPEATS = 3


def make_files(folder: Path, rows: int) -> dict[str, Path]:
    """Write the files, if they are not there."""
    paths = {kind: folder / f"reviews.{kind}" for kind in ("parquet", "csv", "jsonl")}
    if all(path.exists() for path in paths.values()):
        return paths
    draw = random.Random(1)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(5, 120))) for _ in range(rows)]
    table = pa.table({"id": pa.array(range(rows), pa.int64()), "text": texts})
    pq.write_table(table, paths["parquet"], row_group_size=100_000)
    pa.csv.write_csv(table, paths["csv"])
    with paths["jsonl"].open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in table.to_pylist())
    return paths


def ours(path: Path) -> int:
    """Plan and read a file; return its rows."""
    index = _indexed(path)
    assert index.columns is not None
    with ShardReader(index.shard, index.columns) as reader:
        return sum(reader.read(unit).num_rows for unit in cut_into_units(index, UNIT_ROWS))


def _indexed(path: Path) -> ShardIndex:
    [shard] = list_shards([str(path)]).shards
    return index_shard(shard)


def _with_pyarrow(path: Path) -> int:
    if path.suffix == ".parquet":
        return pq.read_table(path, use_threads=False).num_rows
    if path.suffix == ".csv":
        options = pa.csv.ReadOptions(use_threads=False)
        return pa.csv.read_csv(path, read_options=options).num_rows
    return pa.json.read_json(path, read_options=pa.json.ReadOptions(use_threads=False)).num_rows


def _with_duckdb(path: Path) -> int:
    duckdb.sql("set threads = 1")
    return duckdb.sql(f"select * from '{path}'").to_arrow_table().num_rows


def _with_pandas(path: Path) -> int:
    if path.suffix == ".parquet":
        return len(pd.read_parquet(path))
    return len(pd.read_csv(path) if path.suffix == ".csv" else pd.read_json(path, lines=True))


READERS: dict[str, Callable[[Path], int]] = {
    "ours": ours,
    "ours, planning alone": lambda path: _indexed(path).rows,
    "pyarrow": _with_pyarrow,
    "duckdb": _with_duckdb,
    "pandas": _with_pandas,
}


def seconds_of(read: Callable[[Path], int], path: Path, rows: int) -> float:
    """Return the seconds of the best of several readings."""
    found = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        assert read(path) == rows
        found.append(time.perf_counter() - started)
    return min(found)


def main() -> None:
    """Make the files, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--folder", type=Path, help="Where the files are kept; default: nowhere.")
    chosen = parser.parse_args()
    packages = {"sentiment", "pyarrow", "duckdb", "pandas"}
    report = {"rows": chosen.rows, "machine": machine(1, packages)}
    print(described(report["machine"]))
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        for kind, path in make_files(folder, chosen.rows).items():
            megabytes = path.stat().st_size / 1e6
            report[kind] = {}
            for name, read in READERS.items():
                seconds = seconds_of(read, path, chosen.rows)
                report[kind][name] = round(chosen.rows / seconds)
                print(
                    f"{kind:<8} {name:<22} {chosen.rows / seconds:>12,.0f} rows/s "
                    f"{megabytes / seconds:>8,.0f} MB/s"
                )
    print(json.dumps(report))


if __name__ == "__main__":
    main()
