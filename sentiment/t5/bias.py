"""The relative position bias of attention, for sequences of any length.

It is kept as a square table (for padded attention) or as one value per distance (for kernels).
Tables grow when a longer sequence arrives.

Shapes: H heads, K buckets, S tokens of the longest sequence so far, rounded up.
"""

from __future__ import annotations

import torch

from sentiment.t5.lengths import rounded_up
from sentiment.t5.shape import T5Shape, relative_buckets


class RelativeBias:
    """Relative position bias of every head and every pair of positions.

    One table serves all: the bias of a shorter sequence is the corner of a longer one's. It grows
    when a longer sequence comes.

    Args:
        weight_KH: Bias of each of K buckets and H heads.
        dtype: Of the bias handed out.
    """

    def __init__(self, shape: T5Shape, weight_KH: torch.Tensor, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._shape = shape
        self._weight_KH = weight_KH.to(dtype)
        self._table_HSS = weight_KH.new_empty(shape.heads, 0, 0, dtype=dtype)

    def __call__(self, length: int) -> torch.Tensor:
        """Bias of shape (H, length, length): query position by key position."""
        if length > self._table_HSS.shape[1]:
            position_S = torch.arange(rounded_up(length, 64), device=self._weight_KH.device)
            buckets_SS = relative_buckets(
                position_S[None, :] - position_S[:, None], self._shape, both_ways=True
            )
            self._table_HSS = self._weight_KH[buckets_SS].permute(2, 0, 1).contiguous()
        return self._table_HSS[:, :length, :length]


class DistanceBias:
    """Relative position bias of every head and every distance.

    Args:
        weight_KH: Bias of each of K buckets and H heads, float32.
        factor: What it is multiplied by.
        step: S is a multiple of this.
    """

    def __init__(
        self, shape: T5Shape, weight_KH: torch.Tensor, *, factor: float, step: int
    ) -> None:
        self._shape = shape
        self._weight_HK = weight_KH.float().T * factor
        self._step = step
        self._table_HS = self._weight_HK.new_empty(shape.heads, 0)

    def __call__(self, length: int) -> torch.Tensor:
        """float32 (H, 2S - 1), S from `length` up: key - query = n is in column n + S - 1."""
        if 2 * length - 1 > self._table_HS.shape[1]:
            reach = rounded_up(length, self._step)
            distance_S = torch.arange(1 - reach, reach, device=self._weight_HK.device)
            buckets_S = relative_buckets(distance_S, self._shape, both_ways=True)
            self._table_HS = self._weight_HK[:, buckets_S].contiguous()
        return self._table_HS
