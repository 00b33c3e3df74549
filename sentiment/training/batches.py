"""The order of training: which rows form a step, in which epoch, and in which pieces."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sentiment.settings.finetune import FinetuneConfig

Rows = NDArray[np.int64]

# Rows that are sorted by length together: wide enough for batches without much padding, narrow
# enough that an epoch is still shuffled.
_SORT_WINDOW_ROWS = 4096


def phase_batches(
    lengths: Rows, config: FinetuneConfig, epochs: float
) -> tuple[list[Rows], list[int]]:
    """Return all batches of a number of epochs, and the batch counts at which epochs end.

    Args:
        lengths: Tokens of each row.
        epochs: Passes over the rows; the last may be a part of one.
    """
    batches: list[Rows] = []
    ends: list[int] = []
    for epoch in range(math.ceil(epochs)):
        one = list(epoch_batches(lengths, config, epoch))
        share = min(1.0, epochs - epoch)
        batches += one[: max(1, round(len(one) * share))]
        ends.append(len(batches))
    return batches, ends


def epoch_batches(lengths: Rows, config: FinetuneConfig, epoch: int) -> Iterator[Rows]:
    """Return the row numbers of each batch of an epoch. Seed and epoch decide the order.

    Rows are shuffled; grouped by length, they are then sorted inside a window, cut, and the batches
    shuffled again. A budget of tokens always groups.
    """
    random = np.random.default_rng((config.seed, epoch))
    order = random.permutation(len(lengths))
    if config.batch_tokens is None and not config.length_grouped:
        yield from _cut_by_rows(order, config.batch_rows or 1)
        return
    for start in range(0, len(order), _SORT_WINDOW_ROWS):
        window = order[start : start + _SORT_WINDOW_ROWS]
        window = window[np.argsort(lengths[window], kind="stable")]
        if config.batch_tokens is None:
            batches = list(_cut_by_rows(window, config.batch_rows or 1))
        else:
            batches = list(_cut_by_tokens(window, lengths, config.batch_tokens))
        for number in random.permutation(len(batches)):
            yield batches[number]


def pieces(batch: Rows, lengths: Rows, count: int) -> list[Rows]:
    """Divide a batch into at most `count` pieces of similar size, with rows of similar length
    together.

    The gradient of a step is a sum over its rows, so the cut and the order change no more than the
    last bits and the draws of dropout, and sorted rows need less padding.
    """
    in_order = batch[np.argsort(lengths[batch], kind="stable")]
    return np.array_split(in_order, min(count, len(batch)))


def _cut_by_rows(rows: Rows, count: int) -> Iterator[Rows]:
    for start in range(0, len(rows), count):
        yield rows[start : start + count]


def _cut_by_tokens(rows: Rows, lengths: Rows, budget: int) -> Iterator[Rows]:
    """Cut rows, sorted by length, so that rows times the longest length stays within the budget."""
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or (end - start + 1) * lengths[rows[end]] > budget:
            yield rows[start:end]
            start = end
