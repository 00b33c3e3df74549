"""Names of the folders, files and columns of an output."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from sentiment.output.folder import Output
from sentiment.storage import is_hidden

# Everything that is not labelled data is below this folder of the output. Spark, Hive, DuckDB and
# pyarrow datasets skip it because of the leading underscore.
PRIVATE_FOLDER: Final = "_sentiment"

REJECTED_FOLDER: Final = f"{PRIVATE_FOLDER}/rejected"
ATTEMPTS_FOLDER: Final = f"{PRIVATE_FOLDER}/attempts"
LEASE_FILE: Final = f"{PRIVATE_FOLDER}/lease.json"
RUNS_FOLDER: Final = f"{PRIVATE_FOLDER}/runs"

# Files of a run, in a folder of RUNS_FOLDER that is named for the id of the run.
RUN_FILE: Final = "run.json"
METRICS_FILE: Final = "metrics.parquet"
REPORT_FILE: Final = "report.html"

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


def is_data_file(path: str) -> bool:
    """Whether a file below an output holds labelled rows, judged by its path alone.

    Args:
        path: Relative to the output, or a name only.
    """
    return path.endswith(".parquet") and not is_hidden(path)


def data_files(output: Output, folder: str) -> list[str]:
    """List the data files directly inside a folder, as paths relative to the output."""
    return [
        f"{folder}/{name}" if folder else name
        for name in output.list_files(folder)
        if is_data_file(name)
    ]


def key_of(path: str) -> str:
    """Return the shard key of a data file: its name without the row range."""
    return path.rsplit("/", 1)[-1].rsplit("-", 2)[0]
