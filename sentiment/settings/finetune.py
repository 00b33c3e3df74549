"""The settings of `sentiment finetune`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from sentiment.settings.choices import PLAIN_TEMPLATE, prompt_of, template_problem
from sentiment.settings.flags import Groups
from sentiment.settings.headings import FINETUNE
from sentiment.settings.load import no_half
from sentiment.settings.sources import SourceSettings

_RECIPES_FILE = Path(__file__).with_name("recipes.yaml")

TrainingPrecision = Annotated[Literal["auto", "fp32", "bf16"], BeforeValidator(no_half)]


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
        True,
        description="Start three encoder heads on the previous token, the next and the one two "
        "back.",
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


class FinetuneConfig(SourceSettings):
    """Fine-tune a T5 that answers with a label, from a folder, a hub id or an architecture."""

    command: ClassVar[str] = "finetune"
    usage: ClassVar[str] = "--train SOURCE --output PATH [options]"
    groups: ClassVar[Groups] = FINETUNE

    preset: Literal["t5-base-imdb", "flan-t5-base-imdb"] | None = Field(
        None, description="Recipe of a published model; every setting given here wins over it."
    )
    train: list[str] = Field(min_length=1, description="Labelled files, folders or globs.")
    validation: list[str] = Field([], description="Held-out labelled files; default: a split.")
    test: list[str] = Field([], description="Labelled files reported on once, at the end.")
    output: str = Field(description="Local folder for checkpoints and the finished model.")

    model: str | None = Field(None, description="Model to start from, as for `score`.")
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    allow_pickle_weights: bool = Field(
        False, description="Accept weights in .bin files; they are read without running code."
    )
    architecture: ArchitectureConfig | None = Field(
        None, description="Train this network from nothing instead of --model."
    )
    label_column: str = Field("label", description="Column that holds the true label.")
    confidence_column: str | None = Field(
        None,
        description="Column of --train with the probability that the label is right, as a teacher "
        "gives it; what is missing to 1 goes to the other labels.",
    )
    label_texts: dict[str, str] = Field(
        {"negative": "negative", "positive": "positive"},
        description="Target text for each value of the label column.",
    )
    meanings: dict[str, str] = Field(
        {}, description="What the output calls each target text; default: the text itself."
    )
    template: str = Field(
        "{text}",
        description="Prompt around the review, with `{text}` in it, or with the columns of "
        "--text-column, as '{title}. {body}'.",
    )
    max_source_tokens: int = Field(512, ge=2, description="Source limit in tokens, with `</s>`.")
    long_text: Literal["head", "head_tail"] = Field(
        "head", description="What to keep of a longer review."
    )
    validation_fraction: float = Field(
        0.1, gt=0, lt=1, description="Part of --train held out when --validation is not given."
    )

    epochs: float = Field(2, gt=0, description="Passes over the training data.")
    batch_rows: int | None = Field(8, ge=1, description="Rows per step and worker.")
    batch_tokens: int | None = Field(
        None, ge=16, description="Padded tokens per step and worker; replaces --batch-rows."
    )
    length_grouped: bool = Field(
        True, description="Batches of reviews of similar length; without, plain shuffled ones."
    )
    gradient_accumulation_steps: int = Field(
        1,
        ge=1,
        description="Pieces that a batch is computed in, one after another: less memory and "
        "padding, the same gradient.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations twice instead of keeping them: less memory, slower."
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
    seed: int = Field(
        42, description="Seeds initialisation, split, order and a vocabulary's sample."
    )
    precision: TrainingPrecision = Field(
        "auto", description="bf16 means autocast over fp32 weights."
    )
    save_precision: Literal["fp32", "bf16"] = Field("fp32", description="Of the saved weights.")
    license: str | None = Field(
        None, description="Licence of the weights, for the model card: a hub identifier."
    )
    data_notice: str | None = Field(
        None, description="Origin and terms of the training data, for the model card."
    )
    workers: int = Field(1, ge=1, description="Data-parallel training workers.")
    cpus_per_worker: float | None = Field(
        None, gt=0, description="CPUs a worker holds; default: an equal share of the machine."
    )
    checkpoint_steps: int = Field(
        500, ge=1, description="Steps between validations, each with a checkpoint."
    )
    early_stopping_patience: int | None = Field(
        None,
        ge=1,
        description="Stop after so many validations without a better accuracy, and keep the best "
        "weights instead of the last.",
    )
    ray_address: str | None = Field(
        None, description="Ray cluster to join; default: RAY_ADDRESS, else a local one is started."
    )

    @model_validator(mode="before")
    @classmethod
    def _follow_recipe(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("preset"), str):
            return values
        recipe = dict(_recipes().get(values["preset"], {}))
        if values.get("architecture") is not None:
            recipe.pop("model", None)
        if "label_texts" in values:
            recipe.pop("meanings", None)
        return {**recipe, **values}

    @property
    def prompt(self) -> str:
        """Prompt of the model."""
        return prompt_of(self.template, self.text_columns) or PLAIN_TEMPLATE

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.model is None) == (self.architecture is None):
            raise ValueError("give either --model or --architecture (in the YAML file)")
        problem = template_problem(self.template, self.text_columns)
        if problem is not None:
            raise ValueError(problem)
        if len(set(self.label_texts.values())) < 2:
            raise ValueError("--label-texts needs two or more different target texts")
        unknown = sorted(set(self.meanings) - set(self.label_texts.values()))
        if unknown:
            raise ValueError(f"--meanings {unknown[0]}: is no target text of --label-texts")
        return self


@cache
def _recipes() -> dict[str, dict[str, Any]]:
    """Settings of each preset."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(_RECIPES_FILE.read_text(encoding="utf-8"))
    return found
