"""The settings of every job: one documented model for the CLI, YAML, environment and Python.

Knows no file format, no model and no cluster: what depends on those is resolved where it is known.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_settings import CliPositionalArg

from sentiment.settings import JobConfig

LongText = Literal["head", "head_tail"]


def _no_half(value: Any) -> Any:
    if value in ("fp16", "float16", "half"):
        raise ValueError(f"--precision {value}: T5's activations overflow it; use bf16 or fp32")
    return value


Precision = Annotated[Literal["auto", "fp32", "bf16", "int8"], BeforeValidator(_no_half)]
TrainingPrecision = Annotated[Literal["auto", "fp32", "bf16"], BeforeValidator(_no_half)]


class ScoreConfig(JobConfig):
    """Label reviews: read SOURCE files, folders or globs, write labelled Parquet below --output."""

    command: ClassVar[str] = "score"
    positional: ClassVar[tuple[str, ...]] = ("sources",)

    # Not required of the command line, because the YAML file may name them.
    sources: CliPositionalArg[list[str]] = Field(
        [],
        description="Files, folders or globs, one or more: Parquet, CSV, TSV, JSON Lines; local or "
        "s3://…",
    )
    output: str = Field(description="Folder of labelled Parquet; local path or s3://… URI.")

    model: str = Field("builtin", description="`builtin`, a transformers folder, or a hub id.")
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    model_sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="Digest the model must have, as `run.json` shows it; anything else is refused.",
    )
    allow_pickle_weights: bool = Field(
        False, description="Accept weights in .bin files; they are read without running code."
    )
    text_column: str = Field("text", min_length=1, description="Column that holds the review.")
    label_column: str | None = Field(
        None, description="Column with true labels; adds accuracy and a confusion matrix."
    )
    labels: list[str] | None = Field(
        None, description="Label texts the model answers with; default: what the model declares."
    )
    template: str | None = Field(
        None, description="Prompt around the review, with `{text}` in it; default: the model's."
    )
    max_source_tokens: int | None = Field(
        None, ge=2, description="Tokens read of each review, `</s>` included; default: the model's."
    )
    long_text: LongText | None = Field(
        None, description="What to keep of a longer review: its `head`, or `head_tail`."
    )
    decode: Literal["labels", "generate"] = Field(
        "labels", description="Score the label texts, or generate freely and reject other answers."
    )
    num_beams: int = Field(1, ge=1, le=64, description="Beams of --decode generate; 1 is greedy.")
    max_new_tokens: int = Field(8, ge=1, le=512, description="Token limit of --decode generate.")
    precision: Precision = Field(
        "auto",
        description="auto: bf16 where the processor multiplies it natively, else fp32. int8: CPU.",
    )
    prefix: str = Field(
        "sentiment",
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        description="First word of the added columns.",
    )

    max_rejected: float = Field(
        0.01, ge=0, le=1, description="Fraction of rows that may be rejected before exit code 4."
    )
    on_deleted: Literal["keep", "retire"] = Field(
        "keep", description="What to do with the output of a source file that is gone."
    )
    on_change: Literal["refuse", "rescore"] = Field(
        "refuse", description="What to do when the output was made by another model or settings."
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
    quiet: bool = Field(False, description="No progress and no summary.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.sources:
            raise ValueError("SOURCE: is required; name files, folders or globs of reviews")
        if self.template is not None and self.template.count("{text}") != 1:
            raise ValueError(f"--template must hold {{text}} exactly once, got {self.template!r}")
        if self.labels is not None and len(set(self.labels)) < max(2, len(self.labels)):
            raise ValueError(f"--labels needs two or more different texts, got {self.labels}")
        if self.actors_max is not None and self.actors_max < self.actors_min:
            raise ValueError(
                f"--actors-max {self.actors_max} is less than --actors-min {self.actors_min}"
            )
        if self.decode == "labels" and self.num_beams != 1:
            raise ValueError(f"--num-beams {self.num_beams} needs --decode generate")
        if self.label_column == self.text_column:
            raise ValueError(f"--label-column {self.label_column!r} is the --text-column")
        return self


class VerifyConfig(JobConfig):
    """Check an output from its files alone: every row once, nothing torn, nothing tampered with."""

    command: ClassVar[str] = "verify"
    positional: ClassVar[tuple[str, ...]] = ("output",)

    output: CliPositionalArg[str] = Field(
        description="Folder of labelled Parquet; local path or s3://… URI."
    )
    source: list[str] | None = Field(
        None, description="Files, folders or globs whose every row the output must account for."
    )
    text_column: str = Field("text", min_length=1, description="Column that holds the review.")
    deep: bool = Field(
        False, description="Read all rows and count again, instead of only the metadata."
    )
    quiet: bool = Field(False, description="No report, only the exit code.")


class ReplayConfig(JobConfig):
    """Score again what an output rejected, with the settings of the runs that made it."""

    command: ClassVar[str] = "replay"
    positional: ClassVar[tuple[str, ...]] = ("output",)

    output: CliPositionalArg[str] = Field(
        description="Folder of labelled Parquet; local path or s3://… URI."
    )
    max_rejected: float = Field(
        0.01, ge=0, le=1, description="Fraction of rows that may be rejected before exit code 4."
    )
    ray_address: str | None = Field(
        None, description="Ray cluster to join; default: RAY_ADDRESS, else a local one is started."
    )
    quiet: bool = Field(False, description="No progress and no summary.")


class ArchitectureConfig(BaseModel):
    """A small T5 trained from nothing, with a SentencePiece vocabulary of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocab_size: int = Field(8000, ge=64, description="Pieces of the unigram vocabulary.")
    d_model: int = Field(256, ge=8, description="Width of the residual stream.")
    d_kv: int = Field(64, ge=4, description="Width of an attention head.")
    d_ff: int = Field(768, ge=8, description="Width of the feed-forward layer.")
    encoder_layers: int = Field(2, ge=1, description="Encoder blocks.")
    decoder_layers: int = Field(1, ge=1, description="Decoder blocks.")
    heads: int = Field(4, ge=1, description="Attention heads.")
    feed_forward: Literal["relu", "gated-gelu"] = Field("relu", description="Feed-forward kind.")
    local_heads: bool = Field(
        True, description="Start three encoder heads on the previous, next and next-but-one token."
    )
    embedding_std: float = Field(0.05, gt=0, description="Spread of the initial embeddings.")
    pooling_epochs: float = Field(
        0,
        ge=0,
        description="Epochs trained first with the encoder blocks bypassed and uniform attention: "
        "a bag of words inside the T5 that gives the embeddings their meaning cheaply.",
    )
    pooling_dropout: float = Field(0.3, ge=0, lt=1, description="Dropout of those epochs.")
    pooling_learning_rate: float = Field(5e-4, gt=0, description="Learning rate of those epochs.")
    pooling_embedding_learning_rate: float = Field(
        1e-2, gt=0, description="Embedding learning rate of those epochs."
    )


class FinetuneConfig(JobConfig):
    """Fine-tune a T5 that answers with a label, from a folder, a hub id or an architecture."""

    command: ClassVar[str] = "finetune"

    train: list[str] = Field(min_length=1, description="Labelled files, folders or globs.")
    validation: list[str] = Field([], description="Held-out labelled files; default: a split.")
    test: list[str] = Field([], description="Labelled files reported on once, at the end.")
    output: str = Field(description="Local folder for checkpoints and the finished model.")

    model: str | None = Field(None, description="Folder or hub id to start from.")
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    allow_pickle_weights: bool = Field(
        False, description="Accept weights in .bin files; they are read without running code."
    )
    architecture: ArchitectureConfig | None = Field(
        None, description="Train this network from nothing instead of --model."
    )
    text_column: str = Field("text", description="Column that holds the review.")
    label_column: str = Field("label", description="Column that holds the true label.")
    label_texts: dict[str, str] = Field(
        {"negative": "negative", "positive": "positive"},
        description="Target text for each value of the label column.",
    )
    template: str = Field("{text}", description="Prompt around the review, with `{text}` in it.")
    max_source_tokens: int = Field(512, ge=2, description="Source limit in tokens, with `</s>`.")
    long_text: LongText = Field("head", description="What to keep of a longer review.")
    validation_fraction: float = Field(
        0.1, gt=0, lt=1, description="Part of --train held out when --validation is not given."
    )

    epochs: float = Field(2, gt=0, description="Passes over the training data.")
    batch_rows: int | None = Field(8, ge=1, description="Rows per step and worker.")
    batch_tokens: int | None = Field(
        None, ge=16, description="Padded tokens per step and worker; replaces --batch-rows."
    )
    learning_rate: float = Field(3e-4, gt=0, description="Peak; falls linearly to 0.")
    embedding_learning_rate: float | None = Field(
        None, gt=0, description="Peak for the embedding; default: --learning-rate."
    )
    warmup_steps: int = Field(0, ge=0, description="Steps of linear rise to the peak.")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="Adam: decay of the mean.")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="Adam: decay of the variance.")
    adam_epsilon: float = Field(1e-8, gt=0, description="Adam: added to the denominator.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout in all layers.")
    seed: int = Field(42, description="Seeds initialisation, split and order.")
    precision: TrainingPrecision = Field(
        "auto", description="bf16 means autocast over fp32 weights."
    )
    save_precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the saved weights.")
    data_notice: str | None = Field(
        None, description="Origin and terms of the training data, for the model card."
    )
    workers: int = Field(1, ge=1, description="Data-parallel training workers.")
    cpus_per_worker: float | None = Field(None, gt=0, description="Default: shares the machine.")
    checkpoint_steps: int = Field(
        500, ge=1, description="Steps between validations, each with a checkpoint."
    )
    ray_address: str | None = Field(None, description="As for `sentiment score`.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.model is None) == (self.architecture is None):
            raise ValueError("give either --model or --architecture (in the YAML file)")
        if self.template.count("{text}") != 1:
            raise ValueError(f"--template must hold {{text}} exactly once, got {self.template!r}")
        if len(set(self.label_texts.values())) < 2:
            raise ValueError("--label-texts needs two or more different target texts")
        return self
