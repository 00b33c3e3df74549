"""Which earlier runs a run is compared with, by which limits, and what comes of it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentiment.errors import DriftError
from sentiment.ledger.compare import compare_with_earlier
from sentiment.ledger.runs import run_ids
from sentiment.ledger.summary import summarise
from sentiment.metrics.counts import Counts, count_unit, merge
from sentiment.metrics.drift import Drift
from sentiment.output.folder import Output
from sentiment.scoring.job import _outcome
from sentiment.settings.jobs import ScoreConfig


def counts(positive: int, negative: int, score: float = 0.9) -> Counts:
    rows = positive + negative
    return count_unit(
        labels=["positive"] * positive + ["negative"] * negative,
        scores=np.full(rows, score, np.float32),
        off_label=np.zeros(rows, np.float32),
        tokens=np.full(rows, 100, np.int32),
        truncated=np.zeros(rows, np.bool_),
        rejected={},
        stage_sec={},
    )


def left(folder: Path, run_id: str, scored: Counts | None, **changes: Any) -> None:
    """A run that has been here."""
    path = folder / "_sentiment" / "runs" / run_id / "run.json"
    path.parent.mkdir(parents=True)
    values = {"run_id": run_id, "outcome": "success", "config_digest": "same", "scored": scored}
    path.write_text(json.dumps({**values, **changes}))


def compared(folder: Path, scored: Counts, **settings: Any) -> Drift:
    config = ScoreConfig(sources=["s"], output=str(folder), **settings)
    return compare_with_earlier(Output.open(str(folder)), scored, "same", config)


def test_the_last_successful_runs_that_scored_anything_are_the_measure(tmp_path: Path) -> None:
    usual = counts(500, 500)
    for day in range(1, 6):
        left(tmp_path, f"2026110{day}T", usual)
    left(tmp_path, "20261106T", counts(900, 100), outcome="drift")
    left(tmp_path, "20261107T", counts(0, 0))
    found = compared(tmp_path, counts(50, 50), drift_runs=3)
    assert found.against == ("20261105T", "20261104T", "20261103T")
    assert (found.verdict, found.rows, found.baseline_rows) == ("steady", 100, 3000)


def test_a_damaged_account_is_passed_over_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left(tmp_path, "20261101T", counts(500, 500))
    left(tmp_path, "20261102T", None)
    (tmp_path / "_sentiment" / "runs" / "20261103T").mkdir()
    (tmp_path / "_sentiment" / "runs" / "20261103T" / "run.json").write_text("{")
    with caplog.at_level(logging.WARNING, logger="sentiment"):
        found = compared(tmp_path, counts(50, 50))
    assert found.against == ("20261101T",)
    assert [line.split(": left")[0][-18:] for line in caplog.messages] == [
        "20261103T/run.json",
        "20261102T/run.json",
    ]
    assert run_ids(Output.open(str(tmp_path))) == ["20261101T", "20261102T", "20261103T"]


def test_scores_are_compared_with_those_of_the_same_model_only(tmp_path: Path) -> None:
    left(tmp_path, "20261101T", counts(500, 500, score=0.6), config_digest="other")
    assert compared(tmp_path, counts(500, 500)).verdict == "steady"
    left(tmp_path, "20261102T", counts(500, 500, score=0.6))
    found = compared(tmp_path, counts(500, 500))
    assert found.against == ("20261102T",)
    assert [check.name for check in found.checks if check.drifted] == ["scores"]


@pytest.mark.parametrize(
    ("settings", "verdict"),
    [
        ({}, "drift"),
        ({"drift_share": 0.2}, "steady"),
        ({"drift_runs": 0}, "not compared"),
    ],
)
def test_the_settings_decide_what_is_drift(
    tmp_path: Path, settings: dict[str, Any], verdict: str
) -> None:
    left(tmp_path, "20261101T", counts(500, 500))
    found = compared(tmp_path, counts(600, 400), drift_psi=5.0, **settings)
    assert found.verdict == verdict


def test_the_limit_of_the_stability_index_is_a_setting(tmp_path: Path) -> None:
    left(tmp_path, "20261101T", counts(500, 500, score=0.6))
    moved = counts(500, 500, score=0.9)
    assert compared(tmp_path, moved).verdict == "drift"
    assert compared(tmp_path, moved, drift_psi=1000.0).verdict == "steady"


def test_nobody_was_here_before(tmp_path: Path) -> None:
    assert compared(tmp_path, counts(5, 5)).verdict == "not compared"


@pytest.mark.parametrize(("setting", "outcome"), [("fail", "drift"), ("warn", "success")])
def test_drift_ends_a_run_or_warns(
    setting: str, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = ScoreConfig(sources=["s"], output="o", on_drift=setting)
    summary = summarise(
        run_id="r", output="o", expected=0, committed=[], reused=[], wall_sec=1.0, run={}
    )
    drift = Drift("drift", "share of positive is 9.0%, was 50.0%", ("a", "b"))
    with caplog.at_level(logging.WARNING, logger="sentiment"):
        ended, problem = _outcome(summary, drift, [], config)
    assert ended == outcome
    said = str(problem) if setting == "fail" else caplog.text
    assert "unlike earlier runs (2 compared): share of positive is 9.0%" in said
    assert isinstance(problem, DriftError) == (setting == "fail")


def test_a_baseline_of_many_runs_is_their_sum(tmp_path: Path) -> None:
    parts = [counts(30, 70), counts(70, 30)]
    for day, part in enumerate(parts):
        left(tmp_path, f"2026110{day}T", part)
    found = compared(tmp_path, merge(parts))
    [share] = [check for check in found.checks if check.name == "share of positive"]
    assert (share.value, found.verdict) == (0.0, "steady")
