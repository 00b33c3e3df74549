"""The fine-tune job: labelled files to a model folder, and on from where it stopped."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import ray.train
import tiny_models
import torch
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
from transformers import AutoTokenizer, T5ForConditionalGeneration

from sentiment.block import DETAIL, LABEL, REASON, SCORE, STAGE
from sentiment.engine.scorer import ScorerPlan
from sentiment.errors import ConfigError, ModelError, SentimentError, SourceError
from sentiment.model.find import find_model
from sentiment.scoring.actor import Scorer
from sentiment.scoring.stages import tokenise_block
from sentiment.settings.finetune import ArchitectureConfig, FinetuneConfig
from sentiment.training import job
from sentiment.training.dataset import TokenRows
from sentiment.training.job import finetune
from sentiment.training.loop import phases

# Wide embeddings and high rates: a few hundred steps of a network this small are enough.
SHAPE = ArchitectureConfig(
    vocab_size=400,
    d_model=32,
    d_kv=8,
    d_ff=32,
    encoder_layers=1,
    local_heads=False,
    embedding_std=0.5,
    pooling_epochs=1,
    pooling_dropout=0.0,
    pooling_learning_rate=1e-2,
)
SHORT = {"negative": "bad", "positive": "good"}
FINISHED = {
    "README.md",
    "config.json",
    "generation_config.json",
    "labels.json",
    "model.safetensors",
    "spiece.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "training.json",
}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few hundred reviews in which one word tells the label, so that little training shows."""
    frame = pd.DataFrame(tiny_models.example_reviews())[["text", "label"]].dropna()
    frame = frame[frame["label"].isin(["negative", "positive"])]
    frame["text"] += frame["label"].map({"negative": " awful", "positive": " great"})
    path = tmp_path_factory.mktemp("labelled") / "reviews.parquet"
    frame.to_parquet(path, index=False)
    return path


def config_of(labelled: Path, output: Path, **changes: Any) -> FinetuneConfig:
    values: dict[str, Any] = {
        "train": [str(labelled)],
        "output": str(output),
        "architecture": SHAPE,
        "max_source_tokens": 48,
        "long_text": "head_tail",
        "label_texts": SHORT,
        "epochs": 4,
        "warmup_steps": 20,
        "learning_rate": 1e-2,
        "precision": "fp32",
        "cpus_per_worker": 1,
        **changes,
    }
    return FinetuneConfig(**values)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def without_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: Any) -> None:
        raise AssertionError("reached the cluster")

    monkeypatch.setattr(job, "connect", connect)


@pytest.mark.ray
@pytest.mark.slow
def test_a_small_t5_is_trained_from_nothing_and_scores(
    labelled: Path, tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model"
    config = config_of(labelled, output, test=[str(labelled)])
    summary = finetune(config)

    assert summary.folder == output
    assert {path.name for path in output.iterdir()} == {*FINISHED, "_training"}
    assert len({(output / name).stat().st_mode for name in ("README.md", "model.safetensors")}) == 1
    tokenizer = AutoTokenizer.from_pretrained(str(output))
    network = T5ForConditionalGeneration.from_pretrained(str(output))
    assert len(tokenizer) == network.config.vocab_size == 400
    record = json.loads((output / "training.json").read_text())
    assert {line["phase"] for line in record["history"]} == {"pooling", "finetune"}
    assert record["history"][-1]["step"] == record["history"][-1]["steps"]
    assert summary.test is not None
    assert summary.test["accuracy"] > 0.9
    assert str(tmp_path) not in (output / "README.md").read_text()

    model = find_model(str(output))
    assert (model.labels, model.max_source_tokens) == (("bad", "good"), 48)
    tokeniser = model.tokeniser()
    scorer = Scorer(ScorerPlan(model, tokeniser, precision="fp32", batch_tokens=1024, threads=1))
    frame = pd.read_parquet(labelled)
    nothing = pa.nulls(len(frame), pa.string())
    block = pa.table(
        {"text": pa.array(frame["text"]), STAGE: nothing, REASON: nothing, DETAIL: nothing}
    )
    out = scorer(tokenise_block(block, tokeniser))
    right = np.array(out.column(LABEL).to_pylist()) == frame["label"].map(SHORT).to_numpy()
    assert right.mean() == pytest.approx(summary.test["accuracy"], abs=1e-6)
    assert out.column(SCORE).null_count == 0

    # Interrupted before the end, the same command goes on from the last checkpoint.
    weights, history = sha256(output / "model.safetensors"), record["history"]
    (output / "_training" / "finished" / "training.json").unlink()
    (output / "model.safetensors").unlink()
    assert finetune(config) == summary
    assert sha256(output / "model.safetensors") == weights
    assert json.loads((output / "training.json").read_text())["history"] == history

    # Once it is done, only the folder is put together again.
    without_training(monkeypatch)
    (output / "model.safetensors").unlink()
    assert finetune(config) == summary
    assert sha256(output / "model.safetensors") == weights

    # Other settings may not mix with it; those that change no result may.
    with pytest.raises(ConfigError, match="learning_rate"):
        finetune(config_of(labelled, output, learning_rate=1e-4))
    assert finetune(config_of(labelled, output, test=[str(labelled)], checkpoint_steps=7))


@pytest.mark.ray
@pytest.mark.slow
def test_an_existing_t5_learns_labels_it_did_not_know(
    labelled: Path, tiny_flan: Path, tmp_path: Path, local_ray: None
) -> None:
    """The settings of the published recipes: rows of 8, one epoch, `0` and `1` for labels."""
    config = config_of(
        labelled,
        tmp_path / "model",
        architecture=None,
        model=str(tiny_flan),
        label_texts={"negative": "0", "positive": "1"},
        batch_rows=8,
        epochs=1,
        warmup_steps=0,
        learning_rate=3e-3,
        checkpoint_steps=12,
        save_precision="bf16",
    )
    summary = finetune(config)
    record = json.loads((summary.folder / "training.json").read_text())
    losses = [line["train_loss"] for line in record["history"]]
    assert len(losses) >= 3
    assert losses[-1] < 0.5 * losses[0]
    model = find_model(str(summary.folder))
    assert model.labels == ("0", "1")
    tensors = T5ForConditionalGeneration.from_pretrained(str(summary.folder), dtype="auto")
    assert tensors.dtype == torch.bfloat16
    assert not torch.equal(tensors.lm_head.weight, tensors.shared.weight)
    assert tiny_flan.name in (summary.folder / "README.md").read_text()
    assert str(tiny_flan.parent) not in (summary.folder / "README.md").read_text()


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_stop_together_and_keep_the_best_weights(
    labelled: Path, tmp_path: Path, local_ray: None
) -> None:
    """Each step's gradient is the mean over workers; the first one decides when to stop."""
    config = config_of(
        labelled,
        tmp_path / "model",
        workers=2,
        cpus_per_worker=0.5,
        epochs=30,
        checkpoint_steps=5,
        early_stopping_patience=2,
        gradient_accumulation_steps=2,
        gradient_checkpointing=True,
    )
    summary = finetune(config)
    record = json.loads((summary.folder / "training.json").read_text())
    accuracies = [
        line["validation_accuracy"] for line in record["history"] if line["phase"] == "finetune"
    ]
    last = record["history"][-1]
    assert last["step"] < last["steps"]
    assert accuracies[-3] == max(accuracies)
    assert accuracies[-3] not in accuracies[:-3]
    assert summary.validation["accuracy"] == accuracies[-3]
    assert record["cost"]["workers"] == 2


def test_a_teachers_confidence_reaches_the_training_rows_alone(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_training(monkeypatch)
    frame = pd.read_parquet(labelled)
    taught = tmp_path / "taught.parquet"
    frame.assign(sure=0.75).to_parquet(taught)
    config = config_of(taught, tmp_path / "o", validation=[str(labelled)], confidence_column="sure")
    with pytest.raises(AssertionError, match="reached the cluster"):
        finetune(config)
    data = tmp_path / "o" / "_training" / "data"
    assert set(TokenRows.load(data / "train").confidence) == {0.75}
    assert set(TokenRows.load(data / "validation").confidence) == {1.0}


@pytest.mark.parametrize("patience", [None, 3])
def test_validations_may_move_unless_they_decide_the_end(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int | None
) -> None:
    without_training(monkeypatch)

    def start(steps: int) -> None:
        finetune(
            config_of(
                labelled, tmp_path / "o", early_stopping_patience=patience, checkpoint_steps=steps
            )
        )

    with pytest.raises(AssertionError, match="reached the cluster"):
        start(10)
    moved = AssertionError if patience is None else ConfigError
    with pytest.raises(moved, match="cluster" if patience is None else "checkpoint_steps"):
        start(20)


def test_a_broken_base_stops_before_any_work(
    labelled: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_training(monkeypatch)
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text((tiny_model / "config.json").read_text())
    (base / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelError, match="cannot be loaded"):
        finetune(config_of(labelled, tmp_path / "o", architecture=None, model=str(base)))
    assert not (tmp_path / "o" / "_training" / "data").exists()


def test_a_mistyped_path_may_be_corrected(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_training(monkeypatch)
    with pytest.raises(SourceError):
        finetune(config_of(tmp_path / "missing.parquet", tmp_path / "o"))
    with pytest.raises(AssertionError, match="reached the cluster"):
        finetune(config_of(labelled, tmp_path / "o"))


def test_no_labelled_text_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_training(monkeypatch)
    path = tmp_path / "a.csv"
    path.write_text("text,label\n,positive\n")
    with pytest.raises(SourceError, match="no labelled texts"):
        finetune(config_of(path, tmp_path / "o"))
    path.write_text("text,label\nfine,positive\n")
    with pytest.raises(SourceError, match="too few"):
        finetune(config_of(path, tmp_path / "o"))


def test_a_workers_own_error_is_told_in_its_words(tmp_path: Path) -> None:
    def failed(*causes: Exception) -> SentimentError:
        failures: dict[int, Exception] = {
            rank: UserExceptionWithTraceback(cause, "Traceback …")
            for rank, cause in enumerate(causes)
        }
        return job._training_error(ray.train.WorkerGroupError("boom", failures), tmp_path)

    known = failed(KeyError("x"), ModelError("weights are torn"))
    assert isinstance(known, ModelError)
    assert str(known) == "weights are torn"
    unknown = failed(KeyError("x"), MemoryError())
    assert type(unknown) is SentimentError
    assert "KeyError, MemoryError" in str(unknown)
    assert str(tmp_path) in str(unknown)


@pytest.mark.parametrize(
    ("nodes", "workers", "each"),
    [
        ([2], 1, 1),
        ([1], 1, 1),
        ([16], 1, 15),
        ([16], 4, 3),
        ([8, 8], 1, 7),
        ([8, 8], 2, 7),
        ([8, 8], 3, 3),
        ([0, 8], 2, 3),
        ([4], 8, 1),
    ],
)
def test_no_worker_asks_for_more_than_a_node_has(
    nodes: list[float], workers: int, each: float
) -> None:
    assert job._cpus_each(nodes, workers) == each


def test_phases_follow_the_architecture(labelled: Path, tmp_path: Path) -> None:
    pooling, main = phases(config_of(labelled, tmp_path))
    assert (pooling.name, pooling.pooling, pooling.epochs) == ("pooling", True, 1)
    assert (main.name, main.pooling, main.epochs) == ("finetune", False, 4)
    assert main.embedding_learning_rate == main.learning_rate == 1e-2
    (only,) = phases(config_of(labelled, tmp_path, architecture=None, model="m"))
    assert not only.pooling
