"""Log lines as JSON objects, from the first line to the error that ends a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sentiment.logs import json_is_requested

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
