"""The settings of every command but `evaluate` and `finetune`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import CliPositionalArg

from sentiment.settings.choices import (
    Decode,
    LongText,
    Precision,
    contradiction,
    labels_problem,
    prompt_of,
    template_problem,
)
from sentiment.settings.flags import Groups
from sentiment.settings.headings import (
    MODELS,
    REPLAY,
    REPORT,
    SCORE,
    VERIFY,
)
from sentiment.settings.load import JobConfig, no_half
from sentiment.settings.sources import SourceSettings


class ScoringSettings(SourceSettings):
    """What scoring and evaluating share: sources, the model, devices."""

    positional: ClassVar[tuple[str, ...]] = ("sources",)

    # Not required of the command line, because the YAML file may name them.
    sources: CliPositionalArg[list[str]] = Field(
        [],
        description="Files, folders or globs, one or more: Parquet, ORC, Avro, CSV, TSV, JSON; "
        "local or s3://…",
    )
    output: str = Field(description="Folder of labelled Parquet; local path or s3://… URI.")

    model: str = Field(
        "builtin",
        description="A name that `sentiment models` lists, a transformers folder, a hub id, or a "
        "model file (YAML).",
    )
    revision: str | None = Field(
        None, description="Branch, tag or commit of a hub model; default: the newest."
    )
    model_sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="Digest the model must have, as `run.json` shows it; anything else is refused.",
    )
    allow_pickle_weights: bool = Field(
        False, description="Accept weights in .bin files; they are read without running code."
    )
    label_column: str | None = Field(
        None, description="Column with true labels; adds accuracy and a confusion matrix."
    )
    label_map: dict[str, str] = Field(
        {},
        description="Model label for each value of the label column, as `1=negative`; other values "
        "have no label. Default: the labels themselves, 0 and 1, neg and pos.",
    )
    labels: list[str] | None = Field(
        None,
        description="Label texts the model answers with; they go to the output as they are. "
        "Default: what the model declares.",
    )
    template: str | None = Field(
        None,
        description="Prompt around the review, with `{text}` in it, or with the columns of "
        "--text-column, as '{title}. {body}'; default: the model's.",
    )
    max_source_tokens: int | None = Field(
        None, ge=2, description="Tokens read of each review, `</s>` included; default: the model's."
    )
    long_text: LongText | None = Field(
        None,
        description="What to read of a longer review: its head, both ends, or all of it.",
    )
    decode: Decode | None = Field(
        None,
        description="Score the label texts, or generate freely and reject other answers; default: "
        "the model's, else `labels`.",
    )
    num_beams: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Beams of --decode generate; default: the model's, else 1, which is greedy.",
    )
    max_new_tokens: int | None = Field(
        None,
        ge=1,
        le=512,
        description="Token limit of --decode generate; default: the model's, else 8.",
    )
    precision: Annotated[Precision, BeforeValidator(no_half)] = Field(
        "auto",
        description="auto: bf16 where the processor multiplies it natively, else fp32. int8: CPU.",
    )
    calibration: str | None = Field(
        None,
        description="Calibration file of `sentiment evaluate`, or none; default: the model's own.",
    )
    prefix: str = Field(
        "sentiment",
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        description="First word of the added columns.",
    )

    max_rejected: float = Field(
        0.01, ge=0, le=1, description="Fraction of rows that may be rejected before exit code 4."
    )
    group_by: list[str] = Field(
        [], description="Columns whose every combination gets its own rows in metrics.pq."
    )
    actors_min: int = Field(1, ge=1, description="Scoring actors to start with.")
    actors_max: int | None = Field(
        None, ge=1, description="Most scoring actors; default: what the cluster's devices allow."
    )
    gpus_per_actor: float | None = Field(
        None,
        ge=0,
        description="GPUs an actor holds, may be a fraction; default: 1 if there are any.",
    )
    cpus_per_actor: float | None = Field(
        None, ge=0.5, description="CPUs an actor holds; default: leaves room for reading."
    )
    batch_tokens: int | None = Field(
        None, ge=16, description="Token budget of a batch; default: 4096 on CPU, 65536 on GPU."
    )
    unit_rows: int | None = Field(
        None,
        ge=1,
        description="Most rows read and committed as one; default: 32768 GPU, 1024 CPU, fewer for "
        "a large model.",
    )
    ray_address: str | None = Field(
        None, description="Ray cluster to join; default: RAY_ADDRESS, else a local one is started."
    )
    no_progress_sec: int = Field(
        900, ge=60, description="Seconds without any finished task before the run is stopped."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Log lines as text, or as JSON objects with run id and unit."
    )
    quiet: bool = Field(False, description="No progress and no summary.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.sources:
            raise ValueError("SOURCE: is required; name files, folders or globs of reviews")
        problem = (
            template_problem(self.template, self.text_columns)
            or labels_problem(self.labels)
            or contradiction(
                self.decode,
                self.num_beams,
                self.long_text,
                prompt_of(self.template, self.text_columns),
            )
        )
        if problem is not None:
            raise ValueError(problem)
        if self.actors_max is not None and self.actors_max < self.actors_min:
            raise ValueError(
                f"--actors-max {self.actors_max} is less than --actors-min {self.actors_min}"
            )
        for name in self.text_columns:
            if self.label_column == name:
                raise ValueError(f"--label-column {name!r} is the --text-column")
            if name in self.group_by:
                raise ValueError(f"--group-by {name}: every text would be its own group")
        return self


class ScoreConfig(ScoringSettings):
    """Label reviews: read SOURCE files, folders or globs, write labelled Parquet below --output."""

    command: ClassVar[str] = "score"
    usage: ClassVar[str] = "SOURCE… --output PATH [options]"
    groups: ClassVar[Groups] = SCORE

    limit: int | None = Field(
        None,
        ge=1,
        description="Most rows to score in this run, for a trial; later runs score the rest.",
    )
    columns: list[str] | None = Field(
        None, description="Source columns that pass through to the output; default: all."
    )
    schema_drift: Literal["refuse", "widen", "text"] = Field(
        "widen",
        description="A column of several types: refuse it, widen it where safe, or make it text.",
    )
    on_deleted: Literal["keep", "retire"] = Field(
        "keep", description="What to do with the output of a source file that is gone."
    )
    on_change: Literal["refuse", "rescore"] = Field(
        "refuse", description="What to do when the output was made by another model or settings."
    )

    drift_runs: int = Field(
        7, ge=0, description="Earlier runs the labels are compared with; 0 compares with none."
    )
    drift_psi: float = Field(
        0.2, gt=0, description="Population stability index from which a distribution has drifted."
    )
    drift_share: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="Change of a label's share, or of the rejects', that is drift.",
    )
    on_drift: Literal["fail", "warn"] = Field(
        "fail", description="Drift ends in exit code 5, or in a warning; all rows are written."
    )
    accept_drift: bool = Field(
        False, description="Accept drift that was found: tonight begins a new baseline."
    )


class ReportConfig(JobConfig):
    """Write the page about a run, from the files of an output alone."""

    command: ClassVar[str] = "report"
    usage: ClassVar[str] = "OUTPUT [options]"
    groups: ClassVar[Groups] = REPORT
    positional: ClassVar[tuple[str, ...]] = ("output",)

    output: CliPositionalArg[str] = Field(
        description="Folder of labelled Parquet; local path or s3://… URI."
    )
    run: str | None = Field(None, description="Id of the run; default: the last one.")
    to: str | None = Field(
        None, description="Local file to write; default: report.html in the folder of the run."
    )
    nights: int = Field(365, ge=1, description="Most runs to show side by side.")


class VerifyConfig(SourceSettings):
    """Check an output from its files alone: every row once, nothing torn, nothing tampered with."""

    command: ClassVar[str] = "verify"
    usage: ClassVar[str] = "OUTPUT [options]"
    groups: ClassVar[Groups] = VERIFY
    positional: ClassVar[tuple[str, ...]] = ("output",)

    output: CliPositionalArg[str] = Field(
        description="Folder of labelled Parquet; local path or s3://… URI."
    )
    source: list[str] | None = Field(
        None, description="Files, folders or globs whose every row the output must account for."
    )
    deep: bool = Field(
        False, description="Read all rows and count again, instead of only the metadata."
    )
    quiet: bool = Field(False, description="No report, only the exit code.")


class ReplayConfig(JobConfig):
    """Score again what an output rejected, with the settings of the runs that made it."""

    command: ClassVar[str] = "replay"
    usage: ClassVar[str] = "OUTPUT [options]"
    groups: ClassVar[Groups] = REPLAY
    positional: ClassVar[tuple[str, ...]] = ("output",)

    output: CliPositionalArg[str] = Field(
        description="Folder of labelled Parquet; local path or s3://… URI."
    )
    transient: bool = Field(
        False, description="Only rows rejected for a reason that may pass, such as a crash."
    )
    max_rejected: float = Field(
        0.01, ge=0, le=1, description="Fraction of rows that may be rejected before exit code 4."
    )
    ray_address: str | None = Field(
        None, description="Ray cluster to join; default: RAY_ADDRESS, else a local one is started."
    )
    quiet: bool = Field(False, description="No progress and no summary.")


class ModelsConfig(JobConfig):
    """List the models with a name: labels, prompt, limits, and whether they are here."""

    command: ClassVar[str] = "models"
    usage: ClassVar[str] = "[options]"
    groups: ClassVar[Groups] = MODELS
