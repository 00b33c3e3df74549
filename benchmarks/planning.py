"""What a night costs before it begins: listing, reading footers and planning, without any scoring.

    python benchmarks/planning.py [--shards N] [--folder FOLDER]

Makes a lake of N one-row Parquet shards in folders of 1,000, and an output that holds them all, as
after N quiet nights; then measures, in a process of its own, what a run with nothing to do does:
list the sources, list the output and read its footers, index, plan. Prints a table and one line of
JSON. Memory is the peak of the process above what it needs when all modules are imported.

With `--folder` the files stay there and are used again. Makes about 1,000 shards a second.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from peers.machine import described, machine

from sentiment.cluster import LazyCluster
from sentiment.metrics.counts import count_unit
from sentiment.output.commit import serialise
from sentiment.output.committed import read_committed
from sentiment.output.folder import Output
from sentiment.output.layout import added_columns
from sentiment.output.plan import plan_run
from sentiment.output.receipt import Footer
from sentiment.scoring.indexing import index_sources
from sentiment.settings.jobs import ScoreConfig
from sentiment.source.listing import list_shards
from sentiment.source.shards import Shard, Unit

FOLDER_SHARDS = 1000
DIGEST = "0" * 64


def make_lake(lake: Path, shards: int) -> None:
    """Write shards of one review each."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": ["A fine film."]}), sink)
    content = sink.getvalue().to_pybytes()
    for number in range(shards):
        path = lake / f"part={number // FOLDER_SHARDS:05d}" / f"{number:08d}.parquet"
        if number % FOLDER_SHARDS == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def make_output(output: Path, shards: list[Shard]) -> None:
    """Write the data file of every shard, as a run would, but for the syncing of each."""
    counts = count_unit(
        labels=["positive"],
        scores=np.array([0.9], np.float32),
        off_label=np.zeros(1, np.float32),
        tokens=np.array([5], np.int32),
        truncated=np.zeros(1, np.bool_),
        rejected={},
        stage_sec={"read": 0.1, "tokenise": 0.1, "score": 0.1, "write": 0.1},
    )
    added = added_columns("sentiment").empty_table()
    table = pa.table({"text": pa.array([], pa.string())})
    for field in added.schema:
        table = table.append_column(field, added[field.name])
    template = Footer(
        "", "", "", 0, 0, 1, 0, DIGEST, DIGEST, "0.1.0", counts, 1, 1, None, "text", DIGEST
    )
    for shard in shards:
        unit = Unit(shard, 0, 0, None, 1)
        path = output / unit.unit_id
        path.parent.mkdir(parents=True, exist_ok=True)
        footer = replace(
            template,
            unit_id=unit.unit_id,
            source_file=shard.identity,
            fingerprint=shard.fingerprint,
        )
        path.write_bytes(serialise(table, footer))


def measure(lake: Path, output: Path) -> dict[str, float]:
    """Do what a run with nothing to do does before it ends; return seconds and MiB."""
    before = getrusage(RUSAGE_SELF).ru_maxrss
    found: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        found[name] = time.perf_counter() - started

    config = ScoreConfig(sources=[str(lake)], output=str(output))
    started = time.perf_counter()
    with timed("list sources"):
        shards = list_shards(config.sources).shards
    with timed("read footers"):
        committed = read_committed(Output.open(config.output), shards)
    with timed("index and plan"):
        shards = [committed.placed(shard) for shard in shards]
        indexes = index_sources(shards, committed, config, LazyCluster(None, ExitStack()), again=())
        plan = plan_run(
            indexes, committed.footers, config_digest=DIGEST, unit_rows=1024, on_change="refuse"
        )
    assert all(shard.done for shard in plan.shards), "nothing should be left to do"
    found["all"] = time.perf_counter() - started
    found["peak MiB"] = (getrusage(RUSAGE_SELF).ru_maxrss - before) / 1024
    return found


def main() -> None:
    """Make the files, measure in a process of its own, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.measure:
        print(json.dumps(measure(words.folder / "lake", words.folder / "output")))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = words.folder or Path(scratch)
        if not (folder / "output").exists():
            make_lake(folder / "lake", words.shards)
            make_output(folder / "output", list(list_shards([str(folder / "lake")]).shards))
        again = [sys.executable, __file__, "--measure", "--folder", str(folder)]
        done = subprocess.run(again, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    where = machine(1, {"sentiment", "pyarrow"})
    print(f"{words.shards:,} shards, all committed; {described(where)}\n")
    print("| step | value |\n|---|---|")
    for name, value in found.items():
        unit = "" if name.endswith("MiB") else " s"
        print(f"| {name} | {value:.1f}{unit} |")
    print(json.dumps({"shards": words.shards, "machine": where, **found}))


if __name__ == "__main__":
    main()
