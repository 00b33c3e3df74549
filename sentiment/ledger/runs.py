"""The one reader of `run.json`: list the runs of an output and read each to checked values.

The drift check, `sentiment replay` and the page read runs here; `sentiment verify` reads the
partition tables. A file that is damaged, or that another program or version wrote, affects only its
own run: that run is left out, and a warning or a note on the page says so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import ValidationError

from sentiment.errors import OutputError
from sentiment.ledger.record import Run, parse_run
from sentiment.output.folder import Output
from sentiment.output.layout import (
    EARLIER_METRICS_FILE,
    METRICS_FILE,
    RUN_FILE,
    RUNS_FOLDER,
    file_of_run,
)
from sentiment.storage import STORAGE_ERRORS, STORAGE_THREADS, one_line

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Runs:
    """Runs of an output, and what could not be read.

    Attributes:
        runs: Readable runs, the one that finished first comes first.
        total: Number of runs the output has, readable or not.
        damaged: The reason why a run cannot be read, by run id.
    """

    runs: tuple[Run, ...]
    total: int
    damaged: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Partition:
    """Rows of one output folder.

    Attributes:
        name: Path of the folder; "" is the top folder.
        labels: Labelled rows by label.
        rejected: Rejected rows.
    """

    name: str
    labels: dict[str, int]
    rejected: int

    @property
    def labelled(self) -> int:
        """Number of rows with a label."""
        return sum(self.labels.values())


def run_ids(output: Output) -> list[str]:
    """List the ids of all runs that left a `run.json`.

    Returns:
        Ids, the oldest first: an id begins with the time at which its run started.

    Raises:
        OutputError: The output cannot be listed.
    """
    paths = [path.split("/") for path in output.list_tree(RUNS_FOLDER)]
    return sorted({path[-2] for path in paths if path[-1] == RUN_FILE and len(path) > 2})


def read_run(output: Output, run_id: str) -> Run:
    """Read and check the `run.json` of one run.

    Raises:
        ValueError: The file cannot be read, or it is not in a form that this version knows. The
            message is one line that quotes no value of the file.
    """
    try:
        with output.filesystem.open_input_file(output.path(file_of_run(run_id, RUN_FILE))) as file:
            return parse_run(run_id, file.read())
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, problem["loc"]))
        raise ValueError(f"{key}: {problem['msg']}") from error
    except (*STORAGE_ERRORS, ValueError) as error:
        raise ValueError(f"{RUN_FILE} cannot be read: {type(error).__name__}") from error


def newest_first(output: Output) -> Iterator[Run]:
    """Read the runs of an output one by one, the last started run first.

    A run that cannot be read is left out with a warning: the caller has finished work of its own,
    which a damaged file of another run must not put at risk.

    Raises:
        OutputError: The output cannot be listed.
    """
    for run_id in reversed(run_ids(output)):
        try:
            run = read_run(output, run_id)
        except ValueError as error:
            warn_left_out(output, run_id, str(error))
            continue
        yield run


def warn_left_out(output: Output, run_id: str, reason: str) -> None:
    """Log that the caller goes on without a run, and why."""
    _log.warning("%s: left out (%s)", output.path(file_of_run(run_id, RUN_FILE)), reason)


def read_runs(output: Output, limit: int, run_id: str | None = None) -> Runs:
    """Read the latest runs of an output for the page, which shows them side by side.

    Args:
        limit: Number of runs to read, the latest ones.
        run_id: Read this run as well, however old it is.

    Raises:
        OutputError: The output cannot be listed, or it has no run of this id.
    """
    ids = run_ids(output)[::-1]
    if run_id is not None:
        if run_id not in ids:
            raise OutputError(f"{output.location}: has no run {run_id!r}; {_which_runs(ids)}")
        ids = [run_id, *(one for one in ids if one != run_id)]
    runs: list[Run] = []
    damaged: dict[str, str] = {}
    with ThreadPoolExecutor(STORAGE_THREADS) as threads:
        # Read on after each chunk until there are enough: an older run replaces a damaged one.
        for start in range(0, len(ids), limit):
            chunk = ids[start : start + limit]
            results = threads.map(partial(_run_or_reason, output), chunk)
            for one, result in zip(chunk, results, strict=True):
                if isinstance(result, Run):
                    runs.append(result)
                else:
                    damaged[one] = result
            if len(runs) >= limit:
                break
    runs.sort(key=lambda run: (run.finished_at, run.run_id))
    return Runs(tuple(runs), len(ids), damaged)


def _which_runs(ids: Sequence[str]) -> str:
    """Say what `--run` accepts.

    Args:
        ids: Ids of all runs, the newest first.
    """
    if not ids:
        return "score into it first"
    return f"--run takes one of its {len(ids)}, the last is {ids[0]}"


def _run_or_reason(output: Output, run_id: str) -> Run | str:
    """Return a run, or the reason why it cannot be read."""
    try:
        return read_run(output, run_id)
    except ValueError as error:
        return str(error)


def read_partitions(output: Output, run_id: str) -> list[Partition]:
    """Read the rows of each output folder from the `metrics.pq` of a run.

    Returns:
        Partitions in the order of their names.

    Raises:
        ValueError: The file cannot be read, or its columns are not ours.
    """
    names = ["partition", "label", "rows", "group"]
    try:
        with _open_metrics(output, run_id) as stream:
            # Only these columns: the histograms are the greater part of the file.
            table = pq.ParquetFile(stream).read(columns=names, use_threads=False)
        if "group" in table.column_names:
            # `--group-by` counts the same rows once more, in records that name their group.
            table = table.filter(pc.is_null(table["group"]))
        return _partitions(table.select(["partition", "label", "rows"]).to_pylist())
    except (*STORAGE_ERRORS, KeyError, TypeError, ValueError) as error:
        raise ValueError(one_line(error)) from error


def _open_metrics(output: Output, run_id: str) -> pa.NativeFile:
    """Open the figures of a run, by the name that they had in earlier versions if need be."""
    try:
        return output.filesystem.open_input_file(output.path(file_of_run(run_id, METRICS_FILE)))
    except FileNotFoundError:
        earlier = file_of_run(run_id, EARLIER_METRICS_FILE)
        if not output.exists(earlier):
            raise
        return output.filesystem.open_input_file(output.path(earlier))


def _partitions(rows: Sequence[dict[str, Any]]) -> list[Partition]:
    labels: dict[str, dict[str, int]] = {}
    rejected: dict[str, int] = {}
    for row in rows:
        name, label, count = str(row["partition"] or ""), row["label"], int(row["rows"])
        by_label = labels.setdefault(name, {})
        if label is None:
            rejected[name] = rejected.get(name, 0) + count
        else:
            by_label[str(label)] = by_label.get(str(label), 0) + count
    return [Partition(name, labels[name], rejected.get(name, 0)) for name in sorted(labels)]
