"""The benchmarks of planning and of reading: they run, and their last line is JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmark_scripts import output_of

pytestmark = pytest.mark.slow


def last_line(script: str, *words: str) -> Any:
    return json.loads(output_of(script, *words)[-1])


def test_it_plans_a_lake_that_is_all_committed(tmp_path: Path) -> None:
    for _ in range(2):  # the second time on the files of the first
        report = last_line("planning.py", "--shards", "30", "--folder", str(tmp_path))
        assert report["shards"] == 30
        assert {"list sources", "read footers", "index and plan", "peak MiB"} <= report.keys()
    assert len(list((tmp_path / "output").rglob("*.parquet"))) == 30


def test_large_files_are_read_in_units(tmp_path: Path) -> None:
    for _ in range(2):
        report = last_line("passes.py", "--rows", "3000", "--folder", str(tmp_path))
        assert report["rows"] == 3000
        for name in ("one-group.parquet", "one.csv.gz"):
            assert report[name]["units"] > 0


def test_readers_are_compared_on_the_same_files(tmp_path: Path) -> None:
    report = last_line("reading.py", "--rows", "2000", "--folder", str(tmp_path))
    for kind in ("parquet", "csv", "jsonl"):
        assert set(report[kind]) == {"ours", "ours, planning alone", "pyarrow", "duckdb", "pandas"}
        assert min(report[kind].values()) > 0
