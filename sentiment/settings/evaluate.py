"""The settings of the command `evaluate`."""

from __future__ import annotations

from typing import ClassVar, Final, Self

from pydantic import Field, model_validator

from sentiment.settings.flags import Groups
from sentiment.settings.headings import EVALUATE
from sentiment.settings.jobs import ScoringSettings

# Settings of an evaluation that have an effect only where a model scores the sources.
OF_THE_MODEL: Final = (
    "model", "revision", "model_sha256", "allow_pickle_weights", "template", "max_source_tokens",
    "long_text", "decode", "num_beams", "max_new_tokens", "precision", "calibration",
    "max_rejected", "group_by", "actors_min", "actors_max", "gpus_per_actor", "cpus_per_actor",
    "batch_tokens", "unit_rows", "ray_address", "no_progress_sec",
    "fit_calibration", "parity_rows", "update_card",
)  # fmt: skip


class EvaluateConfig(ScoringSettings):
    """Report how right the labels of a labelled source are: score it, or take scores it holds."""

    command: ClassVar[str] = "evaluate"
    usage: ClassVar[str] = "SOURCE… --output PATH [options]"
    groups: ClassVar[Groups] = EVALUATE

    output: str = Field(description="Folder of the evaluation; labelled rows go to scored/ in it.")
    label_column: str | None = Field("label", description="Column with true labels.")
    prediction_column: str | None = Field(
        None, description="Column with labels that are there already; no model is used."
    )
    score_column: str | None = Field(
        None, description="Column with the probability of the label in --prediction-column."
    )
    positive_label: str | None = Field(
        None,
        description="Label that ranking figures are about; default: `positive`, else the last.",
    )
    fit_calibration: str | None = Field(
        None, description="Fit a temperature on these rows and write it to this file."
    )
    bootstrap: int = Field(
        1000, ge=0, le=100_000, description="Resamples behind the confidence intervals; 0 for none."
    )
    parity_rows: int = Field(
        0,
        ge=0,
        description="Rows, drawn at random, to generate for as model cards do, greedily and with "
        "beams; adds loss and generated length. 0 for none.",
    )
    update_card: bool = Field(
        False, description="Put the figures into the README of the model's folder too."
    )
    mistakes: int = Field(20, ge=0, description="Most confident mistakes to list, by file and row.")
    show_text: bool = Field(False, description="Write the text of those mistakes to the report.")
    seed: int = Field(42, description="Seeds the resampling.")

    @model_validator(mode="after")
    def _evaluable(self) -> Self:
        if self.label_column is None:
            raise ValueError("--label-column: is required; name the column with true labels")
        if self.score_column and not self.prediction_column:
            raise ValueError("--score-column needs --prediction-column")
        if self.fit_calibration and self.calibration not in (None, "none"):
            raise ValueError(
                "--fit-calibration fits the model's own scores; leave --calibration out"
            )
        if self.prediction_column:
            self._refuse_settings_of_the_model()
        return self

    def _refuse_settings_of_the_model(self) -> None:
        """With labels that are there already nothing is scored, so these would have no effect."""
        for name in OF_THE_MODEL:
            field = type(self).model_fields[name]
            if getattr(self, name) != field.get_default(call_default_factory=True):
                flag = name.replace("_", "-")
                raise ValueError(
                    f"--{flag} needs the model; labels of --prediction-column name none"
                )
