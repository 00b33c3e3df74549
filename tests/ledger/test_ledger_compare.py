"""The drift check against earlier runs: which runs it uses, its limits, its effect on a run."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentiment.errors import DriftError
from sentiment.ledger.compare import compare_with_earlier
from sentiment.ledger.summary import summarise
from sentiment.metrics.counts import Counts, count_unit, merge
from sentiment.metrics.drift import Drift
from sentiment.output.folder import Output
from sentiment.scoring.outcome import judge
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


def save_run(folder: Path, run_id: str, scored: Counts | None, **changes: Any) -> Path:
    """Write the `run.json` of an earlier run."""
    path = folder / "_sentiment" / "runs" / run_id / "run.json"
    path.parent.mkdir(parents=True)
    values = {
        "run_id": run_id,
        "finished_at": "2026-11-01T02:00:00+00:00",
        "ledger": {"expected": 0, "labelled": 0, "rejected": 0, "reused": 0},
        "counts": counts(0, 0),
        "outcome": "success",
        "config_digest": "same",
        "scored": scored,
    }
    path.write_text(json.dumps({**values, **changes}))
    return path


def compared(folder: Path, scored: Counts, **settings: Any) -> Drift:
    config = ScoreConfig(sources=["s"], output=str(folder), **settings)
    return compare_with_earlier(Output.open(str(folder)), scored, "same", config)


def test_the_baseline_is_the_last_successful_runs_that_scored_rows(tmp_path: Path) -> None:
    usual = counts(500, 500)
    for day in range(1, 6):
        save_run(tmp_path, f"2026110{day}T", usual)
    save_run(tmp_path, "20261106T", counts(900, 100), outcome="drift")
    save_run(tmp_path, "20261107T", counts(0, 0))
    drift = compared(tmp_path, counts(50, 50), drift_runs=3)
    assert drift.against == ("20261105T", "20261104T", "20261103T")
    assert (drift.verdict, drift.rows, drift.baseline_rows) == ("steady", 100, 3000)


WITH_OTHER_BINS = counts(500, 500)
WITH_OTHER_BINS["labels"]["positive"]["score_histogram"] = [500] * 10

DAMAGED = {
    "torn": '{"run_id": "x", "led',
    "not an object": "[]",
    "not UTF-8": b"\xff\xfe{}",
    "nested too deeply": "[" * 100_000,
    "of another program": '{"run_id": "x", "outcome": "success", "scored": {"labels": {"a": 1}}}',
}

UNUSABLE: dict[str, dict[str, Any]] = {
    "no counts of its own": {"scored": None},
    "counts of another form": {"scored": {"labels": ["positive"]}},
    "no histogram of scores": {"scored": {"labels": {"positive": {"rows": 5}}}},
    "other bins of scores": {"scored": WITH_OTHER_BINS},
    "other bins of lengths": {"scored": {**counts(500, 500), "length_histogram": [1000]}},
    "other bins of off-label mass": {"scored": {**counts(5, 5), "off_label_histogram": [10]}},
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_run_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str | bytes
) -> None:
    save_run(tmp_path, "20261101T", counts(500, 500))
    path = save_run(tmp_path, "20261102T", counts(500, 500))
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with caplog.at_level(logging.WARNING, logger="sentiment"):
        drift = compared(tmp_path, counts(50, 50))
    assert drift.against == ("20261101T",)
    [warning] = caplog.messages
    assert warning.startswith(f"{path}: left out (")


@pytest.mark.parametrize("changes", UNUSABLE.values(), ids=UNUSABLE)
def test_a_run_whose_counts_cannot_be_added_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]
) -> None:
    save_run(tmp_path, "20261101T", counts(500, 500))
    path = save_run(tmp_path, "20261102T", **{"scored": counts(500, 500), **changes})
    with caplog.at_level(logging.WARNING, logger="sentiment"):
        drift = compared(tmp_path, counts(50, 50))
    assert drift.against == ("20261101T",)
    [warning] = caplog.messages
    assert warning.startswith(f"{path}: left out (it")


def test_counts_of_an_earlier_version_without_lengths_are_used(tmp_path: Path) -> None:
    earlier = {key: some for key, some in counts(500, 500).items() if key != "length_histogram"}
    save_run(tmp_path, "20261101T", earlier)
    drift = compared(tmp_path, counts(50, 50))
    assert drift.against == ("20261101T",)
    assert "lengths" not in [check.name for check in drift.checks]


def test_scores_are_compared_with_those_of_the_same_model_only(tmp_path: Path) -> None:
    save_run(tmp_path, "20261101T", counts(500, 500, score=0.6), config_digest="other")
    assert compared(tmp_path, counts(500, 500)).verdict == "steady"
    save_run(tmp_path, "20261102T", counts(500, 500, score=0.6))
    drift = compared(tmp_path, counts(500, 500))
    assert drift.against == ("20261102T",)
    assert [check.name for check in drift.checks if check.drifted] == ["scores"]


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
    save_run(tmp_path, "20261101T", counts(500, 500))
    drift = compared(tmp_path, counts(600, 400), drift_psi=5.0, **settings)
    assert drift.verdict == verdict


def test_the_limit_of_the_stability_index_is_a_setting(tmp_path: Path) -> None:
    save_run(tmp_path, "20261101T", counts(500, 500, score=0.6))
    moved = counts(500, 500, score=0.9)
    assert compared(tmp_path, moved).verdict == "drift"
    assert compared(tmp_path, moved, drift_psi=1000.0).verdict == "steady"


def test_the_first_run_is_not_compared(tmp_path: Path) -> None:
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
        ended, problem = judge(summary, drift, [], config)
    assert ended == outcome
    message = str(problem) if setting == "fail" else caplog.text
    assert "unlike earlier runs (2 compared): share of positive is 9.0%" in message
    assert isinstance(problem, DriftError) == (setting == "fail")


def test_a_baseline_of_many_runs_is_their_sum(tmp_path: Path) -> None:
    parts = [counts(30, 70), counts(70, 30)]
    for day, part in enumerate(parts):
        save_run(tmp_path, f"2026110{day}T", part)
    drift = compared(tmp_path, merge(parts))
    [share] = [check for check in drift.checks if check.name == "share of positive"]
    assert (share.value, drift.verdict) == (0.0, "steady")
