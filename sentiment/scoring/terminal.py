"""The summary of a run, as it is printed on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from sentiment.block import REASONS, STAGE_SCORE
from sentiment.ledger.summary import RunSummary
from sentiment.logs import printable
from sentiment.output.layout import REJECTED_FOLDER

_BAR_CHARS = 24

# A log file has no width; this one keeps every table in one piece.
_LOG_WIDTH_CHARS = 120

# Beyond that the label column holds something else, which is not for the terminal.
_CLASSES_SHOWN = 20


def print_summary(summary: RunSummary, console: Console | None = None) -> None:
    """Print the summary of a run.

    Args:
        console: Where to; by default standard output.
    """
    if console is None:
        console = Console(width=None if sys.stdout.isatty() else _LOG_WIDTH_CHARS)
    console.print(Group(*_parts(summary)))
    # Paths stay whole, however narrow the terminal: they are there to be copied.
    console.print(_where(summary), soft_wrap=True)


def _parts(summary: RunSummary) -> list[RenderableType]:
    parts: list[RenderableType] = ["", _ledger_line(summary)]
    if "time" in summary.run:
        parts.append(_time_line(summary.run["time"], summary.wall_sec))
    parts.append("")
    if summary.labelled:
        parts += [_labels_table(summary), ""]
    if summary.counts.get("unknown_tokens"):
        tokens = sum(values["tokens"] for values in summary.counts["labels"].values())
        share = summary.counts["unknown_tokens"] / max(1, tokens)
        parts += [f"{share:.2%} of the tokens are characters that the model does not know", ""]
    if summary.counts.get("split_rows"):
        parts += [f"windows of {summary.counts['split_rows']:,} rows disagree", ""]
    if summary.quality:
        parts += [_quality_table(summary.quality), ""]
    if summary.rejected:
        parts += [_rejects_table(summary.rejected), ""]
    if summary.drift.verdict == "drift":
        parts += [Text(f"unlike earlier runs: {summary.drift.why}", style="bold red"), ""]
    return parts


def _ledger_line(summary: RunSummary) -> Text:
    ledger = summary.ledger
    text = Text()
    text.append(f"{ledger.expected:,} rows", style="bold")
    text.append(f" = {ledger.told()}")
    if not ledger.balanced:
        text.append("  does not balance", style="bold red")
    if ledger.labelled + ledger.rejected:
        text.append(f"   {summary.wall_sec:.1f} s, {summary.rows_per_sec:,.0f} rows/s", style="dim")
    return text


def _time_line(time: Mapping[str, Any], wall_sec: float) -> Text:
    """Return the line about time: the phases that took more than a hundredth of it."""
    parts = []
    for name, sec in time["phases"].items():
        if sec < wall_sec / 100:
            continue
        busy = ""
        if name == "score" and time["wait_sec"] is not None:
            scored_sec = time["stages"][STAGE_SCORE]["sec"]
            busy = f" (actors busy {scored_sec / (scored_sec + time['wait_sec']):.0%})"
        parts.append(f"{name} {sec:.1f} s{busy}")
    return Text(f"time  {', '.join(parts)}", style="dim")


def _labels_table(summary: RunSummary) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("label", "rows", "share", "", "mean tokens", "truncated"):
        table.add_column(name, justify="left" if name in ("label", "") else "right")
    total = sum(summary.labelled.values())
    for label, values in summary.counts["labels"].items():
        share = values["rows"] / total
        table.add_row(
            Text(printable(label)),
            f"{values['rows']:,}",
            f"{share:.1%}",
            "█" * round(share * _BAR_CHARS),
            f"{values['tokens'] / values['rows']:.0f}",
            f"{values['truncated'] / values['rows']:.1%}",
        )
    return table


def _quality_table(quality: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("true label")
    for name in ("precision", "recall", "f1-score", "support"):
        table.add_column(name, justify="right")
    few = len(quality["labels"]) <= _CLASSES_SHOWN
    labels = quality["labels"] if few else []
    for guess in labels:
        table.add_column(Text(printable(f"said {guess}")), justify="right")
    for label, row in zip(labels, quality["confusion_matrix"] if few else [], strict=True):
        values = quality[label]
        table.add_row(
            Text(printable(label)),
            f"{values['precision']:.3f}",
            f"{values['recall']:.3f}",
            f"{values['f1-score']:.3f}",
            f"{int(values['support']):,}",
            *(f"{count:,}" for count in row),
        )
    support = int(quality["weighted avg"]["support"])
    table.add_row("accuracy", "", "", f"{quality['accuracy']:.3f}", f"{support:,}", style="bold")
    return table


def _rejects_table(rejected: Mapping[str, int]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("rejected", style="yellow")
    table.add_column("rows", justify="right")
    table.add_column("because")
    for reason, rows in sorted(rejected.items(), key=lambda item: -item[1]):
        table.add_row(reason, f"{rows:,}", REASONS.get(reason, ""))
    return table


def _where(summary: RunSummary) -> Text:
    output = summary.output.rstrip("/")
    text = Text(printable(f"labelled  {output}"))
    if summary.rejected:
        text.append("\n" + printable(f"rejected  {output}/{REJECTED_FOLDER}"))
    text.append("\n" + printable(f"report    {summary.page}"))
    return text
