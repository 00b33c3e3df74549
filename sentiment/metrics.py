"""Counts that merge exactly, and the quality figures that follow from them.

Takes labelled blocks and their rejects, gives plain JSON counts per unit; merges them per partition
and run; turns confusion counts into the usual classification report. Knows no cluster.

Unit counts are nested dicts of integers (and seconds), so that merging is addition and a resumed
run reports the same totals as an uninterrupted one:

    {"labels": {LABEL: {"rows", "truncated", "tokens", "score_histogram": [20 counts]}},
     "rejected": {REASON: rows}, "off_label_histogram": [20 counts],
     "confusion": {TRUE: {PREDICTED: rows}}, "stage_sec": {STAGE: seconds}}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

HISTOGRAM_BINS: Final = 20  # equal bins of [0, 1], the last one closed

Counts = dict[str, Any]


def count_unit(
    *,
    labels: Sequence[str],
    scores: NDArray[np.float32],
    off_label: NDArray[np.float32],
    tokens: NDArray[np.int32],
    truncated: NDArray[np.bool_],
    rejected: Mapping[str, int],
    stage_sec: Mapping[str, float],
    truth: Sequence[str | None] | None = None,
) -> Counts:
    """Count one unit.

    Args:
        labels: Predicted label of each labelled row.
        scores: Its probability, [0, 1].
        off_label: Probability mass outside the labels, [0, 1].
        tokens: Token counts before truncation.
        truncated: Whether the text was cut.
        rejected: Rows by reason.
        stage_sec: Seconds by stage.
        truth: True label of each labelled row, if known; None where a row has none.
    """
    rows = pd.DataFrame(
        {
            "label": pd.Series(labels, dtype=object),
            "bin": _bins(scores),
            "tokens": tokens,
            "truncated": truncated,
        }
    )
    by_label: dict[str, Any] = {}
    for label, group in rows.groupby("label", sort=True):
        by_label[str(label)] = {
            "rows": len(group),
            "truncated": int(group["truncated"].sum()),
            "tokens": int(group["tokens"].sum()),
            "score_histogram": np.bincount(group["bin"], minlength=HISTOGRAM_BINS).tolist(),
        }
    counts: Counts = {
        "labels": by_label,
        "rejected": dict(rejected),
        "off_label_histogram": np.bincount(_bins(off_label), minlength=HISTOGRAM_BINS).tolist(),
        "stage_sec": dict(stage_sec),
    }
    if truth is not None:
        counts["confusion"] = confusion(truth, labels)
    return counts


def merge(parts: Iterable[Counts]) -> Counts:
    """Add counts key by key; the order of the parts does not matter."""
    total: Counts = {}
    for part in parts:
        total = _add(total, part)
    return total


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


def partition_table(run_id: str, partitions: Mapping[str, Counts]) -> pd.DataFrame:
    """One row per partition and label, and per partition and reject reason.

    Args:
        run_id: Written into every row, so that tables of many nights can be stacked.
        partitions: Merged counts by output folder.
    """
    records: list[dict[str, Any]] = []
    for partition, counts in sorted(partitions.items()):
        for label, values in counts["labels"].items():
            records.append({"partition": partition, "label": label, "reason": None, **values})
        for reason, rows in counts["rejected"].items():
            none = {"rows": rows, "truncated": 0, "tokens": 0, "score_histogram": None}
            records.append({"partition": partition, "label": None, "reason": reason, **none})
    columns = ["partition", "label", "reason", "rows", "truncated", "tokens", "score_histogram"]
    table = pd.DataFrame.from_records(records, columns=columns)
    table.insert(0, "run_id", run_id)
    return table


def _bins(values: NDArray[np.float32]) -> NDArray[np.intp]:
    # Rounding may leave a probability a hair outside [0, 1].
    return np.clip((values * HISTOGRAM_BINS).astype(np.intp), 0, HISTOGRAM_BINS - 1)


def _add(left: Any, right: Any) -> Any:
    if isinstance(left, dict):
        keys = sorted(left.keys() | right.keys())
        return {
            key: _add(left[key], right[key])
            if key in left and key in right
            else left.get(key, right.get(key))
            for key in keys
        }
    if isinstance(left, list):
        return [_add(one, other) for one, other in zip(left, right, strict=True)]
    return left + right
