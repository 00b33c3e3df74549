"""The runs of an output, read back from what they left.

Takes an output; gives each run's `run.json` as checked values, and the partitions of one run. What
is damaged, or written by another version, costs itself only: it is left out and named. Knows no
page.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
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
from sentiment.output.layout import METRICS_FILE, RUN_FILE, RUNS_FOLDER, file_of_run
from sentiment.storage import STORAGE_ERRORS, WAITING_THREADS

_SCORE_FIRST = "score into it first"


@dataclass(frozen=True)
class Runs:
    """Runs of an output, oldest first, and what could not be read.

    Attributes:
        total: Runs the output has, readable or not.
        damaged: Why a run could not be read, by its id.
    """

    runs: tuple[Run, ...]
    total: int
    damaged: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Partition:
    """Rows of one output folder by label; "" is the top folder."""

    name: str
    labels: dict[str, int]
    rejected: int

    @property
    def labelled(self) -> int:
        """Rows with a label."""
        return sum(self.labels.values())


def read_runs(output: Output, most: int, run_id: str | None = None) -> Runs:
    """Read the latest runs of an output, and one more where it is asked for by name.

    Args:
        most: Read so many runs, beginning with the latest; ids begin with the time of their start.
        run_id: Read this run as well, however old it is.

    Raises:
        OutputError: The output cannot be listed, or there is no such run.
    """
    ids = run_ids(output)[::-1]
    if run_id is not None and run_id not in ids:
        there = f"--run takes one of its {len(ids)}, the last is {ids[0]}" if ids else _SCORE_FIRST
        raise OutputError(f"{output.location}: has no run {run_id!r}; {there}")
    if run_id is not None:
        ids = [run_id, *(one for one in ids if one != run_id)]
    found: list[Run] = []
    damaged: dict[str, str] = {}
    with ThreadPoolExecutor(WAITING_THREADS) as threads:
        # A run that cannot be read makes room for an older one.
        for start in range(0, len(ids), most):
            chunk = ids[start : start + most]
            answers = threads.map(partial(_read, output), chunk)
            for one, answer in zip(chunk, answers, strict=True):
                if isinstance(answer, Run):
                    found.append(answer)
                else:
                    damaged[one] = answer
            if len(found) >= most:
                break
    latest = sorted(found, key=lambda run: (run.finished_at, run.run_id))
    return Runs(tuple(latest), len(ids), damaged)


def _read(output: Output, run_id: str) -> Run | str:
    """A run, or what is wrong with it."""
    try:
        return parse_run(run_id, _bytes(output, file_of_run(run_id, RUN_FILE)))
    except ValidationError as error:
        what = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, what['loc']))}: {what['msg']}"
    except (*STORAGE_ERRORS, ValueError) as error:
        return f"{RUN_FILE} cannot be read: {type(error).__name__}"


def read_partitions(output: Output, run_id: str) -> list[Partition] | None:
    """Rows by label of each output folder; None where the run's table cannot be read.

    Returns:
        Partitions in the order of their names.
    """
    try:
        raw = _bytes(output, file_of_run(run_id, METRICS_FILE))
        table = pq.read_table(pa.BufferReader(raw))
        if "group" in table.column_names:  # these count the same rows once more
            table = table.filter(pc.is_null(table["group"]))
        rows = table.select(["partition", "label", "rows"]).to_pylist()
        return _partitions(rows)
    except (*STORAGE_ERRORS, KeyError, TypeError, ValueError):
        return None


def _partitions(rows: Sequence[dict[str, Any]]) -> list[Partition]:
    labels: dict[str, dict[str, int]] = {}
    rejected: dict[str, int] = {}
    for row in rows:
        name, label, count = str(row["partition"] or ""), row["label"], int(row["rows"])
        cells = labels.setdefault(name, {})
        if label is None:
            rejected[name] = rejected.get(name, 0) + count
        else:
            cells[str(label)] = cells.get(str(label), 0) + count
    return [Partition(name, labels[name], rejected.get(name, 0)) for name in sorted(labels)]


def _bytes(output: Output, relative: str) -> bytes:
    with output.filesystem.open_input_file(output.path(relative)) as file:
        content: bytes = file.read()
    return content


def run_ids(output: Output) -> list[str]:
    """Ids of all runs that left a `run.json`, oldest first: they start with the time.

    Raises:
        OutputError: The output cannot be listed.
    """
    paths = [path.split("/") for path in output.list_tree(RUNS_FOLDER)]
    return sorted({path[-2] for path in paths if path[-1] == RUN_FILE and len(path) > 2})


def read_run(output: Output, run_id: str) -> dict[str, Any]:
    """One `run.json`.

    Raises:
        OSError, ValueError: It cannot be read or is damaged.
    """
    with output.filesystem.open_input_file(output.path(file_of_run(run_id, RUN_FILE))) as file:
        values = json.loads(file.read())
    if not isinstance(values, dict):
        raise ValueError("not the account of a run")
    return values
