"""The figures of an evaluation: accuracy, ranking, calibration, slices and confidence intervals.

The input is one row per review with its true label, its predicted label and the score. scikit-learn
computes the statistics.

Shapes: N rows, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from sentiment.metrics.calibration import RELIABILITY_BINS, calibration_error
from sentiment.metrics.counts import bins_of
from sentiment.metrics.quality import classification_report, confusion

_CONFIDENCE: Final = 0.95

# Upper ends of the length buckets, in tokens; 512 is the source limit of the published models.
_LENGTHS: Final = (64, 128, 256, 512, 1024)

_MOST_PARTITIONS: Final = 50


def figures(
    rows: pd.DataFrame, *, positive: str | None, bootstrap: int, seed: int
) -> dict[str, Any]:
    """Compute all figures of an evaluation.

    Args:
        rows: `truth` and `label`; `score`, `tokens`, `truncated` and `partition` where known. Rows
            without truth are counted and left out.
        positive: Label that ranking figures are about; by default the one called positive, else
            the last. They need two classes.
        bootstrap: Resamples behind the confidence intervals; 0 for none.

    Returns:
        `report` (scikit-learn's, with confusion matrix), `ranking`, `calibration`, `by_length`,
        `by_truncation`, `by_partition`, `intervals`; those that need what is not there are None.
    """
    known = rows[rows["truth"].notna()]
    cells = confusion(known["truth"].tolist(), known["label"].tolist())
    report = classification_report(cells)
    has_scores, has_tokens = "score" in known, "tokens" in known
    ranked = _positive_of(report["labels"], positive) if has_scores else None
    return {
        "rows": len(rows),
        "rows_with_truth": len(known),
        "report": report,
        "ranking": None if ranked is None else _ranking(known, ranked),
        "calibration": _calibration(known) if has_scores else None,
        "by_length": _by_length(known) if has_tokens else None,
        "by_truncation": _slices(known, known["truncated"].map({True: "cut", False: "whole"}))
        if has_tokens
        else None,
        "by_partition": _slices(known, known["partition"], most=_MOST_PARTITIONS),
        "intervals": _intervals(known, ranked, report["labels"], bootstrap, seed)
        if bootstrap
        else None,
    }


def report_text(report: Mapping[str, Any]) -> str:
    """The classification report as plain text, in the form scikit-learn prints it."""
    names = list(report["labels"])
    width = max(len(name) for name in [*names, "weighted avg"])
    heads = ("precision", "recall", "f1-score", "support")
    lines = [" " * width + "".join(f"{head:>11}" for head in heads), ""]

    def line(name: str, values: Mapping[str, float]) -> str:
        three = "".join(f"{values[head]:>11.4f}" for head in heads[:3])
        return f"{name:>{width}}{three}{int(values['support']):>11}"

    lines += [line(name, report[name]) for name in names]
    support = int(report["weighted avg"]["support"])
    lines += ["", f"{'accuracy':>{width}}{report['accuracy']:>33.4f}{support:>11}"]
    lines += [line(name, report[name]) for name in ("macro avg", "weighted avg")]
    return "\n".join(lines) + "\n"


def mistakes(rows: pd.DataFrame, most: int) -> list[dict[str, Any]]:
    """Return the wrong labels with the highest scores, by file and row, with the text if there is
    one.
    """
    wrong = rows[rows["truth"].notna() & (rows["truth"] != rows["label"])]
    if "score" in wrong:
        wrong = wrong.sort_values(["score", "file", "row"], ascending=[False, True, True])
    columns = [name for name in ("file", "row", "truth", "label", "score", "text") if name in wrong]
    listed = wrong.head(most)[columns]
    if "text" in listed and listed["text"].isna().all():
        listed = listed.drop(columns="text")
    return [{str(key): value for key, value in one.items()} for one in listed.to_dict("records")]


def _positive_of(labels: Sequence[str], asked: str | None) -> str | None:
    if len(labels) != 2:
        return None
    if asked is not None:
        return asked if asked in labels else None
    return "positive" if "positive" in labels else labels[-1]


def _positive_score(rows: pd.DataFrame, positive: str) -> NDArray[np.float64]:
    score_N = rows["score"].to_numpy(np.float64)
    return np.where(rows["label"] == positive, score_N, 1 - score_N)


def _ranking(rows: pd.DataFrame, positive: str) -> dict[str, Any] | None:
    truth_N = (rows["truth"] == positive).to_numpy()
    score_N = _positive_score(rows, positive)
    if truth_N.all() or not truth_N.any():
        return None
    return {
        "positive": positive,
        "roc_auc": float(sklearn_metrics.roc_auc_score(truth_N, score_N)),
        "average_precision": float(sklearn_metrics.average_precision_score(truth_N, score_N)),
        "log_loss": float(sklearn_metrics.log_loss(truth_N, score_N, labels=[False, True])),
        "brier": float(sklearn_metrics.brier_score_loss(truth_N, score_N)),
    }


def _calibration(rows: pd.DataFrame) -> dict[str, Any]:
    score_N = rows["score"].to_numpy(np.float64)
    right_N = (rows["truth"] == rows["label"]).to_numpy()
    bin_N = bins_of(score_N, RELIABILITY_BINS)
    bins = [
        {
            "from": bin_ / RELIABILITY_BINS,
            "to": (bin_ + 1) / RELIABILITY_BINS,
            "rows": int(some.sum()),
            "mean_score": float(score_N[some].mean()),
            "accuracy": float(right_N[some].mean()),
        }
        for bin_ in range(RELIABILITY_BINS)
        if (some := bin_N == bin_).any()
    ]
    gaps = [abs(one["mean_score"] - one["accuracy"]) for one in bins]
    return {
        "expected_calibration_error": calibration_error(score_N, right_N),
        "maximum_calibration_error": max(gaps, default=0.0),
        "mean_score": float(score_N.mean()),
        "bins": bins,
    }


def _by_length(rows: pd.DataFrame) -> list[dict[str, Any]]:
    ends = [0, *_LENGTHS, np.iinfo(np.int64).max]
    names = [f"{low + 1} to {high}" for low, high in zip(ends, _LENGTHS, strict=False)]
    buckets = pd.cut(rows["tokens"], ends, labels=[*names, f"over {_LENGTHS[-1]}"])
    return _slices(rows, buckets)


def _slices(
    rows: pd.DataFrame, by: pd.Series[Any], most: int | None = None
) -> list[dict[str, Any]]:
    """Return rows and accuracy of each slice; of the largest ones if there are too many."""
    right = (rows["truth"] == rows["label"]).groupby(by, observed=True).agg(["size", "mean"])
    if most is not None and len(right) > most:
        right = right.sort_values("size", ascending=False).head(most)
    return [
        {"slice": str(name), "rows": int(size), "accuracy": float(mean)}
        for name, size, mean in right.itertuples()
    ]


def _intervals(
    rows: pd.DataFrame, ranked: str | None, labels: Sequence[str], resamples: int, seed: int
) -> dict[str, list[float]]:
    """Return percentile bootstrap intervals: the range of a figure over resamples of the rows.

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    random = np.random.default_rng(seed)
    place = {label: n for n, label in enumerate(labels)}
    classes = len(labels)
    cell_N = np.array(
        [
            place[truth] * classes + place[label]
            for truth, label in zip(rows["truth"], rows["label"], strict=True)
        ]
    )
    drawn: dict[str, list[float]] = {"accuracy": [], "macro_f1": []}
    auc: Callable[[NDArray[np.intp]], float] | None = None
    if ranked is not None:
        auc = _auc_of_weights((rows["truth"] == ranked).to_numpy(), _positive_score(rows, ranked))
        drawn["roc_auc"] = []
    for _ in range(resamples):
        times_N = np.bincount(random.integers(0, len(rows), len(rows)), minlength=len(rows))
        cells = np.bincount(cell_N, times_N, minlength=classes**2).reshape(classes, classes)
        hits = cells.diagonal()
        drawn["accuracy"].append(hits.sum() / len(rows))
        drawn["macro_f1"].append(
            (2 * hits / np.maximum(1, cells.sum(axis=0) + cells.sum(axis=1))).mean()
        )
        if auc is not None:
            drawn["roc_auc"].append(auc(times_N))
    tail = (1 - _CONFIDENCE) / 2
    return {
        name: [float(end) for end in np.nanquantile(values, [tail, 1 - tail])]
        for name, values in drawn.items()
    }


def _auc_of_weights(
    truth_N: NDArray[np.bool_], score_N: NDArray[np.float64]
) -> Callable[[NDArray[np.intp]], float]:
    """Return a function from row weights to the area under the ROC curve; it sorts scores once."""
    order = np.argsort(score_N, kind="stable")
    truth_N = truth_N[order]
    # Rows of equal score share a step of the curve.
    step_N = np.concatenate([[0], np.cumsum(np.diff(score_N[order]) > 0)])

    def auc(times_N: NDArray[np.intp]) -> float:
        times_N = times_N[order]
        positive = np.bincount(step_N, times_N * truth_N)
        negative = np.bincount(step_N, times_N * ~truth_N)
        below = np.cumsum(negative) - negative
        pairs = positive.sum() * negative.sum()
        won = (positive * (below + negative / 2)).sum()
        return float(won / pairs) if pairs else float("nan")

    return auc
