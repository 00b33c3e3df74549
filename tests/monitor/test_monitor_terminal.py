"""Progress: lines on a terminal, log lines elsewhere, nothing with `--quiet`."""

from __future__ import annotations

import io
import json
import logging
import time
from typing import Any

import pytest
from rich.console import Console

from sentiment.monitor import terminal as terminal_module
from sentiment.monitor.account import PipelineStatus, Progress
from sentiment.monitor.terminal import log_fields, progress_line, show_progress

STATUS = PipelineStatus({"tokenise": 2000, "score": 1200}, actors=2, starting=1)


def progress_of(**changes: Any) -> Progress:
    values: dict[str, Any] = {
        "total_rows": 2000,
        "rows": 1000,
        "rejected": 3,
        "tokens": 50_000,
        "rows_per_sec": 12.3,
        "tokens_per_sec": 615.0,
        "left_sec": 3725.0,
        "status": STATUS,
        "stage_rates": {"tokenise": 90.0, "score": 14.0},
    }
    return Progress(**{**values, **changes})


EARLY = progress_of(
    rows=0, rejected=0, rows_per_sec=0.0, tokens_per_sec=0.0, left_sec=None, status=None
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    # No fixture: pytest puts its own stderr back between set-up and test.
    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(terminal_module.sys, "stderr", screen)
    monkeypatch.setattr(
        terminal_module, "Console", lambda **_: Console(file=screen, force_terminal=True, width=140)
    )
    return screen


def test_a_terminal_shows_the_run_and_its_stages_and_is_cleared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = terminal(monkeypatch)
    with show_progress(progress_of, "auto"):
        pass
    shown = screen.getvalue()
    for part in ("scoring", "1,000/2,000 rows", "12 rows/s 615 tokens/s", "1:02:05 left"):
        assert part in shown
    for part in ("2 actors (+1 starting)", "3 rejected", "2,000 rows", "1,200 rows", "14 rows/s"):
        assert part in shown
    # Reading is through: its speed would only seem to fall.
    assert "90 rows/s" not in shown
    assert shown.endswith("\x1b[2K"), "the lines are not cleared"


def test_a_terminal_shows_no_rates_before_the_first_unit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = terminal(monkeypatch)
    with show_progress(lambda: EARLY, "auto"):
        pass
    shown = screen.getvalue()
    assert "starting" in shown
    assert "0/2,000 rows" in shown
    for part in ("rows/s", "left", "actor", "rejected"):
        assert part not in shown


def test_quiet_shows_nothing_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with show_progress(progress_of, "quiet"):
        pass
    assert screen.getvalue() == ""


def test_log_lines_are_written_while_nothing_is_committed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(terminal_module, "LOG_EVERY_SEC", 0.01)
    caplog.set_level(logging.INFO, "sentiment.monitor.terminal")
    with show_progress(progress_of, "auto"):
        deadline = time.monotonic() + 20
        while len(caplog.records) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    lines = len(caplog.records)
    time.sleep(0.05)
    assert len(caplog.records) == lines, "it goes on after the run"
    assert caplog.records[0].message == progress_line(progress_of())
    assert caplog.records[0].fields == log_fields(progress_of())


def test_log_lines_on_a_terminal_if_they_are_requested(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    screen = terminal(monkeypatch)
    monkeypatch.setattr(terminal_module, "LOG_EVERY_SEC", 0.01)
    caplog.set_level(logging.INFO, "sentiment.monitor.terminal")
    with show_progress(progress_of, "log"):
        deadline = time.monotonic() + 20
        while not caplog.records:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert screen.getvalue() == ""


def test_a_short_run_has_no_line_in_its_log(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sentiment.monitor.terminal")
    with show_progress(progress_of, "auto"):
        pass
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_the_text_of_a_log_line() -> None:
    assert progress_line(progress_of()) == (
        "1,000 of 2,000 rows (50%), 12 rows/s, 615 tokens/s, 1:02:05 left, "
        "2 actors (+1 starting), 3 rejected, tokenise 2,000 rows, score 1,200 rows at 14/s"
    )
    assert progress_line(EARLY) == "0 of 2,000 rows (0%), 0 rejected"


def test_the_fields_of_a_log_line_are_plain_json() -> None:
    assert json.loads(json.dumps(log_fields(progress_of())))["stage_rows"] == dict(STATUS.rows)
    assert log_fields(EARLY)["actors"] is None


@pytest.mark.parametrize(
    ("left_sec", "shown"), [(0.4, "0:00"), (59.6, "1:00"), (3599, "59:59"), (36000, "10:00:00")]
)
def test_time_left_reads_like_a_clock(left_sec: float, shown: str) -> None:
    assert f", {shown} left," in progress_line(progress_of(left_sec=left_sec))


def test_an_exception_inside_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with pytest.raises(OSError, match="gone"), show_progress(progress_of, "auto"):
        raise OSError("gone")
    assert screen.getvalue().endswith("\x1b[2K")
