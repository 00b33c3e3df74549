"""Counts of a unit, and that merging them is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.metrics.accuracy import judged, truth_among
from sentiment.metrics.counts import (
    HISTOGRAM_BINS,
    LENGTH_BINS,
    OTHER_GROUPS,
    count_unit,
    merge,
)
from sentiment.metrics.truth import truth_map

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
    assert "truth" not in counts


def test_the_example_in_the_module_is_right() -> None:
    counts = count_unit(
        labels=["negative", "positive", "positive"],
        scores=np.array([0.97, 0.99, 0.96], np.float32),
        off_label=np.zeros(3, np.float32),
        tokens=np.array([12, 200, 500], np.int32),
        truncated=np.array([False, False, True]),
        rejected={"null_text": 2},
        stage_sec={"read": 0.01},
        truth=["0", "0", None],
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
    assert counts["truth"] == {"0": {"negative": [*last, 1], "positive": [*last, 1]}}
    assert set(counts) == {
        "labels", "rejected", "off_label_histogram", "length_histogram", "stage_sec", "truth",
        "split_rows", "groups",
    }  # fmt: skip
    group = counts["groups"]["language=en"]
    assert set(group) == {"labels", "rejected", "truth"}
    assert group["truth"] == {"0": {"negative": 1, "positive": 1}}
    told = judged(counts, truth_map(("negative", "positive"), {}))
    assert told["confusion"] == {"negative": {"negative": 1, "positive": 1}}
    assert told["truth_histogram"] == [*last, 2]
    assert told["right_histogram"] == [*last, 1]
    assert told["groups"]["language=en"]["confusion"] == told["confusion"]
    assert "truth" not in told


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
    assert count(["a"], truth=[None])["truth"] == {}
    assert set(count(["a", "b"], truth=["b", None])["truth"]) == {"b"}


def test_a_map_that_is_corrected_gives_the_figures_of_the_new_one() -> None:
    counts = count(["negative", "positive", "positive"], truth=["1", "5", "3"])
    right = judged(counts, truth_map(("negative", "positive"), {"1": "negative", "5": "positive"}))
    assert right["confusion"] == {"negative": {"negative": 1}, "positive": {"positive": 1}}
    wrong = judged(counts, truth_map(("negative", "positive"), {"1": "positive", "5": "negative"}))
    assert wrong["confusion"] == {"positive": {"negative": 1}, "negative": {"positive": 1}}
    assert (sum(right["right_histogram"]), sum(wrong["right_histogram"])) == (2, 0)
    assert sum(right["truth_histogram"]) == sum(wrong["truth_histogram"]) == 2


def test_counts_of_an_earlier_version_are_added() -> None:
    """Their labels were translated when the rows were counted."""
    old = {"confusion": {"positive": {"positive": 2}}, "right_histogram": [0] * 19 + [2]}
    new = merge([count(["positive"], truth=["1"]), old])
    told = judged(new, truth_map(("negative", "positive"), {}))
    assert told["confusion"] == {"positive": {"positive": 3}}
    assert sum(told["right_histogram"]) == 3


def test_without_a_label_column_there_is_no_accuracy() -> None:
    counts = merge([count(["a"], truth=["a"]), {"confusion": {"a": {"a": 1}}}])
    assert not {"truth", "confusion", "right_histogram"} & set(judged(counts, None))


def test_stars_are_not_read_as_two_sentiments() -> None:
    counts = count(["negative", "positive"], truth=["1", "5"])
    truth = truth_among([counts], truth_map(("negative", "positive"), {}))
    assert judged(counts, truth)["confusion"] == {"1": {"negative": 1}, "5": {"positive": 1}}


def grouped(names: list[str]) -> dict[str, Any]:
    rows = len(names)
    return count_unit(
        labels=["a"] * rows,
        scores=np.full(rows, 0.5, np.float32),
        off_label=np.zeros(rows, np.float32),
        tokens=np.ones(rows, np.int32),
        truncated=np.zeros(rows, np.bool_),
        rejected={},
        stage_sec={},
        groups=names,
    )


def test_groups_of_a_run_are_bounded_whatever_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentiment.metrics.counts.MAX_GROUPS", 20)
    parts = [grouped([f"shop={unit * 10 + n:06d}" for n in range(10)]) for unit in range(9)]
    whole = merge(parts)
    assert len(whole["groups"]) == 20 + 1
    assert whole["groups"][OTHER_GROUPS]["labels"]["a"]["rows"] == 90 - 20
    assert merge(parts[::-1]) == whole
    assert merge([merge(parts[:5]), merge(parts[5:])]) == whole
    assert "shop=000000" in whole["groups"]


def test_values_of_the_label_column_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentiment.metrics.counts._MAX_VALUES", 20)
    names = [[f"title {unit * 10 + n}" for n in range(10)] for unit in range(9)]
    parts = [count(["a"] * 10, truth=[*some]) for some in names]
    whole = merge([*parts, count(["a"], truth=["positive"])])
    assert len(whole["truth"]) == 22
    assert sum(whole["truth"]["(other)"]["a"]) == 70
    assert sum(whole["truth"]["positive"]["a"]) == 1


def test_merging_does_not_change_its_parts() -> None:
    parts = [count(["a"], truth=["a"]), count(["b"], truth=["b"], null_text=3)]
    before = repr(parts)
    merge([merge(parts), *parts])
    assert repr(parts) == before
