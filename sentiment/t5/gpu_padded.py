"""The work between two matrix products on a GPU, by PyTorch's operators, for nodes without Triton.

Attention pads groups of sequences to the longest and writes their bias and mask to memory. The
kernels of `gpu_fused` need neither.

Shapes: T tokens of all sequences, t tokens of a group, G sequences of a group, S the longest of
them, R = G x S, D model width, H heads, E head width, A = H x E.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from sentiment.t5.bias import RelativeBias
from sentiment.t5.layers import rms_norm
from sentiment.t5.lengths import rows_of_tokens, to_device
from sentiment.t5.shape import T5Shape

# Bias and mask are written out for a group of sequences at a time, within this.
_MASK_BYTES = 256 * 2**20


class _Group(NamedTuple):
    """Sequences that are padded together.

    Attributes:
        start: Their first token.
        row_t: Which of the R padded rows each of their tokens takes.
        real_GS: Where they hold tokens.
    """

    start: int
    row_t: torch.Tensor
    real_GS: torch.Tensor


class PaddedOperations:
    """Attention and norm of one model.

    Args:
        weight_KH: Bias of each bucket and head, on the device to compute on.
        dtype: Of activations between products.
    """

    def __init__(self, shape: T5Shape, weight_KH: torch.Tensor, dtype: torch.dtype) -> None:
        self._shape = shape
        self._bias = RelativeBias(shape, weight_KH, dtype)

    def attention(self, lengths: Sequence[int], device: torch.device) -> PaddedAttention:
        """Attention over a batch of these lengths."""
        return PaddedAttention(self._bias, self._shape.heads, lengths, device)

    def add_norm(
        self, x_TD: torch.Tensor, y_TD: torch.Tensor | None, dtype: torch.dtype
    ) -> torch.Tensor:
        """Add to the residual stream, if there is anything to add, and normalise it."""
        if y_TD is not None:
            x_TD += y_TD
        return rms_norm(x_TD, self._shape).to(dtype)


class PaddedAttention:
    """Attention over a batch, group by group.

    All that depends on lengths goes to the device once for all layers: a copy that is waited for,
    or a look at what the device has computed, would stop it in every layer.
    """

    def __init__(
        self, bias: RelativeBias, heads: int, lengths: Sequence[int], device: torch.device
    ) -> None:
        self._bias = bias
        groups = list(_groups(lengths, heads, bias.dtype.itemsize))
        rows = [rows_of_tokens(group, [max(group)] * len(group)) for _, group in groups]
        on_device = to_device(np.concatenate([*rows, np.asarray(lengths, np.int64)]), device)
        row_T, length_B = on_device.split([sum(lengths), len(lengths)])
        self._groups = []
        for (start, group), row_t, length_G in zip(
            groups,
            row_T.split([len(row_t) for row_t in rows]),
            length_B.split([len(group) for _, group in groups]),
            strict=True,
        ):
            position_S = torch.arange(max(group), device=device)
            self._groups.append(_Group(start, row_t, position_S < length_G[:, None]))

    def __call__(self, qkv_T3HE: torch.Tensor) -> torch.Tensor:
        """Return (T, A): the attention result of every token."""
        attended_THE = torch.empty_like(qkv_T3HE[:, 0])
        for start, row_t, real_GS in self._groups:
            end = start + len(row_t)
            padded_R3HE = qkv_T3HE.new_zeros(real_GS.numel(), *qkv_T3HE.shape[1:])
            padded_R3HE.index_copy_(0, row_t, qkv_T3HE[start:end])
            padded_GS3HE = padded_R3HE.unflatten(0, real_GS.shape)
            query_GHSE, key_GHSE, value_GHSE = padded_GS3HE.permute(2, 0, 3, 1, 4).unbind()
            mask_GHSS = self._bias(real_GS.shape[1]).masked_fill(
                ~real_GS[:, None, None, :], float("-inf")
            )
            attended_GHSE = F.scaled_dot_product_attention(
                query_GHSE, key_GHSE, value_GHSE, attn_mask=mask_GHSS, scale=1.0
            )
            attended_RHE = attended_GHSE.transpose(1, 2).flatten(0, 1)
            attended_THE[start:end] = attended_RHE.index_select(0, row_t)
        return attended_THE.flatten(1)


def _groups(
    lengths: Sequence[int], heads: int, itemsize: int
) -> Iterator[tuple[int, Sequence[int]]]:
    """Return first token and lengths of groups whose padded mask stays within `_MASK_BYTES`."""
    first, start, longest = 0, 0, 0
    for n, length in enumerate(lengths):
        widest = max(longest, length)
        if n > first and (n - first + 1) * heads * widest**2 * itemsize > _MASK_BYTES:
            yield start, lengths[first:n]
            start += sum(lengths[first:n])
            first, widest = n, length
        longest = widest
    yield start, lengths[first:]
