"""The summary of a run: its ledger, `run.json`, `metrics.pq`, and what a terminal shows."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from sentiment.ledger.summary import Ledger, RunSummary, partition_table, summarise, write_run
from sentiment.metrics.counts import count_unit, merge
from sentiment.metrics.truth import TruthMap
from sentiment.output.folder import Output
from sentiment.output.receipt import Footer
from sentiment.scoring.terminal import print_summary

ROWS = st.integers(0, 1000)


def footer(
    labels: list[str],
    rejected: dict[str, int] | None = None,
    truth: list[str | None] | None = None,
    folder: str = "dt=1",
) -> Footer:
    rows, reasons = len(labels), rejected or {}
    lost = sum(reasons.values())
    counts = count_unit(
        labels=labels,
        scores=np.full(rows, 0.75, np.float32),
        off_label=np.zeros(rows, np.float32),
        tokens=np.full(rows, 7, np.int32),
        truncated=np.zeros(rows, np.bool_),
        rejected=reasons,
        stage_sec={"score": 1.5},
        truth=truth,
    )
    path = f"{folder}/a.parquet" if folder else "a.parquet"
    return Footer(path, "/lake/a", "fp", 0, rows + lost - 1, rows, lost, "m", "c", "v", counts)


def summary(*committed: Footer, reused: tuple[Footer, ...] = (), **changes: Any) -> RunSummary:
    values: dict[str, Any] = {
        "run_id": "run-1",
        "output": "out",
        "expected": sum(one.rows for one in [*committed, *reused]),
        "committed": committed,
        "reused": reused,
        "wall_sec": 2.0,
        "run": {
            "precision": "fp32",
            "finished_at": "2026-11-20T02:00:00+00:00",
            "model": {"digest": "m"},
        },
        "truth": TruthMap(("a", "b")),
    }
    return summarise(**{**values, **changes})


def printed(one: RunSummary, width: int = 120) -> str:
    screen = io.StringIO()
    print_summary(one, Console(file=screen, width=width))
    return screen.getvalue()


@given(ROWS, ROWS, ROWS, st.integers(-3, 3))
def test_the_ledger_balances_when_every_row_is_in_one_place(
    labelled: int, rejected: int, reused: int, missing: int
) -> None:
    ledger = Ledger(labelled + rejected + reused + missing, labelled, rejected, reused)
    assert ledger.balanced == (missing == 0)


def test_reused_rows_are_in_the_counts_but_not_in_the_speed() -> None:
    one = summary(
        footer(["a", "b"], {"null_text": 2}), reused=(footer(["b"] * 4, {"null_text": 1}),)
    )
    assert one.ledger == Ledger(9, 2, 2, 5)
    assert (one.labelled, one.rejected, one.rows) == ({"a": 1, "b": 5}, {"null_text": 3}, 9)
    assert one.rows_per_sec == 2.0
    assert one.quality is None


def test_run_json_is_the_summary(tmp_path: Path) -> None:
    one = summary(footer(["a", "b"], {"null_text": 2}, truth=["a", "a"]))
    write_run(Output.open(str(tmp_path)), one, [])
    written = json.loads((tmp_path / "_sentiment" / "runs" / "run-1" / "run.json").read_text())
    assert written["ledger"] == {
        "expected": 4,
        "labelled": 2,
        "rejected": 2,
        "reused": 0,
        "excluded": 0,
    }
    assert (written["run_id"], written["precision"], written["wall_sec"]) == ("run-1", "fp32", 2.0)
    assert written["counts"]["rejected"] == {"null_text": 2}
    assert written["counts"]["stage_sec"] == {"score": 1.5}
    assert written["quality"]["accuracy"] == 0.5
    assert written["quality"]["confusion_matrix"] == [[1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("footers", "rows"),
    [
        ([footer(["a", "b", "b"], {"null_text": 2}), footer(["a"], folder="")], 4),
        ([footer(["a"])], 1),
        ([footer([], {"null_text": 2})], 1),
        ([], 0),
    ],
    ids=["all", "no rejects", "only rejects", "nothing"],
)
def test_metric_tables_of_all_runs_have_one_schema(
    tmp_path: Path, footers: list[Footer], rows: int
) -> None:
    write_run(Output.open(str(tmp_path)), summary(*footers), footers)
    table = pq.read_table(tmp_path / "_sentiment" / "runs" / "run-1" / "metrics.pq")
    assert table.num_rows == rows
    assert table.schema == pa.schema(
        [
            ("run_id", pa.string()),
            ("finished_at", pa.timestamp("ms", "UTC")),
            ("model_digest", pa.string()),
            ("partition", pa.string()),
            ("group", pa.string()),
            ("label", pa.string()),
            ("reason", pa.string()),
            ("rows", pa.int64()),
            ("truncated", pa.int64()),
            ("tokens", pa.int64()),
            ("with_truth", pa.int64()),
            ("right", pa.int64()),
            ("score_histogram", pa.list_(pa.int64())),
        ]
    )
    assert sum(table["rows"].to_pylist()) == sum(one.rows for one in footers)


def test_metric_tables_are_by_partition(tmp_path: Path) -> None:
    footers = [footer(["a"], folder="dt=1"), footer(["a"], folder="dt=2"), footer(["a"])]
    write_run(Output.open(str(tmp_path)), summary(*footers), footers)
    table = pq.read_table(tmp_path / "_sentiment" / "runs" / "run-1" / "metrics.pq")
    assert table.select(["partition", "rows"]).to_pylist() == [
        {"partition": "dt=1", "rows": 2},
        {"partition": "dt=2", "rows": 1},
    ]


def test_the_table_has_a_row_per_partition_and_label_or_reason() -> None:
    table = partition_table(
        {
            "dt=2": footer(["a", "a", "b"], {"null_text": 3}).metrics,
            "dt=1": footer([], {"empty_text": 1}).metrics,
        }
    )
    shown = table[["partition", "label", "reason", "rows"]].astype(object)
    assert shown.where(shown.notna(), None).to_numpy().tolist() == [
        ["dt=1", None, "empty_text", 1],
        ["dt=2", "a", None, 2],
        ["dt=2", "b", None, 1],
        ["dt=2", None, "null_text", 3],
    ]
    assert table["rows"].dtype == table["tokens"].dtype == np.int64


def test_a_table_without_rows_has_its_columns() -> None:
    table = partition_table({"": merge([footer([]).metrics])})
    assert len(table) == 0
    assert list(table.columns)[:4] == ["partition", "group", "label", "reason"]


def test_the_terminal_shows_the_ledger_labels_rejects_and_paths() -> None:
    shown = printed(summary(footer(["a"] * 3 + ["b"], {"null_text": 2})))
    assert "6 rows = 4 labelled + 2 rejected + 0 reused   2.0 s, 3 rows/s" in shown
    assert "75.0%" in shown
    assert "the text is null" in shown
    assert "labelled  out\n" in shown
    assert "rejected  out/_sentiment/rejected\n" in shown
    assert "report    out/_sentiment/runs/run-1/report.html\n" in shown


def test_the_terminal_says_where_the_time_went() -> None:
    time = {
        "phases": {"find model": 0.001, "start cluster": 0.5, "score": 1.4, "finish": 0.1},
        "stages": {"score": {"sec": 0.9, "rows": 3}},
        "wait_sec": 0.1,
    }
    shown = printed(summary(footer(["a"]), run={"time": time}))
    assert "time  start cluster 0.5 s, score 1.4 s (actors busy 90%), finish 0.1 s\n" in shown
    unseen = printed(summary(footer(["a"]), run={"time": {**time, "wait_sec": None}}))
    assert "score 1.4 s, finish" in unseen


def test_the_terminal_shows_how_many_windows_disagree() -> None:
    one = footer(["a", "b"])
    assert "windows of" not in printed(summary(one))
    one = replace(one, metrics={**one.metrics, "split_rows": 2})
    assert "windows of 4 rows disagree" in printed(summary(one, one))


def test_the_terminal_shows_quality_where_labels_are_known() -> None:
    shown = printed(summary(footer(["a", "b", "b"], truth=["a", "a", "b"])))
    assert "said a" in shown
    assert "0.667" in shown


def test_the_terminal_says_that_a_ledger_does_not_balance() -> None:
    assert "does not balance" in printed(summary(footer(["a"]), expected=2))


@pytest.mark.parametrize(
    "one",
    [
        summary(),
        summary(wall_sec=0.0),
        summary(footer([], {"null_text": 2})),
        summary(footer([], truth=[])),
        summary(reused=(footer(["a"]),)),
        summary(footer(["[bold]a[/bold]"], truth=["[/x]"])),
    ],
    ids=["nothing", "no time", "only rejects", "no truth", "only reused", "markup"],
)
def test_odd_runs_print_too(one: RunSummary) -> None:
    assert f"{one.ledger.expected} rows = " in printed(one)


def test_paths_stay_whole_on_a_narrow_terminal() -> None:
    place = "/lake/" + "x" * 100
    assert f"labelled  {place}\n" in printed(summary(footer(["a"]), output=f"{place}/"), width=40)


def test_a_label_column_full_of_reviews_is_not_printed() -> None:
    texts: list[str | None] = [f"Secret review {n}" for n in range(60)]
    one = summary(footer(["a"] * 60, truth=texts))
    assert "Secret" not in printed(one)
    assert "Secret" not in one.to_json()
    assert "accuracy" in printed(one)


def test_lines_in_a_log_file_are_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summary(footer([], {"malformed_record": 1})))
    [line] = [line for line in capsys.readouterr().out.splitlines() if "malformed" in line]
    assert line.rstrip().endswith("wrong number of fields")


def test_the_terminal_shows_the_share_of_unknown_tokens() -> None:
    one = footer(["a", "b"])
    assert "does not know" not in printed(summary(one))
    one = replace(one, metrics={**one.metrics, "unknown_tokens": 7})
    assert "50.00% of the tokens are characters that the model does not know" in printed(
        summary(one)
    )
