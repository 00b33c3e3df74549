"""A look at Ray Data while it runs: rows that each stage has finished, actors that are up.

Takes the executor that Ray Data hands to its callbacks, gives a `Sight` ten times a second. Imports
no Ray: what it is registered with travels to every worker, and workers import its module.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from sentiment.monitor.account import Sight

_EVERY_SEC: Final = 0.1

# Our stages by what Ray calls them; it fuses stages of equal needs and joins their names.
_STAGES: Final = {"ReadReviewShards": "read", "Tokenise": "tokenise", "Scorer": "score"}

_log = logging.getLogger(__name__)


class Watch:
    """A callback for `DataContext.custom_execution_callback_classes`.

    Ray Data has no public way to ask a running pipeline for its figures; its callbacks get the
    executor, whose fields may change with any release. So nothing here may fail a run: at the first
    surprise the watch says so at DEBUG and sees nothing more.

    Args:
        saw: Called with every sight, in the executor's thread.
    """

    def __init__(self, saw: Callable[[Sight], None] | None = None) -> None:
        self._saw = saw
        self._next = 0.0

    def __call__(self) -> Watch:
        """Ray Data makes its callbacks by calling what it was given."""
        return self

    def __deepcopy__(self, _: object) -> Watch:
        """Contexts are copied on the driver; there is one watch all the same."""
        return self

    def __reduce__(self) -> tuple[type[Watch], tuple[()]]:
        """Contexts are sent to workers as well, where there is nothing to watch."""
        return (Watch, ())

    def before_execution_starts(self, executor: Any) -> None:
        """Called by Ray Data."""

    def on_execution_step(self, executor: Any) -> None:
        """Called by Ray Data in every round of its loop."""
        if self._saw is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY_SEC
        self._look(executor)

    def after_execution_succeeds(self, executor: Any) -> None:
        """Called by Ray Data."""
        self._look(executor)

    def after_execution_fails(self, executor: Any, error: Exception) -> None:
        """Called by Ray Data."""

    def _look(self, executor: Any) -> None:
        if self._saw is None:
            return
        try:
            self._saw(_sight(executor))
        except Exception as error:
            self._saw = None
            _log.debug("Ray Data shows no figures any more (%s)", type(error).__name__)


def _sight(executor: Any) -> Sight:
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
    return Sight(rows, actors, starting)
