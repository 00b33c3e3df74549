"""Free generation through transformers. It exists for parity with model cards, not for speed.

Shapes: B rows of a batch, S source tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sentiment.engine.batching import TokenBatcher
from sentiment.engine.devices import device_error, device_faults
from sentiment.engine.labels import OUTSIDE_VOCABULARY, Ids, TokenIds, embeds
from sentiment.t5.linear import ResolvedPrecision

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration


class Generator:
    """Free generation by the T5 of transformers, greedily or with beams.

    Args:
        network: The loaded model, on its device.
        precision: `bf16` and `int8` multiply matrices in bfloat16.
        batch_tokens: Source tokens of a batch, without padding.
    """

    def __init__(
        self,
        network: T5ForConditionalGeneration,
        *,
        precision: ResolvedPrecision,
        batch_tokens: int,
        max_new_tokens: int,
        num_beams: int,
    ) -> None:
        config: Any = network.config
        self._network = network
        self._precision = precision
        self._batcher = TokenBatcher(batch_tokens)
        self._max_new_tokens = max_new_tokens
        self._num_beams = num_beams
        self._vocabulary = int(config.vocab_size)
        self._pad_id = int(config.pad_token_id)

    def generate(self, ids: Sequence[Ids]) -> tuple[list[TokenIds], dict[int, str]]:
        """Generate a text for every row.

        Returns:
            Generated ids of every row (without start and padding), and the failed rows.

        Raises:
            DeviceError: The GPU failed in a way that no other batch would survive.
        """
        answers: list[TokenIds] = [()] * len(ids)
        errors = {
            row: OUTSIDE_VOCABULARY
            for row, values in enumerate(ids)
            if not embeds(values, self._vocabulary)
        }
        good = [row for row in range(len(ids)) if row not in errors]

        def keep(picked: list[int], values: list[TokenIds]) -> None:
            for n, value in zip(picked, values, strict=True):
                answers[good[n]] = value

        # One autocast around all batches: it keeps its bf16 copy of each weight until it leaves.
        with torch.no_grad(), self._autocast():
            failed = self._batcher.run(
                [len(ids[row]) for row in good],
                lambda picked: self._answer([ids[good[n]] for n in picked]),
                keep,
            )
        return answers, errors | {good[n]: name for n, name in failed.items()}

    def _answer(self, batch: Sequence[Ids]) -> list[TokenIds]:
        ids_BS, mask_BS = self._pad(batch)
        try:
            out_BT = self._network.generate(  # type: ignore[misc]
                input_ids=ids_BS,
                attention_mask=mask_BS,
                max_new_tokens=self._max_new_tokens,
                num_beams=self._num_beams,
                # As the model cards do: an answer is a few tokens, later ones are no better.
                early_stopping=self._num_beams > 1,
                do_sample=False,
            )
        except device_faults() as error:
            raise device_error(error) from error
        return [
            tuple(int(token) for token in row if token != self._pad_id)
            for row in out_BT[:, 1:].cpu().tolist()
        ]

    def _pad(self, batch: Sequence[Ids]) -> tuple[torch.Tensor, torch.Tensor]:
        longest = max(len(row) for row in batch)
        ids_BS = np.full((len(batch), longest), self._pad_id, dtype=np.int64)
        mask_BS = np.zeros((len(batch), longest), dtype=np.int64)
        for row, values in enumerate(batch):
            ids_BS[row, : len(values)] = values
            mask_BS[row, : len(values)] = 1
        device = self._network.device
        return torch.from_numpy(ids_BS).to(device), torch.from_numpy(mask_BS).to(device)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._precision == "fp32":
            return nullcontext()
        return torch.autocast(self._network.device.type, dtype=torch.bfloat16)
