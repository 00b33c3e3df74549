"""The drift check: which changes it finds, and that it raises no alarm over runs of one kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sentiment.metrics.counts import Counts, count_unit, merge
from sentiment.metrics.drift import Drift, compare, population_stability


def night(
    rows: int,
    *,
    seed: int,
    positive: float = 0.5,
    confidence: float = 8.0,
    length: float = 250.0,
    rejected: int = 0,
    off_label: float = 0.02,
) -> Counts:
    random = np.random.default_rng(seed)
    labels = np.where(random.random(rows) < positive, "positive", "negative")
    tokens = random.lognormal(np.log(length), 0.7, rows).astype(np.int32) + 1
    return count_unit(
        labels=labels.tolist(),
        scores=random.beta(confidence, 1.0, rows).astype(np.float32),
        off_label=np.minimum(1, random.exponential(off_label, rows)).astype(np.float32),
        tokens=tokens,
        truncated=tokens > 512,
        rejected={"null_text": rejected} if rejected else {},
        stage_sec={"score": 1.0},
    )


def judged(current: Counts, baseline: Counts, **changes: Any) -> Drift:
    limits = {"same_scores": True, "psi_limit": 0.2, "share_limit": 0.05, "against": ["run-1"]}
    return compare(current, baseline, **{**limits, **changes})


BASELINE = merge(night(2000, seed=seed) for seed in range(7))


@pytest.mark.parametrize("seed", range(100, 120))
@pytest.mark.parametrize("rows", [30, 300, 3000])
def test_runs_of_the_same_kind_are_steady(rows: int, seed: int) -> None:
    assert judged(night(rows, seed=seed), BASELINE).verdict == "steady"


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"positive": 1 / 3}, "share of positive"),  # half of the positive reviews are missing
        ({"rejected": 400}, "share of rejects"),
        ({"length": 40.0}, "lengths"),
        ({"confidence": 2.0}, "scores"),
        ({"off_label": 0.3}, "off-label mass"),
    ],
)
def test_a_change_is_found_and_named(changed: dict[str, Any], name: str) -> None:
    drift = judged(night(2000, seed=99, **changed), BASELINE)
    assert drift.verdict == "drift"
    assert name in [check.name for check in drift.checks if check.drifted]
    assert name in drift.why


def test_a_large_change_of_few_rows_may_be_chance() -> None:
    assert judged(night(12, seed=5, positive=0.3), BASELINE).verdict == "steady"


def test_a_significant_change_may_be_too_small_to_matter() -> None:
    many = merge(night(50_000, seed=seed) for seed in range(2))
    drift = judged(night(50_000, seed=9, positive=0.53), many)
    [share] = [check for check in drift.checks if check.name == "share of positive"]
    assert share.value == pytest.approx(0.03, abs=0.01)
    assert not share.drifted


def test_scores_of_another_model_are_not_compared() -> None:
    drift = judged(night(2000, seed=1, confidence=1.0), BASELINE, same_scores=False)
    assert {check.name for check in drift.checks} == {
        "share of negative", "share of positive", "share of rejects", "lengths",
    }  # fmt: skip


def test_a_new_label_is_drift() -> None:
    current = night(500, seed=1)
    current["labels"]["neutral"] = {**current["labels"]["positive"]}
    drift = judged(current, BASELINE)
    assert "share of neutral" in drift.why


@pytest.mark.parametrize("empty", [0, 1])
def test_runs_without_rows_are_not_compared(empty: int) -> None:
    counts = [night(100, seed=1), night(0, seed=1)]
    assert judged(counts[1 - empty], counts[empty]).verdict == "not compared"


def test_counts_of_an_earlier_version_lack_lengths() -> None:
    earlier = {key: value for key, value in BASELINE.items() if key != "length_histogram"}
    names = [check.name for check in judged(night(500, seed=1), earlier).checks]
    assert "lengths" not in names
    assert "scores" in names


def test_the_index_of_equal_shapes_is_zero_and_grows_with_the_difference() -> None:
    same = np.array([100.0, 300.0, 600.0])
    assert population_stability(same, 5 * same) == 0.0
    some, more = (population_stability(same[::-1] * 10, shape * 10) for shape in (same, same**2))
    assert 0 < some < more
    assert population_stability(np.zeros(3), same) == 0.0
