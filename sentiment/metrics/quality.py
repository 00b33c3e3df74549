"""Accuracy, precision, recall and F1 from counts of true and predicted labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any


def confusion(truth: Sequence[str | None], predicted: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count rows by true and by predicted label.

    Args:
        truth: True label of each row; rows without one (None) are not counted.
        predicted: Predicted label of each row.

    Returns:
        {true: {predicted: rows}}, without pairs that do not occur.
    """
    pairs = Counter(zip(truth, predicted, strict=True))
    cells: dict[str, dict[str, int]] = {}
    for (true, guess), rows in sorted((p, n) for p, n in pairs.items() if p[0] is not None):
        cells.setdefault(str(true), {})[guess] = rows
    return cells


def classification_report(cells: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Compute precision, recall, F1 and support per class, accuracy, macro and weighted averages.

    Args:
        cells: Rows by true and by predicted label, at least one row: {true: {predicted: rows}}.

    Returns:
        scikit-learn's report as a dict, plus `labels` and `confusion_matrix` (rows true, columns
        predicted, both in the order of `labels`).
    """
    # Imported here: the import takes a second, and most workers only count.
    from sklearn import metrics as sklearn_metrics

    # One row per cell with its count as weight gives the figures of all rows.
    flat = [(true, guess, rows) for true, row in cells.items() for guess, rows in row.items()]
    truth, predicted, weights = (list(column) for column in zip(*flat, strict=True))
    labels = sorted(set(truth) | set(predicted))
    report: dict[str, Any] = sklearn_metrics.classification_report(
        truth, predicted, labels=labels, sample_weight=weights, output_dict=True, zero_division=0.0
    )
    # Given a list of labels, scikit-learn calls the accuracy "micro avg" or "accuracy", depending
    # on which labels occur. The report always has "accuracy".
    report["accuracy"] = float(
        sklearn_metrics.accuracy_score(truth, predicted, sample_weight=weights)
    )
    report.pop("micro avg", None)
    report["labels"] = labels
    report["confusion_matrix"] = [
        [cells.get(true, {}).get(guess, 0) for guess in labels] for true in labels
    ]
    return report
