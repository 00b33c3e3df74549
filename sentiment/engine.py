"""Token ids to label probabilities: batching by tokens, label scoring, free generation.

Takes id arrays, gives arrays in the same order. Knows no text, no files and no cluster.

Shapes: B rows of a batch, S source tokens, T target tokens, D model width, V vocabulary, K labels,
N all rows.

A classifier that answers with one of K known texts needs no free generation. Every label is a token
sequence; its probability is the product of its tokens' probabilities under the decoder, read off
one teacher-forced pass. `</s>` is part of a label only when some label is a prefix of another,
since only then does it decide anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import T5ForConditionalGeneration

from sentiment.config import Precision
from sentiment.errors import ModelError

Ids = NDArray[np.int32]
TokenIds = tuple[int, ...]
ResolvedPrecision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class LabelScores:
    """Scores of N rows.

    Attributes:
        log_probs_NK: float32 natural log of P(label | text) over the full vocabulary. NaN marks a
            row the model failed on.
        errors: What happened to the failed rows: row number to exception name.
    """

    log_probs_NK: NDArray[np.float32]
    errors: dict[int, str]

    @property
    def best_N(self) -> NDArray[np.intp]:
        """Index of the most probable label (0 for failed rows)."""
        return np.asarray(np.argmax(np.nan_to_num(self.log_probs_NK, nan=-np.inf), axis=1))

    @property
    def score_N(self) -> NDArray[np.float32]:
        """Probability of the best label among the labels, in [1/K, 1]."""
        top_N1 = self.log_probs_NK.max(axis=1, keepdims=True)
        others_N = np.exp(self.log_probs_NK - top_N1).sum(axis=1)
        return np.asarray(1.0 / others_N, dtype=np.float32)

    @property
    def off_label_N(self) -> NDArray[np.float32]:
        """Probability mass outside all labels, in [0, 1]."""
        inside_N = np.exp(self.log_probs_NK.astype(np.float64)).sum(axis=1)
        return np.asarray(np.clip(1.0 - inside_N, 0.0, 1.0), dtype=np.float32)


def default_device() -> torch.device:
    """The GPU this process was given, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_precision(precision: Precision, device_type: str) -> ResolvedPrecision:
    """Settle `auto`: bf16 where the processor multiplies it natively.

    fp16 is not offered: T5's activations overflow it.

    Args:
        precision: The setting.
        device_type: `cuda` or `cpu`.
    """
    if precision != "auto":
        return precision
    if device_type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16" if native else "fp32"


def default_batch_tokens(device_type: str) -> int:
    """Token budget of a batch where none is set."""
    return 65536 if device_type == "cuda" else 4096


def label_sequences(labels: Sequence[TokenIds], eos_id: int) -> list[TokenIds]:
    """Label token sequences, with `</s>` appended when one label is a prefix of another.

    Raises:
        ModelError: A label has no tokens, or two labels are spelt alike.
    """
    if any(not label for label in labels):
        raise ModelError("a label text has no tokens in this model's vocabulary; change --labels")
    if len(set(labels)) < len(labels):
        raise ModelError("two label texts have the same tokens in this model's vocabulary")
    ambiguous = any(one != other and other[: len(one)] == one for one in labels for other in labels)
    return [(*label, eos_id) for label in labels] if ambiguous else list(labels)


def batches_by_tokens(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Row numbers in batches of similar length whose padded size stays within the budget.

    The longest rows come first, so that memory peaks at once rather than at the end. Every row
    appears exactly once; a row longer than the budget is a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // max(1, lengths[order[start]]))
        yield order[start : start + rows]
        start += rows


class Engine:
    """A T5 that scores labels or generates freely, batch by batch.

    Args:
        network: The loaded model, on its device.
        labels: Token ids of each label, without `</s>`.
        precision: `bf16` multiplies matrices in bfloat16 and keeps the residual stream in float32.
        batch_tokens: Padded source tokens of a batch.

    Raises:
        ModelError: Labels that this vocabulary cannot tell apart.
    """

    def __init__(
        self,
        network: T5ForConditionalGeneration,
        labels: Sequence[TokenIds],
        *,
        precision: ResolvedPrecision,
        batch_tokens: int,
    ) -> None:
        config: Any = network.config
        self._network = network
        self._device = network.device
        self._precision = precision
        self._batch_tokens = batch_tokens
        self._scaled_output = bool(config.scale_decoder_outputs)  # as T5 v1.0, not v1.1
        self._vocabulary = int(config.vocab_size)
        self._pad_id = int(config.pad_token_id)
        self._start_id = int(config.decoder_start_token_id)
        self._labels = label_sequences(labels, int(config.eos_token_id))
        # Decoder inputs that between them hold every prefix of every label: labels that share all
        # but the last token share a pass, and a one-token label rides on any of them.
        prefixes = {label[:-1] for label in self._labels}
        self._prefixes = [
            prefix
            for prefix in sorted(prefixes)
            if not any(other != prefix and other[: len(prefix)] == prefix for other in prefixes)
        ]

    def score(self, ids: Sequence[Ids]) -> LabelScores:
        """Label log-probabilities of every row; a row that makes the model fail fails alone."""
        log_probs_NK = np.full((len(ids), len(self._labels)), np.nan, dtype=np.float32)

        def keep(rows: list[int], values: NDArray[np.float32]) -> None:
            log_probs_NK[rows] = values

        errors = self._in_batches(ids, self._score_batch, keep)
        for row in np.flatnonzero(~np.isfinite(log_probs_NK).all(axis=1)):
            errors.setdefault(int(row), "non-finite probabilities")
            log_probs_NK[row] = np.nan
        return LabelScores(log_probs_NK, errors)

    def generate(
        self, ids: Sequence[Ids], *, max_new_tokens: int, num_beams: int
    ) -> tuple[list[TokenIds], dict[int, str]]:
        """Free generation.

        Returns:
            Generated ids of every row (without start and padding), and the failed rows.
        """
        answers: list[TokenIds] = [()] * len(ids)

        def run(batch: Sequence[Ids]) -> list[TokenIds]:
            ids_BS, mask_BS = self._pad(batch)
            out_BT = self._network.generate(  # type: ignore[misc]
                input_ids=ids_BS,
                attention_mask=mask_BS,
                max_new_tokens=max_new_tokens,
                num_beams=num_beams,
                do_sample=False,
            )
            return [
                tuple(int(token) for token in row if token != self._pad_id)
                for row in out_BT[:, 1:].cpu().tolist()
            ]

        def keep(rows: list[int], values: list[TokenIds]) -> None:
            for row, value in zip(rows, values, strict=True):
                answers[row] = value

        errors = self._in_batches(ids, run, keep)
        return answers, errors

    def _in_batches(
        self,
        ids: Sequence[Ids],
        run: Callable[[Sequence[Ids]], Any],
        keep: Callable[[list[int], Any], None],
    ) -> dict[int, str]:
        """Run batch by batch, halving a batch that fails until the guilty rows stand alone."""
        errors = {
            row: "a token id is outside the model's vocabulary"
            for row, values in enumerate(ids)
            if not self._embeds(values)
        }
        good = [row for row in range(len(ids)) if row not in errors]
        with torch.no_grad(), self._autocast():
            batches = batches_by_tokens([len(ids[row]) for row in good], self._batch_tokens)
            pending = [[good[i] for i in batch] for batch in batches]
            pending.reverse()
            while pending:
                rows = pending.pop()
                try:
                    keep(rows, run([ids[row] for row in rows]))
                except (RuntimeError, ValueError, IndexError, MemoryError) as error:
                    if len(rows) == 1:
                        errors[rows[0]] = type(error).__name__
                        continue
                    middle = len(rows) // 2
                    pending += [rows[middle:], rows[:middle]]
        return errors

    def _embeds(self, ids: Ids) -> bool:
        """Whether all ids have an embedding; looking one up that has none takes a GPU down."""
        return len(ids) > 0 and int(ids.min()) >= 0 and int(ids.max()) < self._vocabulary

    def _score_batch(self, batch: Sequence[Ids]) -> NDArray[np.float32]:
        ids_BS, mask_BS = self._pad(batch)
        encoded = self._network.encoder(input_ids=ids_BS, attention_mask=mask_BS)
        log_probs_BK = torch.zeros(len(batch), len(self._labels), device=self._device)
        scored: set[int] = set()
        for prefix in self._prefixes:
            target_BT = torch.tensor([[self._start_id, *prefix]], device=self._device)
            decoded_BTD = self._network.decoder(
                input_ids=target_BT.expand(len(batch), -1),
                encoder_hidden_states=encoded.last_hidden_state,
                encoder_attention_mask=mask_BS,
                use_cache=False,
            ).last_hidden_state
            log_p_BTV = torch.log_softmax(self._logits(decoded_BTD), dim=-1)
            for k, label in enumerate(self._labels):
                if k not in scored and prefix[: len(label) - 1] == label[:-1]:
                    scored.add(k)
                    for t, token in enumerate(label):
                        log_probs_BK[:, k] += log_p_BTV[:, t, token]
        return log_probs_BK.cpu().numpy()

    def _logits(self, decoded_BTD: torch.Tensor) -> torch.Tensor:
        """Vocabulary logits in float32 whatever the precision.

        bf16 has three digits: on logits of 10 that moves a probability by 0.01. One matrix product
        per target token is nothing beside the encoder.
        """
        if self._scaled_output:
            decoded_BTD = decoded_BTD * decoded_BTD.shape[-1] ** -0.5
        with torch.autocast(self._device.type, enabled=False):
            logits_BTV: torch.Tensor = self._network.lm_head(decoded_BTD.float())
        return logits_BTV

    def _pad(self, batch: Sequence[Ids]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(len(row) for row in batch)
        ids_BS = np.full((len(batch), longest), self._pad_id, dtype=np.int64)
        mask_BS = np.zeros((len(batch), longest), dtype=np.int64)
        for row, values in enumerate(batch):
            ids_BS[row, : len(values)] = values
            mask_BS[row, : len(values)] = 1
        return (
            torch.from_numpy(ids_BS).to(self._device),
            torch.from_numpy(mask_BS).to(self._device),
        )

    def _autocast(self) -> AbstractContextManager[Any]:
        # One context around all batches: autocast keeps its bf16 copy of each weight until it
        # leaves, so a block pays for the conversion once.
        if self._precision == "fp32":
            return nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)


def limit_threads(threads: int) -> None:
    """Keep torch to its share of the machine.

    Ray sets OMP_NUM_THREADS for whole CPUs only, and torch reads it once; several actors on a
    machine would otherwise each take every core.
    """
    torch.set_num_threads(max(1, min(threads, os.cpu_count() or 1)))


def local_gpus() -> int:
    """GPUs of this machine."""
    return torch.cuda.device_count()
