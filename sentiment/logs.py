"""Set up the format of log lines: text for people, or one JSON object per line for log collectors.

Log lines go to standard error.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Literal

LogFormat = Literal["text", "json"]


# Control characters, and marks that change the direction of what follows. In a file name they could
# clear the screen of whoever reads the log, or make it show another name.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""Return a text for a terminal: control characters in it are written as `\xNN` or `\uNNNN`."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


class TextFormatter(logging.Formatter):
    """Formats a record as one line of text that is safe on any terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line, without a traceback that may follow it."""
        record.message = printable(record.message)
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object: time, level, message, logger, run id, and more fields.

    More fields of a record are given as `extra={"fields": {…}}`.

    Attributes:
        run_id: Id of the run that the lines belong to; None before a run has started.
    """

    run_id: str | None = None

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
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
    """Set up the log level and the format of log lines.

    A terminal gets warnings only, because the progress display shows what the other lines say. JSON
    lines are for collectors, which get all levels from INFO on, also from a terminal.

    Args:
        quiet: Log warnings and errors only.
    """
    on_terminal = log_format == "text" and sys.stderr.isatty()
    level = logging.WARNING if quiet or on_terminal else logging.INFO
    logging.getLogger("sentiment").setLevel(level)
    logging.basicConfig()
    for handler in logging.getLogger().handlers:
        if not isinstance(handler.formatter, JsonFormatter):
            handler.setFormatter(TextFormatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    if log_format == "json":
        logging.captureWarnings(True)
        _use_json_format()


def set_run_id(run_id: str) -> None:
    """Put the id of a run into all JSON log lines from now on; text lines have none."""
    handlers = logging.getLogger().handlers
    if any(isinstance(handler.formatter, JsonFormatter) for handler in handlers):
        _use_json_format(run_id)


def _use_json_format(run_id: str | None = None) -> None:
    """Set the JSON format on every handler that writes to standard error.

    Libraries such as Ray have handlers of their own. This function is called again when a run
    starts, because a library that was imported since may have added one.

    Args:
        run_id: Id of the run that all lines from now on belong to; None leaves it unchanged.
    """
    for handler in _stderr_handlers():
        if not isinstance(handler.formatter, JsonFormatter):
            handler.setFormatter(JsonFormatter())
        if run_id is not None and isinstance(handler.formatter, JsonFormatter):
            handler.formatter.run_id = run_id


def json_is_requested(arguments: Sequence[str]) -> bool:
    """Return whether a command line or the environment asks for JSON logs.

    This is needed before the settings are parsed: an error in the settings must be a JSON line too.

    Args:
        arguments: The command line, without the name of the program.
    """
    return (
        os.environ.get("SENTIMENT_LOG_FORMAT") == "json"
        or "--log-format=json" in arguments
        or ("--log-format", "json") in pairwise(arguments)
    )


def _stderr_handlers() -> Iterator[logging.Handler]:
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", []):
            if getattr(handler, "stream", None) in (sys.stderr, sys.__stderr__):
                yield handler
