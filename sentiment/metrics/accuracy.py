"""Compare predicted with true labels, from counts by the values of the label column.

Files hold counts by value (see `counts.Counts`) and not by label, so that a corrected `--label-map`
needs no look at the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sentiment.metrics.counts import Counts, add
from sentiment.metrics.truth import TruthMap, classes_of


def truth_among(counts: Iterable[Counts], truth: TruthMap | None) -> TruthMap | None:
    """Return the map to use for these counts, see `TruthMap.among`; None stays None."""
    if truth is None:
        return None
    return truth.among({value for one in counts for value in one.get("truth", ())})


def judged(counts: Counts, truth: TruthMap | None) -> Counts:
    """Compare predicted with true labels, by what the values of the label column stand for.

    Args:
        counts: Merged counts, with `truth` where rows have true labels.
        truth: What values stand for; None if true labels are not asked for.

    Returns:
        The counts without `truth`. In its place they have `confusion` and, but for groups,
        `truth_histogram` and `right_histogram`.
    """
    figures = dict(counts)
    values = figures.pop("truth", None)
    if truth is None:
        for name in ("confusion", "truth_histogram", "right_histogram"):
            figures.pop(name, None)
    elif values is not None:
        for name, found in _judged_values(values, truth).items():
            figures[name] = add(figures[name], found) if name in figures else found
    if "groups" in figures:
        groups = figures["groups"].items()
        figures["groups"] = {name: judged(group, truth) for name, group in groups}
    return figures


def _judged_values(values: Mapping[str, Any], truth: TruthMap) -> dict[str, Any]:
    labels = {value: truth(value) for value in values}
    classes = classes_of({one for one in labels.values() if one is not None}, truth.labels)
    cells: dict[str, dict[str, int]] = {}
    known: list[Any] = []
    right: list[Any] = []
    for value, by_label in values.items():
        label = labels[value]
        if label is None:
            continue
        true = classes[label]
        row = cells.setdefault(true, {})
        for predicted, rows in by_label.items():
            # Groups have no histograms, only the number of rows.
            row[predicted] = row.get(predicted, 0) + (sum(rows) if isinstance(rows, list) else rows)
            if isinstance(rows, list):
                known.append(rows)
                right.append(rows if predicted == true else [0] * len(rows))
    figures: dict[str, Any] = {"confusion": cells}
    if known:
        figures["truth_histogram"] = [sum(column) for column in zip(*known, strict=True)]
        figures["right_histogram"] = [sum(column) for column in zip(*right, strict=True)]
    return figures
