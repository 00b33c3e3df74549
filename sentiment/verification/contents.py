"""Lists an output once and sorts its files: data, rejects, `_SUCCESS` and records of runs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sentiment.errors import OutputError
from sentiment.output.folder import Output
from sentiment.output.layout import (
    EARLIER_METRICS_FILE,
    METRICS_FILE,
    REJECTED_FOLDER,
    RUNS_FOLDER,
    SUCCESS_FILE,
)
from sentiment.storage import STORAGE_ERRORS, is_hidden

# Names of the temporary files that `Output.write` leaves on a local disk if its process is killed:
# a dot, the end of the name, eight hex digits. Other hidden files are of other programs.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}", re.DOTALL)

# What pyarrow raises for damaged files, and Python for names that are not UTF-8.
DAMAGE_ERRORS = (*STORAGE_ERRORS, ValueError)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an output.

    Attributes:
        path: File or folder relative to the output (`.` is the output itself), or the location of a
            source.
        what: What is wrong with it, without review text.
    """

    path: str
    what: str


@dataclass(frozen=True)
class Contents:
    """Paths below an output, relative to it.

    Attributes:
        data: Files that a reader takes for labelled data, sorted: all without a hidden name, also
            those of other programs.
        rejects: The reject files.
        complete: Folders with `_SUCCESS`; "" is the output itself.
        records: `metrics.pq` of every run, newest first.
        temporary: Number of temporary files that a killed process left behind.
    """

    data: tuple[str, ...]
    rejects: frozenset[str]
    complete: frozenset[str]
    records: tuple[str, ...]
    temporary: int


def list_contents(output: Output) -> Contents:
    """List all files of an output.

    Raises:
        OutputError: It cannot be listed, holds no data files or does not exist.
    """
    data, rejects, complete, records, temporary = [], set(), set(), [], 0
    for path in _files(output):
        folder, _, name = path.rpartition("/")
        if _TEMPORARY.fullmatch(name):
            temporary += 1
        elif not is_hidden(path):
            data.append(path)
        elif name == SUCCESS_FILE and not is_hidden(folder):
            complete.add(folder)
        elif path.startswith(f"{REJECTED_FOLDER}/"):
            if not is_hidden(path.removeprefix(f"{REJECTED_FOLDER}/")):
                rejects.add(path)
        elif path.startswith(f"{RUNS_FOLDER}/") and name in (METRICS_FILE, EARLIER_METRICS_FILE):
            records.append(path)
    if not data:
        raise OutputError(
            f"{output.location}: holds no data files; name the --output of a `sentiment score`"
        )
    # The folder of a run is named for the time of the run, so that sorted paths are oldest first.
    records.reverse()
    return Contents(tuple(data), frozenset(rejects), frozenset(complete), tuple(records), temporary)


def folder_of(path: str) -> str:
    """Return the folder of a data file; "" is the output itself."""
    return path.rpartition("/")[0]


def _files(output: Output) -> list[str]:
    """List every file below the output, sorted."""
    try:
        # One listing of all: an object store needs one request per thousand files for it.
        return output.list_tree("")
    except UnicodeError as error:
        raise OutputError(
            f"{output.location}: holds a file name that is not UTF-8; remove that file"
        ) from error
