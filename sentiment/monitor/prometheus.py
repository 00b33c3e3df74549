"""Prometheus metrics of a run, through the exporter that Ray runs on every node.

The driver process keeps all metrics; workers keep none. The driver learns of every unit exactly
once, when it is committed. The counters therefore agree with the ledger, whatever is retried, and a
run has some thirty series however many machines it uses. So few series can carry the run's id as a
label. Ray adds a label of its own that tells processes apart, and a run is one process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import ray
from ray.util.metrics import Counter, Gauge, Histogram

from sentiment.monitor.account import PipelineStatus
from sentiment.output.receipt import Receipt, tokens_of

# Bounds of the histogram's buckets, in seconds: from a model of a few MB on a local disk to one of
# many GB that comes over a network.
_LOAD_SEC_BOUNDS: Final = [1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Metric:
    """A metric of ours.

    Attributes:
        name: Its name. Ray exports it with the prefix `ray_`.
        kind: What Prometheus calls its type.
        description: Its help text.
        tags: Names of its labels, beside `run_id`, which every metric has.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    description: str
    tags: tuple[str, ...] = ()


METRICS: Final = (
    Metric("sentiment_planned_rows", "gauge", "Rows the run has to score; 0 once it is over."),
    Metric("sentiment_rows_total", "counter", "Rows committed.", ("outcome",)),
    Metric("sentiment_labelled_rows_total", "counter", "Rows labelled.", ("label",)),
    Metric("sentiment_rejected_rows_total", "counter", "Rows rejected.", ("reason",)),
    Metric("sentiment_tokens_total", "counter", "Tokens of labelled rows, before truncation."),
    Metric("sentiment_units_total", "counter", "Units committed."),
    Metric("sentiment_stage_rows", "gauge", "Rows a stage has finished.", ("stage",)),
    Metric("sentiment_stage_seconds_total", "counter", "Worker seconds.", ("stage",)),
    Metric("sentiment_batches_total", "counter", "Batches scored."),
    Metric("sentiment_batch_tokens_total", "counter", "Tokens in those batches."),
    Metric("sentiment_batch_room_tokens_total", "counter", "Tokens those batches had room for."),
    Metric("sentiment_model_load_seconds", "histogram", "Time an actor took to load its model."),
    Metric("sentiment_actors", "gauge", "Scoring actors.", ("state",)),
)


class RunMetrics:
    """The Prometheus metrics of one run.

    Metrics must not fail a run: after the first exception the run continues without metrics.
    Ray exports nothing before it is connected, so units committed earlier wait until then. The
    driver counts units while the executor's thread sets the status, hence the lock.

    Args:
        run_id: Label of every series.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._lock = threading.Lock()
        self._uncounted: list[Receipt] = []  # units committed before Ray was connected
        self._instruments: dict[str, Any] | None = None
        self._failed = False
        self._known_actors: set[str] = set()

    def count_unit(self, receipt: Receipt) -> None:
        """Count a committed unit."""
        with self._lock:
            self._uncounted.append(receipt)
            self._export(self._count_waiting_units)

    def set_planned_rows(self, rows: int) -> None:
        """Set how many rows the run has to score."""
        with self._lock:
            self._export(self._count_waiting_units)
            self._export(partial(self._set, "sentiment_planned_rows", rows))

    def set_status(self, status: PipelineStatus) -> None:
        """Set what the pipeline is doing."""
        with self._lock:
            self._export(self._count_waiting_units)
            self._export(partial(self._set_status, status))

    def close(self) -> None:
        """Set planned rows and actors to 0 at the end of the run.

        A gauge keeps its last value for as long as this process lives, which may be longer.
        """
        self.set_planned_rows(0)
        self.set_status(PipelineStatus({}, actors=0, starting=0))

    def _export(self, update: Callable[[], None]) -> None:
        """Run an update of the metrics, if Ray is connected and no update has failed yet."""
        if self._failed or not ray.is_initialized():
            return
        try:
            update()
        except Exception as error:
            # Any exception: the metrics are Ray's own code, and they must not fail the run.
            self._failed = True
            _log.warning("no more Prometheus metrics of this run: %s", type(error).__name__)

    def _set_status(self, status: PipelineStatus) -> None:
        self._set("sentiment_actors", status.actors, state="running")
        self._set("sentiment_actors", status.starting, state="starting")
        for stage, rows in status.rows.items():
            self._set("sentiment_stage_rows", rows, stage=stage)

    def _count_waiting_units(self) -> None:
        while self._uncounted:
            self._count(self._uncounted.pop(0))

    def _count(self, receipt: Receipt) -> None:
        footer, note = receipt.footer, receipt.note
        self._add("sentiment_units_total", 1)
        self._add("sentiment_rows_total", footer.labelled, outcome="labelled")
        self._add("sentiment_rows_total", footer.rejected, outcome="rejected")
        self._add("sentiment_rows_total", footer.excluded, outcome="excluded")
        self._add("sentiment_tokens_total", tokens_of(footer))
        for label, values in footer.metrics.get("labels", {}).items():
            self._add("sentiment_labelled_rows_total", values["rows"], label=label)
        for reason, rows in footer.metrics.get("rejected", {}).items():
            self._add("sentiment_rejected_rows_total", rows, reason=reason)
        for stage, sec in receipt.stage_sec.items():
            self._add("sentiment_stage_seconds_total", sec, stage=stage)
        if note is None:
            return
        self._add("sentiment_batches_total", note.batches)
        self._add("sentiment_batch_tokens_total", note.batch_tokens)
        self._add("sentiment_batch_room_tokens_total", note.room_tokens)
        if note.actor not in self._known_actors:
            self._known_actors.add(note.actor)
            tags = {"run_id": self._run_id}
            self._instrument("sentiment_model_load_seconds").observe(note.load_sec, tags)

    def _add(self, name: str, value: float, **tags: str) -> None:
        if value > 0:  # Ray raises an exception for a counter that grows by 0
            self._instrument(name).inc(value, {"run_id": self._run_id, **tags})

    def _set(self, name: str, value: float, **tags: str) -> None:
        self._instrument(name).set(value, {"run_id": self._run_id, **tags})

    def _instrument(self, name: str) -> Any:
        """Return Ray's object for a metric; all are made at the first use, when Ray is there."""
        if self._instruments is None:
            self._instruments = {metric.name: _new_instrument(metric) for metric in METRICS}
        return self._instruments[name]


def _new_instrument(metric: Metric) -> Counter | Gauge | Histogram:
    tags = ("run_id", *metric.tags)
    if metric.kind == "histogram":
        return Histogram(metric.name, metric.description, _LOAD_SEC_BOUNDS, tags)
    kinds: Mapping[str, type[Counter | Gauge]] = {"counter": Counter, "gauge": Gauge}
    return kinds[metric.kind](metric.name, metric.description, tags)
