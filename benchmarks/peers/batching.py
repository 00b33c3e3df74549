"""Reviews to padded batches, and a peer that needs no more than a function of one such batch.

Takes id arrays, gives padded tensors. Knows no library but torch. Shapes: B rows of a batch, S
source tokens, V vocabulary, N all reviews, K labels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from peers.protocol import PAD_ID, Ids, Peer

# ids_BS and mask_BS, int64, to float32 logits_BV of the first decoder step.
Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# Padded tokens of a batch that peers may choose from.
BUDGETS_TOKENS = (1024, 4096)

# Reviews that the choice is made by.
TRIAL_REVIEWS = 16


@dataclass(frozen=True)
class Batching:
    """A way to cut reviews into batches.

    Attributes:
        name: In words.
        cut: Lengths to row numbers of each batch; every row appears once.
    """

    name: str
    cut: Callable[[Sequence[int]], list[list[int]]]


def in_order(rows: int) -> Batching:
    """Batches of so many reviews, as they come."""
    return Batching(
        f"{rows} as they come" if rows > 1 else "one by one",
        lambda lengths: [
            list(range(start, min(start + rows, len(lengths))))
            for start in range(0, len(lengths), rows)
        ],
    )


def by_tokens(batch_tokens: int) -> Batching:
    """Batches of similar length whose padded size stays within so many tokens."""
    return Batching(
        f"sorted, {batch_tokens} tokens", lambda lengths: cut_by_tokens(lengths, batch_tokens)
    )


def cut_by_tokens(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Row numbers, longest first; a row longer than the budget is a batch of its own."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    batches: list[list[int]] = []
    while order:
        rows = max(1, batch_tokens // lengths[order[0]])
        batches.append(order[:rows])
        order = order[rows:]
    return batches


def padded(rows: Sequence[Ids]) -> tuple[torch.Tensor, torch.Tensor]:
    """int64 ids_BS and mask_BS, padded to the longest."""
    ids_BS = torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(row.astype(np.int64)) for row in rows],
        batch_first=True,
        padding_value=PAD_ID,
    )
    lengths_B1 = torch.tensor([[len(row)] for row in rows])
    mask_BS = (torch.arange(ids_BS.shape[1]) < lengths_B1).long()
    return ids_BS, mask_BS


class BatchedPeer:
    """A peer that is a function from a padded batch to logits."""

    def __init__(self, forward: Forward, batching: Batching, label_ids: Sequence[int]) -> None:
        self.batching = batching.name
        self._forward = forward
        self._cut = batching.cut
        self._label_ids = list(label_ids)

    def labels(self, ids: list[Ids]) -> list[int | None]:
        """Index of the best label of each review."""
        best: list[int | None] = [None] * len(ids)
        for rows in self._cut([len(row) for row in ids]):
            logits_BV = self._forward(*padded([ids[row] for row in rows]))
            for row, label in zip(
                rows, logits_BV[:, self._label_ids].argmax(dim=1).tolist(), strict=True
            ):
                best[row] = label
        return best

    def logits(self, ids: list[Ids]) -> torch.Tensor:
        """float32 logits_NV."""
        by_row: dict[int, torch.Tensor] = {}
        for rows in self._cut([len(row) for row in ids]):
            logits_BV = self._forward(*padded([ids[row] for row in rows]))
            by_row |= {row: logits_BV[i].float() for i, row in enumerate(rows)}
        return torch.stack([by_row[row] for row in range(len(ids))])


def graph_candidates(forward: Forward, label_ids: Sequence[int]) -> list[BatchedPeer]:
    """A converted graph with every batching that may suit it: one by one, or sorted and cut."""
    batchings = [in_order(1), *(by_tokens(tokens) for tokens in BUDGETS_TOKENS)]
    return [BatchedPeer(forward, batching, label_ids) for batching in batchings]


def fastest(candidates: Sequence[Peer], ids: Sequence[Ids]) -> Peer:
    """The peer that is fastest on a few of these reviews: one library with its batchings to choose.

    The trial reviews are neighbours in length from the middle of the workload, because neighbours
    pad each other as little as the whole workload does. The first pass of each candidate is not
    counted: libraries compile for each new shape.
    """
    by_length = sorted(ids, key=len)
    start = max(0, (len(by_length) - TRIAL_REVIEWS) // 2)
    trial = by_length[start : start + TRIAL_REVIEWS]
    trials_sec = []
    for peer in candidates:
        peer.labels(trial)
        started = time.perf_counter()
        peer.labels(trial)
        trials_sec.append(time.perf_counter() - started)
    return candidates[trials_sec.index(min(trials_sec))]
