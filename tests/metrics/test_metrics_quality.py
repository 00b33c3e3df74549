"""Confusion counts and the classification report, against scikit-learn on the plain labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from sentiment.metrics.counts import merge
from sentiment.metrics.quality import classification_report, confusion

LABELS = st.sampled_from(["negative", "neutral", "positive"])


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
