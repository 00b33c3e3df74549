"""The callback through which a running Ray Data pipeline reports its status.

It imports no Ray: Ray sends every registered callback to all workers, and they import this module.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from sentiment.block import STAGE_READ, STAGE_SCORE, STAGE_TOKENISE
from sentiment.monitor.account import PipelineStatus

_EVERY_SEC: Final = 0.1

# Our stages by what Ray calls them; it fuses stages of equal needs and joins their names.
_STAGES: Final = {
    "ReadReviewShards": STAGE_READ,
    "Tokenise": STAGE_TOKENISE,
    "Scorer": STAGE_SCORE,
}

_log = logging.getLogger(__name__)


class StatusCallback:
    """A callback for `DataContext.custom_execution_callback_classes`.

    Ray Data has no public way to ask a running pipeline for its figures; its callbacks get the
    executor, whose fields may change with any release. So nothing here may fail a run: at the first
    surprise the watch says so at DEBUG and sees nothing more.

    Args:
        on_status: Called with every status, in the executor's thread.
    """

    def __init__(self, on_status: Callable[[PipelineStatus], None] | None = None) -> None:
        self._on_status = on_status
        self._next = 0.0

    def __call__(self) -> StatusCallback:
        """Ray Data makes its callbacks by calling what it was given."""
        return self

    def __deepcopy__(self, _: object) -> StatusCallback:
        """Contexts are copied on the driver; there is one watch all the same."""
        return self

    def __reduce__(self) -> tuple[type[StatusCallback], tuple[()]]:
        """Contexts are sent to workers as well, where there is nothing to watch."""
        return (StatusCallback, ())

    def before_execution_starts(self, executor: Any) -> None:
        """Called by Ray Data."""

    def on_execution_step(self, executor: Any) -> None:
        """Called by Ray Data in every round of its loop."""
        if self._on_status is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY_SEC
        self._look(executor)

    def after_execution_succeeds(self, executor: Any) -> None:
        """Called by Ray Data."""
        self._look(executor)

    def after_execution_fails(self, executor: Any, error: Exception) -> None:
        """Called by Ray Data."""

    def _look(self, executor: Any) -> None:
        if self._on_status is None:
            return
        try:
            self._on_status(_status(executor))
        except Exception as error:
            self._on_status = None
            _log.debug("Ray Data shows no figures any more (%s)", type(error).__name__)


def _status(executor: Any) -> PipelineStatus:
    rows: dict[str, int] = {}
    actors = starting = 0
    for operator in executor._topology:
        ours = [stage for name, stage in _STAGES.items() if name in operator.name]
        if not ours:
            continue
        rows[" and ".join(ours)] = int(operator.metrics.rows_task_outputs_generated)
        info = operator.get_actor_info()
        actors += int(info.running)
        starting += int(info.pending) + int(info.restarting)
    return PipelineStatus(rows, actors, starting)
