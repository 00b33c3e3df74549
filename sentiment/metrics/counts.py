"""Count the rows of a unit, and merge the counts of units, partitions and runs.

All counts are sums: merging two of them adds every number to the number in the same place. The
order does not matter, and a run that was interrupted reports the same totals as one that was not.
`Counts` describes their form.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sentiment.metrics.truth import COMMON_SPELLINGS, OTHER

HISTOGRAM_BINS: Final = 20  # equal bins of [0, 1], the last one closed
LENGTH_BINS: Final = 16  # bin i: 2^i up to 2^(i+1) tokens, the last one open

# Groups of a unit, of a folder and of a run that are counted one by one. With more, for example a
# column of user ids, the counts would be larger than the data.
MAX_GROUPS: Final = 1000
OTHER_GROUPS: Final = OTHER

# Values of the label column of a folder and of a run. Units have fewer, see `TruthMap.bounded`.
_MAX_VALUES: Final = 10_000

# Counts are nested dicts of integers (and seconds), and plain JSON: they are in the footer of every
# data file and in `run.json`. An example, of three labelled rows and two rejected ones:
#
#     {
#       "labels": {                              # by predicted label
#         "negative": {
#           "rows": 1,
#           "truncated": 0,                      # rows whose text was cut
#           "tokens": 12,                        # before truncation
#           "score_histogram": [0, …, 0, 1],     # rows by score, HISTOGRAM_BINS bins
#         },
#         "positive": {"rows": 2, "truncated": 1, "tokens": 700, "score_histogram": [0, …, 0, 2]},
#       },
#       "rejected": {"null_text": 2},            # rows by reason
#       "off_label_histogram": [3, 0, …, 0],     # labelled rows by off-label mass, HISTOGRAM_BINS
#       "length_histogram": [0, 0, 0, 1, 0, 0, 0, 1, 1, 0, …],  # by tokens: 1, 2-3, 4-7, 8-15, …
#       "stage_sec": {"read": 0.01, "tokenise": 0.02, "score": 1.5, "write": 0.01},
#     }
#
# Keys that are there only where they are known (here, two of the rows have a true label):
#
#       "truth": {"0": {"negative": [0, …, 1], "positive": [0, …, 1]}},
#                                                # {VALUE: {PREDICTED: rows by score}}, VALUE as it
#                                                # stands in the label column
#       "split_rows": 1,                         # rows whose windows of text disagree
#       "unknown_tokens": 3,                     # of all tokens, those for unknown characters
#       "groups": {"language=en": {"labels": …, "rejected": …, "truth": {"0": {"negative": 1}}}},
#                                                # by --group-by; here `truth` has numbers of rows
#
# In `run.json`, where it is known what the values stand for, these are in the place of `truth`:
#
#       "confusion": {"negative": {"negative": 1, "positive": 1}},  # {TRUE: {PREDICTED: rows}}
#       "truth_histogram": [0, …, 0, 2],         # rows with a true label, by score
#       "right_histogram": [0, …, 0, 1],         # of those, rows whose label is right
Counts = dict[str, Any]


# More than seven parameters: each is a column of the unit or a sum of one, and all are keywords.
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
    unknown_tokens: int | None = None,
) -> Counts:
    """Count the rows of one unit.

    Args:
        labels: Predicted label of each labelled row.
        scores: Probability of that label, of each row, [0, 1].
        off_label: Probability mass outside the labels, of each row, [0, 1].
        tokens: Number of tokens before truncation, of each row.
        truncated: Whether the text was cut, of each row.
        rejected: Rejected rows by reason.
        stage_sec: Seconds by stage.
        truth: Value of the label column of each labelled row, None where it says that there is no
            label; None as a whole if the source has no such column.
        groups: Group of each labelled row; None if rows are not grouped.
        rejected_groups: Group, reason and number of rows of each reject.
        split_rows: Number of rows whose windows disagree; None if texts are not read in windows.
        unknown_tokens: Tokens of all rows that stand for unknown characters; None if not counted.

    Returns:
        Counts in the form that `Counts` describes.
    """
    label = pd.Series(labels, dtype=object)
    rows = pd.DataFrame(
        {"label": label, "bin": bins_of(scores), "tokens": tokens, "truncated": truncated}
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
        counts["truth"] = {
            value: {label: _score_histogram(some) for label, some in parts}
            for value, parts in _by_truth(rows)
        }
    for name, total in (("split_rows", split_rows), ("unknown_tokens", unknown_tokens)):
        if total is not None:
            counts[name] = total
    if groups is not None:
        counts["groups"] = _by_group(rows, groups, rejected_groups)
    return counts


def group_name(columns: Sequence[str], values: Sequence[Any]) -> str:
    """Return the name of a group, for example `language=en, shop=7`."""
    return ", ".join(f"{name}={value}" for name, value in zip(columns, values, strict=True))


def merge(parts: Iterable[Counts]) -> Counts:
    """Add counts key by key; a key that only some parts have counts as 0 in the others.

    Raises:
        ValueError: Two histograms of the same name have different numbers of bins.
    """
    total: Counts = {}
    for part in parts:
        _merge_into(total, part)
        _bound(total, slack=2)
    _bound(total, slack=1)
    ordered: Counts = _in_order(total)
    return ordered


def _by_label(rows: pd.DataFrame) -> dict[str, Any]:
    return {
        str(label): {
            "rows": len(some),
            "truncated": int(some["truncated"].sum()),
            "tokens": int(some["tokens"].sum()),
            "score_histogram": _score_histogram(some),
        }
        for label, some in rows.groupby("label", sort=True)
    }


def _by_truth(rows: pd.DataFrame) -> Iterator[tuple[str, list[tuple[str, pd.DataFrame]]]]:
    """Yield every value of the label column with its rows by predicted label."""
    for value, some in rows.groupby("truth", sort=True):  # rows without a value are left out
        yield str(value), [(str(label), one) for label, one in some.groupby("label", sort=True)]


def _score_histogram(rows: pd.DataFrame) -> list[int]:
    histogram: list[int] = np.bincount(rows["bin"], minlength=HISTOGRAM_BINS).tolist()
    return histogram


def _by_group(
    rows: pd.DataFrame, groups: Sequence[str], rejects: Sequence[tuple[str, str, int]]
) -> dict[str, Counts]:
    names = sorted({*groups, *(group for group, _, _ in rejects)})
    # The first names in order, not the largest groups: the same unit must give the same counts.
    known = set(names[:MAX_GROUPS])
    keyed = rows.assign(
        group=pd.Series(
            [group if group in known else OTHER_GROUPS for group in groups], dtype=object
        )
    )
    by_group: dict[str, Counts] = defaultdict(lambda: {"labels": {}, "rejected": {}})
    for group, some in keyed.groupby("group", sort=True):
        by_group[str(group)] = {"labels": _by_label(some), "rejected": {}}
        if "truth" in some:
            by_group[str(group)]["truth"] = {
                value: {label: len(rows) for label, rows in labelled}
                for value, labelled in _by_truth(some)
            }
    for group, reason, lost in rejects:
        counts = by_group[group if group in known else OTHER_GROUPS]["rejected"]
        counts[reason] = counts.get(reason, 0) + lost
    return dict(by_group)


def _length_bins(tokens: NDArray[np.int32]) -> NDArray[np.intp]:
    # frexp gives the exact exponent; a logarithm may be rounded and put 2^i into the bin below.
    exponents: NDArray[np.intp] = np.frexp(tokens)[1].astype(np.intp)
    return np.clip(exponents - 1, 0, LENGTH_BINS - 1)


def bins_of(
    probabilities: NDArray[np.floating[Any]], bins: int = HISTOGRAM_BINS
) -> NDArray[np.intp]:
    """Return the number of the bin that each probability is in.

    Args:
        probabilities: In [0, 1].
        bins: Number of equal bins of [0, 1]. A bin holds its lower edge; the last one holds 1 too.

    Returns:
        Bin numbers from 0.
    """
    # Rounding may leave a probability slightly outside of [0, 1].
    return np.clip((probabilities * bins).astype(np.intp), 0, bins - 1)


def _bound(total: Counts, *, slack: int) -> None:
    """Add up the groups, and the values of the label column, that are too many.

    The first names in order stay, not the largest: whatever the order of the parts, the same stay.
    So names may go already while parts are added; those that come again go at the end.

    Args:
        slack: How many times as many as in the end may stay.
    """
    for key, most in (("groups", MAX_GROUPS), ("truth", _MAX_VALUES)):
        if len(total.get(key, ())) <= slack * most:
            continue
        names = set(total[key]) - COMMON_SPELLINGS - {OTHER}
        if len(names) <= slack * most:
            continue
        rest: Counts = total[key].setdefault(OTHER, {})
        for name in sorted(names)[most:]:
            _merge_into(rest, total[key].pop(name))


def _merge_into(total: Counts, part: Counts) -> None:
    """Add counts to a total in place: with many groups, a copy for each part would be too much."""
    for key, value in part.items():
        if key not in total:
            total[key] = deepcopy(value)
        elif isinstance(value, dict):
            _merge_into(total[key], value)
        else:
            total[key] = add(total[key], value)


def _in_order(counts: Any) -> Any:
    """Return counts with sorted keys: the same rows give the same `run.json`."""
    if not isinstance(counts, dict):
        return counts
    return {key: _in_order(counts[key]) for key in sorted(counts)}


def add(left: Any, right: Any) -> Any:
    """Add two numbers, two lists position by position, or two dicts key by key."""
    if isinstance(left, dict):
        total = {}
        for key in sorted(left.keys() | right.keys()):
            if key not in right:
                total[key] = left[key]
            elif key not in left:
                total[key] = right[key]
            else:
                total[key] = add(left[key], right[key])
        return total
    if isinstance(left, list):
        return [add(one, other) for one, other in zip(left, right, strict=True)]
    return left + right
