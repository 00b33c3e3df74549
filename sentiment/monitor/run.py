"""Everything that reports on a running job: counts, Prometheus metrics, progress and log lines."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from sentiment.monitor.account import Account, PipelineStatus
from sentiment.monitor.executor import StatusCallback
from sentiment.monitor.prometheus import RunMetrics
from sentiment.monitor.terminal import DisplayMode, show_progress
from sentiment.output.receipt import Footer, Receipt
from sentiment.settings.jobs import ScoreConfig

_log = logging.getLogger(__name__)


class LiveRun:
    """Counts, exports, logs and shows the units of a run as they are committed.

    Args:
        run_id: Label of its Prometheus metrics.
        config: Says where progress is shown, if at all.

    Attributes:
        account: Where the time of the run goes.
        callback: To be registered with Ray Data, so that the pipeline reports its status.
    """

    def __init__(self, run_id: str, config: ScoreConfig) -> None:
        self._started, self._since = datetime.now(UTC), time.perf_counter()
        self.account = Account()
        self.callback = StatusCallback(self.update_status)
        self._metrics = RunMetrics(run_id)
        self._mode = _display_mode(config)

    def count_unit(self, receipt: Receipt) -> None:
        """Count a committed unit, export it and log it."""
        self.account.count_unit(receipt)
        self._metrics.count_unit(receipt)
        _log_unit(receipt.footer)

    def follow(self, receipts: Iterable[Receipt], rows: int) -> Iterator[Footer]:
        """Yield the footer of each unit as it is committed, and show the progress meanwhile.

        Args:
            receipts: Receipts of the units that the pipeline commits.
            rows: Rows of these units.
        """
        self.account.start_scoring(rows)
        self._metrics.set_planned_rows(self.account.progress().total_rows)
        try:
            with show_progress(self.account.progress, self._mode):
                for receipt in receipts:
                    self.count_unit(receipt)
                    yield receipt.footer
        finally:
            self.account.stop_scoring()
            self._metrics.close()

    def update_status(self, status: PipelineStatus) -> None:
        """Record what the pipeline is doing; called in the thread of Ray Data's executor."""
        self.account.update_status(status)
        self._metrics.set_status(status)

    def wall_sec(self) -> float:
        """Return the seconds since the run started."""
        return time.perf_counter() - self._since

    def facts(self) -> dict[str, Any]:
        """Return what `run.json` has about the time of the run."""
        return {
            "started_at": self._started.isoformat(timespec="seconds"),
            "time": self.account.to_json(),
        }


def _log_unit(footer: Footer) -> None:
    """Write a log line for a unit. On a terminal, which shows a bar, only warnings appear."""
    # A unit of rejects without rows stands for a file, or a part of it, that cannot be read.
    unreadable = footer.rejected and footer.rowless
    level = logging.WARNING if unreadable else logging.INFO
    fields = {
        "unit": footer.unit_id,
        "source_file": footer.source_file,
        "first_row": footer.first_row,
        "last_row": footer.last_row,
        "labelled": footer.labelled,
        "rejected": footer.rejected,
        "excluded": footer.excluded,
    }
    reasons = ", ".join(f"{rows} {reason}" for reason, rows in footer.metrics["rejected"].items())
    _log.log(
        level,
        "%s rows %d-%d: %d labelled, %d rejected%s%s",
        footer.source_file,
        footer.first_row,
        footer.last_row,
        footer.labelled,
        footer.rejected,
        f" ({reasons})" if reasons else "",
        f", {footer.excluded} excluded" if footer.excluded else "",
        extra={"fields": fields},
    )


def _display_mode(config: ScoreConfig) -> DisplayMode:
    """Return how progress is shown: JSON logs must not contain the drawing of a terminal."""
    if config.quiet:
        return "quiet"
    return "log" if config.log_format == "json" else "auto"
