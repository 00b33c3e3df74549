"""The diary of a run: how far it is, so that one that dies leaves a word of itself.

`run.json` is written at the end. Until then a small file in the folder of the run says when it
started, what it has to do and how much of it is done. The run that comes next finds it, tells of it
in its log and in its own `run.json`, and takes it away.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from sentiment.errors import SentimentError
from sentiment.output.folder import Output
from sentiment.output.holder import timestamp
from sentiment.output.layout import DIARY_FILE, RUN_FILE, RUNS_FOLDER, file_of_run
from sentiment.storage import one_line

# Between two entries, in seconds: rare enough for an object store, often enough for a person.
_EVERY_SEC: Final = 30.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """What is known of a run that has not ended.

    Attributes:
        run_id: The run.
        started_at: In UTC.
        noted_at: When this was written, in UTC.
        host: Host name and process id of its driver.
        phase: What it was doing.
        units: Units committed, of `total_units`.
        rows: Rows in them, of `total_rows`.
        error: What ended it, if it noticed.
    """

    run_id: str
    started_at: str
    noted_at: str
    host: str
    phase: str
    units: int
    total_units: int
    rows: int
    total_rows: int
    error: str | None = None

    def __str__(self) -> str:
        why = f" ({self.error})" if self.error else ""
        return (
            f"run {self.run_id} on {self.host}, started {self.started_at}, ended without an account"
            f"{why}: {self.units:,} of {self.total_units:,} units and {self.rows:,} of "
            f"{self.total_rows:,} rows were committed, last seen {self.noted_at} in phase "
            f"{self.phase!r}"
        )


@dataclass
class Diary:
    """The diary of this run.

    Attributes:
        output: Where it is kept.
        entry: The latest entry.
    """

    output: Output
    entry: Entry
    _written_sec: float = field(default=-_EVERY_SEC)

    @classmethod
    def begin(cls, output: Output, run_id: str, *, units: int, rows: int) -> Diary:
        """Write the first entry.

        Args:
            units: Units that the run has to commit.
            rows: Rows in them.
        """
        now = timestamp()
        host = f"{socket.gethostname()}, pid {os.getpid()}"
        diary = cls(output, Entry(run_id, now, now, host, "start", 0, units, 0, rows))
        diary._write()
        return diary

    def note(self, *, units: int, rows: int, phase: str) -> None:
        """Note how far the run is; written at most every half minute."""
        self.entry = replace(self.entry, units=units, rows=rows, phase=phase)
        if time.monotonic() - self._written_sec >= _EVERY_SEC:
            self._write()

    def fail(self, error: BaseException) -> None:
        """Note what ended the run."""
        # Messages of our own errors never show review text; those of others may.
        name = type(error).__name__
        what = one_line(error) if isinstance(error, SentimentError) else name
        self.entry = replace(self.entry, error=what)
        self._write()

    def end(self) -> None:
        """Take the diary away: `run.json` has the account."""
        with suppress(SentimentError):
            self.output.delete(file_of_run(self.entry.run_id, DIARY_FILE))

    def _write(self) -> None:
        self._written_sec = time.monotonic()
        self.entry = replace(self.entry, noted_at=timestamp())
        data = json.dumps(asdict(self.entry), indent=1).encode() + b"\n"
        try:
            self.output.write(file_of_run(self.entry.run_id, DIARY_FILE), data)
        except SentimentError as error:  # the run can do without
            _log.warning("the diary of the run could not be written: %s", error)


def find_unfinished(output: Output) -> list[Entry]:
    """Find the runs that ended without an account, the oldest first.

    Call it only while the lease is held: else one of them may be running.

    Raises:
        OutputError: The runs cannot be listed.
    """
    paths = [path.split("/") for path in output.list_tree(RUNS_FOLDER)]
    ended = {path[-2] for path in paths if path[-1] == RUN_FILE}
    left = sorted(path[-2] for path in paths if path[-1] == DIARY_FILE and path[-2] not in ended)
    entries = (_read(output, run_id) for run_id in left)
    return [entry for entry in entries if entry is not None]


def forget_unfinished(output: Output, entries: list[Entry]) -> None:
    """Take the diaries of runs away that another account tells of."""
    for entry in entries:
        with suppress(SentimentError):
            output.delete(file_of_run(entry.run_id, DIARY_FILE))


def _read(output: Output, run_id: str) -> Entry | None:
    """Read an entry; None if it is damaged, or of another version."""
    try:
        values: dict[str, Any] = json.loads(output.read(file_of_run(run_id, DIARY_FILE)) or b"")
        entry = Entry(**{**values, "run_id": run_id})
        str(entry)  # raises if numbers are none
    except (ValueError, TypeError):
        return None
    return entry
