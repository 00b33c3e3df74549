"""Benchmarks run and print a table; what they measure is not judged here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_engine_benchmark_prints_a_row_per_variant() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/engine_cpu.py", "--rows", "6", "--rounds", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 4
    # The float32 engine and the plain loop agree on every label.
    fp32 = next(row for row in rows if row.startswith("| engine, fp32"))
    assert fp32.rstrip(" |").endswith(" 0")
