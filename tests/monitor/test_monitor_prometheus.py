"""Metrics of a run, as Prometheus would scrape them, and the dashboard that asks for them."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from sentiment.ledger.summary import RunSummary
from sentiment.monitor import prometheus as telemetry
from sentiment.monitor.account import PipelineStatus
from sentiment.monitor.prometheus import METRICS, RunMetrics
from sentiment.output.receipt import ActorNote, Footer, Receipt
from sentiment.scoring.job import score
from sentiment.settings.jobs import ScoreConfig

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "sentiment.json").read_text())

SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Series = list[tuple[str, dict[str, str], float]]


def footer(labels: dict[str, int], rejected: dict[str, int]) -> Footer:
    counts = {
        "labels": {label: {"rows": rows, "tokens": 9 * rows} for label, rows in labels.items()},
        "rejected": rejected,
        "stage_sec": {"score": 1.5, "write": 0.1},
    }
    good, bad = sum(labels.values()), sum(rejected.values())
    return Footer("u", "f", "fp", 0, good + bad - 1, good, bad, "m", "c", "v", counts)


def expressions(dashboard: dict[str, Any] = DASHBOARD) -> list[str]:
    """Every query of the dashboard, those of its variables included."""
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    variables = [one["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    return [*queries, *(one["query"] for one in variables)]


def names_in(expression: str) -> set[str]:
    """What a PromQL expression names: metrics; not functions, labels, strings, durations."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|without|on|ignoring)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"label_values\(\s*(\w+)\s*,\s*\w+\s*\)", r"\1", bare)
    words = re.findall(r"[A-Za-z_:][\w:]*(?!\w)(?!\s*\()", bare)
    return {word for word in words if word not in {"and", "or", "unless", "by", "bool"}}


def labels_in(expression: str) -> set[tuple[str, str]]:
    """Each (metric, label) pair an expression filters by."""
    found = re.findall(r"(\w+)\{([^}]*)\}", expression)
    return {(name, label) for name, inner in found for label in re.findall(r"(\w+)\s*=", inner)}


def grouped_by(expression: str) -> set[str]:
    """The labels an expression sums by."""
    return {
        label.strip()
        for one in re.findall(r"\bby\s*\(([^)]*)\)", expression)
        for label in one.split(",")
    }


@pytest.fixture(scope="module")
def scored(
    local_ray: None, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> RunSummary:
    """A small real run: two units, a damaged file, two kinds of rejects."""
    folder = tmp_path_factory.mktemp("metered")
    (folder / "lake").mkdir()
    texts = [f"review {n}" for n in range(38)] + [None, ""]
    pq.write_table(pa.table({"text": texts}), folder / "lake" / "a.parquet", row_group_size=10)
    (folder / "lake" / "torn.parquet").write_bytes(b"PAR1 torn")
    return score(
        ScoreConfig(
            sources=[str(folder / "lake")], output=str(folder / "out"), model=str(tiny_model),
            precision="fp32", unit_rows=20, max_rejected=1.0, quiet=True,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def series(scored: RunSummary) -> Series:
    """What a scrape finds of that run. Ray hands metrics to its exporter every second here."""
    expected = {f"ray_{metric.name}" for metric in METRICS if metric.kind != "histogram"}
    deadline = time.monotonic() + 60
    while True:
        found = [one for one in scrape() if one[1].get("run_id") == scored.run_id]
        # Gauges fall to 0 when the run is over: from then on all of it is there.
        over = ("ray_sentiment_planned_rows", 0.0) in {(name, value) for name, _, value in found}
        if over and expected <= {name for name, _, _ in found}:
            return found
        assert time.monotonic() < deadline, expected - {name for name, _, _ in found}
        time.sleep(0.5)


def scrape() -> Series:
    """All samples of this machine's endpoint."""
    [node] = ray.nodes()
    url = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
    text = urllib.request.urlopen(url, timeout=10).read().decode()
    return [
        (name, dict(LABEL.findall(labels)), float(value))
        for name, labels, value in SAMPLE.findall(text)
    ]


def values(series: Series, name: str, label: str = "") -> dict[str, float]:
    """The samples of one metric by one label."""
    return {
        labels.get(label, ""): value for found, labels, value in series if found == f"ray_{name}"
    }


def test_excluded_rows_are_counted_apart_and_do_not_thin_out_the_rejects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    added: dict[str, float] = {}

    def add(_: RunMetrics, name: str, value: float, **labels: str) -> None:
        if name == "sentiment_rows_total":
            added[labels["outcome"]] = value

    monkeypatch.setattr(RunMetrics, "_add", add)
    unit = replace(footer({"positive": 2}, {"null_text": 1}), excluded=5, last_row=7)
    RunMetrics("run")._count(Receipt(unit))
    assert added == {"labelled": 2, "rejected": 1, "excluded": 5}
    shares = [one for one in expressions() if "rejected_rows_total" in one and " / " in one]
    assert shares
    assert all('outcome!="excluded"' in one for one in shares)


@pytest.mark.ray
def test_counters_agree_with_the_ledger(series: Series, scored: RunSummary) -> None:
    ledger = scored.ledger
    assert (ledger.labelled, ledger.rejected) == (38, 3)
    assert values(series, "sentiment_rows_total", "outcome") == {"labelled": 38, "rejected": 3}
    assert values(series, "sentiment_rejected_rows_total", "reason") == scored.rejected
    assert values(series, "sentiment_labelled_rows_total", "label") == scored.labelled
    assert values(series, "sentiment_units_total") == {"": 2 + 1}
    tokens = sum(one["tokens"] for one in scored.counts["labels"].values())
    assert values(series, "sentiment_tokens_total") == {"": tokens}


@pytest.mark.ray
def test_stages_batches_and_models_are_exported(series: Series, scored: RunSummary) -> None:
    seconds = values(series, "sentiment_stage_seconds_total", "stage")
    assert set(seconds) == {"read", "tokenise", "score", "write"}
    for stage, times in scored.run["time"]["stages"].items():
        assert seconds[stage] == pytest.approx(times["sec"], abs=0.002)
    stages = values(series, "sentiment_stage_rows", "stage")
    assert stages == {"read": 40, "tokenise": 40, "score": 40}
    [tokens] = values(series, "sentiment_batch_tokens_total").values()
    [room] = values(series, "sentiment_batch_room_tokens_total").values()
    assert 0 < tokens < room
    assert values(series, "sentiment_model_load_seconds_count") == {"": 1}


@pytest.mark.ray
def test_gauges_say_that_the_run_is_over(series: Series) -> None:
    assert values(series, "sentiment_planned_rows") == {"": 0}
    assert values(series, "sentiment_actors", "state") == {"running": 0, "starting": 0}


@pytest.mark.ray
def test_a_run_has_few_series_and_only_from_the_driver(series: Series) -> None:
    assert len({labels["WorkerId"] for _, labels, _ in series}) == 1
    assert len(series) < 50


@pytest.mark.ray
def test_every_query_of_the_dashboard_names_a_metric_that_exists(series: Series) -> None:
    known: dict[str, set[str]] = {}
    for name, labels, _ in series:
        known.setdefault(name, set()).update(labels)
    asked = set()
    for expression in expressions():
        names = names_in(expression)
        assert names, expression
        assert names <= known.keys(), expression
        asked |= names
        for name, label in labels_in(expression):
            assert label in known[name], expression
        for label in grouped_by(expression):
            assert any(label in known[name] for name in names), expression
    ours = {f"ray_{one.name}" + ("_count" if one.kind == "histogram" else "") for one in METRICS}
    assert ours <= asked, "a metric that no panel shows"


def test_names_of_metrics_are_found_in_promql() -> None:
    expression = 'sum by (le) (rate(a_total{run=~"b_x", c="d"}[5m])) / scalar(sum(e)) or vector(0)'
    assert names_in(expression) == {"a_total", "e"}
    assert labels_in(expression) == {("a_total", "run"), ("a_total", "c")}
    assert grouped_by(expression) == {"le"}
    assert names_in("label_values(a_total, run_id)") == {"a_total"}


def test_panels_have_units_and_the_chosen_datasource() -> None:
    for panel in DASHBOARD["panels"]:
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["description"], panel["title"]
        assert {one["datasource"]["uid"] for one in panel["targets"]} == {"${datasource}"}
    names = [one["name"] for one in DASHBOARD["templating"]["list"]]
    assert names == ["datasource", "run"]


def test_without_a_cluster_nothing_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr(telemetry.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(telemetry, "_new_instrument", made.append)
    metrics = RunMetrics("run-1")
    metrics.count_unit(Receipt(footer({"good": 2}, {})))
    metrics.set_planned_rows(2)
    metrics.close()
    assert made == []


def test_units_from_before_the_cluster_are_counted_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    noted = metered(monkeypatch, initialised := [False])
    metrics = RunMetrics("run-1")
    metrics.count_unit(Receipt(footer({}, {"unreadable_file": 1})))
    assert noted == []
    initialised[0] = True
    note = ActorNote("a", 2.5, 3, 100, 120)
    metrics.count_unit(Receipt(footer({"good": 2}, {}), 0.25, note))
    metrics.count_unit(Receipt(footer({"good": 1}, {}), 0.25, note))
    assert ("sentiment_rejected_rows_total", 1, "unreadable_file") in noted
    assert [value for name, value, _ in noted if name == "sentiment_units_total"] == [1, 1, 1]
    # An actor loads its model once, and the footer's own idea of writing is not the true one.
    assert [one for one in noted if one[0] == "sentiment_model_load_seconds"] == [
        ("sentiment_model_load_seconds", 2.5, "")
    ]
    written = [
        value for name, value, tag in noted if name.endswith("seconds_total") and tag == "write"
    ]
    assert written == [0.25, 0.25]


def test_a_metric_that_fails_ends_the_metrics_and_not_the_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("no exporter")

    monkeypatch.setattr(telemetry.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(telemetry, "_new_instrument", fail)
    metrics = RunMetrics("run-1")
    metrics.count_unit(Receipt(footer({"good": 2}, {})))
    metrics.set_status(PipelineStatus({}, 1, 0))
    metrics.close()
    assert [one.message for one in caplog.records] == [
        "no more Prometheus metrics of this run: RuntimeError"
    ]


def test_units_are_counted_once_whichever_thread_exports_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The executor's thread sets the status while the driver counts units."""
    noted = metered(monkeypatch, [True])
    metrics = RunMetrics("run-1")
    with ThreadPoolExecutor(4) as threads:
        for _ in range(500):
            threads.submit(metrics.count_unit, Receipt(footer({"good": 1}, {})))
            threads.submit(metrics.set_status, PipelineStatus({"read": 1}, 1, 0))
    assert [name for name, _, _ in noted].count("sentiment_units_total") == 500


def metered(
    monkeypatch: pytest.MonkeyPatch, initialised: list[bool]
) -> list[tuple[str, float, str]]:
    """Replace Ray's instruments by ones that note (metric, value, labels) in the returned list."""
    noted: list[tuple[str, float, str]] = []

    class Instrument:
        def __init__(self, metric: telemetry.Metric) -> None:
            self.metric = metric

        def note(self, value: float, tags: dict[str, str]) -> None:
            assert set(tags) == {"run_id", *self.metric.tags}
            noted.append((self.metric.name, value, "".join(tags[one] for one in self.metric.tags)))

        inc = set = observe = note

    monkeypatch.setattr(telemetry.ray, "is_initialized", lambda: initialised[0])
    monkeypatch.setattr(telemetry, "_new_instrument", Instrument)
    return noted
