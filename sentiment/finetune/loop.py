"""The training loop of one worker: phases, steps, validation, checkpoints, the finished folder.

Takes a `LoopPlan`, reports metrics to Ray Train, and on the first worker writes the model folder.
Knows files of token ids only, no text.

The label is generated text and is trained as such: cross-entropy on the label's tokens and `</s>`
after the start token, over the full vocabulary.
"""

from __future__ import annotations

import json
import math
import tempfile
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import ray.train
import ray.train.torch
import torch
from numpy.typing import NDArray
from transformers import T5ForConditionalGeneration, T5Tokenizer

from sentiment.engine import Engine, default_batch_tokens, limit_threads, resolve_precision
from sentiment.finetune.config import FinetuneConfig
from sentiment.finetune.dataset import TokenRows, epoch_batches
from sentiment.finetune.history import write_history
from sentiment.finetune.network import (
    for_scoring,
    new_network,
    set_dropout,
    set_uniform_attention,
)
from sentiment.metrics import classification_report, confusion
from sentiment.weights import load_network

_IGNORED = -100  # target id that the loss skips
_STATE_FILE = "state.pt"


@dataclass(frozen=True)
class LoopPlan:
    """What every worker is given; all paths are on storage that every worker sees.

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
    """A stretch of training with an optimiser of its own.

    Attributes:
        pooling: Encoder blocks bypassed and cross-attention uniform: a bag of words inside the T5.
    """

    name: str
    epochs: float
    learning_rate: float
    embedding_learning_rate: float
    pooling: bool = False


def phases(config: FinetuneConfig) -> list[Phase]:
    """The stretches a configuration asks for, in order."""
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
    """One data-parallel worker; rank 0 also validates, checkpoints and saves."""

    def __init__(self, plan: LoopPlan) -> None:
        self.plan = plan
        self.config = plan.config
        context = ray.train.get_context()
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        self.device = ray.train.torch.get_device()
        self.precision = resolve_precision(self.config.precision, self.device.type)
        self.train = TokenRows.load(plan.data / "train")
        self.eos_id = int(T5Tokenizer.from_pretrained(str(plan.tokenizer)).eos_token_id)
        longest = max(len(ids) for ids in plan.label_ids) + 1
        targets = [[*ids, self.eos_id] for ids in plan.label_ids]
        self.targets_KT = torch.tensor(
            [row + [_IGNORED] * (longest - len(row)) for row in targets], device=self.device
        )
        self.network = self._initial_network()
        self.history: list[dict[str, Any]] = []

    def run(self) -> None:
        """Train all phases, resuming where the last checkpoint stands, then save."""
        state = self._restore()
        for number, phase in enumerate(phases(self.config)):
            if state is not None and number < state["phase"]:
                continue
            resumed = state if state is not None and number == state["phase"] else None
            self._run_phase(number, phase, resumed)
        if self.rank == 0:
            self._save_finished()

    def _run_phase(self, number: int, phase: Phase, state: dict[str, Any] | None) -> None:
        batches, ends = self._batches_of(phase)
        total = len(batches) // self.world
        blocks = self.network.encoder.block
        if phase.pooling:
            self.network.encoder.block = torch.nn.ModuleList()
            set_uniform_attention(self.network)
            set_dropout(self.network, self._pooling_dropout, attention=0.0)
        try:
            model = (
                ray.train.torch.prepare_model(self.network, move_to_device=False)
                if self.world > 1
                else self.network
            )
            optimiser = self._optimiser(phase)
            schedule = torch.optim.lr_scheduler.LambdaLR(
                optimiser, lambda step: _linear(step, self.config.warmup_steps, total)
            )
            first = 0
            if state is not None:
                optimiser.load_state_dict(state["optimiser"])
                schedule.load_state_dict(state["schedule"])
                first = state["step"]
            losses: list[float] = []
            self.network.train()
            for step in range(first, total):
                losses.append(
                    self._step(model, optimiser, schedule, batches[step * self.world + self.rank])
                )
                done = step + 1
                epoch_end = (
                    any(math.ceil(end / self.world) == done for end in ends) or done == total
                )
                if epoch_end or done % self.config.checkpoint_steps == 0:
                    metrics = {
                        "phase": phase.name,
                        "step": done,
                        "steps": total,
                        "epoch": round(done * phase.epochs / total, 3),
                        "train_loss": float(np.mean(losses)),
                    }
                    losses = []
                    position = {"phase": number, "step": done}
                    self._report(metrics, position, optimiser, schedule, blocks)
        finally:
            if phase.pooling:
                self.network.encoder.block = blocks
                self.network.requires_grad_(True)
                set_dropout(self.network, self.config.dropout, attention=0.0)

    @property
    def _pooling_dropout(self) -> float:
        shape = self.config.architecture
        assert shape is not None
        return shape.pooling_dropout

    def _batches_of(self, phase: Phase) -> tuple[list[NDArray[np.int64]], list[int]]:
        """All batches of a phase, and the batch counts at which its epochs end."""
        batches: list[NDArray[np.int64]] = []
        ends: list[int] = []
        lengths = self.train.lengths
        for epoch in range(math.ceil(phase.epochs)):
            one = list(epoch_batches(lengths, self.config, epoch))
            share = min(1.0, phase.epochs - epoch)
            batches += one[: max(1, round(len(one) * share))]
            ends.append(len(batches))
        return batches, ends

    def _step(
        self,
        model: torch.nn.Module,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        rows: NDArray[np.int64],
    ) -> float:
        ids_BS = torch.nn.utils.rnn.pad_sequence(
            [torch.from_numpy(self.train[row].astype(np.int64)) for row in rows],
            batch_first=True,
            padding_value=float(self.network.config.pad_token_id or 0),
        )
        lengths_B = torch.from_numpy(self.train.lengths[rows])
        mask_BS = (torch.arange(ids_BS.shape[1]) < lengths_B[:, None]).long()
        labels_B = torch.from_numpy(self.train.labels[rows]).to(self.device)
        with self._autocast():
            loss = model(
                input_ids=ids_BS.to(self.device),
                attention_mask=mask_BS.to(self.device),
                labels=self.targets_KT[labels_B],
            ).loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), self.config.max_grad_norm)
        optimiser.step()
        schedule.step()
        return float(loss.detach())

    def _optimiser(self, phase: Phase) -> torch.optim.Optimizer:
        embedding = self.network.shared.weight
        others = [p for p in self.network.parameters() if p is not embedding and p.requires_grad]
        return torch.optim.AdamW(
            [
                {"params": [embedding], "lr": phase.embedding_learning_rate},
                {"params": others, "lr": phase.learning_rate},
            ],
            betas=(self.config.adam_beta1, self.config.adam_beta2),
            eps=self.config.adam_epsilon,
            weight_decay=self.config.weight_decay,
        )

    def evaluate(self, part: str) -> dict[str, Any]:
        """Classification report of `validation` or `test` by scoring the label texts."""
        rows = TokenRows.load(self.plan.data / part)
        engine = Engine(
            for_scoring(self.network, self.precision, self.device),
            self.plan.label_ids,
            batch_tokens=default_batch_tokens(self.device.type),
        )
        best_N = engine.score([rows[row] for row in range(len(rows))]).best_N
        labels = self.plan.labels
        cells = confusion([labels[i] for i in rows.labels], [labels[i] for i in best_N])
        return classification_report(cells)

    def _report(
        self,
        metrics: dict[str, Any],
        position: dict[str, int],
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        blocks: torch.nn.ModuleList,
    ) -> None:
        if self.rank != 0:
            ray.train.report(metrics)
            return
        metrics["validation_accuracy"] = self.evaluate("validation")["accuracy"]
        self.history.append(metrics)
        write_history(self.plan.history, self.history)
        # The whole network goes into the checkpoint, bypassed blocks included.
        bypassed, self.network.encoder.block = self.network.encoder.block, blocks
        state = {
            **position,
            "network": self.network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "history": self.history,
        }
        with tempfile.TemporaryDirectory() as folder:
            torch.save(state, Path(folder) / _STATE_FILE)
            self.network.encoder.block = bypassed
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
        self.history = list(state["history"])
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
        return cast(T5ForConditionalGeneration, network)

    def _autocast(self) -> Any:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

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
        }
        if self.config.save_precision == "bf16":
            self.network.to(torch.bfloat16)  # type: ignore[arg-type]
        self.network.save_pretrained(finished)
        (finished / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def _linear(step: int, warmup: int, total: int) -> float:
    """Rise to 1 over `warmup` steps, then fall to 0 at `total`."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(0.0, (total - step) / max(1, total - warmup))
