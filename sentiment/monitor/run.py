"""A run while it goes on: every committed unit is counted, exported and shown.

Takes receipts and passes their footers on, gives the account of the run. Knows no stage.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from sentiment.monitor.account import Account, PipelineStatus
from sentiment.monitor.executor import StatusCallback
from sentiment.monitor.prometheus import Meters
from sentiment.monitor.terminal import Mode, show_progress
from sentiment.output.receipt import Footer, Receipt
from sentiment.settings.jobs import ScoreConfig

_log = logging.getLogger(__name__)


class LiveRun:
    """What is told of a run.

    Args:
        run_id: Tags its metrics.
        config: Says where progress is shown, if at all.

    Attributes:
        account: Where the time goes.
        watch: To be registered with Ray Data.
    """

    def __init__(self, run_id: str, config: ScoreConfig) -> None:
        self._started = datetime.now(UTC)
        self.account = Account()
        self.callback = StatusCallback(self._on_status)
        self._meters = Meters(run_id)
        self._mode = _mode(config)

    def add(self, receipt: Receipt) -> None:
        """Count a committed unit, and tell of it."""
        self.account.add(receipt)
        self._meters.count(receipt)
        _log_unit(receipt.footer)

    def follow(self, receipts: Iterable[Receipt], rows: int) -> Iterator[Footer]:
        """Pass footers on as their units are committed, and show how the run stands.

        Args:
            rows: Rows to come.
        """
        self.account.begin(rows)
        self._meters.plan(self.account.figures().total_rows)
        try:
            with show_progress(self.account.figures, self._mode):
                for receipt in receipts:
                    self.add(receipt)
                    yield receipt.footer
        finally:
            self.account.end()
            self._meters.close()

    def facts(self) -> dict[str, Any]:
        """What `run.json` tells of the time."""
        return {
            "started_at": self._started.isoformat(timespec="seconds"),
            "time": self.account.to_json(),
        }

    def _on_status(self, status: PipelineStatus) -> None:
        self.account.update_status(status)
        self._meters.update_status(status)


def _log_unit(footer: Footer) -> None:
    """A line per unit for job logs; a terminal shows a bar, and only warnings beside it."""
    lost = footer.rejected and footer.rowless
    level = logging.WARNING if lost else logging.INFO
    fields = {
        "unit": footer.unit_id,
        "source_file": footer.source_file,
        "first_row": footer.first_row,
        "last_row": footer.last_row,
        "labelled": footer.labelled,
        "rejected": footer.rejected,
    }
    reasons = ", ".join(f"{rows} {reason}" for reason, rows in footer.metrics["rejected"].items())
    _log.log(
        level,
        "%s rows %d-%d: %d labelled, %d rejected%s",
        footer.source_file,
        footer.first_row,
        footer.last_row,
        footer.labelled,
        footer.rejected,
        f" ({reasons})" if reasons else "",
        extra={"fields": fields},
    )


def _mode(config: ScoreConfig) -> Mode:
    if config.quiet:
        return "quiet"
    return "log" if config.log_format == "json" else "auto"
