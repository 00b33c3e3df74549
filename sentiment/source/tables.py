"""Refuses tables of a lakehouse, whose data files must not be read as plain files.

A Delta, Iceberg or Hudi table is a folder of Parquet files and a log. The log says which of the
files count, and which of their rows are deleted. Read without it, rows that were deleted or
replaced come back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress

from pyarrow import fs

from sentiment.errors import SourceError

# Names that stand in the folder of a table and nowhere else.
_LOGS = {"_delta_log": "Delta", ".hoodie": "Hudi"}

# Iceberg has no such name: its log is a folder `metadata` with files such as `v3.metadata.json` or
# `00002-1f2e….metadata.json` (also with `.gz` before `.metadata.json`).
_ICEBERG_FOLDER = "metadata"
_ICEBERG_FILE = re.compile(r".+\.metadata\.json(\.gz)?")


def refuse_within_table(filesystem: fs.FileSystem, path: str) -> None:
    """Refuse a file or a folder that lies in a table.

    Folders above that nobody lets us look into are passed over: a user may have rights to a part
    of a bucket only.

    Args:
        filesystem: Where it is.
        path: The file or folder, on that filesystem.

    Raises:
        SourceError: It lies in a table.
    """
    parts = path.rstrip("/").split("/")
    for end in range(len(parts) - 1, 0, -1):
        folder = "/".join(parts[:end])
        with suppress(OSError):
            names = [f"{folder}/{name}" for name in (*_LOGS, _ICEBERG_FOLDER)]
            found = [
                one for one in filesystem.get_file_info(names) if one.type == fs.FileType.Directory
            ]
            refuse_table(filesystem, folder, [one.base_name for one in found])


def refuse_table(filesystem: fs.FileSystem, folder: str, names: Collection[str]) -> None:
    """Refuse a folder that holds the log of a table.

    Args:
        filesystem: Where the folder is.
        folder: The folder, on that filesystem.
        names: What is in it, hidden names included.

    Raises:
        SourceError: It is a table.
        OSError: The storage does not answer.
    """
    paths = [[name] for name in names]
    if _ICEBERG_FOLDER in names:
        selector = fs.FileSelector(f"{folder}/{_ICEBERG_FOLDER}", allow_not_found=True)
        inside = filesystem.get_file_info(selector)
        paths += [[_ICEBERG_FOLDER, one.base_name] for one in inside]
    refuse_table_among(folder, paths)


def refuse_table_among(root: str, paths: Iterable[Sequence[str]]) -> None:
    """Refuse a folder if it is a table, or one lies below it.

    Args:
        root: The folder.
        paths: Components of the paths below it, hidden ones included.

    Raises:
        SourceError: There is a table.
    """
    for parts in paths:
        for at, part in enumerate(parts):
            if part in _LOGS:
                raise _refusal("/".join([root, *parts[:at]]), _LOGS[part], f"{part}/")
        if parts[-2:-1] == [_ICEBERG_FOLDER] and _ICEBERG_FILE.fullmatch(parts[-1]):
            table = "/".join([root, *parts[:-2]])
            raise _refusal(table, "Iceberg", f"{_ICEBERG_FOLDER}/*.metadata.json")


def _refusal(folder: str, kind: str, log: str) -> SourceError:
    return SourceError(
        f"{folder}: is a table of {kind} (it holds {log}). Read as plain files, it would give rows "
        "back that were deleted or replaced. Write the rows that it holds now to a folder of "
        "Parquet files with the engine that keeps it, and score that"
    )
