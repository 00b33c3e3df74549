"""Counts that add up, and the figures that follow from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from sentiment.ledger.summary import partition_table
from sentiment.metrics.counts import HISTOGRAM_BINS, count_unit, merge
from sentiment.metrics.quality import classification_report, confusion

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


@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=30), st.integers(0, 30))
def test_merged_units_count_what_one_unit_would(pairs: list[tuple[str, str]], cut: int) -> None:
    truth, labels = [t for t, _ in pairs], [guess for _, guess in pairs]
    parts = [confusion(truth[:cut], labels[:cut]), confusion(truth[cut:], labels[cut:])]
    assert merge(parts) == confusion(truth, labels)


@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=60))
def test_the_report_is_that_of_scikit_learn_on_the_labels(pairs: list[tuple[str, str]]) -> None:
    truth, labels = [t for t, _ in pairs], [guess for _, guess in pairs]
    classes = sorted({*truth, *labels})
    report = classification_report(confusion(truth, labels))
    expected = sklearn_metrics.classification_report(
        truth, labels, labels=classes, output_dict=True, zero_division=0.0
    )
    for name in [*classes, "macro avg", "weighted avg"]:
        assert report[name] == pytest.approx(expected[name])
    assert report["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(truth, labels))
    assert report["labels"] == classes
    if len(classes) > 1:  # scikit-learn warns of a matrix of one class
        matrix = sklearn_metrics.confusion_matrix(truth, labels, labels=classes)
        assert report["confusion_matrix"] == matrix.tolist()
    assert "micro avg" not in report


def test_rows_without_a_true_label_do_not_count() -> None:
    assert confusion(["a", None, "a"], ["a", "a", "b"]) == {"a": {"a": 1, "b": 1}}
    assert count(["a"], truth=[None])["confusion"] == {}


def test_the_table_has_a_row_per_partition_and_label_or_reason() -> None:
    table = partition_table(
        {"dt=2": count(["a", "a", "b"], null_text=3), "dt=1": count([], empty_text=1)}
    )
    shown = table[["partition", "label", "reason", "rows"]].astype(object)
    assert shown.where(shown.notna(), None).to_numpy().tolist() == [
        ["dt=1", None, "empty_text", 1],
        ["dt=2", "a", None, 2],
        ["dt=2", "b", None, 1],
        ["dt=2", None, "null_text", 3],
    ]
    assert table["rows"].dtype == table["tokens"].dtype == np.int64


def test_a_table_of_nothing_still_has_its_columns() -> None:
    table = partition_table({"": merge([count([])])})
    assert len(table) == 0
    assert list(table.columns)[:4] == ["partition", "group", "label", "reason"]
