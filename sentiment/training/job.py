"""The command `sentiment finetune`: from labelled files to a model folder, resumable, on Ray Train.

OUTPUT/
  config.json model.safetensors tokenizer.json …   the model, usable as `--model OUTPUT`
  labels.json README.md training.json               its labels, its card, the record of training
  _training/                                        token rows and checkpoints; may be deleted
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ray
import torch
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from sentiment.cluster import connect
from sentiment.errors import ConfigError, SentimentError, SourceError
from sentiment.model.find import Model, find_model
from sentiment.model.load import load_network
from sentiment.model.locate import TOKENIZER_FILES
from sentiment.model.tokenizer import Tokeniser
from sentiment.output.folder import Output
from sentiment.output.lease import hold
from sentiment.settings.finetune import FinetuneConfig
from sentiment.source.settings import read_options
from sentiment.training.card import labels_json, model_card
from sentiment.training.dataset import (
    LabelledTexts,
    TokenRows,
    read_labelled,
    split_off,
    target_texts,
)
from sentiment.training.history import follow_history
from sentiment.training.loop import LoopPlan, train_worker
from sentiment.training.vocabulary import train_vocabulary

_PACKAGES = ("sentiment", "torch", "transformers", "ray", "sentencepiece")
_MAX_WORKER_FAILURES = 3


@dataclass(frozen=True)
class FinetuneSummary:
    """The result of a fine-tune job.

    Attributes:
        folder: The finished model.
        validation: Classification report on the held-out rows.
        test: The same on the test files, if there were any.
    """

    folder: Path
    validation: dict[str, Any]
    test: dict[str, Any] | None


def finetune(config: FinetuneConfig) -> FinetuneSummary:
    """Run the job. The same command after an interruption goes on from the last checkpoint.

    Raises:
        ConfigError: Settings that contradict what an interrupted run in this output used.
        SourceError: No data, or labels without a target text.
        ModelError: The model to start from cannot be loaded.
        OutputError: Another job trains into this output.
        SentimentError: Training failed more often than it may.
    """
    output = Path(config.output).expanduser().resolve()
    work = output / "_training"
    with hold(Output.open(str(work)), f"training of {output.name}"):
        _refuse_other_settings(work, config)
        plan, labels = _prepare(config, work)
        # Training leaves this file last: a job that has it only puts the model folder together.
        if not (plan["finished"] / "training.json").exists():
            _train(config, plan, work)
        summary = _finish(config, output, plan["finished"], labels)
    print(_summary_lines(summary))
    return summary


def _train(config: FinetuneConfig, plan: dict[str, Any], work: Path) -> None:
    """Run the training workers to their end, and print every validation."""
    with connect(config.ray_address) as cluster:
        gpus = cluster.gpus >= config.workers
        # Workers share all cores as threads; Ray is asked for one core less.
        threads = max(1, int(config.cpus_per_worker or cluster.cpus / config.workers))
        cpus = config.cpus_per_worker or _cpus_each(cluster.node_cpus, config.workers)
        trainer = TorchTrainer(
            train_worker,
            train_loop_config={"plan": LoopPlan(**plan, threads=threads)},
            scaling_config=ScalingConfig(
                num_workers=config.workers,
                use_gpu=gpus,
                resources_per_worker={"CPU": cpus, **({"GPU": 1.0} if gpus else {})},
            ),
            run_config=RunConfig(
                name="checkpoints",
                storage_path=str(work),
                checkpoint_config=CheckpointConfig(num_to_keep=2),
                failure_config=FailureConfig(max_failures=_MAX_WORKER_FAILURES),
            ),
        )
        try:
            with follow_history(plan["history"]):
                trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise _training_error(error, work) from error


def _summary_lines(summary: FinetuneSummary) -> str:
    lines = [f"model                {summary.folder}"]
    for name, report in (("validation", summary.validation), ("test", summary.test)):
        if report:
            rows = int(report["weighted avg"]["support"])
            lines.append(f"{name + ' accuracy':<20} {report['accuracy']:.4f} on {rows:,} rows")
    return "\n".join(lines)


def _cpus_each(nodes: Sequence[float], workers: int) -> float:
    """Return the CPUs of each worker, so that all fit. A worker cannot span nodes.

    Args:
        nodes: CPUs of each node. One of them stays free, for whatever waits for the workers.
        workers: Workers to place.
    """
    free = [max(0, int(cpus) - 1) for cpus in nodes]
    shares = {cpus // count for cpus in free for count in range(1, workers + 1)}
    fitting = [n for n in shares if n > 0 and sum(cpus // n for cpus in free) >= workers]
    return float(max(fitting, default=1))


def _training_error(error: ray.train.TrainingFailedError, work: Path) -> SentimentError:
    """Return the error that the failed worker raised itself, if there is one."""
    failures = getattr(error, "worker_failures", {})
    for failure in failures.values():
        cause = getattr(failure, "_base_exc", failure)
        if isinstance(cause, SentimentError):
            return cause
    causes = sorted({type(getattr(f, "_base_exc", f)).__name__ for f in failures.values()})
    return SentimentError(
        f"training failed ({', '.join(causes) or type(error).__name__}); checkpoints are kept in "
        f"{work}, the same command goes on from them"
    )


def _refuse_other_settings(work: Path, config: FinetuneConfig) -> None:
    """Refuse to continue an interrupted run with other settings.

    Until its data is prepared a run has nothing to continue: a mistyped path may be corrected.
    """
    work.mkdir(parents=True, exist_ok=True)
    marker = work / "config.json"
    free = {
        "config",
        "output",
        "ray_address",
        "allow_pickle_weights",
        "cpus_per_worker",
        "data_notice",
        "license",
    }
    if config.early_stopping_patience is None:
        free.add("checkpoint_steps")
    settings = config.model_dump(mode="json", exclude=free)
    if not (work / "data").exists():
        marker.write_text(json.dumps(settings, indent=1))
        return
    before = json.loads(marker.read_text())
    changed = sorted(name for name in settings if settings[name] != before.get(name))
    if changed:
        raise ConfigError(
            f"--output {config.output}: holds a run with other settings "
            f"({', '.join(changed)}); use another folder or delete {work}"
        )


def _prepare(config: FinetuneConfig, work: Path) -> tuple[dict[str, Any], list[str]]:
    """Read, split and tokenise the data once; a resumed run finds it done."""
    labels = target_texts(config.label_texts)
    model = _start_model(config, labels)
    finished = work / "finished"
    finished.mkdir(exist_ok=True)
    tokenizer = model.folder if model else work / "vocabulary"
    data = work / "data"
    if not data.exists():
        if model:  # before any work: a broken checkpoint stops the job with one line
            load_network(model.folder, device=torch.device("cpu"))
        parts = _read_parts(config)
        shutil.rmtree(work / "datasets", ignore_errors=True)
        if config.architecture is not None:
            train_vocabulary(
                parts["train"].texts,
                tokenizer,
                vocab_size=config.architecture.vocab_size,
                seed=config.seed,
            )
        incomplete = work / "data.incomplete"
        shutil.rmtree(incomplete, ignore_errors=True)
        encoder = _tokeniser(config, tokenizer)
        for name, rows in parts.items():
            TokenRows.encode(rows, encoder).save(incomplete / name)
        incomplete.rename(data)
    tokeniser = _tokeniser(config, tokenizer)
    plan: dict[str, Any] = {
        "config": config,
        "base": model.folder if model else None,
        "tokenizer": tokenizer,
        "data": data,
        "labels": tuple(labels),
        "label_ids": tuple(tokeniser.label_ids(label) for label in labels),
        "finished": finished,
        "history": work / "history.json",
    }
    return plan, labels


def _start_model(config: FinetuneConfig, labels: list[str]) -> Model | None:
    """Return the model to start from, if there is one."""
    if config.model is None:
        return None
    return find_model(
        config.model,
        revision=config.revision,
        labels=labels,
        allow_pickle=config.allow_pickle_weights,
    )


def _read_parts(config: FinetuneConfig) -> dict[str, LabelledTexts]:
    def read(sources: list[str], confidence_column: str | None = None) -> LabelledTexts:
        rows = read_labelled(
            sources,
            options=read_options(config),
            label_column=config.label_column,
            confidence_column=confidence_column,
            label_texts=config.label_texts,
        )
        if not rows.texts:
            raise SourceError(f"{', '.join(sources)}: no labelled texts")
        return rows

    train = read(config.train, config.confidence_column)
    if config.validation:
        validation = read(config.validation)
    else:
        train, validation = split_off(train, config.validation_fraction, config.seed)
        if not train.texts:
            raise SourceError(f"{', '.join(config.train)}: too few texts to hold some out")
    parts = {"train": train, "validation": validation}
    if config.test:
        parts["test"] = read(config.test)
    return parts


def _tokeniser(config: FinetuneConfig, folder: Path) -> Tokeniser:
    return Tokeniser(folder, config.prompt, config.max_source_tokens, config.long_text)


def _finish(
    config: FinetuneConfig, output: Path, finished: Path, labels: list[str]
) -> FinetuneSummary:
    """Assemble the model folder from the files of the first worker and the tokenizer."""
    record = json.loads((finished / "training.json").read_text())
    model = _start_model(config, labels)
    tokenizer = model.folder if model else output / "_training" / "vocabulary"
    for pattern in TOKENIZER_FILES:
        for path in tokenizer.glob(pattern):
            shutil.copy2(path, output / path.name)
    for path in finished.iterdir():
        # Not the mode with it: the weights are written for their owner alone.
        shutil.copyfile(path, output / path.name)
    (output / "labels.json").write_text(json.dumps(labels_json(config, labels), indent=1) + "\n")
    versions = {name: version(name) for name in _PACKAGES}
    (output / "README.md").write_text(model_card(config, record, versions, output.name))
    return FinetuneSummary(output, record["validation"], record["test"])
