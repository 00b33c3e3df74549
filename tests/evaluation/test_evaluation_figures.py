"""The figures of an evaluation against scikit-learn and against what can be said by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from sentiment.evaluation.figures import _auc_of_weights, figures, mistakes, report_text


def frame(rows: int = 400, seed: int = 1, wrong: float = 0.2) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    truth = np.where(random.random(rows) < 0.5, "positive", "negative")
    other = np.where(truth == "positive", "negative", "positive")
    tokens = random.integers(1, 1500, rows)
    return pd.DataFrame(
        {
            "truth": truth,
            "label": np.where(random.random(rows) < wrong, other, truth),
            "score": random.uniform(0.5, 1.0, rows),
            "tokens": tokens,
            "truncated": tokens > 512,
            "partition": np.where(random.random(rows) < 0.5, "dt=1", "dt=2"),
            "file": "/lake/a.parquet",
            "row": np.arange(rows),
            "text": None,
        }
    )


def told(rows: pd.DataFrame, **changes: Any) -> dict[str, Any]:
    return figures(rows, **{"positive": None, "bootstrap": 0, "seed": 1, **changes})


def test_the_figures_are_those_of_scikit_learn() -> None:
    rows = frame()
    found = told(rows)
    truth = rows["truth"] == "positive"
    score = np.where(rows["label"] == "positive", rows["score"], 1 - rows["score"])
    assert found["report"]["accuracy"] == sklearn_metrics.accuracy_score(
        rows["truth"], rows["label"]
    )
    assert found["ranking"] == {
        "positive": "positive",
        "roc_auc": sklearn_metrics.roc_auc_score(truth, score),
        "average_precision": sklearn_metrics.average_precision_score(truth, score),
        "log_loss": sklearn_metrics.log_loss(truth, score),
        "brier": sklearn_metrics.brier_score_loss(truth, score),
    }


def test_the_text_is_that_of_scikit_learn() -> None:
    rows = frame()
    expected = sklearn_metrics.classification_report(rows["truth"], rows["label"], digits=4)
    assert report_text(told(rows)["report"]).split() == expected.split()


def test_slices_add_up_to_the_whole() -> None:
    rows = frame()
    found = told(rows)
    right = found["report"]["accuracy"] * len(rows)
    for name in ("by_length", "by_truncation", "by_partition"):
        assert sum(one["rows"] for one in found[name]) == len(rows)
        assert sum(one["rows"] * one["accuracy"] for one in found[name]) == pytest.approx(right)
    assert [one["slice"] for one in found["by_length"]] == [
        "1 to 64", "65 to 128", "129 to 256", "257 to 512", "513 to 1024", "over 1024",
    ]  # fmt: skip
    assert {one["slice"] for one in found["by_truncation"]} == {"cut", "whole"}


def test_reliability_bins_say_how_often_scores_were_right() -> None:
    rows = pd.DataFrame(
        {"truth": ["a"] * 4 + ["b"] * 4, "label": ["a"] * 8, "score": [0.9] * 4 + [0.6] * 4}
    ).assign(partition="")
    found = told(rows)["calibration"]
    assert [(one["rows"], one["accuracy"]) for one in found["bins"]] == [(4, 0.0), (4, 1.0)]
    assert found["expected_calibration_error"] == pytest.approx(0.5 * 0.6 + 0.5 * 0.1)
    assert found["maximum_calibration_error"] == pytest.approx(0.6)


def test_the_intervals_hold_the_figure_and_narrow_with_the_rows() -> None:
    few, many = (told(frame(rows), bootstrap=300) for rows in (200, 5000))
    for name, figure in (
        ("accuracy", lambda found: found["report"]["accuracy"]),
        ("macro_f1", lambda found: found["report"]["macro avg"]["f1-score"]),
        ("roc_auc", lambda found: found["ranking"]["roc_auc"]),
    ):
        for found in (few, many):
            low, high = found["intervals"][name]
            assert low <= figure(found) <= high
        assert np.diff(many["intervals"][name]) < np.diff(few["intervals"][name])
    # What theory says of a share of 5,000 rows.
    accuracy = many["report"]["accuracy"]
    expected = 2 * 1.96 * np.sqrt(accuracy * (1 - accuracy) / 5000)
    assert np.diff(many["intervals"]["accuracy"])[0] == pytest.approx(expected, rel=0.15)


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([0.1, 0.4, 0.5, 0.9]), st.integers(0, 3)),
        min_size=2,
        max_size=30,
    )
)
def test_the_weighted_area_is_that_of_repeated_rows(rows: list[tuple[bool, float, int]]) -> None:
    truth, score, times = (np.array(column) for column in zip(*rows, strict=True))
    area = _auc_of_weights(truth, score)(times)
    repeated = np.repeat(truth, times)
    if repeated.all() or not repeated.any():
        assert np.isnan(area)
    else:
        expected = sklearn_metrics.roc_auc_score(repeated, np.repeat(score, times))
        assert area == pytest.approx(expected)


def test_the_surest_mistakes_come_first_and_without_text() -> None:
    rows = frame(wrong=0.3)
    listed = mistakes(rows, 5)
    scores = [one["score"] for one in listed]
    assert len(listed) == 5
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == rows["score"][rows["truth"] != rows["label"]].max()
    assert all(set(one) == {"file", "row", "truth", "label", "score"} for one in listed)
    assert all(one["truth"] != one["label"] for one in listed)


def test_text_is_listed_where_it_was_asked_for() -> None:
    assert "text" in mistakes(frame().assign(text="a review"), 1)[0]


def test_what_needs_scores_or_lengths_is_missing_without() -> None:
    found = told(frame().drop(columns=["score", "tokens", "truncated"]), bootstrap=50)
    assert found["ranking"] is found["calibration"] is found["by_length"] is None
    assert set(found["intervals"]) == {"accuracy", "macro_f1"}
    assert len(mistakes(frame().drop(columns="score"), 3)) == 3


def test_more_than_two_classes_have_no_ranking() -> None:
    rows = frame()
    rows.loc[:50, "truth"] = "neutral"
    found = told(rows, bootstrap=10)
    assert found["ranking"] is None
    assert found["calibration"]["bins"]
    assert found["report"]["neutral"]["recall"] == 0.0


@pytest.mark.parametrize(("asked", "found"), [(None, "positive"), ("negative", "negative")])
def test_the_ranked_label_can_be_chosen(asked: str | None, found: str) -> None:
    assert told(frame(), positive=asked)["ranking"]["positive"] == found


def test_rows_without_truth_are_counted_and_left_out() -> None:
    rows = frame()
    rows.loc[:99, "truth"] = None
    found = told(rows)
    assert (found["rows"], found["rows_with_truth"]) == (400, 300)
    assert found["report"]["weighted avg"]["support"] == 300
