"""Is tonight like the nights before: shares, scores, lengths and rejects against earlier runs.

Takes merged counts of this run and of earlier ones, gives a verdict. Knows no file.

A figure has drifted when the change is both large (the limits of the settings) and more than chance
would make of so many rows. Small nights therefore raise no alarm, and neither do large ones over a
change nobody cares about.

Source:
    The population stability index is the symmetric Kullback-Leibler divergence of binned
    distributions, as credit scoring uses it. Without drift it is distributed as chi-squared with
    (bins - 1) degrees of freedom times (1/n + 1/m): Yurdakul and Naranjo, "Statistical properties
    of the population stability index", 2020. The quantile of that is taken off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from sentiment.metrics.counts import Counts

# A change must be beyond what chance does in one of a thousand nights; for a share that is so many
# standard deviations, to either side.
_CHANCE: Final = 0.001
_DEVIATE: Final = 3.29

# Added to every bin, so that an empty one does not make the index infinite.
_SMOOTHING: Final = 0.5


@dataclass(frozen=True)
class Check:
    """One figure of this run against the same of the baseline.

    Attributes:
        value: How far it moved: a difference of shares, or a population stability index.
        limit: From where that is drift.
        detail: Both figures, for people.
    """

    name: str
    value: float
    limit: float
    drifted: bool
    detail: str


@dataclass(frozen=True)
class Drift:
    """The verdict of a run.

    Attributes:
        why: One sentence.
        against: Ids of the runs of the baseline.
        rows: Rows of this run that were compared.
        baseline_rows: Rows of the baseline.
    """

    verdict: Literal["steady", "drift", "not compared"]
    why: str
    against: tuple[str, ...] = ()
    rows: int = 0
    baseline_rows: int = 0
    checks: tuple[Check, ...] = ()

    def facts(self) -> dict[str, Any]:
        """What `run.json` tells of it."""
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
        same_scores: Whether model and settings were the same, so that scores can be compared too.
        psi_limit: Population stability index that is drift.
        share_limit: Difference of shares, in [0, 1], that is drift.
        against: Ids of the runs of the baseline.
    """
    rows, baseline_rows = _rows(current), _rows(baseline)
    if not rows or not baseline_rows:
        why = "no rows were scored" if not rows else "no earlier run to compare with"
        return Drift("not compared", why, tuple(against), rows, baseline_rows)
    checks = [
        _share_check(
            f"share of {label}", _share(current, label), _share(baseline, label), share_limit
        )
        for label in sorted({*current["labels"], *baseline["labels"]})
    ]
    rejected, usually_rejected = (sum(one["rejected"].values()) for one in (current, baseline))
    checks.append(
        _share_check(
            "share of rejects", (rejected, rows), (usually_rejected, baseline_rows), share_limit
        )
    )
    now, before = _histograms(current, same_scores), _histograms(baseline, same_scores)
    checks += [
        _psi_check(name, *_side_by_side(now[name], before[name]), psi_limit)
        for name in now
        if name in before
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


def population_stability(current_B: NDArray[np.float64], baseline_B: NDArray[np.float64]) -> float:
    """Population stability index of two histograms, less what chance makes of it; at least 0."""
    # Imported here: workers that only count need not load it.
    from scipy.special import chdtri

    used = (current_B + baseline_B) > 0
    now, before = current_B[used], baseline_B[used]
    if not now.sum() or not before.sum():
        return 0.0
    p = (now + _SMOOTHING) / (now + _SMOOTHING).sum()
    q = (before + _SMOOTHING) / (before + _SMOOTHING).sum()
    chance = float(chdtri(len(now) - 1, _CHANCE) * (1 / now.sum() + 1 / before.sum()))
    return max(0.0, float(((p - q) * np.log(p / q)).sum()) - chance)


def _psi_check(
    name: str, now_B: NDArray[np.float64], before_B: NDArray[np.float64], limit: float
) -> Check:
    value = population_stability(now_B, before_B)
    return Check(name, value, limit, value > limit, f"moved by a stability index of {value:.2f}")


def _share_check(name: str, now: tuple[int, int], before: tuple[int, int], limit: float) -> Check:
    """Two-proportion z-test with pooled variance, and a least difference."""
    n, m = max(1, now[1]), max(1, before[1])
    share, usual = now[0] / n, before[0] / m
    pooled = (now[0] + before[0]) / (n + m)
    deviation = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    change = abs(share - usual)
    return Check(
        name,
        change,
        limit,
        change > limit and change > _DEVIATE * deviation,
        f"is {share:.1%}, was {usual:.1%}",
    )


def _share(counts: Counts, label: str) -> tuple[int, int]:
    """Rows of a label, of all labelled rows."""
    rows = counts["labels"][label]["rows"] if label in counts["labels"] else 0
    return int(rows), _labelled(counts)


def _rows(counts: Counts) -> int:
    return _labelled(counts) + sum(map(int, counts["rejected"].values()))


def _labelled(counts: Counts) -> int:
    return sum(int(values["rows"]) for values in counts["labels"].values())


def _histograms(counts: Counts, same_scores: bool) -> dict[str, dict[str, list[int]]]:
    """What is compared bin by bin; files of earlier versions may lack some."""
    found = {"lengths": {"": counts.get("length_histogram", [])}}
    if same_scores:
        found["scores"] = {
            label: values["score_histogram"] for label, values in counts["labels"].items()
        }
        found["off-label mass"] = {"": counts.get("off_label_histogram", [])}
    return {name: parts for name, parts in found.items() if any(map(sum, parts.values()))}


def _side_by_side(
    now: Mapping[str, list[int]], before: Mapping[str, list[int]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Histograms of all labels end to end, with zeros for a label that only the other has."""
    ends: tuple[list[int], list[int]] = ([], [])
    for label in sorted({*now, *before}):
        bins = max(len(now.get(label, ())), len(before.get(label, ())))
        for end, parts in zip(ends, (now, before), strict=True):
            end += parts.get(label, [0] * bins)
    return np.array(ends[0], np.float64), np.array(ends[1], np.float64)
