"""Index arrays made from sequence lengths: computed on the host, copied to the device once.

Shapes: B sequences, T tokens of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray


def to_device(values: NDArray[np.integer], device: torch.device) -> torch.Tensor:
    """Copy an array to a device without waiting for a GPU, which may be batches behind."""
    tensor = torch.from_numpy(values)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor


def starts_of(lengths: Sequence[int]) -> NDArray[np.int64]:
    """int64 (B,): the first token of each sequence."""
    length_B = np.asarray(lengths, np.int64)
    return np.cumsum(length_B) - length_B


def rows_of_tokens(lengths: Sequence[int], rows: Sequence[int]) -> NDArray[np.int64]:
    """int64 (T,): the row of each token where a sequence has more rows than tokens.

    Args:
        lengths: Tokens of each sequence.
        rows: Rows of each sequence.
    """
    return np.arange(sum(lengths)) + np.repeat(starts_of(rows) - starts_of(lengths), lengths)


def rounded_up(length: int, step: int) -> int:
    """Return the smallest multiple of a step that is not less than the length."""
    return -(-length // step) * step
