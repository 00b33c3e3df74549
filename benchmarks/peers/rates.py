"""Rates of a job from the times at which it finished parts of its work, and medians of rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

# What is told of one run of a variant, by name.
Figures = dict[str, Any]

# Seconds since the epoch, and the rows finished then.
Commits = list[tuple[float, int]]


def commits_of(output: Path) -> Commits:
    """When each data file was written, in seconds since the epoch, and its rows."""
    files = [
        path
        for path in output.rglob("*.parquet")
        if not any(part.startswith("_") for part in path.relative_to(output).parts)
    ]
    return sorted((path.stat().st_mtime, pq.read_metadata(path).num_rows) for path in files)


def warm_rate(commits: Sequence[Sequence[float]], first: int = 1) -> float | None:
    """Rows per second after the `first` commits; None if there are no others."""
    ordered = sorted(commits)
    rows = sum(row_count for _, row_count in ordered[first:])
    if not rows:
        return None
    seconds = ordered[-1][0] - ordered[first - 1][0]
    return rows / seconds if seconds > 0 else None


def summarised(rounds: Sequence[Figures]) -> Figures:
    """The median of each figure over the rounds, and the range of the rates."""
    found: Figures = {}
    for name, value in rounds[0].items():
        values = [one[name] for one in rounds if one[name] is not None]
        found[name] = statistics.median(values) if values and not isinstance(value, str) else value
        if name.startswith("rows_per_sec") and values:
            found[f"{name}_range"] = [min(values), max(values)]
    return found
