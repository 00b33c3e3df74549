"""Names of the folders, files and columns of an output."""

from __future__ import annotations

import hashlib
import re
from typing import Final

import pyarrow as pa

from sentiment.output.folder import Output
from sentiment.storage import is_hidden

# Everything that is not labelled data is below this folder of the output. Spark, Hive, DuckDB and
# pyarrow datasets skip it because of the leading underscore.
PRIVATE_FOLDER: Final = "_sentiment"

# Private files of Parquet. DuckDB and Polars do not skip folders that start with an underscore, and
# would take such files for data if they ended in `.parquet`.
PRIVATE_END: Final = ".pq"
_DATA_END: Final = ".parquet"

REJECTED_FOLDER: Final = f"{PRIVATE_FOLDER}/rejected"
ATTEMPTS_FOLDER: Final = f"{PRIVATE_FOLDER}/attempts"
LEASE_FILE: Final = f"{PRIVATE_FOLDER}/lease.json"
COLUMNS_FILE: Final = f"{PRIVATE_FOLDER}/columns.json"
SETTINGS_FILE: Final = f"{PRIVATE_FOLDER}/settings.json"
UNJUDGED_FILE: Final = f"{PRIVATE_FOLDER}/unjudged.json"
PROBE_FOLDER: Final = f"{PRIVATE_FOLDER}/probe"
RUNS_FOLDER: Final = f"{PRIVATE_FOLDER}/runs"

# Files of a run, in a folder of RUNS_FOLDER that is named for the id of the run.
RUN_FILE: Final = "run.json"
METRICS_FILE: Final = f"metrics{PRIVATE_END}"
EARLIER_METRICS_FILE: Final = "metrics.parquet"
REPORT_FILE: Final = "report.html"
DIARY_FILE: Final = "diary.json"

# The end of the name of a data file: hash of the source, first row, last row.
_DATA_NAME = re.compile(r"-([0-9a-f]{16}|[0-9a-f]{8})-\d{10,}-(?:\d{10,}|none)\.parquet$")

_HASH_DIGITS: Final = 16

# Stands in every folder with labelled data that is complete.
SUCCESS_FILE: Final = "_SUCCESS"

REJECT_SCHEMA: Final = pa.schema(
    [
        pa.field("source_file", pa.string(), nullable=False),
        pa.field("source_row", pa.int64(), nullable=False),
        pa.field("source_row_end", pa.int64()),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string()),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("row_json", pa.string()),
    ]
)


def file_of_run(run_id: str, name: str) -> str:
    """Return the path of RUN_FILE, METRICS_FILE or REPORT_FILE of a run, relative to the output."""
    return f"{RUNS_FOLDER}/{run_id}/{name}"


def added_columns(prefix: str) -> pa.Schema:
    """Return the columns that are added to those of the source, in order.

    Args:
        prefix: First word of every added name, `sentiment` unless `--prefix` says otherwise.
    """
    return pa.schema(
        [
            pa.field(prefix, pa.string()),
            pa.field(f"{prefix}_score", pa.float32()),
            pa.field(f"{prefix}_off_label", pa.float32()),
            pa.field(f"{prefix}_tokens", pa.int32()),
            pa.field(f"{prefix}_truncated", pa.bool_()),
            pa.field(f"{prefix}_source_file", pa.string()),
            pa.field(f"{prefix}_source_row", pa.int64()),
        ]
    )


ADDED_COLUMNS: Final = len(added_columns("x"))


def reject_file_of(unit_id: str, content: bytes | memoryview) -> str:
    """Return the path of the reject file of a unit, relative to the output.

    Its content is part of the name. So a second commit of the unit never replaces the rejects of
    the first one, and the data file, which names them, decides which of the two counts.
    """
    digest = hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]
    return f"{REJECTED_FOLDER}/{unit_id.removesuffix(_DATA_END)}-{digest}{PRIVATE_END}"


def earlier_reject_file_of(unit_id: str) -> str:
    """Return the path that the reject file of a unit had in earlier versions."""
    return f"{REJECTED_FOLDER}/{unit_id}"


def unit_of_reject_file(path: str) -> str:
    """Return the id of the unit that a reject file belongs to, by its path alone."""
    name = path.removeprefix(f"{REJECTED_FOLDER}/")
    if _DATA_NAME.search(name):
        return name  # of an earlier version
    stem, _, digest = name.removesuffix(PRIVATE_END).removesuffix(_DATA_END).rpartition("-")
    return f"{stem}{_DATA_END}" if len(digest) == _HASH_DIGITS else name


def is_data_file(path: str) -> bool:
    """Whether a file below an output holds labelled rows, judged by its path alone.

    Args:
        path: Relative to the output, or a name only.
    """
    return path.endswith(_DATA_END) and not is_hidden(path)


def data_files(output: Output, folder: str) -> list[str]:
    """List the data files directly inside a folder, as paths relative to the output."""
    return [
        f"{folder}/{name}" if folder else name
        for name in output.list_files(folder)
        if is_data_file(name)
    ]


def reject_files(output: Output, folder: str) -> list[str]:
    """List the reject files of a folder of data, as paths relative to the output."""
    private = f"{REJECTED_FOLDER}/{folder}".rstrip("/")
    return [
        f"{private}/{name}"
        for name in output.list_files(private)
        if name.endswith((PRIVATE_END, _DATA_END)) and not is_hidden(name)
    ]


def source_hash_in(path: str) -> str | None:
    """Return the hash of the source in the name of a data file.

    Returns:
        16 hex digits, or 8 in files of earlier versions; None if it is no name of ours.
    """
    found = _DATA_NAME.search(path)
    return found[1] if found else None
