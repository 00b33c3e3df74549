"""What a `run.json` says, as checked values.

Takes its text, gives a `Run`. Parts that a page can do without are None where they are absent or in
a form this version does not know. Knows no storage and no page.
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
    meanings: list[str] = []
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
