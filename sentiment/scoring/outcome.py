"""How a run ended: well, or with which error."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from sentiment.errors import DriftError, LedgerError, RejectedRowsError, SentimentError
from sentiment.ledger.summary import Outcome, RunSummary
from sentiment.metrics.drift import Drift
from sentiment.output.finish import Incomplete
from sentiment.output.layout import REJECTED_FOLDER
from sentiment.output.receipt import Footer
from sentiment.settings.jobs import ScoreConfig

# Incomplete folders in a message; the others are counted.
_SHOWN = 3

_log = logging.getLogger(__name__)


def judge(
    summary: RunSummary, drift: Drift, incomplete: Sequence[Incomplete], config: ScoreConfig
) -> tuple[Outcome, SentimentError | None]:
    """Return how the run ended, and the error to raise after everything is written."""
    ledger = summary.ledger
    ours = [one for one in incomplete if one.is_ours]
    if not ledger.balanced or ours:
        folders = "; ".join(f"{one.folder or '.'}: {one.reason}" for one in ours[:_SHOWN])
        more = f" and {len(ours) - _SHOWN:,} more" if len(ours) > _SHOWN else ""
        return "unbalanced", LedgerError(
            f"{ledger.expected:,} rows expected, {ledger.labelled + ledger.rejected:,} scored, "
            f"{ledger.reused:,} reused and {ledger.excluded:,} excluded; incomplete folders: "
            f"{folders or 'none'}{more}; "
            "run the same command again"
        )
    for one in incomplete[:_SHOWN]:
        _log.warning("%s: gets no _SUCCESS, %s", one.folder or ".", one.reason)
    if len(incomplete) > _SHOWN:
        _log.warning("%d more folders get no _SUCCESS", len(incomplete) - _SHOWN)
    rejected = sum(summary.rejected.values())
    # Rows that nobody wants must not hide the share of the others.
    if rejected and rejected / summary.rows > config.max_rejected:
        return "rejected", RejectedRowsError(
            f"{rejected:,} of {summary.rows:,} rows were rejected "
            f"({rejected / summary.rows:.2%}, --max-rejected is {config.max_rejected:.2%}); "
            f"they are in {config.output}/{REJECTED_FOLDER}, everything else is labelled"
        )
    if drift.verdict == "drift" and not drift.accepted:
        found = f"tonight is unlike earlier runs ({len(drift.against)} compared): {drift.why}"
        if config.on_drift == "fail":
            return "drift", DriftError(
                f"{found}; all rows are written. Look at them; where this is to stay, run the same "
                "command once more with --accept-drift"
            )
        _log.warning("%s", found)
    return "success", None


def warn_of_missing_truth(reused: Sequence[Footer], config: ScoreConfig) -> None:
    """Warn of reused rows whose source has no column of true labels."""
    rows = sum(one.labelled for one in reused if not {"truth", "confusion"} & one.metrics.keys())
    if config.label_column and rows:
        _log.warning(
            "--label-column %s: the sources of %d reused rows lack it, they count for no accuracy",
            config.label_column,
            rows,
        )
