"""Long texts in overlapping windows, and one answer for a text from the answers of its windows.

Shapes: N texts, W windows of all texts, K labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentiment.engine.labels import Ids, LabelScores

# Neighbours share so much of a window: a verdict cut in two is whole in one of them.
_OVERLAP = 0.25


@dataclass(frozen=True)
class PooledScores:
    """Scores of N texts.

    Attributes:
        scores: The mean of each label's probability over the windows of a text; of both kinds.
        split_N: Whether some window alone would have another label.
    """

    scores: LabelScores
    split_N: NDArray[np.bool_]


def cut(ids: Ids, limit: int) -> list[Ids]:
    """Cut a text into windows of at most `limit` tokens, each ended by `</s>`, evenly spaced.

    Args:
        ids: A whole text, ended by `</s>`.
    """
    if len(ids) <= limit:
        return [ids]
    text, end = ids[:-1], ids[-1:]
    width = limit - 1
    overlap = min(width - 1, int(_OVERLAP * width))
    count = -(-(len(text) - overlap) // (width - overlap))
    starts = np.linspace(0, len(text) - width, count).round().astype(int)
    return [np.concatenate([text[start : start + width], end]) for start in starts]


def score_windows(
    score: Callable[[Sequence[Ids]], LabelScores], ids: Sequence[Ids], limit: int
) -> PooledScores:
    """Score every window, and average the label probabilities over the windows of each text.

    A text with a window that the model fails on fails as a whole.

    Args:
        score: Scores sequences, in order.
        ids: Whole texts, each ended by `</s>`.
        limit: Tokens of a window.
    """
    windows = [cut(text, limit) for text in ids]
    owner_W = np.repeat(np.arange(len(ids)), [len(some) for some in windows])
    found = score([window for some in windows for window in some])
    windows_N1 = np.array([[len(some)] for some in windows], np.float64).reshape(-1, 1)
    errors = {int(owner_W[window]): name for window, name in sorted(found.errors.items())}

    def pooled(log_probs_WK: NDArray[np.float32]) -> NDArray[np.float32]:
        total_NK = np.full((len(ids), log_probs_WK.shape[1]), -np.inf)
        with np.errstate(invalid="ignore"):  # NaN where the model failed
            np.logaddexp.at(total_NK, owner_W, log_probs_WK.astype(np.float64))
        pooled_NK = (total_NK - np.log(windows_N1)).astype(np.float32)
        pooled_NK[list(errors)] = np.nan
        return pooled_NK

    scores = LabelScores(pooled(found.log_probs_NK), pooled(found.among_NK), errors)
    split_N = np.zeros(len(ids), dtype=bool)
    np.logical_or.at(split_N, owner_W, found.best_N != scores.best_N[owner_W])
    split_N[list(errors)] = False
    return PooledScores(scores, split_N)
