"""The training benchmark: it runs, its last line is JSON, and its rows are the job's own."""

from __future__ import annotations

import json

import pytest
from benchmark_scripts import lines_of


@pytest.mark.slow
def test_training_benchmark_prints_two_tables_and_ends_with_json() -> None:
    names = ["padded-512", "grouped"]
    words = ["--variants", ",".join(names), "--rows", "8", "--rounds", "1", "--loss-steps", "2"]
    lines = lines_of("finetune.py", *words)
    report = json.loads(lines[-1])
    assert list(report["cost"]) == names
    for found in report["cost"].values():
        assert found["sec_per_step"] > 0
        assert found["peak_mib"] > 0
        assert found["ratio"] > 0
    assert report["cost"]["padded-512"]["ratio"] == 1.0
    assert {name: len(runs) for name, runs in report["learned"].items()} == dict.fromkeys(names, 3)
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 2 * (1 + len(names))
