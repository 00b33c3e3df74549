"""The runs of an output, read back from what they left.

Takes an output; gives each run's `run.json` as checked values, and the partitions of one run. What
is damaged, or written by another version, costs itself only: it is left out and named. Knows no
page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    WrapValidator,
    model_validator,
)

from sentiment.errors import OutputError
from sentiment.output import Output
from sentiment.schema import RUNS_FOLDER
from sentiment.source.storage import STORAGE_ERRORS

_READ_THREADS = 16

RUN_FILE = "run.json"
METRICS_FILE = "metrics.parquet"

_SCORE_FIRST = "score into it first"


def _none_if_unknown(value: Any, check: Callable[[Any], Any]) -> Any:
    try:
        return check(value)
    except ValidationError:
        return None


# Parts that a page can do without: in a form that is not ours they count as absent.
_Optional = WrapValidator(_none_if_unknown)
_Rows = Annotated[int, Field(ge=0, le=2**62)]
_Sec = Annotated[FiniteFloat, Field(ge=0)]
_Time = Annotated[
    datetime, AfterValidator(lambda time: time if time.tzinfo else time.replace(tzinfo=UTC))
]
_Histogram = Annotated[list[_Rows] | None, _Optional]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class LedgerPart(_Part):
    """Where every row went."""

    expected: _Rows
    labelled: _Rows
    rejected: _Rows
    reused: _Rows

    @property
    def balanced(self) -> bool:
        """Whether every row is accounted for exactly once."""
        return self.expected == self.labelled + self.rejected + self.reused


class LabelPart(_Part):
    """Counts of the rows of one label."""

    rows: _Rows
    truncated: _Rows = 0
    tokens: _Rows = 0
    score_histogram: _Histogram = None


class CountsPart(_Part):
    """Merged counts, as `metrics.py` describes them."""

    labels: dict[str, LabelPart]
    rejected: dict[str, _Rows] = {}
    off_label_histogram: _Histogram = None
    length_histogram: _Histogram = None
    right_histogram: _Histogram = None
    truth_histogram: _Histogram = None
    stage_sec: Annotated[dict[str, _Sec] | None, _Optional] = None

    @property
    def labelled(self) -> dict[str, int]:
        """Rows by label."""
        return {label: part.rows for label, part in self.labels.items()}


class QualityPart(_Part):
    """How right the labels are, where true ones were given."""

    accuracy: FiniteFloat
    labels: list[str]
    confusion_matrix: list[list[_Rows]]

    @model_validator(mode="after")
    def _square(self) -> QualityPart:
        size = len(self.labels)
        if [len(row) for row in self.confusion_matrix] != [size] * size:
            raise ValueError("the confusion matrix is not as wide and as high as its labels")
        return self


class ModelPart(_Part):
    """What answered."""

    name: str
    digest: str = ""
    labels: list[str] = []
    template: str = ""
    max_source_tokens: int | None = None
    long_text: str | None = None


class CalibrationPart(_Part):
    """How scores were brought in line with how often they are right."""

    temperature: FiniteFloat
    digest: str = ""
    fitted_rows: _Rows
    ece_before: FiniteFloat
    ece_after: FiniteFloat


class CheckPart(_Part):
    """One comparison with earlier runs."""

    name: str
    value: FiniteFloat
    limit: FiniteFloat
    drifted: bool
    detail: str = ""


class DriftPart(_Part):
    """Whether this run is like the ones before it."""

    verdict: str
    why: str = ""
    against: list[str] = []
    rows: _Rows = 0
    baseline_rows: _Rows = 0
    checks: list[CheckPart] = []


class MomentPart(_Part):
    """What had been done so many seconds after the start."""

    sec: _Sec
    rows: _Rows
    tokens: _Rows = 0
    rejected: _Rows = 0


class StagePart(_Part):
    """Time of a stage, summed over its tasks."""

    sec: _Sec
    rows: _Rows = 0


class TimePart(_Part):
    """Where the time went."""

    phases: dict[str, _Sec] = {}
    stages: dict[str, StagePart] = {}
    actor_sec: _Sec | None = None
    wait_sec: _Sec | None = None
    timeline: list[MomentPart] = []


class Run(_Part):
    """One `run.json`. What may be absent is None.

    Attributes:
        unknown: Names of parts that are there, but not in a form this version knows.
    """

    run_id: str
    finished_at: _Time
    ledger: LedgerPart
    counts: CountsPart
    started_at: Annotated[_Time | None, _Optional] = None
    outcome: Annotated[str | None, _Optional] = None
    scored: Annotated[CountsPart | None, _Optional] = None
    quality: Annotated[QualityPart | None, _Optional] = None
    calibration: Annotated[CalibrationPart | None, _Optional] = None
    drift: Annotated[DriftPart | None, _Optional] = None
    time: Annotated[TimePart | None, _Optional] = None
    model: Annotated[ModelPart | None, _Optional] = None
    config: Annotated[dict[str, Any] | None, _Optional] = None
    config_digest: Annotated[str | None, _Optional] = None
    precision: Annotated[str | None, _Optional] = None
    pool: Annotated[dict[str, Any] | None, _Optional] = None
    versions: Annotated[dict[str, str] | None, _Optional] = None
    output: Annotated[str | None, _Optional] = None
    wall_sec: Annotated[_Sec | None, _Optional] = None
    rows_per_sec: Annotated[_Sec | None, _Optional] = None
    unknown: tuple[str, ...] = ()

    @property
    def night(self) -> CountsPart | None:
        """Counts of the rows this run itself scored; None where that cannot be told."""
        if self.scored is not None:
            return self.scored
        return self.counts if not self.ledger.reused else None


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
    ids = sorted(run_ids(output), reverse=True)
    if run_id is not None and run_id not in ids:
        there = f"--run takes one of its {len(ids)}, the last is {ids[0]}" if ids else _SCORE_FIRST
        raise OutputError(f"{output.location}: has no run {run_id!r}; {there}")
    if run_id is not None:
        ids = [run_id, *(one for one in ids if one != run_id)]
    found: list[Run] = []
    damaged: dict[str, str] = {}
    with ThreadPoolExecutor(_READ_THREADS) as threads:
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


def run_ids(output: Output) -> list[str]:
    """Ids of all runs that left a `run.json`.

    Raises:
        OutputError: The output cannot be listed.
    """
    paths = [path.split("/") for path in output.list_tree(RUNS_FOLDER)]
    return sorted({path[-2] for path in paths if path[-1] == RUN_FILE and len(path) > 2})


def parse_run(run_id: str, text: str | bytes) -> Run:
    """Check the content of a `run.json`.

    Args:
        run_id: Name of its folder, which is what the run goes by.

    Raises:
        ValueError: It is no account of a run, or not one that this version can read.
    """
    try:
        values = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    run = Run.model_validate({**values, "run_id": run_id, "unknown": ()})
    unknown = [
        name
        for name in Run.model_fields
        if values.get(name) is not None and getattr(run, name) is None
    ]
    return run.model_copy(update={"unknown": tuple(unknown)})


def _read(output: Output, run_id: str) -> Run | str:
    """A run, or what is wrong with it."""
    try:
        return parse_run(run_id, _bytes(output, f"{RUNS_FOLDER}/{run_id}/{RUN_FILE}"))
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
        raw = _bytes(output, f"{RUNS_FOLDER}/{run_id}/{METRICS_FILE}")
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
