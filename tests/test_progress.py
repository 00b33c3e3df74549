"""A bar on a terminal, nothing elsewhere; every footer passes through."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from sentiment import progress
from sentiment.schema import Footer


def footer(first: int) -> Footer:
    return Footer(f"u{first}", "f", "fp", first, first + 9, 8, 2, "m", "c", "v")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    # No fixture: pytest puts its own stderr back between set-up and test.
    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress.sys, "stderr", screen)
    monkeypatch.setattr(
        progress, "Console", lambda **_: Console(file=screen, force_terminal=True, width=100)
    )
    return screen


def test_a_terminal_sees_rows_and_gets_its_line_back(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    footers = [footer(0), footer(10)]
    assert list(progress.show_progress(footers, 20, quiet=False)) == footers
    assert "20/20" in screen.getvalue()
    assert "scoring" in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[2K"), "the line is not cleared"


def test_quiet_shows_nothing_even_there(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    assert list(progress.show_progress([footer(0)], 10, quiet=True)) == [footer(0)]
    assert screen.getvalue() == ""


def test_a_log_file_sees_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(progress.show_progress([footer(0)], 10, quiet=False)) == [footer(0)]
    assert capfd.readouterr() == ("", "")


def test_a_failure_on_the_way_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch)

    def failing() -> Iterator[Footer]:
        yield footer(0)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(progress.show_progress(failing(), 10, quiet=False))
