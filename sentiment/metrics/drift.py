"""The drift check: compare the counts of a run with those of earlier runs (the baseline).

It compares the share of each label, the share of rejected rows, and the distributions of text
lengths, scores and off-label mass. A share has drifted if both conditions hold:

1. The change is large: greater than the limit of the settings.
2. The change is significant: chance alone would make so large a change in fewer than one of a
   thousand runs of this size.

The first condition alone would raise alarms over small runs, whose shares vary much by chance. The
second alone would raise alarms over large runs, in which changes too small to matter are still
significant. For a distribution, one number holds both conditions: its population stability index
(PSI) less what chance alone would make of it.

Source:
    The population stability index is the symmetric Kullback-Leibler divergence of binned
    distributions, as credit scoring uses it. Without drift it is distributed as chi-squared with
    (bins - 1) degrees of freedom times (1/n + 1/m), where n and m are the rows of the two runs:
    Yurdakul and Naranjo, "Statistical properties of the population stability index", 2020. The
    quantile of that distribution is subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from sentiment.metrics.counts import Counts

# Significance level of the second condition, and the same as standard deviations of a normal
# distribution, to either side.
_SIGNIFICANCE: Final = 0.001
_Z_LIMIT: Final = 3.29

# Rows added to every bin: the index has the logarithm of a ratio of bins, which is infinite where
# one of them is empty.
_SMOOTHING_ROWS: Final = 0.5


@dataclass(frozen=True)
class Check:
    """One figure of this run, compared with the baseline.

    Attributes:
        name: What was compared, for example `share of positive`.
        value: Size of the change: a difference of shares, or a population stability index.
        limit: The change must be greater than this to be drift.
        drifted: Whether the figure has drifted.
        detail: The change in words.
    """

    name: str
    value: float
    limit: float
    drifted: bool
    detail: str


@dataclass(frozen=True)
class Drift:
    """The result of the drift check of a run.

    Attributes:
        verdict: `drift` if any check found drift, else `steady`; `not compared` without checks.
        why: The reason for the verdict, one sentence.
        against: Ids of the runs of the baseline.
        rows: Rows of this run that were compared.
        baseline_rows: Rows of the baseline.
        checks: The figures that were compared.
        accepted: Whether the user has accepted the drift (`--accept-drift`).
    """

    verdict: Literal["steady", "drift", "not compared"]
    why: str
    against: tuple[str, ...] = ()
    rows: int = 0
    baseline_rows: int = 0
    checks: tuple[Check, ...] = ()
    accepted: bool = False

    def facts(self) -> dict[str, Any]:
        """Return what `run.json` has about it."""
        return asdict(self)


def compare(
    current: Counts,
    baseline: Counts,
    *,
    same_scores: bool,
    psi_limit: float,
    share_limit: float,
    against: Sequence[str] = (),
) -> Drift:
    """Compare a run with its baseline.

    Args:
        current: Counts of the rows this run scored.
        baseline: Merged counts of what earlier runs scored.
        same_scores: Whether model and settings were the same. Only then are scores compared.
        psi_limit: A distribution has drifted above this population stability index.
        share_limit: A share has drifted above this difference, in [0, 1].
        against: Ids of the runs of the baseline.
    """
    rows, baseline_rows = _rows(current), _rows(baseline)
    if not rows or not baseline_rows:
        why = "no rows were scored" if not rows else "no earlier run to compare with"
        return Drift("not compared", why, tuple(against), rows, baseline_rows)
    checks = [
        *_share_checks(current, baseline, share_limit),
        *_distribution_checks(current, baseline, psi_limit, same_scores=same_scores),
    ]
    drifted = [check for check in checks if check.drifted]
    why = "; ".join(f"{check.name} {check.detail}" for check in drifted)
    return Drift(
        "drift" if drifted else "steady",
        why or f"like the last {len(against)} successful",
        tuple(against),
        rows,
        baseline_rows,
        tuple(checks),
    )


def _share_checks(current: Counts, baseline: Counts, limit: float) -> Iterator[Check]:
    """Compare the share of each label, and the share of rejected rows."""
    for label in sorted({*current["labels"], *baseline["labels"]}):
        yield _share_check(
            f"share of {label}",
            (_rows_of_label(current, label), _labelled(current)),
            (_rows_of_label(baseline, label), _labelled(baseline)),
            limit,
        )
    yield _share_check(
        "share of rejects",
        (_rejected(current), _rows(current)),
        (_rejected(baseline), _rows(baseline)),
        limit,
    )


def _share_check(
    name: str, current: tuple[int, int], baseline: tuple[int, int], limit: float
) -> Check:
    """Compare two shares by a two-proportion z-test with pooled variance, and by a limit.

    Args:
        current: Rows that count, and all rows, of this run.
        baseline: The same of the baseline.
        limit: Difference of shares above which it may be drift.
    """
    n, m = max(1, current[1]), max(1, baseline[1])
    share, usual_share = current[0] / n, baseline[0] / m
    pooled_share = (current[0] + baseline[0]) / (n + m)
    standard_error = math.sqrt(pooled_share * (1 - pooled_share) * (1 / n + 1 / m))
    change = abs(share - usual_share)
    return Check(
        name,
        change,
        limit,
        change > limit and change > _Z_LIMIT * standard_error,
        f"is {share:.1%}, was {usual_share:.1%}",
    )


def _distribution_checks(
    current: Counts, baseline: Counts, limit: float, *, same_scores: bool
) -> Iterator[Check]:
    """Compare the distributions that both counts have."""
    current_histograms = _histograms(current, same_scores=same_scores)
    baseline_histograms = _histograms(baseline, same_scores=same_scores)
    for name, parts in current_histograms.items():
        if name in baseline_histograms:
            value = population_stability(*_aligned(parts, baseline_histograms[name]))
            detail = f"moved by a stability index of {value:.2f}"
            yield Check(name, value, limit, value > limit, detail)


def population_stability(current_B: NDArray[np.float64], baseline_B: NDArray[np.float64]) -> float:
    """Return the population stability index of two histograms, less what chance makes of it.

    Args:
        current_B: Rows by bin.
        baseline_B: Rows by the same bins.

    Returns:
        At least 0; 0 if one of the histograms is empty.
    """
    # Imported here: workers that only count need not load it.
    from scipy.special import chdtri

    # A bin that both leave empty adds nothing to the index, and must add no degree of freedom.
    used_B = (current_B + baseline_B) > 0
    current_B, baseline_B = current_B[used_B], baseline_B[used_B]
    n, m = current_B.sum(), baseline_B.sum()
    if not n or not m:
        return 0.0
    p_B = (current_B + _SMOOTHING_ROWS) / (current_B + _SMOOTHING_ROWS).sum()
    q_B = (baseline_B + _SMOOTHING_ROWS) / (baseline_B + _SMOOTHING_ROWS).sum()
    by_chance = float(chdtri(len(current_B) - 1, _SIGNIFICANCE) * (1 / n + 1 / m))
    return max(0.0, float(((p_B - q_B) * np.log(p_B / q_B)).sum()) - by_chance)


def _rows_of_label(counts: Counts, label: str) -> int:
    return int(counts["labels"][label]["rows"]) if label in counts["labels"] else 0


def _labelled(counts: Counts) -> int:
    return sum(int(values["rows"]) for values in counts["labels"].values())


def _rejected(counts: Counts) -> int:
    return sum(int(rows) for rows in counts["rejected"].values())


def _rows(counts: Counts) -> int:
    return _labelled(counts) + _rejected(counts)


def _histograms(counts: Counts, *, same_scores: bool) -> dict[str, dict[str, list[int]]]:
    """Return the histograms to compare, by name and then by label.

    Scores have a histogram for each label, the others have one, under the label "". Histograms
    without rows are left out, and so are those that the files of earlier versions lack.
    """
    histograms = {"lengths": {"": counts.get("length_histogram", [])}}
    if same_scores:
        histograms["scores"] = {
            label: values["score_histogram"] for label, values in counts["labels"].items()
        }
        histograms["off-label mass"] = {"": counts.get("off_label_histogram", [])}
    return {name: parts for name, parts in histograms.items() if any(map(sum, parts.values()))}


def _aligned(
    current: Mapping[str, list[int]], baseline: Mapping[str, list[int]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Join the histograms of all labels into one, in the same order for both.

    A label that only one of them has gets zeros in the other.
    """
    joined_current: list[int] = []
    joined_baseline: list[int] = []
    for label in sorted({*current, *baseline}):
        bins = max(len(current.get(label, ())), len(baseline.get(label, ())))
        joined_current += current.get(label, [0] * bins)
        joined_baseline += baseline.get(label, [0] * bins)
    return np.array(joined_current, np.float64), np.array(joined_baseline, np.float64)
