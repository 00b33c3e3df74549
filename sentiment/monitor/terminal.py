"""Show the progress of a run: lines on a terminal, or a log line every 30 seconds elsewhere."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from sentiment.monitor.account import Progress

LOG_EVERY_SEC: Final = 30.0

_REFRESH_PER_SEC: Final = 4
_BAR_CHARS: Final = 24

_log = logging.getLogger(__name__)

ReadProgress = Callable[[], Progress]
DisplayMode = Literal["auto", "log", "quiet"]


@contextmanager
def show_progress(read_progress: ReadProgress, mode: DisplayMode) -> Iterator[None]:
    """Show the progress of a run while the context is open.

    Args:
        read_progress: Returns the progress at the moment; called from another thread.
        mode: `auto` draws on a terminal and writes log lines elsewhere, `log` always writes log
            lines, `quiet` shows nothing.
    """
    console = Console(stderr=True)
    if mode == "quiet":
        yield
    elif mode == "auto" and console.is_terminal and sys.stderr.isatty():
        screen = _Screen(read_progress)
        with Live(
            get_renderable=screen.render,
            console=console,
            refresh_per_second=_REFRESH_PER_SEC,
            transient=True,
        ):
            yield
    else:
        with _progress_logged(read_progress):
            yield


@contextmanager
def _progress_logged(read_progress: ReadProgress) -> Iterator[None]:
    """Write a log line every 30 seconds, whether units are committed or not."""
    stopped = threading.Event()

    def write_lines() -> None:
        while not stopped.wait(LOG_EVERY_SEC):
            progress = read_progress()
            _log.info("%s", progress_line(progress), extra={"fields": log_fields(progress)})

    thread = threading.Thread(target=write_lines, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def progress_line(progress: Progress) -> str:
    """Return the progress as one line of text."""
    parts = [f"{progress.rows:,} of {progress.total_rows:,} rows ({_share_done(progress):.0%})"]
    if progress.rows_per_sec > 0:
        parts.append(f"{_rate(progress.rows_per_sec)} rows/s")
        parts.append(f"{_rate(progress.tokens_per_sec)} tokens/s")
    if progress.left_sec is not None:
        parts.append(f"{_duration(progress.left_sec)} left")
    status = progress.status
    if status is not None:
        parts.append(_actors(status.actors, status.starting))
    parts.append(f"{progress.rejected:,} rejected")
    if status is not None:
        parts += [
            f"{stage} {rows:,} rows{_stage_rate(progress, stage, ' at {}/s')}"
            for stage, rows in status.rows.items()
        ]
    return ", ".join(parts)


def log_fields(progress: Progress) -> dict[str, object]:
    """Return the progress as fields of a JSON log line."""
    status = progress.status
    return {
        "rows": progress.rows,
        "total_rows": progress.total_rows,
        "rejected": progress.rejected,
        "rows_per_sec": round(progress.rows_per_sec, 1),
        "tokens_per_sec": round(progress.tokens_per_sec, 1),
        "left_sec": None if progress.left_sec is None else round(progress.left_sec),
        "actors": None if status is None else status.actors,
        "actors_starting": None if status is None else status.starting,
        "stage_rows": {} if status is None else dict(status.rows),
    }


class _Screen:
    """What a terminal shows: a line for the run, and a line for each stage of the pipeline."""

    def __init__(self, read_progress: ReadProgress) -> None:
        self._read_progress = read_progress
        self._spinner = Spinner("dots")

    def render(self) -> RenderableType:
        """Return what the terminal shows now."""
        progress = self._read_progress()
        run = Table.grid(padding=(0, 1))
        bar = ProgressBar(max(1, progress.total_rows), progress.rows, width=_BAR_CHARS)
        cells: list[RenderableType] = [
            self._spinner,
            "scoring" if progress.rows else "starting",
            bar,
            Text(f"{progress.rows:,}/{progress.total_rows:,} rows"),
        ]
        if progress.rows_per_sec > 0:
            rates = (
                f"{_rate(progress.rows_per_sec)} rows/s {_rate(progress.tokens_per_sec)} tokens/s"
            )
            cells.append(Text(rates, style="cyan"))
        if progress.left_sec is not None:
            cells.append(Text(f"{_duration(progress.left_sec)} left", style="cyan"))
        if progress.status is not None:
            cells.append(Text(_actors(progress.status.actors, progress.status.starting)))
        if progress.rejected:
            cells.append(Text(f"{progress.rejected:,} rejected", style="yellow"))
        run.add_row(*cells)
        return Group(run, self._stages(progress))

    def _stages(self, progress: Progress) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for stage, rows in progress.status.rows.items() if progress.status else ():
            rate = _stage_rate(progress, stage, "{} rows/s")
            table.add_row("", Text(stage), Text(f"{rows:,} rows"), Text(rate), style="dim")
        return table


def _share_done(progress: Progress) -> float:
    return progress.rows / progress.total_rows if progress.total_rows else 1.0


def _stage_rate(progress: Progress, stage: str, form: str) -> str:
    """Return the rate of a stage as text, "" once it has finished all rows.

    The rate of a finished stage would fall from second to second and look like a problem.
    """
    status = progress.status
    finished = status is not None and status.rows[stage] >= progress.total_rows
    return "" if finished else form.format(_rate(progress.stage_rates.get(stage, 0.0)))


def _rate(per_sec: float) -> str:
    return f"{per_sec:,.0f}" if per_sec >= 10 else f"{per_sec:.1f}"


def _actors(running: int, starting: int) -> str:
    text = f"{running} actor" + ("" if running == 1 else "s")
    return f"{text} (+{starting} starting)" if starting else text


def _duration(sec: float) -> str:
    hours, rest = divmod(round(sec), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
