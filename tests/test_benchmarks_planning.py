"""The planning benchmark: it runs, and its last line is JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from benchmark_scripts import ROOT


@pytest.mark.slow
def test_it_plans_a_lake_that_is_all_committed(tmp_path: Path) -> None:
    words = ["--shards", "30", "--folder", str(tmp_path)]
    for _ in range(2):  # the second time on the files of the first
        done = subprocess.run(
            [sys.executable, "benchmarks/planning.py", *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout.splitlines()[-1])
        assert report["shards"] == 30
        assert {"list sources", "read footers", "index and plan", "peak MiB"} <= report.keys()
    assert len(list((tmp_path / "output").rglob("*.parquet"))) == 30
