"""The phases of a run's driver process: their names, and the wall time of each.

The names are keys of `time.phases` in `run.json` and rows of a table in docs/observability.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

FIND_MODEL: Final = "find model"  # find or download the model, compute its digest
LIST_AND_INDEX: Final = "list and index"  # list sources, read footers, find records in text
START_CLUSTER: Final = "start cluster"  # join Ray or start it; inside of other phases
TRY_MODEL: Final = "try model"  # the precision gate
PLAN: Final = "plan"  # take the lease, read what is committed
START_ACTORS: Final = "start actors"  # wait for the first actor: process, imports, model
SCORE: Final = "score"  # from the first actor that can score to the last commit
FINISH: Final = "finish"  # leave the cluster, write the summary

# In the order in which a run usually enters them.
PHASES: Final = (
    FIND_MODEL,
    LIST_AND_INDEX,
    START_CLUSTER,
    TRY_MODEL,
    PLAN,
    START_ACTORS,
    SCORE,
    FINISH,
)

Clock = Callable[[], float]


class Phases:
    """Wall time of the driver by phase. Phases leave no gap, so they add up to the whole run.

    Args:
        clock: Returns seconds that never decrease.

    Attributes:
        current: The phase that is running; None before the first.
    """

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self._clock = clock
        self._sec: dict[str, float] = {}
        self.current: str | None = None
        self._since = clock()

    def enter(self, name: str) -> None:
        """End the current phase and start this one. A phase that ran before continues."""
        now = self._clock()
        if self.current is not None:
            self._sec[self.current] += now - self._since
        self._sec.setdefault(name, 0.0)
        self.current, self._since = name, now

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Count the time inside the context for this phase, then continue the outer phase."""
        outer = self.current
        self.enter(name)
        try:
            yield
        finally:
            if outer is not None:
                self.enter(outer)

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each phase until now, in the order they were first entered."""
        if self.current is not None:
            self.enter(self.current)
        return dict(self._sec)
