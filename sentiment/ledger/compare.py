"""What the runs of an output have left behind: their `run.json`, newest last.

Takes an output, gives plain values. Knows nothing of how a run is made.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from sentiment.ledger.runs import read_run, run_ids
from sentiment.metrics.counts import Counts, merge
from sentiment.metrics.drift import Drift, compare
from sentiment.output.folder import Output
from sentiment.output.layout import RUN_FILE, file_of_run
from sentiment.settings.jobs import ScoreConfig

_log = logging.getLogger(__name__)


def compare_with_earlier(
    output: Output, scored: Counts, config_digest: str, config: ScoreConfig
) -> Drift:
    """Compare what a run scored with the last successful runs that scored anything.

    A run that drifted is no measure for the next. Where the change is there to stay, one run with
    `--drift-runs 0` makes it the new usual.

    Args:
        scored: Counts of the rows of this run.
        config_digest: Of this run: scores are compared with those of the same model and settings.
    """
    if not config.drift_runs:
        return Drift("not compared", "--drift-runs is 0")
    runs = []
    for run in _successful(output):
        runs.append(run)
        if len(runs) == config.drift_runs:
            break
    if not runs:
        return Drift("not compared", "no earlier run to compare with")
    # Scores of another model or precision say nothing; its labels should be the same.
    alike = [run for run in runs if run["config_digest"] == config_digest]
    return compare(
        scored,
        merge(run["scored"] for run in (alike or runs)),
        same_scores=bool(alike),
        psi_limit=config.drift_psi,
        share_limit=config.drift_share,
        against=[run["run_id"] for run in (alike or runs)],
    )


def _successful(output: Output) -> Iterator[dict[str, Any]]:
    """Runs that went well and scored something, newest first; damaged ones are passed over."""
    for run_id in reversed(run_ids(output)):
        try:
            run = read_run(output, run_id)
            usable = run.get("outcome") == "success" and bool(run["scored"]["labels"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning(
                "%s: left out of the drift check (%s)",
                output.path(file_of_run(run_id, RUN_FILE)),
                type(error).__name__,
            )
            continue
        if usable:
            yield run
