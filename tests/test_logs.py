"""Log lines as JSON objects, from the first line to the error that ends a command."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sentiment.cli import main
from sentiment.logs import TextFormatter, json_is_requested, printable

PROGRAM = """
import logging, warnings
from sentiment.logs import configure_logging, set_run_id
library = logging.getLogger("library")
library.propagate = False
library.addHandler(logging.StreamHandler())
configure_logging("FORMAT", quiet=QUIET)
log = logging.getLogger("sentiment.monitor.run")
log.info("before")
set_run_id("run-7")
log.info("unit %s", "ü", extra={"fields": {"unit": "a.parquet", "first_row": 0}})
log.debug("too much")
library.warning("from elsewhere")
warnings.warn("careful", stacklevel=1)
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def stderr_of(log_format: str, *, quiet: bool = False) -> str:
    code = PROGRAM.replace("FORMAT", log_format).replace("QUIET", str(quiet))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == ""
    return done.stderr


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_lines_of_all_loggers_are_objects() -> None:
    found = lines(stderr_of("json"))
    assert [(one["level"], one["logger"], one["run_id"]) for one in found] == [
        ("INFO", "sentiment.monitor.run", None),
        ("INFO", "sentiment.monitor.run", "run-7"),
        ("WARNING", "library", "run-7"),
        ("WARNING", "py.warnings", "run-7"),
        ("ERROR", "sentiment.monitor.run", "run-7"),
    ]
    unit = found[1]
    assert (unit["message"], unit["unit"], unit["first_row"]) == ("unit ü", "a.parquet", 0)
    assert "ZeroDivisionError" in found[-1]["exception"]
    times = [datetime.fromisoformat(one["time"]) for one in found]
    assert all(one.utcoffset() == timedelta(0) for one in times)
    assert times == sorted(times)
    assert abs(datetime.now(UTC) - times[-1]) < timedelta(minutes=1)


def test_quiet_keeps_warnings_and_errors() -> None:
    levels = [one["level"] for one in lines(stderr_of("json", quiet=True))]
    assert levels == ["WARNING", "WARNING", "ERROR"]


def test_text_stays_text() -> None:
    shown = stderr_of("text")
    assert " INFO unit ü\n" in shown
    assert "{" not in shown


@pytest.mark.parametrize(
    ("words", "variable", "asked"),
    [
        (["in", "--log-format", "json"], None, True),
        (["--log-format=json", "in"], None, True),
        (["in", "--log-format", "text"], None, False),
        (["json", "--log-format"], None, False),
        ([], "json", True),
        ([], None, False),
    ],
)
def test_json_is_recognised_in_a_command_line_that_may_be_wrong(
    words: list[str], variable: str | None, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SENTIMENT_LOG_FORMAT", raising=False)
    if variable is not None:
        monkeypatch.setenv("SENTIMENT_LOG_FORMAT", variable)
    assert json_is_requested(words) is asked


@pytest.mark.parametrize("mistake", [["--nonsense"], ["--output", "out"]])
def test_the_last_line_of_a_failed_command_is_json_too(mistake: list[str], tmp_path: Path) -> None:
    """Settings that are not understood, and a source that is not there."""
    words = ["score", str(tmp_path / "no"), "--log-format", "json", *mistake]
    done = subprocess.run(
        [sys.executable, "-m", "sentiment", *words],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2
    last = lines(done.stderr)[-1]
    assert (last["level"], last["exit_code"]) == ("ERROR", 2)
    assert last["message"].startswith("sentiment score: ")
    assert (last["run_id"] is None) == (mistake == ["--nonsense"])


HOSTILE = "a\x1b[2Jb\r\x07\x9b1m\u202egnp.exe\nc\u2028d"


def test_no_control_character_reaches_a_terminal() -> None:
    shown = printable(HOSTILE)
    assert shown == r"a\x1b[2Jb\r\x07\x9b1m\u202egnp.exe\nc\u2028d"
    assert printable("caf\u00e9 \u6620\u753b 100%") == "caf\u00e9 \u6620\u753b 100%"


def test_a_log_line_shows_a_hostile_name_as_text(capfd: pytest.CaptureFixture[str]) -> None:
    formatter = TextFormatter("%(levelname)s %(message)s")
    record = logging.LogRecord("x", logging.WARNING, "", 0, "%s: skipped", (HOSTILE,), None)
    line = formatter.format(record)
    assert not set(line) & set("\x1b\r\x07\x9b\n\u202e")
    assert line.startswith(r"WARNING a\x1b[2J")


def test_an_error_names_a_hostile_file_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", f"{tmp_path}/no\x1b[31mthing.csv", "--output", str(tmp_path / "o")]) == 2
    assert "\x1b" not in capsys.readouterr().err
