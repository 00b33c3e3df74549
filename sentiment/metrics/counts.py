"""Counts that merge exactly, and the quality figures that follow from them.

Takes labelled blocks and their rejects, gives plain JSON counts per unit; merges them per partition
and run; turns confusion counts into the usual classification report. Knows no cluster.

Unit counts are nested dicts of integers (and seconds), so that merging is addition and a resumed
run reports the same totals as an uninterrupted one:

    {"labels": {LABEL: {"rows", "truncated", "tokens", "score_histogram": [20 counts]}},
     "rejected": {REASON: rows}, "off_label_histogram": [20 counts],
     "length_histogram": [16 counts, of 1, 2 to 3, 4 to 7, … tokens],
     "stage_sec": {STAGE: seconds},
     "groups": {GROUP: {"labels", "rejected", "confusion"}},
  with windows also
     "split_rows": rows whose windows disagree,
  with true labels also
     "confusion": {TRUE: {PREDICTED: rows}},
     "truth_histogram", "right_histogram": [20 counts by score: rows, and rows that are right]}
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentiment.metrics.quality import confusion

HISTOGRAM_BINS: Final = 20  # equal bins of [0, 1], the last one closed
LENGTH_BINS: Final = 16  # bin i: 2^i up to 2^(i+1) tokens, the last one open

# Groups of a unit that are counted one by one; a column of user ids would outgrow the data.
MOST_GROUPS: Final = 1000
OTHER_GROUPS: Final = "(other)"

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
    groups: Sequence[str] | None = None,
    rejected_groups: Sequence[tuple[str, str, int]] = (),
    split_rows: int | None = None,
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
        groups: Group of each labelled row, if rows are grouped.
        rejected_groups: Group, reason and rows of each reject.
        split_rows: Rows whose windows disagree, where texts are read in windows.
    """
    rows = pd.DataFrame(
        {
            "label": pd.Series(labels, dtype=object),
            "bin": bins_of(scores),
            "tokens": tokens,
            "truncated": truncated,
        }
    )
    counts: Counts = {
        "labels": _by_label(rows),
        "rejected": dict(rejected),
        "off_label_histogram": np.bincount(bins_of(off_label), minlength=HISTOGRAM_BINS).tolist(),
        "length_histogram": np.bincount(_length_bins(tokens), minlength=LENGTH_BINS).tolist(),
        "stage_sec": dict(stage_sec),
    }
    if truth is not None:
        rows["truth"] = pd.Series(list(truth), dtype=object)
        counts["confusion"] = confusion(truth, labels)
        known = rows[rows["truth"].notna()]
        right = known[known["truth"] == known["label"]]
        for name, some in (("truth_histogram", known), ("right_histogram", right)):
            counts[name] = np.bincount(some["bin"], minlength=HISTOGRAM_BINS).tolist()
    if split_rows is not None:
        counts["split_rows"] = split_rows
    if groups is not None:
        counts["groups"] = _by_group(rows, groups, rejected_groups)
    return counts


def group_name(columns: Sequence[str], values: Sequence[Any]) -> str:
    """Name of a group: `language=en, shop=7`."""
    return ", ".join(f"{name}={value}" for name, value in zip(columns, values, strict=True))


def merge(parts: Iterable[Counts]) -> Counts:
    """Add counts key by key; the order of the parts does not matter."""
    total: Counts = {}
    for part in parts:
        total = _add(total, part)
    return total


def _by_label(rows: pd.DataFrame) -> dict[str, Any]:
    return {
        str(label): {
            "rows": len(some),
            "truncated": int(some["truncated"].sum()),
            "tokens": int(some["tokens"].sum()),
            "score_histogram": np.bincount(some["bin"], minlength=HISTOGRAM_BINS).tolist(),
        }
        for label, some in rows.groupby("label", sort=True)
    }


def _by_group(
    rows: pd.DataFrame, groups: Sequence[str], rejects: Sequence[tuple[str, str, int]]
) -> dict[str, Counts]:
    names = sorted({*groups, *(group for group, _, _ in rejects)})
    known = set(names[:MOST_GROUPS])
    keyed = rows.assign(
        group=pd.Series(
            [group if group in known else OTHER_GROUPS for group in groups], dtype=object
        )
    )
    by_group: dict[str, Counts] = defaultdict(lambda: {"labels": {}, "rejected": {}})
    for group, some in keyed.groupby("group", sort=True):
        by_group[str(group)] = {"labels": _by_label(some), "rejected": {}}
        if "truth" in some:
            cells = confusion(some["truth"].tolist(), some["label"].tolist())
            by_group[str(group)]["confusion"] = cells
    for group, reason, lost in rejects:
        counts = by_group[group if group in known else OTHER_GROUPS]["rejected"]
        counts[reason] = counts.get(reason, 0) + lost
    return dict(by_group)


def _length_bins(tokens: NDArray[np.int32]) -> NDArray[np.intp]:
    # frexp gives the exact power of two; a logarithm would put 2^i on either side of it.
    exponents: NDArray[np.intp] = np.frexp(tokens)[1].astype(np.intp)
    return np.clip(exponents - 1, 0, LENGTH_BINS - 1)


def bins_of(
    probabilities: NDArray[np.floating[Any]], bins: int = HISTOGRAM_BINS
) -> NDArray[np.intp]:
    """Which of so many equal bins of [0, 1] each probability is in, from 0."""
    # Rounding may leave a probability a hair outside [0, 1].
    return np.clip((probabilities * bins).astype(np.intp), 0, bins - 1)


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
