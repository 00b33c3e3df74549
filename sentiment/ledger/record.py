"""The values of a `run.json`, checked.

A `run.json` may be damaged, or written by another version. A key without which a run means nothing
must be right, else the file is refused. Any other key counts as absent (None) if it is missing or
in a form that this version does not know.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

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


def _none_if_unknown(value: Any, check: Callable[[Any], Any]) -> Any:
    """Return the checked value, None if the check fails."""
    try:
        return check(value)
    except ValidationError:
        return None


# Marks a key that readers can do without: it is None if it is in an unknown form.
_Optional = WrapValidator(_none_if_unknown)
# Above any real count, and still an int64.
_Rows = Annotated[int, Field(ge=0, le=2**62)]
_Sec = Annotated[FiniteFloat, Field(ge=0)]
# A time without a zone counts as UTC; times of different runs must be comparable.
_Time = Annotated[
    datetime, AfterValidator(lambda time: time if time.tzinfo else time.replace(tzinfo=UTC))
]
_Histogram = Annotated[list[_Rows] | None, _Optional]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class LedgerPart(_Part):
    """Where every row went; see `summary.Ledger`."""

    expected: _Rows
    labelled: _Rows
    rejected: _Rows
    reused: _Rows
    excluded: _Rows = 0

    @property
    def accounted(self) -> int:
        """Rows that ended somewhere."""
        return self.labelled + self.rejected + self.reused + self.excluded

    @property
    def balanced(self) -> bool:
        """Whether every expected row is labelled, rejected, reused or excluded."""
        return self.expected == self.accounted


def told_ledger(labelled: int, rejected: int, reused: int | None, excluded: int) -> str:
    """Return where rows went, in words; excluded ones only if there are any."""
    words = [f"{labelled:,} labelled", f"{rejected:,} rejected"]
    if reused is not None:
        words.append(f"{reused:,} reused")
    return " + ".join([*words, *([f"{excluded:,} excluded"] if excluded else [])])


class LabelPart(_Part):
    """Counts of the rows of one label."""

    rows: _Rows
    truncated: _Rows = 0
    tokens: _Rows = 0
    score_histogram: _Histogram = None


class CountsPart(_Part):
    """Merged counts; `sentiment.metrics.counts` describes their form."""

    labels: dict[str, LabelPart]
    rejected: dict[str, _Rows] = {}
    off_label_histogram: _Histogram = None
    length_histogram: _Histogram = None
    right_histogram: _Histogram = None
    truth_histogram: _Histogram = None
    stage_sec: Annotated[dict[str, _Sec] | None, _Optional] = None

    @property
    def rows(self) -> int:
        """Rows labelled or rejected."""
        return sum(self.labelled.values()) + sum(self.rejected.values())

    @property
    def labelled(self) -> dict[str, int]:
        """Rows by label."""
        return {label: part.rows for label, part in self.labels.items()}


class QualityPart(_Part):
    """Classification report, where true labels were given."""

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
    """The model that scored."""

    name: str
    digest: str = ""
    labels: list[str] = []
    meanings: list[str] = []
    template: str = ""
    max_source_tokens: int | None = None
    long_text: str | None = None


class CalibrationPart(_Part):
    """The temperature by which scores were calibrated."""

    temperature: FiniteFloat
    digest: str = ""
    fitted_rows: _Rows
    ece_before: FiniteFloat
    ece_after: FiniteFloat


class CheckPart(_Part):
    """One figure compared with earlier runs."""

    name: str
    value: FiniteFloat
    limit: FiniteFloat
    drifted: bool
    detail: str = ""


class DriftPart(_Part):
    """The comparison with earlier runs."""

    verdict: str
    why: str = ""
    against: list[str] = []
    rows: _Rows = 0
    baseline_rows: _Rows = 0
    checks: list[CheckPart] = []
    accepted: bool = False


class MomentPart(_Part):
    """Rows and tokens committed until a moment, in seconds after the start."""

    sec: _Sec
    rows: _Rows
    tokens: _Rows = 0
    rejected: _Rows = 0


class StagePart(_Part):
    """Seconds of a stage, summed over its tasks."""

    sec: _Sec
    rows: _Rows = 0


class TimePart(_Part):
    """Where the time of the run went."""

    phases: dict[str, _Sec] = {}
    stages: dict[str, StagePart] = {}
    actor_sec: _Sec | None = None
    wait_sec: _Sec | None = None
    timeline: list[MomentPart] = []


class UnfinishedPart(_Part):
    """A run before this one that ended without an account."""

    run_id: str
    started_at: str = ""
    units: _Rows = 0
    total_units: _Rows = 0
    rows: _Rows = 0
    total_rows: _Rows = 0
    error: str | None = None


class Run(_Part):
    """One `run.json`. Keys that may be absent are None then.

    Attributes:
        run_id: Name of the run's folder.
        counts: Counts of all rows, reused ones included.
        scored: Counts of the rows that this run scored itself.
        tonight: Counts of the rows that were compared with earlier runs: those that this run scored
            and those of runs before it that nobody had judged.
        unknown: Names of keys that are there, but in a form that this version does not know.
    """

    run_id: str
    finished_at: _Time
    ledger: LedgerPart
    counts: CountsPart
    started_at: Annotated[_Time | None, _Optional] = None
    outcome: Annotated[str | None, _Optional] = None
    scored: Annotated[CountsPart | None, _Optional] = None
    tonight: Annotated[CountsPart | None, _Optional] = None
    quality: Annotated[QualityPart | None, _Optional] = None
    calibration: Annotated[CalibrationPart | None, _Optional] = None
    unfinished: Annotated[list[UnfinishedPart] | None, _Optional] = None
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
    def scored_counts(self) -> CountsPart | None:
        """Counts of the rows that this run scored itself; None where the file does not have them.

        Without `scored`, the counts of all rows are the same if no row was reused.
        """
        if self.scored is not None:
            return self.scored
        return self.counts if not self.ledger.reused else None


def parse_run(run_id: str, text: str | bytes) -> Run:
    """Check the content of a `run.json`.

    Args:
        run_id: Name of the run's folder. It replaces the id in the file: a copied folder would
            otherwise make two runs of one id.
        text: Content of the file.

    Raises:
        ValueError: It is not a `run.json`, or not one that this version can read.
    """
    try:
        values = json.loads(text)
    except RecursionError as error:  # JSON nested deeper than Python's stack
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
