"""The training loop of one worker: phases, steps, validation, checkpoints, the finished folder."""

from __future__ import annotations

import json
import math
import tempfile
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import ray.train
import ray.train.collective
import ray.train.torch
import torch
from torch.nn.parallel import DistributedDataParallel
from transformers import T5ForConditionalGeneration, T5Tokenizer

from sentiment.engine.devices import (
    default_batch_tokens,
    device_name,
    limit_threads,
    peak_memory_mib,
    resolve_precision,
)
from sentiment.engine.labels import Engine
from sentiment.metrics.quality import classification_report, confusion
from sentiment.model.load import load_network
from sentiment.output.folder import Output
from sentiment.settings.finetune import FinetuneConfig
from sentiment.training.batches import phase_batches
from sentiment.training.dataset import TokenRows
from sentiment.training.history import write_history
from sentiment.training.network import (
    bypassed_blocks,
    for_scoring,
    new_network,
    recompute_activations,
    set_dropout,
    set_uniform_attention,
)
from sentiment.training.step import LabelLoss, Trainer
from sentiment.training.stopping import EarlyStopping

_STATE_FILE = "state.pt"


@dataclass(frozen=True)
class LoopPlan:
    """What every worker needs to know. All paths are on storage that every worker sees.

    Attributes:
        config: The fine-tune settings.
        base: Folder the weights come from; None with `config.architecture`.
        tokenizer: Folder of the tokenizer.
        data: Folder with `train`, `validation` and perhaps `test` token rows.
        labels: Target texts, in the order of label indices.
        label_ids: Their token ids, without `</s>`.
        finished: Where the first worker leaves weights, config and `training.json`.
        history: File the first worker rewrites at every validation.
        threads: CPU threads of a worker.
    """

    config: FinetuneConfig
    base: Path | None
    tokenizer: Path
    data: Path
    labels: tuple[str, ...]
    label_ids: tuple[tuple[int, ...], ...]
    finished: Path
    history: Path
    threads: int


@dataclass(frozen=True)
class Phase:
    """A part of training with an optimiser of its own.

    Attributes:
        pooling: Encoder blocks bypassed and cross-attention uniform: a bag of words inside the T5.
    """

    name: str
    epochs: float
    learning_rate: float
    embedding_learning_rate: float
    pooling: bool = False


def phases(config: FinetuneConfig) -> list[Phase]:
    """Return the phases that the settings ask for, in order."""
    main = Phase(
        "finetune",
        config.epochs,
        config.learning_rate,
        config.embedding_learning_rate or config.learning_rate,
    )
    shape = config.architecture
    if shape is None or shape.pooling_epochs == 0:
        return [main]
    pooling = Phase(
        "pooling",
        shape.pooling_epochs,
        shape.pooling_learning_rate,
        shape.pooling_embedding_learning_rate,
        pooling=True,
    )
    return [pooling, main]


def train_worker(settings: dict[str, Any]) -> None:
    """Entry point of a Ray Train worker.

    Args:
        settings: `{"plan": LoopPlan}`.
    """
    plan: LoopPlan = settings["plan"]
    limit_threads(plan.threads)
    torch.manual_seed(plan.config.seed)
    Worker(plan).run()


class Worker:
    """One data-parallel worker. The first one (rank 0) also validates, writes checkpoints and
    saves.
    """

    def __init__(self, plan: LoopPlan) -> None:
        self.plan = plan
        self.config = plan.config
        context = ray.train.get_context()
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        self.device = ray.train.torch.get_device()
        self.precision = resolve_precision(self.config.precision, self.device.type)
        self.train = TokenRows.load(plan.data / "train")
        self.eos_id = int(T5Tokenizer.from_pretrained(str(plan.tokenizer)).eos_token_id)
        self.network = self._initial_network()
        self.stopping = EarlyStopping(self.config.early_stopping_patience)
        self.history: list[dict[str, Any]] = []
        self.cost = {"steps": 0, "tokens": 0, "seconds": 0.0}

    def run(self) -> None:
        """Train all phases from the last checkpoint on, then save."""
        state = self._restore()
        for number, phase in enumerate(phases(self.config)):
            if state is not None and number < state["phase"]:
                continue
            resumed = state if state is not None and number == state["phase"] else None
            self._run_phase(number, phase, resumed)
        if self.rank == 0:
            self.stopping.use_best(self.network)
            self._save_finished()

    def _run_phase(self, number: int, phase: Phase, state: dict[str, Any] | None) -> None:
        batches, ends = phase_batches(self.train.lengths, self.config, phase.epochs)
        total = len(batches) // self.world
        epoch_ends = {math.ceil(end / self.world) for end in ends} | {total}
        if phase.pooling:
            assert self.config.architecture is not None
            self.network.encoder.block.requires_grad_(False)
            set_uniform_attention(self.network)
            set_dropout(self.network, self.config.architecture.pooling_dropout, attention=0.0)
        trainer = self._trainer(number, phase, total)
        step = 0
        if state is not None:
            trainer.optimiser.load_state_dict(state["optimiser"])
            trainer.schedule.load_state_dict(state["schedule"])
            step = state["step"]
        losses: list[float] = []
        self.network.train()
        stops = self._stops()
        while step < total and not stops:
            batch = batches[step * self.world + self.rank]
            started = time.perf_counter()
            losses.append(trainer.step(step, batch))
            self.cost["seconds"] += time.perf_counter() - started
            self.cost["tokens"] += int(self.train.lengths[batch].sum()) * self.world
            self.cost["steps"] += 1
            step += 1
            if step in epoch_ends or step % self.config.checkpoint_steps == 0:
                metrics = {
                    "phase": phase.name,
                    "step": step,
                    "steps": total,
                    "epoch": round(step * phase.epochs / total, 3),
                    "train_loss": float(np.mean(losses)),
                }
                losses = []
                self._report(metrics, {"phase": number, "step": step}, phase, trainer)
                stops = self._stops()
        if phase.pooling:
            self.network.requires_grad_(True)
            set_dropout(self.network, self.config.dropout, attention=0.0)

    def _trainer(self, number: int, phase: Phase, total: int) -> Trainer:
        loss = LabelLoss(self.network, self.plan.label_ids, self.eos_id, pooling=phase.pooling)
        model: LabelLoss | DistributedDataParallel = loss
        if self.world > 1:
            model = cast(
                DistributedDataParallel,
                ray.train.torch.prepare_model(loss, move_to_device=False),
            )
        return Trainer(
            model,
            self.train,
            self.config,
            total=total,
            learning_rates=(phase.embedding_learning_rate, phase.learning_rate),
            autocast=self.precision == "bf16",
            draws=(self.config.seed, number, self.rank),
        )

    def _stops(self) -> bool:
        """Return whether training ends before its last step. The first worker decides for all."""
        if self.config.early_stopping_patience is None:
            return False
        over: bool = self.stopping.over
        if self.world > 1:
            over = ray.train.collective.broadcast_from_rank_zero(over)
        return over

    def evaluate(self, part: str, *, pooling: bool = False) -> dict[str, Any]:
        """Classification report of `validation` or `test` by scoring the label texts."""
        rows = TokenRows.load(self.plan.data / part)
        with bypassed_blocks(self.network) if pooling else nullcontext():
            network = for_scoring(self.network, self.precision, self.device)
        engine = Engine(
            network, self.plan.label_ids, batch_tokens=default_batch_tokens(self.device.type)
        )
        best_N = engine.score([rows[row] for row in range(len(rows))]).best_N
        labels = self.plan.labels
        cells = confusion([labels[i] for i in rows.labels], [labels[i] for i in best_N])
        return classification_report(cells)

    def _report(
        self, metrics: dict[str, Any], position: dict[str, int], phase: Phase, trainer: Trainer
    ) -> None:
        if self.rank != 0:
            ray.train.report(metrics)
            return
        accuracy = self.evaluate("validation", pooling=phase.pooling)["accuracy"]
        metrics["validation_accuracy"] = accuracy
        if not phase.pooling:
            self.stopping.see(accuracy, self.network)
        self.history.append(metrics)
        write_history(self.plan.history, self.history)
        state = {
            **position,
            "network": self.network.state_dict(),
            "optimiser": trainer.optimiser.state_dict(),
            "schedule": trainer.schedule.state_dict(),
            "stopping": self.stopping.state_dict(),
            "history": self.history,
            "cost": self.cost,
        }
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state, Path(folder) / _STATE_FILE)
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))

    def _restore(self) -> dict[str, Any] | None:
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return None
        with checkpoint.as_directory() as folder:
            state: dict[str, Any] = torch.load(
                Path(folder) / _STATE_FILE, map_location=self.device, weights_only=True
            )
        self.network.load_state_dict(state["network"])
        self.stopping.load_state_dict(state["stopping"])
        self.history, self.cost = list(state["history"]), dict(state["cost"])
        return state

    def _initial_network(self) -> T5ForConditionalGeneration:
        shape = self.config.architecture
        if shape is not None:
            tokenizer = T5Tokenizer.from_pretrained(str(self.plan.tokenizer))
            network = new_network(shape, tokenizer, self.config.dropout).to(self.device)  # type: ignore[arg-type]
        else:
            assert self.plan.base is not None
            network = load_network(self.plan.base, device=self.device)
            set_dropout(network, self.config.dropout, attention=self.config.dropout)
        if self.config.gradient_checkpointing:
            recompute_activations(network)
        return cast(T5ForConditionalGeneration, network)

    def _save_finished(self) -> None:
        finished = self.plan.finished
        has_test = (self.plan.data / "test").exists()
        record = {
            "history": self.history,
            "train_rows": len(self.train),
            "validation": self.evaluate("validation"),
            "test": self.evaluate("test") if has_test else None,
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "phases": [asdict(phase) for phase in phases(self.config)],
            "training_precision": self.precision,
            "cost": {
                **self.cost,
                "workers": self.world,
                "device": device_name(self.device, self.plan.threads),
                "peak_memory_mib": peak_memory_mib(self.device),
            },
        }
        if self.config.save_precision == "bf16":
            self.network.to(torch.bfloat16)  # type: ignore[arg-type]
        self.network.save_pretrained(finished)
        # This file says that all others are there, so it appears whole or not at all.
        Output.open(str(finished)).write(
            "training.json", json.dumps(record, indent=1).encode() + b"\n"
        )
