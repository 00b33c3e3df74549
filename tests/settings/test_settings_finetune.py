"""Recipes: what a preset settles, and that everything said beside it wins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sentiment.errors import ConfigError
from sentiment.model.declaration import read_labels_file
from sentiment.settings.finetune import FinetuneConfig, _recipes
from sentiment.training.card import labels_json
from sentiment.training.dataset import target_texts

WORDS = ["--train", "t.parquet", "--output", "o"]


@pytest.mark.parametrize(
    ("preset", "model", "targets"),
    [
        ("t5-base-imdb", "google-t5/t5-base", ["negative", "positive"]),
        ("flan-t5-base-imdb", "google/flan-t5-base", ["0", "1"]),
    ],
)
def test_a_preset_is_the_published_recipe(preset: str, model: str, targets: list[str]) -> None:
    found = FinetuneConfig.load([*WORDS, "--preset", preset])
    assert found.model == model
    assert target_texts(found.label_texts) == targets
    assert (found.learning_rate, found.batch_rows, found.epochs, found.seed) == (3e-4, 8, 2, 42)
    assert (found.adam_beta1, found.adam_beta2, found.adam_epsilon) == (0.9, 0.999, 1e-8)
    assert (found.warmup_steps, found.weight_decay, found.max_source_tokens) == (0, 0.0, 512)
    # Either way of writing IMDB's labels finds its target.
    assert found.label_texts["0"] == found.label_texts["negative"] == targets[0]
    assert found.label_texts["1"] == found.label_texts["positive"] == targets[1]


def test_settings_win_over_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("preset: flan-t5-base-imdb\nepochs: 1\nmodel: here\n")
    found = FinetuneConfig.load([*WORDS, "--config", str(file), "--learning-rate", "0.001"])
    assert (found.model, found.epochs, found.learning_rate) == ("here", 1, 0.001)
    assert found.meanings == {"0": "negative", "1": "positive"}
    other = FinetuneConfig.load(
        [
            *WORDS,
            "--preset",
            "flan-t5-base-imdb",
            "--label-texts",
            "n=bad",
            "--label-texts",
            "p=good",
        ]
    )
    assert other.meanings == {}


def test_a_network_from_nothing_may_follow_a_recipe_too() -> None:
    found = FinetuneConfig(
        train=["t"], output="o", preset="t5-base-imdb", architecture={"d_model": 64}
    )
    assert found.model is None


def test_every_recipe_is_complete() -> None:
    names = FinetuneConfig.model_fields["preset"].annotation
    assert names is not None
    for name, recipe in _recipes().items():
        assert name in str(names)
        assert set(recipe) <= set(FinetuneConfig.model_fields)


def test_what_a_trained_model_answers_is_known_to_scoring(tmp_path: Path) -> None:
    config = FinetuneConfig(train=["t"], output="o", preset="flan-t5-base-imdb")
    (tmp_path / "labels.json").write_text(json.dumps(labels_json(config, ["0", "1"])))
    said = read_labels_file(tmp_path)
    assert said.labels == ("0", "1")
    assert said.meanings == ("negative", "positive")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--preset", "t5-large"], "--preset: input should be 't5-base-imdb'"),
        (["--model", "m", "--meanings", "maybe=neutral"], "--meanings maybe: is no target text"),
    ],
)
def test_mistakes_are_named(changes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FinetuneConfig.load([*WORDS, *changes])


def test_the_default_is_no_recipe() -> None:
    values: dict[str, Any] = {"train": ["t"], "output": "o", "model": "m"}
    assert FinetuneConfig(**values).label_texts == {"negative": "negative", "positive": "positive"}
