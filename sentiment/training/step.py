"""One training step: forward pass, loss, gradient, update of the weights.

The label is a generated text and is trained as one: cross-entropy on the tokens of the label and
`</s>` after the start token, over the full vocabulary, as a mean over the target tokens of the
step.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch.nn.functional import cross_entropy, one_hot
from torch.nn.parallel import DistributedDataParallel
from transformers import T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

from sentiment.settings.finetune import FinetuneConfig
from sentiment.training.batches import Rows, pieces
from sentiment.training.dataset import TokenRows
from sentiment.training.network import bypassed_blocks

_IGNORED = -100  # target id that the loss skips


class LabelLoss(torch.nn.Module):
    """The loss of answering reviews with label texts. B reviews, S tokens, K labels, T label
    tokens.

    Args:
        network: The T5 to train.
        label_ids: Token ids of each label text, without `</s>`.
        eos_id: The id of `</s>`.
        pooling: Leave out the encoder's blocks: the decoder reads embeddings.
    """

    targets_KT: torch.Tensor
    tokens_K: torch.Tensor

    def __init__(
        self,
        network: T5ForConditionalGeneration,
        label_ids: Sequence[Sequence[int]],
        eos_id: int,
        *,
        pooling: bool = False,
    ) -> None:
        super().__init__()
        self.network, self._pooling = network, pooling
        longest = max(len(ids) for ids in label_ids) + 1
        targets = [[*ids, eos_id] for ids in label_ids]
        padded = [row + [_IGNORED] * (longest - len(row)) for row in targets]
        device = network.shared.weight.device
        self.register_buffer("targets_KT", torch.tensor(padded, device=device))
        self.register_buffer("tokens_K", (self.targets_KT != _IGNORED).sum(dim=1).float())

    def forward(
        self, ids_BS: torch.Tensor, mask_BS: torch.Tensor, shares_BK: torch.Tensor
    ) -> torch.Tensor:
        """Summed cross-entropy of the label tokens, each label by its share of the review.

        The encoder reads a review once; the decoder answers with every label that has a share.
        """
        with bypassed_blocks(self.network) if self._pooling else nullcontext():
            encoded = self.network.encoder(input_ids=ids_BS, attention_mask=mask_BS)
        states_BSD = encoded.last_hidden_state
        rows_P, labels_P = shares_BK.nonzero(as_tuple=True)  # P pairs of a review and a label
        targets_PT = self.targets_KT[labels_P]
        logits_PTV = self.network(
            encoder_outputs=BaseModelOutput(last_hidden_state=states_BSD[rows_P]),
            attention_mask=mask_BS[rows_P],
            decoder_input_ids=self.network.prepare_decoder_input_ids_from_labels(targets_PT),
            use_cache=False,
        ).logits
        losses_PT = cross_entropy(
            logits_PTV.transpose(1, 2), targets_PT, ignore_index=_IGNORED, reduction="none"
        )
        return (losses_PT.sum(dim=1) * shares_BK[rows_P, labels_P]).sum()


class Trainer:
    """Optimiser, schedule and loss of one phase on one worker.

    Args:
        model: A `LabelLoss`, or one wrapped for several workers.
        rows: All training rows.
        total: Steps of the phase, at whose end the learning rate is 0.
        learning_rates: Peak for the embedding, and for all other weights.
        autocast: Whether products compute in bf16.
        draws: What the draws of dropout depend on, besides the step.
    """

    def __init__(
        self,
        model: LabelLoss | DistributedDataParallel,
        rows: TokenRows,
        config: FinetuneConfig,
        *,
        total: int,
        learning_rates: tuple[float, float],
        autocast: bool,
        draws: Sequence[int],
    ) -> None:
        loss: LabelLoss = model.module if isinstance(model, DistributedDataParallel) else model
        self._model, self._loss, self._rows, self._config = model, loss, rows, config
        self._device = loss.targets_KT.device
        self._pad_id = float(loss.network.config.pad_token_id or 0)
        self._autocast, self._draws = autocast, tuple(draws)
        self._lengths = rows.lengths
        embedding = loss.network.shared.weight
        others = [p for p in loss.network.parameters() if p is not embedding and p.requires_grad]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [embedding], "lr": learning_rates[0]},
                {"params": others, "lr": learning_rates[1]},
            ],
            betas=(config.adam_beta1, config.adam_beta2),
            eps=config.adam_epsilon,
            weight_decay=config.weight_decay,
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda step: linear_decay(step, config.warmup_steps, total)
        )

    def step(self, number: int, batch: Rows) -> float:
        """Update the weights by the gradient of a batch. Return its loss.

        Every step seeds its own dropout, so that a run resumed from a checkpoint draws what an
        uninterrupted one would have drawn.
        """
        seed = np.random.default_rng((*self._draws, number)).integers(2**63)
        torch.manual_seed(int(seed))
        parts = pieces(batch, self._lengths, self._config.gradient_accumulation_steps)
        tokens = float((self._shares(batch) @ self._loss.tokens_K).sum())
        self.optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for count, part in enumerate(parts, start=1):
            with self._unsynchronised(last=count == len(parts)):
                loss = self._piece(part) / tokens
                loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._config.max_grad_norm)
        self.optimiser.step()
        self.schedule.step()
        return total

    def _piece(self, rows: Rows) -> torch.Tensor:
        ids_BS = torch.nn.utils.rnn.pad_sequence(
            [torch.from_numpy(self._rows[row].astype(np.int64)) for row in rows],
            batch_first=True,
            padding_value=self._pad_id,
        )
        lengths_B = torch.from_numpy(self._lengths[rows])
        mask_BS = (torch.arange(ids_BS.shape[1]) < lengths_B[:, None]).long()
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._autocast):
            loss: torch.Tensor = self._model(
                ids_BS.to(self._device), mask_BS.to(self._device), self._shares(rows)
            )
        return loss

    def _shares(self, rows: Rows) -> torch.Tensor:
        """Return how much of each row counts for each label, [B, K]."""
        labels = len(self._loss.tokens_K)
        sure_B1 = torch.from_numpy(self._rows.confidence[rows])[:, None]
        own_BK = one_hot(torch.from_numpy(self._rows.labels[rows]), labels)
        shares_BK = torch.where(own_BK.bool(), sure_B1, (1 - sure_B1) / (labels - 1))
        return shares_BK.to(self._device)

    def _unsynchronised(self, *, last: bool) -> AbstractContextManager[None]:
        """Postpone the averaging of gradients between workers to the last piece of a step."""
        if last or not isinstance(self._model, DistributedDataParallel):
            return nullcontext()
        held: AbstractContextManager[None] = self._model.no_sync()
        return held


def linear_decay(step: int, warmup: int, total: int) -> float:
    """Rise to 1 over `warmup` steps, then fall to 0 at `total`."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(0.0, (total - step) / max(1, total - warmup))
