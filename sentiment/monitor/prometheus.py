"""Prometheus metrics of a run, through Ray's own exporter on every node.

Takes receipts of committed units and sights of the cluster, gives counters. Knows no stage.

All of them are kept by the driver. It learns of every unit exactly once, when it is committed, so
the counters agree with the ledger whatever is retried, no worker spends a thought on them, and a
run is some thirty series however many machines it has. That is also why they can carry the run's
id: Ray tells processes apart by a label of its own, and a run is one process.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import ray
from ray.util.metrics import Counter, Gauge, Histogram

from sentiment.monitor.account import PipelineStatus
from sentiment.output.receipt import Receipt, tokens_of

# From a model of a few MB on a local disk to one of many GB over a network.
_LOAD_SEC: Final = [1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Metric:
    """One metric; Ray exports it with `ray_` before its name."""

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


class Meters:
    """The metrics of one run. Nothing they do can fail it: what goes wrong ends them.

    Args:
        run_id: The tag of every series.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._waiting: list[Receipt] = []  # units committed before there was a cluster
        self._instruments: dict[str, Any] | None = None
        self._broken = False
        self._actors: set[str] = set()

    def count(self, receipt: Receipt) -> None:
        """Count a committed unit."""
        self._waiting.append(receipt)
        self._attempt(None, None)

    def plan(self, rows: int) -> None:
        """Tell how many rows the run has to score; 0 when it is over."""
        self._attempt(rows, None)

    def update_status(self, status: PipelineStatus) -> None:
        """Tell what the cluster is doing."""
        self._attempt(None, status)

    def close(self) -> None:
        """Gauges keep their last value as long as this process lives: the run is over."""
        self._attempt(0, PipelineStatus({}, 0, 0))

    def _attempt(self, planned_rows: int | None, status: PipelineStatus | None) -> None:
        if self._broken or not ray.is_initialized():
            return
        try:
            if planned_rows is not None:
                self._set("sentiment_planned_rows", planned_rows)
            if status is not None:
                self._set("sentiment_actors", status.actors, state="running")
                self._set("sentiment_actors", status.starting, state="starting")
                for stage, rows in status.rows.items():
                    self._set("sentiment_stage_rows", rows, stage=stage)
            while self._waiting:
                self._count(self._waiting.pop(0))
        except Exception as error:
            # Ray's own API, and a metric is never worth a run.
            self._broken = True
            _log.warning("no more Prometheus metrics of this run: %s", type(error).__name__)

    def _count(self, receipt: Receipt) -> None:
        footer, note = receipt.footer, receipt.note
        self._add("sentiment_units_total", 1)
        self._add("sentiment_rows_total", footer.labelled, outcome="labelled")
        self._add("sentiment_rows_total", footer.rejected, outcome="rejected")
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
        if note.actor not in self._actors:
            self._actors.add(note.actor)
            tags = {"run_id": self._run_id}
            self._instrument("sentiment_model_load_seconds").observe(note.load_sec, tags)

    def _add(self, name: str, value: float, **tags: str) -> None:
        if value > 0:  # Ray refuses to add nothing
            self._instrument(name).inc(value, {"run_id": self._run_id, **tags})

    def _set(self, name: str, value: float, **tags: str) -> None:
        self._instrument(name).set(value, {"run_id": self._run_id, **tags})

    def _instrument(self, name: str) -> Any:
        if self._instruments is None:
            self._instruments = {metric.name: _new(metric) for metric in METRICS}
        return self._instruments[name]


def _new(metric: Metric) -> Counter | Gauge | Histogram:
    tags = ("run_id", *metric.tags)
    if metric.kind == "histogram":
        return Histogram(metric.name, metric.description, _LOAD_SEC, tags)
    kinds: Mapping[str, type[Counter | Gauge]] = {"counter": Counter, "gauge": Gauge}
    return kinds[metric.kind](metric.name, metric.description, tags)
