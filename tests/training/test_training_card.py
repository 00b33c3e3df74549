"""The papers of a finished model say what was measured and nothing of where it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard
from made_up_report import REPORT

from sentiment.model.readme import report_table
from sentiment.settings.finetune import ArchitectureConfig, FinetuneConfig
from sentiment.training.card import labels_json, model_card

RECORD: dict[str, Any] = {
    "history": [
        {
            "phase": "pooling",
            "epoch": 0.5,
            "step": 1234,
            "train_loss": 0.25,
            "validation_accuracy": 0.8,
        }
    ],
    "train_rows": 22500,
    "parameters": 4_300_000,
    "validation": REPORT,
    "test": None,
    "training_precision": "bf16",
    "cost": {
        "steps": 1234,
        "tokens": 9_876_543,
        "seconds": 654.3,
        "workers": 1,
        "device": "CPU, 2 threads",
        "peak_memory_mib": 1900,
    },
}


def config_of(tmp_path: Path, **changes: Any) -> FinetuneConfig:
    values: dict[str, Any] = {
        "train": [str(tmp_path / "secret" / "train.parquet")],
        "test": [str(tmp_path / "secret" / "test.parquet")],
        "output": str(tmp_path / "secret" / "out"),
        "architecture": ArchitectureConfig(d_model=128),
        "learning_rate": 1e-4,
        "long_text": "head_tail",
        **changes,
    }
    return FinetuneConfig(**values)


def test_labels_json_holds_what_scoring_needs(tmp_path: Path) -> None:
    assert labels_json(config_of(tmp_path), ["negative", "positive"]) == {
        "labels": ["negative", "positive"],
        "template": "{text}",
        "max_source_tokens": 512,
        "long_text": "head_tail",
    }


def test_the_card_has_report_history_and_settings(tmp_path: Path) -> None:
    card = model_card(config_of(tmp_path), RECORD, {"torch": "2.13"}, "mine")
    assert "4,300,000 parameters" in card
    assert "`negative`, `positive`" in card
    assert report_table(REPORT) in card
    assert "| pooling | 0.5 | 1,234 | 0.2500 | 0.8000 |" in card
    assert "test files" not in card
    assert "- torch 2.13" in card
    assert "- learning_rate: 0.0001" in card
    assert "1,234 steps over 9,876,543 tokens took 654 s" in card
    settings = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    assert settings == {
        "architecture": {"d_model": 128},
        "learning_rate": 1e-4,
        "long_text": "head_tail",
    }
    tested = model_card(config_of(tmp_path), {**RECORD, "test": REPORT}, {}, "mine")
    assert tested.count(report_table(REPORT)) == 2
    assert "test.parquet" in tested


def test_the_hub_can_read_the_card(tmp_path: Path) -> None:
    config = config_of(tmp_path, license="mit", data_notice="Reviews of our own.")
    front = ModelCard(model_card(config, {**RECORD, "test": REPORT}, {}, "mine")).data
    assert (front.license, front.model_name, front.base_model) == ("mit", "mine", None)
    assert {result.dataset_name for result in front.eval_results} == {"test.parquet"}
    config = config_of(tmp_path, architecture=None, model="google-t5/t5-base", test=[])
    front = ModelCard(model_card(config, RECORD, {}, "mine")).data
    assert front.base_model == "google-t5/t5-base"
    assert {result.dataset_name for result in front.eval_results} == {
        "rows held out of the training files"
    }


def test_no_path_of_the_training_machine_is_told(tmp_path: Path) -> None:
    base = tmp_path / "secret" / "my-base"
    base.mkdir(parents=True)
    config = config_of(tmp_path, architecture=None, model=str(base))
    card = model_card(config, RECORD, {}, "mine")
    assert "Trained from my-base" in card
    assert "model: my-base" in card
    assert "secret" not in card
    assert str(tmp_path) not in card


def test_a_hub_model_keeps_its_name(tmp_path: Path) -> None:
    config = config_of(tmp_path, architecture=None, model="google-t5/t5-base", revision="main")
    card = model_card(config, RECORD, {}, "mine")
    assert "Trained from google-t5/t5-base" in card
    assert "model: google-t5/t5-base\nrevision: main" in card
