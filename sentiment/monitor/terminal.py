"""Progress while a run goes on: lines on a terminal, a line now and then in a log.

Takes the figures of the moment, gives what people read. Knows no cluster.
"""

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

from sentiment.monitor.account import Figures

LOG_EVERY_SEC: Final = 30.0

_REFRESH_PER_SEC: Final = 4
_BAR_CHARS: Final = 24

_log = logging.getLogger(__name__)

Ask = Callable[[], Figures]
Mode = Literal["auto", "log", "quiet"]


@contextmanager
def show_progress(ask: Ask, mode: Mode) -> Iterator[None]:
    """Show how the run stands for as long as the context is open.

    Args:
        ask: Gives the figures of the moment; called from a thread.
        mode: `auto` draws on a terminal and writes log lines elsewhere, `log` writes them anywhere.
    """
    console = Console(stderr=True)
    if mode == "quiet":
        yield
    elif mode == "auto" and console.is_terminal and sys.stderr.isatty():
        screen = _Screen(ask)
        with Live(
            get_renderable=screen.render,
            console=console,
            refresh_per_second=_REFRESH_PER_SEC,
            transient=True,
        ):
            yield
    else:
        with _logged(ask):
            yield


@contextmanager
def _logged(ask: Ask) -> Iterator[None]:
    """A line every 30 seconds, whether units are committed or not."""
    over = threading.Event()

    def keep_telling() -> None:
        while not over.wait(LOG_EVERY_SEC):
            figures = ask()
            _log.info("%s", told(figures), extra={"fields": fields_of(figures)})

    thread = threading.Thread(target=keep_telling, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def told(figures: Figures) -> str:
    """The figures in one line."""
    parts = [f"{figures.rows:,} of {figures.total_rows:,} rows ({_share(figures):.0%})"]
    if figures.rows_per_sec > 0:
        parts.append(f"{_rate(figures.rows_per_sec)} rows/s")
        parts.append(f"{_rate(figures.tokens_per_sec)} tokens/s")
    if figures.left_sec is not None:
        parts.append(f"{_duration(figures.left_sec)} left")
    status = figures.status
    if status is not None:
        parts.append(_actors(status.actors, status.starting))
    parts.append(f"{figures.rejected:,} rejected")
    if status is not None:
        parts += [
            f"{stage} {rows:,} rows{_pace(figures, stage, ' at {}/s')}"
            for stage, rows in status.rows.items()
        ]
    return ", ".join(parts)


def fields_of(figures: Figures) -> dict[str, object]:
    """The figures as fields of a structured log line."""
    status = figures.status
    return {
        "rows": figures.rows,
        "total_rows": figures.total_rows,
        "rejected": figures.rejected,
        "rows_per_sec": round(figures.rows_per_sec, 1),
        "tokens_per_sec": round(figures.tokens_per_sec, 1),
        "left_sec": None if figures.left_sec is None else round(figures.left_sec),
        "actors": None if status is None else status.actors,
        "actors_starting": None if status is None else status.starting,
        "stage_rows": {} if status is None else dict(status.rows),
    }


class _Screen:
    """A line for the run, and one per stage that is ahead of the commits."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._spinner = Spinner("dots")

    def render(self) -> RenderableType:
        """What the terminal shows now."""
        figures = self._ask()
        run = Table.grid(padding=(0, 1))
        bar = ProgressBar(max(1, figures.total_rows), figures.rows, width=_BAR_CHARS)
        cells: list[RenderableType] = [
            self._spinner,
            "scoring" if figures.rows else "starting",
            bar,
            Text(f"{figures.rows:,}/{figures.total_rows:,} rows"),
        ]
        if figures.rows_per_sec > 0:
            rates = f"{_rate(figures.rows_per_sec)} rows/s {_rate(figures.tokens_per_sec)} tokens/s"
            cells.append(Text(rates, style="cyan"))
        if figures.left_sec is not None:
            cells.append(Text(f"{_duration(figures.left_sec)} left", style="cyan"))
        if figures.status is not None:
            cells.append(Text(_actors(figures.status.actors, figures.status.starting)))
        if figures.rejected:
            cells.append(Text(f"{figures.rejected:,} rejected", style="yellow"))
        run.add_row(*cells)
        return Group(run, self._stages(figures))

    def _stages(self, figures: Figures) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for stage, rows in figures.status.rows.items() if figures.status else ():
            rate = _pace(figures, stage, "{} rows/s")
            table.add_row("", Text(stage), Text(f"{rows:,} rows"), Text(rate), style="dim")
        return table


def _share(figures: Figures) -> float:
    return figures.rows / figures.total_rows if figures.total_rows else 1.0


def _pace(figures: Figures, stage: str, form: str) -> str:
    """The speed of a stage; none of one that is through, which would only seem to slow down."""
    status = figures.status
    through = status is not None and status.rows[stage] >= figures.total_rows
    return "" if through else form.format(_rate(figures.stage_rates.get(stage, 0.0)))


def _rate(per_sec: float) -> str:
    return f"{per_sec:,.0f}" if per_sec >= 10 else f"{per_sec:.1f}"


def _actors(running: int, starting: int) -> str:
    text = f"{running} actor" + ("" if running == 1 else "s")
    return f"{text} (+{starting} starting)" if starting else text


def _duration(sec: float) -> str:
    hours, rest = divmod(round(sec), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
