"""Progress while a run goes on: a bar on a terminal, nothing elsewhere.

Takes footers as units are committed and passes them on. Knows no cluster.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from sentiment.schema import Footer


class _RowsPerSec(ProgressColumn):
    """Rows per second, once it can be known."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} rows/s", style="cyan")


def show_progress(footers: Iterable[Footer], total_rows: int, *, quiet: bool) -> Iterator[Footer]:
    """Pass footers through, showing rows, rows per second and the time left.

    Args:
        total_rows: Rows this run has to score.
        quiet: Show nothing, even on a terminal.
    """
    console = Console(stderr=True)
    if quiet or not console.is_terminal or not sys.stderr.isatty():
        yield from footers
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        _RowsPerSec(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=total_rows)
        for footer in footers:
            progress.update(task, description="scoring", advance=footer.rows)
            yield footer
