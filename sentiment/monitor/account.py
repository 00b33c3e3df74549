"""Where the time of a run goes: the driver's phases, the workers' stages, rows over time.

The account is updated with every committed unit and every status of the pipeline. It answers two
questions: how far the run is now (`Progress`), and what `run.json` says under `time` at the end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sentiment.block import STAGE_SCORE, STAGES
from sentiment.monitor.phases import SCORE, START_ACTORS, Clock, Phases
from sentiment.output.receipt import Receipt, tokens_of

# Rates are those of the last two minutes, or of the time since the commit before where commits are
# further apart. Two minutes smooth the commits of single units, and are short enough that the time
# left follows a pool that grows.
_WINDOW_SEC: Final = 120.0

_TIMELINE_POINTS: Final = 200


@dataclass(frozen=True)
class PipelineStatus:
    """What the Ray Data pipeline is doing at one moment.

    Attributes:
        rows: Rows that each stage has finished, estimated from its units, by the name of the
            stage, in the order of the flow.
        actors: Actors that can score.
        starting: Actors that load their model, or wait for a machine.
    """

    rows: Mapping[str, int]
    actors: int
    starting: int


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        total_rows: Rows that this run has to score.
        rows: Rows committed, labelled or rejected.
        rejected: Rows committed as rejects.
        tokens: Tokens of labelled rows, before truncation.
        rows_per_sec: Committed rows per second.
        tokens_per_sec: Committed tokens per second.
        left_sec: Seconds left at this rate; None while nothing is committed.
        status: Latest status of the pipeline; None before the first and after the last.
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


class Rate:
    """How fast counters grow per second, over the last two minutes.

    The window starts at the newest sample that is at least two minutes old, so that there is always
    a sample to measure from.

    Args:
        now: Seconds of the clock.
        values: The counters at that time.
    """

    def __init__(self, now: float, *values: int) -> None:
        self._samples = deque([(now, values)])

    def add(self, now: float, *values: int) -> None:
        """Add a sample of the counters."""
        self._samples.append((now, values))
        self._drop_old_samples(now)

    def per_sec(self, now: float) -> tuple[float, ...]:
        """Return the rates up to `now`: they fall while no sample is added."""
        self._drop_old_samples(now)
        (since, before), (_, last) = self._samples[0], self._samples[-1]
        sec = max(now - since, 1e-9)
        return tuple((value - old) / sec for value, old in zip(last, before, strict=True))

    def _drop_old_samples(self, now: float) -> None:
        while len(self._samples) > 1 and self._samples[1][0] < now - _WINDOW_SEC:
            self._samples.popleft()


class Timeline:
    """A curve of at most 200 points, however long the run is.

    When it is full, every second point is dropped, and from then on only every second new point is
    kept; the next time every fourth, and so on. The points stay evenly spread, and the curve needs
    no knowledge of how many will come.
    """

    def __init__(self) -> None:
        self._points: list[dict[str, float]] = []
        self._last: dict[str, float] | None = None
        self._added, self._stride = 0, 1

    def add(self, point: dict[str, float]) -> None:
        """Add a point. The latest one is always part of the curve."""
        if self._added % self._stride == 0:
            self._points.append(point)
        self._last = point
        self._added += 1
        if len(self._points) >= _TIMELINE_POINTS:
            self._points = self._points[::2]
            self._stride *= 2

    def points(self) -> list[dict[str, float]]:
        """Return the points of the curve, the oldest first."""
        if self._last is None or self._points[-1] is self._last:
            return list(self._points)
        return [*self._points, self._last]


@dataclass
class _Sums:
    rows: int = 0
    rejected: int = 0
    tokens: int = 0
    stage_sec: dict[str, float] = field(default_factory=dict)
    load_sec_by_actor: dict[str, float] = field(default_factory=dict)
    # Seconds that actors could score, over all actors; None until there was a status.
    actors_up_sec: float | None = None


class Account:
    """The account of a run's time and progress. Several threads may use it at once.

    The driver adds committed units, the thread of Ray Data's executor adds statuses, and a display
    thread reads the progress.

    Args:
        clock: Returns seconds that never decrease.

    Attributes:
        phases: Wall time of the driver by phase.
    """

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self.phases = Phases(clock)
        self._clock = clock
        self._started = clock()
        self._lock = threading.Lock()
        self._sums = _Sums()
        self._timeline = Timeline()
        self._total_rows = 0
        self._scoring_since: float | None = None  # None before and after scoring
        self._status: tuple[float, PipelineStatus] | None = None
        self._rate = Rate(self._started, 0, 0)
        self._stage_rates: dict[str, Rate] = {}

    def start_scoring(self, rows: int) -> None:
        """Start the phase in which units are scored.

        Args:
            rows: Rows that are still to be scored, without those of units counted before.
        """
        with self._lock:
            self._total_rows = self._sums.rows + rows
            self._scoring_since = now = self._clock()
            self._rate = Rate(now, self._sums.rows, self._sums.tokens)
            self.phases.enter(START_ACTORS)
            self._timeline.add(self._point(now))

    def stop_scoring(self) -> None:
        """Stop counting the time of actors."""
        with self._lock:
            self._scoring_since = None
            self._count_actor_time(self._clock())
            self._status = None

    def count_unit(self, receipt: Receipt) -> None:
        """Count a committed unit."""
        footer, note = receipt.footer, receipt.note
        with self._lock:
            now, sums = self._clock(), self._sums
            self._leave_start_phase()
            sums.rows += footer.rows
            sums.rejected += footer.rejected
            sums.tokens += tokens_of(footer)
            for stage, sec in receipt.stage_sec.items():
                sums.stage_sec[stage] = sums.stage_sec.get(stage, 0.0) + sec
            if note is not None:
                # Every unit of an actor repeats its load time, so it is kept once per actor.
                sums.load_sec_by_actor[note.actor] = note.load_sec
            self._rate.add(now, sums.rows, sums.tokens)
            self._timeline.add(self._point(now))

    def update_status(self, status: PipelineStatus) -> None:
        """Record what the pipeline is doing."""
        with self._lock:
            now = self._clock()
            self._count_actor_time(now)
            self._status = (now, status)
            if self._scoring_since is None:
                return
            if status.actors:
                self._leave_start_phase()
            for stage, rows in status.rows.items():
                rate = self._stage_rates.setdefault(stage, Rate(self._scoring_since, 0))
                rate.add(now, rows)

    def progress(self) -> Progress:
        """Return how far the run is now."""
        with self._lock:
            now, sums = self._clock(), self._sums
            rows_per_sec, tokens_per_sec = self._rate.per_sec(now)
            rows_left = max(0, self._total_rows - sums.rows)
            return Progress(
                total_rows=self._total_rows,
                rows=sums.rows,
                rejected=sums.rejected,
                tokens=sums.tokens,
                rows_per_sec=rows_per_sec,
                tokens_per_sec=tokens_per_sec,
                left_sec=rows_left / rows_per_sec if rows_per_sec > 0 else None,
                status=self._status[1] if self._status else None,
                stage_rates={
                    stage: rate.per_sec(now)[0] for stage, rate in self._stage_rates.items()
                },
            )

    def to_json(self) -> dict[str, Any]:
        """Return what `run.json` has under `time`.

        The seconds of actors are None where Ray Data never reported a status.
        """
        phases = {name: _rounded(sec) for name, sec in self.phases.seconds().items()}
        with self._lock:
            sums = self._sums
            load_sec = sum(sums.load_sec_by_actor.values())
            score_sec = sums.stage_sec.get(STAGE_SCORE, 0.0)
            up_sec = sums.actors_up_sec
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

    def _leave_start_phase(self) -> None:
        """Enter the phase of scoring: a first actor is up, or a first unit is committed."""
        if self._scoring_since is not None and self.phases.current == START_ACTORS:
            self.phases.enter(SCORE)

    def _point(self, now: float) -> dict[str, float]:
        sums = self._sums
        return {
            "sec": _rounded(now - self._started),
            "rows": sums.rows,
            "tokens": sums.tokens,
            "rejected": sums.rejected,
        }

    def _count_actor_time(self, now: float) -> None:
        """Add the time since the last status, for each actor that could score at that status."""
        if self._status is None:
            return
        since, status = self._status
        up_sec = self._sums.actors_up_sec or 0.0
        self._sums.actors_up_sec = up_sec + status.actors * (now - since)


def _rounded(sec: float) -> float:
    return round(sec, 3)
