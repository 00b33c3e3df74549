"""`evaluate` honours or refuses every setting it accepts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sentiment.settings.evaluate import OF_THE_MODEL, EvaluateConfig
from sentiment.settings.jobs import ScoreConfig, ScoringSettings

# Where each setting has its effect. A new one fails the test until it stands here.
BY_SCORING = {
    "sources", "model", "revision", "model_sha256", "allow_pickle_weights", "text_column",
    "label_column", "label_map", "labels", "template", "max_source_tokens", "long_text", "decode",
    "num_beams", "max_new_tokens", "precision", "calibration", "prefix", "group_by", "actors_min",
    "actors_max", "gpus_per_actor", "cpus_per_actor", "batch_tokens", "unit_rows", "ray_address",
    "no_progress_sec", "log_format", "format", "ignore", "csv_delimiter", "csv_quote", "csv_escape",
    "csv_header", "encoding", "null_values", "where", "sample",
}  # fmt: skip
BY_EVALUATING = {
    "config", "output", "max_rejected", "quiet", "prediction_column", "score_column",
    "positive_label", "fit_calibration", "bootstrap", "parity_rows", "update_card", "mistakes",
    "show_text", "seed",
}  # fmt: skip

# Another value than the default for each setting that needs a model.
OTHER: dict[str, Any] = {
    "model": "other", "revision": "v2", "model_sha256": "0" * 64, "allow_pickle_weights": True,
    "template": "Review: {text}", "max_source_tokens": 99, "long_text": "windows",
    "decode": "generate", "num_beams": 1, "max_new_tokens": 9, "precision": "fp32",
    "calibration": "none", "max_rejected": 0.5, "group_by": ["shop"], "actors_min": 2,
    "actors_max": 3, "gpus_per_actor": 1.0, "cpus_per_actor": 2.0, "batch_tokens": 99,
    "unit_rows": 9, "ray_address": "auto", "no_progress_sec": 60, "fit_calibration": "c.json",
    "parity_rows": 5, "update_card": True,
}  # fmt: skip


def test_every_setting_is_honoured_somewhere() -> None:
    assert BY_SCORING.isdisjoint(BY_EVALUATING)
    assert EvaluateConfig.model_fields.keys() == BY_SCORING | BY_EVALUATING
    # What the evaluation hands on to scoring is what scoring has.
    assert ScoringSettings.model_fields.keys() >= BY_SCORING
    assert ScoreConfig.model_fields.keys() >= BY_SCORING


@pytest.mark.parametrize("name", sorted(ScoreConfig.model_fields.keys() - BY_SCORING))
def test_settings_that_an_evaluation_would_override_are_no_settings_of_it(name: str) -> None:
    if name in BY_EVALUATING:
        return
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        EvaluateConfig(sources=["a"], output="b", **{name: 1})


@pytest.mark.parametrize("name", OF_THE_MODEL)
def test_given_labels_refuse_what_needs_a_model(name: str) -> None:
    flag = name.replace("_", "-")
    with pytest.raises(ValidationError, match=f"--{flag} needs the model"):
        EvaluateConfig(sources=["a"], output="b", prediction_column="p", **{name: OTHER[name]})


def test_a_calibration_is_not_fitted_on_calibrated_scores() -> None:
    with pytest.raises(ValidationError, match="leave --calibration out"):
        EvaluateConfig(sources=["a"], output="b", fit_calibration="c", calibration="d.json")
    EvaluateConfig(sources=["a"], output="b", fit_calibration="c", calibration="none")
