"""Where a run's time went: phases of the driver, stages of the workers, the rows as they came in.

Takes marks, receipts of committed units and sights of the cluster; gives the figures of the moment
and, at the end, the account in `run.json`. Knows no cluster and no display.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from sentiment.block import STAGE_SCORE, STAGES
from sentiment.output.receipt import Receipt, tokens_of


@dataclass(frozen=True)
class PipelineStatus:
    """What the cluster is doing at one moment.

    Attributes:
        rows: Rows that each stage has finished, by its name, in the order of the flow.
        actors: Actors that can score.
        starting: Actors that load their model, or wait for a machine.
    """

    rows: Mapping[str, int]
    actors: int
    starting: int


# Rates are those of the last minutes: long enough to hold units of five minutes on slow machines
# together with a commit, short enough that an ETA follows a pool that grows.
_WINDOW_SEC: Final = 120.0

_TIMELINE_POINTS: Final = 200

# The phase until the first actor can score: worker processes, imports, the model.
STARTING: Final = "start actors"

Clock = Callable[[], float]


@dataclass(frozen=True)
class Figures:
    """How a run stands.

    Attributes:
        total_rows: Rows this run has to score.
        rows: Rows committed, labelled or rejected.
        tokens: Tokens of labelled rows, before truncation.
        left_sec: Seconds left at this speed; None while there is none.
        status: Of the pipeline; None before the first.
        stage_rates: Rows per second of each stage.
    """

    total_rows: int
    rows: int
    rejected: int
    tokens: int
    rows_per_sec: float
    tokens_per_sec: float
    left_sec: float | None
    status: PipelineStatus | None
    stage_rates: Mapping[str, float]


class Phases:
    """Wall time of the driver, split without gaps: the phases add up to the run.

    Attributes:
        open: The phase that goes on now.
    """

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self._clock = clock
        self._sec: dict[str, float] = {}
        self.open: str | None = None
        self._since = clock()

    def enter(self, name: str) -> None:
        """End the phase that is open and begin, or go on with, the one of this name."""
        now = self._clock()
        if self.open is not None:
            self._sec[self.open] += now - self._since
        self._sec.setdefault(name, 0.0)
        self.open, self._since = name, now

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """Count what happens inside under this name, then go on with the phase around it."""
        outer = self.open
        self.enter(name)
        try:
            yield
        finally:
            if outer is not None:
                self.enter(outer)

    def seconds(self) -> dict[str, float]:
        """Seconds by phase until now, in the order they were entered."""
        if self.open is not None:
            self.enter(self.open)
        return dict(self._sec)


class Rate:
    """Growth per second of counters over the last two minutes, or since the sample before."""

    def __init__(self, now: float, *values: int) -> None:
        self._samples = deque([(now, values)])

    def add(self, now: float, *values: int) -> None:
        """Take a sample of the counters."""
        self._samples.append((now, values))
        self._forget(now)

    def per_sec(self, now: float) -> tuple[float, ...]:
        """Rates up to now, so that a standstill shows in them."""
        self._forget(now)
        (since, before), (_, last) = self._samples[0], self._samples[-1]
        sec = max(now - since, 1e-9)
        return tuple((value - old) / sec for value, old in zip(last, before, strict=True))

    def _forget(self, now: float) -> None:
        while len(self._samples) > 1 and self._samples[1][0] < now - _WINDOW_SEC:
            self._samples.popleft()


class Timeline:
    """Points of a curve, at most 200 however many come: then every second, every fourth, …"""

    def __init__(self) -> None:
        self._points: list[dict[str, float]] = []
        self._last: dict[str, float] | None = None
        self._seen, self._stride = 0, 1

    def add(self, point: dict[str, float]) -> None:
        """Take a point; the last one is always kept."""
        if self._seen % self._stride == 0:
            self._points.append(point)
        self._last = point
        self._seen += 1
        if len(self._points) >= _TIMELINE_POINTS:
            self._points = self._points[::2]
            self._stride *= 2

    def points(self) -> list[dict[str, float]]:
        """The curve."""
        if self._last is None or self._points[-1] is self._last:
            return list(self._points)
        return [*self._points, self._last]


@dataclass
class _Sums:
    rows: int = 0
    rejected: int = 0
    tokens: int = 0
    stage_sec: dict[str, float] = field(default_factory=dict)
    load_sec: dict[str, float] = field(default_factory=dict)  # by actor
    up_sec: float | None = None  # of actors that could score; None until the cluster was seen


class Account:
    """All that a run learns of its own speed. Threads may add and ask at the same time.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self.phases = Phases(clock)
        self._clock = clock
        self._started = clock()
        self._lock = threading.Lock()
        self._sums = _Sums()
        self._timeline = Timeline()
        self._total_rows = 0
        self._begun: float | None = None  # while units are scored
        self._status: tuple[float, PipelineStatus] | None = None
        self._rate = Rate(self._started, 0, 0)
        self._stage_rates: dict[str, Rate] = {}

    def begin(self, rows: int) -> None:
        """Scoring starts.

        Args:
            rows: Rows still to come, beside what was added before.
        """
        with self._lock:
            self._total_rows = self._sums.rows + rows
            self._begun = now = self._clock()
            self._rate = Rate(now, self._sums.rows, self._sums.tokens)
            self.phases.enter(STARTING)
            self._timeline.add(self._point(now))

    def end(self) -> None:
        """Scoring is over: actors are no longer counted."""
        with self._lock:
            self._begun = None
            self._see(self._clock(), None)

    def add(self, receipt: Receipt) -> None:
        """Count a committed unit."""
        footer, note = receipt.footer, receipt.note
        with self._lock:
            now, sums = self._clock(), self._sums
            self._actors_are_up()
            sums.rows += footer.rows
            sums.rejected += footer.rejected
            sums.tokens += tokens_of(footer)
            for stage, sec in receipt.stage_sec.items():
                sums.stage_sec[stage] = sums.stage_sec.get(stage, 0.0) + sec
            if note is not None:
                sums.load_sec[note.actor] = note.load_sec
            self._rate.add(now, sums.rows, sums.tokens)
            self._timeline.add(self._point(now))

    def update_status(self, status: PipelineStatus) -> None:
        """Take note of what the cluster is doing."""
        with self._lock:
            self._see(self._clock(), status)

    def figures(self) -> Figures:
        """How the run stands now."""
        with self._lock:
            now, sums = self._clock(), self._sums
            rows_per_sec, tokens_per_sec = self._rate.per_sec(now)
            left = self._total_rows - sums.rows
            return Figures(
                total_rows=self._total_rows,
                rows=sums.rows,
                rejected=sums.rejected,
                tokens=sums.tokens,
                rows_per_sec=rows_per_sec,
                tokens_per_sec=tokens_per_sec,
                left_sec=max(0, left) / rows_per_sec if rows_per_sec > 0 else None,
                status=self._status[1] if self._status else None,
                stage_rates={
                    stage: rate.per_sec(now)[0] for stage, rate in self._stage_rates.items()
                },
            )

    def to_json(self) -> dict[str, Any]:
        """The account, as `run.json` has it under `time`."""
        phases = {name: _rounded(sec) for name, sec in self.phases.seconds().items()}
        with self._lock:
            sums = self._sums
            load_sec = sum(sums.load_sec.values())
            score_sec = sums.stage_sec.get(STAGE_SCORE, 0.0)
            up_sec = sums.up_sec
            return {
                "phases": phases,
                "stages": {
                    stage: {"sec": _rounded(sums.stage_sec.get(stage, 0.0)), "rows": sums.rows}
                    for stage in STAGES
                },
                "actor_sec": None if up_sec is None else _rounded(load_sec + up_sec),
                "model_load_sec": _rounded(load_sec),
                "wait_sec": None if up_sec is None else _rounded(max(0.0, up_sec - score_sec)),
                "timeline": self._timeline.points(),
            }

    def _actors_are_up(self) -> None:
        if self._begun is not None and self.phases.open == STARTING:
            self.phases.enter("score")

    def _point(self, now: float) -> dict[str, float]:
        sums = self._sums
        return {
            "sec": _rounded(now - self._started),
            "rows": sums.rows,
            "tokens": sums.tokens,
            "rejected": sums.rejected,
        }

    def _see(self, now: float, status: PipelineStatus | None) -> None:
        """Add up the time actors were there, and the rows of each stage."""
        if self._status is not None:
            before, last = self._status
            self._sums.up_sec = (self._sums.up_sec or 0.0) + last.actors * (now - before)
        self._status = None if status is None else (now, status)
        if status is None or self._begun is None:
            return
        if status.actors:
            self._actors_are_up()
        for stage, rows in status.rows.items():
            self._stage_rates.setdefault(stage, Rate(self._begun, 0)).add(now, rows)


def _rounded(sec: float) -> float:
    return round(sec, 3)
