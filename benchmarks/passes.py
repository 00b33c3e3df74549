"""What it costs to read a large file unit by unit, against one pass over it.

    python benchmarks/passes.py [--rows N] [--folder FOLDER]

A row group and a compressed file can be entered at their start only. Makes a Parquet file of one
row group and a gzip CSV of N short reviews each, and reads both twice in this process: all rows as
one unit, and in units of 1,024 rows as a run does. Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from peers.machine import described, machine

from sentiment.source.cut import cut_into_units
from sentiment.source.index import index_shard
from sentiment.source.listing import list_shards
from sentiment.source.read import ShardReader
from sentiment.source.shards import ShardIndex, Unit

UNIT_ROWS = 1024
WORDS = ("good", "bad", "slow", "film", "soup", "phone", "service", "was", "not", "never")


def make_files(folder: Path, rows: int) -> list[Path]:
    """Write the two files; rows are made in batches, so that memory stays small."""
    paths = [folder / "one-group.parquet", folder / "one.csv.gz"]
    if all(path.exists() for path in paths):
        return paths
    draw = random.Random(1)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(5, 60))) for _ in range(rows)]
    table = pa.table({"id": pa.array(range(rows), pa.int64()), "text": texts})
    pq.write_table(table, paths[0], row_group_size=rows)
    with gzip.open(paths[1], "wt", compresslevel=3) as file:
        file.write("id,text\n")
        file.writelines(f"{row},{text}\n" for row, text in enumerate(texts))
    return paths


def seconds_for(index: ShardIndex, units: list[Unit]) -> float:
    """Read units one after another; return the seconds."""
    assert index.columns is not None
    started = time.perf_counter()
    with ShardReader(index.shard, index.columns) as reader:
        rows = sum(reader.read(unit).num_rows for unit in units)
    assert rows == index.rows
    return time.perf_counter() - started


def main() -> None:
    """Make the files, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    words = parser.parse_args()
    where = machine(1, {"sentiment", "pyarrow"})
    print(f"{words.rows:,} rows; {described(where)}\n")
    print("| file | one unit | units of 1,024 | ratio |\n|---|---|---|---|")
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for path in make_files(words.folder or Path(scratch), words.rows):
            [shard] = list_shards([str(path)]).shards
            index = index_shard(shard)
            first = index.cuts[0][1]
            whole = seconds_for(index, [Unit(shard, 0, index.rows - 1, first, index.rows)])
            units = seconds_for(index, cut_into_units(index, UNIT_ROWS))
            found[path.name] = {"one unit": whole, "units": units, "ratio": units / whole}
            print(f"| {path.name} | {whole:.1f} s | {units:.1f} s | {units / whole:.2f} |")
    print(json.dumps({"rows": words.rows, "machine": where, **found}))


if __name__ == "__main__":
    main()
