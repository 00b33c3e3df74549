"""How log lines look: text for people, or one JSON object per line for whatever collects them.

Takes log records, gives lines on standard error. Knows no job.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Literal

LogFormat = Literal["text", "json"]


class JsonFormatter(logging.Formatter):
    """A record as one JSON object: time, level, logger, message, run id, and its own fields.

    A record brings fields of its own as `extra={"fields": {…}}`.
    """

    run_id: str | None = None

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        values: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "run_id": self.run_id,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            values["exception"] = self.formatException(record.exc_info)
        return json.dumps(values, ensure_ascii=False, default=str)


def configure_logging(log_format: LogFormat, *, quiet: bool) -> None:
    """Set up what goes to standard error.

    A terminal, where the display tells the same, gets only warnings; so does whoever asked for
    quiet. JSON is for collectors, which get everything.
    """
    on_screen = log_format == "text" and sys.stderr.isatty()
    shown = logging.WARNING if quiet or on_screen else logging.INFO
    logging.getLogger("sentiment").setLevel(shown)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    if log_format == "json":
        logging.captureWarnings(True)
        speak_json()


def speak_json(run_id: str | None = None) -> None:
    """Give every handler on standard error the JSON format: libraries bring their own.

    Args:
        run_id: Of the run that all lines from now on belong to.
    """
    for handler in _consoles():
        if not isinstance(handler.formatter, JsonFormatter):
            handler.setFormatter(JsonFormatter())
        if run_id is not None and isinstance(handler.formatter, JsonFormatter):
            handler.formatter.run_id = run_id


def name_run(run_id: str) -> None:
    """Put a run's id into all lines from now on, where they are JSON."""
    if any(
        isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers
    ):
        speak_json(run_id)


def asked_for_json(arguments: Sequence[str]) -> bool:
    """Whether JSON is asked for, told before the settings are read: they may be mistyped."""
    pairs = pairwise(arguments)
    return (
        os.environ.get("SENTIMENT_LOG_FORMAT") == "json"
        or "--log-format=json" in arguments
        or ("--log-format", "json") in pairs
    )


def _consoles() -> Iterator[logging.Handler]:
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", []):
            if getattr(handler, "stream", None) in (sys.stderr, sys.__stderr__):
                yield handler
