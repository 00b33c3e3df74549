"""The callback through which a running Ray Data pipeline reports its status.

This module does not import Ray. Ray sends every registered callback to all worker processes, each
of which then imports this module, so the import must stay cheap.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from sentiment.block import STAGE_READ, STAGE_SCORE, STAGE_TOKENISE
from sentiment.monitor.account import PipelineStatus

_EVERY_SEC: Final = 0.1

# Names of our classes and functions as they stand in Ray Data's operator names, and the stage that
# each of them runs. An operator is named after what it runs, for example `MapBatches(Scorer)`. Were
# Ray Data to fuse two stages, it would join their names, and the operator would count for both.
# Operators without one of these names (the input, the commit) are not shown.
_STAGE_BY_OPERATOR: Final = {
    "ReadReviewShards": STAGE_READ,
    "Tokenise": STAGE_TOKENISE,
    "Scorer": STAGE_SCORE,
}

_log = logging.getLogger(__name__)


class StatusCallback:
    """A callback for `DataContext.custom_execution_callback_classes`.

    Ray Data has no public way to ask a running pipeline for its status. Its callbacks get the
    executor, and the executor's fields may change with any release. Nothing here may therefore
    fail a run: after the first exception the callback logs it at DEBUG and reports nothing more.

    Args:
        handle_status: Called with every status, in the thread of the executor. None reports
            nothing.
    """

    def __init__(self, handle_status: Callable[[PipelineStatus], None] | None = None) -> None:
        self._handle_status = handle_status
        self._next_report = 0.0  # of the monotonic clock
        self._units, self._rows, self._rows_before = 1, 0, 0

    def __call__(self) -> StatusCallback:
        """Return itself: Ray Data expects a class here and calls it to make an instance."""
        return self

    def __deepcopy__(self, _: object) -> StatusCallback:
        """Return itself: Ray Data copies its context on the driver, but all copies must report."""
        return self

    def __reduce__(self) -> tuple[type[StatusCallback], tuple[()]]:
        """Pickle without `handle_status`: Ray sends the context to workers, which report none."""
        return (StatusCallback, ())

    def expect(self, units: int, rows: int, rows_before: int = 0) -> None:
        """Say what the next pipeline has to do.

        Ray Data counts the units that a stage has finished. How many rows these have is estimated:
        units are nearly all of the same size.

        Args:
            units: Units of the pipeline.
            rows: Their rows.
            rows_before: Rows that earlier pipelines of the run have finished.
        """
        self._units, self._rows, self._rows_before = max(1, units), rows, rows_before

    def before_execution_starts(self, executor: Any) -> None:
        """Do nothing; Ray Data calls this method of every callback."""

    def on_execution_step(self, executor: Any) -> None:
        """Report the status, at most ten times a second; Ray Data calls this all the time."""
        if self._handle_status is None or time.monotonic() < self._next_report:
            return
        self._next_report = time.monotonic() + _EVERY_SEC
        self._report_status(executor)

    def after_execution_succeeds(self, executor: Any) -> None:
        """Report the last status."""
        self._report_status(executor)

    def after_execution_fails(self, executor: Any, error: Exception) -> None:
        """Do nothing; Ray Data calls this method of every callback."""

    def _report_status(self, executor: Any) -> None:
        if self._handle_status is None:
            return
        try:
            self._handle_status(self._read_status(executor))
        except Exception as error:
            self._handle_status = None
            _log.debug("Ray Data shows no figures any more (%s)", type(error).__name__)

    def _read_status(self, executor: Any) -> PipelineStatus:
        """Read the status from private and public fields of Ray Data's executor."""
        rows: dict[str, int] = {}
        actors = starting = 0
        for operator in executor._topology:
            stages = [stage for name, stage in _STAGE_BY_OPERATOR.items() if name in operator.name]
            if not stages:
                continue
            units = int(operator.metrics.rows_task_outputs_generated)
            done = round(self._rows * min(1.0, units / self._units))
            rows[" and ".join(stages)] = self._rows_before + done
            info = operator.get_actor_info()
            actors += int(info.running)
            starting += int(info.pending) + int(info.restarting)
        return PipelineStatus(rows, actors, starting)
