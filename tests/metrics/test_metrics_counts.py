"""Counts of a unit, and that merging them is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.metrics.counts import HISTOGRAM_BINS, LENGTH_BINS, count_unit, merge

LABELS = st.sampled_from(["negative", "neutral", "positive"])


def count(
    labels: list[str],
    scores: list[float] | None = None,
    truth: list[str | None] | None = None,
    **rejected: int,
) -> dict[str, Any]:
    rows = len(labels)
    return count_unit(
        labels=labels,
        scores=np.array([0.5] * rows if scores is None else scores, np.float32),
        off_label=np.zeros(rows, np.float32),
        tokens=np.arange(rows, dtype=np.int32),
        truncated=np.arange(rows) % 2 == 1,
        rejected=rejected,
        stage_sec={"read": 0.25},
        truth=truth,
    )


@st.composite
def units(draw: st.DrawFn) -> dict[str, Any]:
    labels = draw(st.lists(LABELS, max_size=8))
    scores = [draw(st.floats(0, 1, width=32)) for _ in labels]
    truth = [draw(LABELS) for _ in labels] if draw(st.booleans()) else None
    reasons = draw(st.dictionaries(st.sampled_from(["a", "b"]), st.integers(1, 9), max_size=2))
    return count(labels, scores, truth, **reasons)


def test_a_unit_is_counted_by_label() -> None:
    counts = count(["b", "a", "b"], [0.0, 1.0, 0.5], null_text=2)
    assert counts["labels"]["a"]["rows"] == 1
    assert counts["labels"]["b"] == {
        "rows": 2,
        "truncated": 0,
        "tokens": 2,
        "score_histogram": [1, *[0] * 9, 1, *[0] * 9],
    }
    assert counts["labels"]["a"]["truncated"] == 1
    assert counts["rejected"] == {"null_text": 2}
    assert "confusion" not in counts


def test_the_example_in_the_module_is_right() -> None:
    counts = count_unit(
        labels=["negative", "positive", "positive"],
        scores=np.array([0.97, 0.99, 0.96], np.float32),
        off_label=np.zeros(3, np.float32),
        tokens=np.array([12, 200, 500], np.int32),
        truncated=np.array([False, False, True]),
        rejected={"null_text": 2},
        stage_sec={"read": 0.01},
        truth=["negative", "negative", None],
        groups=["language=en"] * 3,
        split_rows=1,
    )
    last = [0] * (HISTOGRAM_BINS - 1)
    assert counts["labels"] == {
        "negative": {"rows": 1, "truncated": 0, "tokens": 12, "score_histogram": [*last, 1]},
        "positive": {"rows": 2, "truncated": 1, "tokens": 700, "score_histogram": [*last, 2]},
    }
    assert counts["length_histogram"] == [0, 0, 0, 1, 0, 0, 0, 1, 1] + [0] * (LENGTH_BINS - 9)
    assert counts["off_label_histogram"] == [3, *last]
    assert counts["confusion"] == {"negative": {"negative": 1, "positive": 1}}
    assert counts["truth_histogram"] == [*last, 2]
    assert counts["right_histogram"] == [*last, 1]
    assert set(counts) == {
        "labels", "rejected", "off_label_histogram", "length_histogram", "stage_sec",
        "confusion", "truth_histogram", "right_histogram", "split_rows", "groups",
    }  # fmt: skip
    assert set(counts["groups"]["language=en"]) == {"labels", "rejected", "confusion"}


@pytest.mark.parametrize(
    ("score", "bin_number"),
    [(0.0, 0), (0.0499, 0), (0.0501, 1), (0.5, 10), (0.99, 19), (1.0, 19), (1.0000001, 19)],
)
def test_the_histogram_is_closed_at_both_ends(score: float, bin_number: int) -> None:
    histogram = count(["a"], [score])["labels"]["a"]["score_histogram"]
    assert histogram == [int(n == bin_number) for n in range(HISTOGRAM_BINS)]


def test_a_rounding_error_below_zero_is_zero() -> None:
    assert count(["a"], [-1e-7])["labels"]["a"]["score_histogram"][0] == 1


@given(st.lists(units(), max_size=5), st.randoms())
def test_merging_does_not_depend_on_order_or_grouping(
    parts: list[dict[str, Any]], random: Any
) -> None:
    whole = merge(parts)
    shuffled = random.sample(parts, len(parts))
    middle = len(parts) // 2
    assert merge(shuffled) == whole
    assert merge([merge(parts[:middle]), merge(parts[middle:])]) == whole


def test_rows_without_a_true_label_are_in_no_cell() -> None:
    assert count(["a"], truth=[None])["confusion"] == {}
    assert count(["a", "b"], truth=["b", None])["confusion"] == {"b": {"a": 1}}
