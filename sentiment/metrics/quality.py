"""Accuracy, precision, recall and F1 from counts of true and predicted labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


def confusion(truth: Sequence[str | None], predicted: Sequence[str]) -> dict[str, dict[str, int]]:
    """Counts of (true, predicted) pairs as {true: {predicted: rows}}; rows without truth aside."""
    pairs = Counter(zip(truth, predicted, strict=True))
    cells: dict[str, dict[str, int]] = {}
    for (true, guess), rows in sorted((p, n) for p, n in pairs.items() if p[0] is not None):
        cells.setdefault(str(true), {})[guess] = rows
    return cells


def classification_report(cells: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Precision, recall, F1 and support per class, accuracy, macro and weighted averages.

    Args:
        cells: Confusion counts, {true: {predicted: rows}}.

    Returns:
        scikit-learn's report as a dict, plus `labels` and `confusion_matrix` (rows true, columns
        predicted, both in the order of `labels`).
    """
    # Imported here: scikit-learn takes a second, and most workers only count.
    from sklearn import metrics as sklearn_metrics

    flat = [(true, guess, rows) for true, row in cells.items() for guess, rows in row.items()]
    truth, predicted, weights = (list(column) for column in zip(*flat, strict=True))
    labels = sorted(set(truth) | set(predicted))
    report: dict[str, Any] = sklearn_metrics.classification_report(
        truth, predicted, labels=labels, sample_weight=weights, output_dict=True, zero_division=0.0
    )
    # With every class listed scikit-learn may name the accuracy "micro avg"; one name is enough.
    report["accuracy"] = float(
        sklearn_metrics.accuracy_score(truth, predicted, sample_weight=weights)
    )
    report.pop("micro avg", None)
    report["labels"] = labels
    report["confusion_matrix"] = [
        [cells.get(true, {}).get(guess, 0) for guess in labels] for true in labels
    ]
    return report
