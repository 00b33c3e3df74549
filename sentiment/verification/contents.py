"""The files below an output, sorted by what they are, from a single listing."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sentiment.errors import OutputError
from sentiment.output.folder import Output
from sentiment.output.layout import METRICS_FILE, REJECTED_FOLDER, RUNS_FOLDER, SUCCESS_FILE
from sentiment.storage import STORAGE_ERRORS, is_hidden

# What `Output.write` leaves on a local disk when its process is killed: a dot, the end of the
# name, eight hex digits. Other hidden files belong to somebody else.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}", re.DOTALL)

# What pyarrow raises over damaged files; names that are not UTF-8 show in Python.
DAMAGE_ERRORS = (*STORAGE_ERRORS, ValueError)


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it should be.

    Attributes:
        path: File or folder relative to the output (`.` is its top), or location of a source.
        what: What is wrong with it, without review text.
    """

    path: str
    what: str


@dataclass(frozen=True)
class Contents:
    """Paths below an output, relative to it.

    Attributes:
        data: What a reader takes for labelled data: no part of the path starts with `_` or `.`.
            Sorted.
        rejects: Reject files, by the path of the data file they belong to.
        complete: Folders with `_SUCCESS`; "" is the top.
        records: `metrics.parquet` of every run, newest first.
        temporary: Number of files that a killed writer left behind.
    """

    data: tuple[str, ...]
    rejects: frozenset[str]
    complete: frozenset[str]
    records: tuple[str, ...]
    temporary: int


def list_contents(output: Output) -> Contents:
    """List an output once, from top to bottom.

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
            unit_id = path.removeprefix(f"{REJECTED_FOLDER}/")
            if not is_hidden(unit_id):
                rejects.add(unit_id)
        elif path.startswith(f"{RUNS_FOLDER}/") and name == METRICS_FILE:
            records.append(path)
    if not data:
        raise OutputError(
            f"{output.location}: holds no data files; name the --output of a `sentiment score`"
        )
    # A run's folder is named for the time it ended.
    records.reverse()
    return Contents(tuple(data), frozenset(rejects), frozenset(complete), tuple(records), temporary)


def folder_of(path: str) -> str:
    """Folder of a data file; "" is the top."""
    return path.rpartition("/")[0]


def _files(output: Output) -> list[str]:
    """Every file below the output, relative to it, sorted."""
    try:
        # One flat listing: an object store answers it with a request per thousand files.
        return output.list_tree("")
    except UnicodeError as error:
        raise OutputError(
            f"{output.location}: holds a file name that is not UTF-8; remove that file"
        ) from error
