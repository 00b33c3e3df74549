"""The encoder on a CPU: a layer runs over a few sequences at a time, attention over one by one.

What a layer computes for a few sequences stays in the cache of the processor. Every sequence gets
up to 15 spare rows, so that lengths are multiples of 16 (see `_STEP`).

Shapes: T tokens of all sequences, R rows of all sequences, r rows of a piece of them, L rows of one
sequence, D model width, H heads, E head width, A = H x E.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from sentiment.t5.bias import RelativeBias
from sentiment.t5.layers import EncoderLayer, rms_norm
from sentiment.t5.lengths import rounded_up, rows_of_tokens
from sentiment.t5.shape import T5Shape

Piece = tuple[torch.Tensor, Sequence[int]]  # rows of whole sequences, and their lengths in tokens

# Rows that go through a layer together, per thread, in whole sequences: what lies between two
# products then stays in the cache, and so do the weights from one piece to the next.
_PIECE_ROWS = 512

# A sequence starts and ends at multiples of so many rows. oneDNN compiles a kernel for every shape
# it meets: with lengths as they come it compiles all night, for a quarter of the time of a small
# model, and keeps a gigabyte of them.
_STEP = 16


class InPieces:
    """Runs a batch through all layers, a few sequences at a time within each layer.

    Args:
        bias: In the dtype of the products.
    """

    def __init__(self, shape: T5Shape, layers: Sequence[EncoderLayer], bias: RelativeBias) -> None:
        self._shape = shape
        self._layers = layers
        self._bias = bias

    def __call__(self, embedded_TD: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """float32 (T, D): see `Encoder`."""
        real_T = _real_rows(lengths)
        x_RD = embedded_TD.new_zeros(sum(map(_rows, lengths)), self._shape.width)
        x_RD[real_T] = embedded_TD
        pieces = list(_pieces(x_RD, lengths, _PIECE_ROWS * torch.get_num_threads()))
        for layer in self._layers:
            for x_rD, piece_lengths in pieces:
                qkv_r3HE = layer.qkv(rms_norm(x_rD, self._shape)).view(
                    -1, 3, self._shape.heads, self._shape.head_width
                )
                x_rD += layer.out(self._attend(qkv_r3HE, piece_lengths))
                x_rD += layer.feed_forward(rms_norm(x_rD, self._shape))
        return rms_norm(x_RD[real_T], self._shape)

    def _attend(self, qkv_r3HE: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """Compute attention sequence by sequence, with heads in the layout of the fused product.

        Two plain batched products and a softmax take half the time of PyTorch's fused attention
        here, which is written for masks of one row; copying heads together first would cost what
        it saves. Rows to spare are attended to by no one, so what becomes of them is all the same.
        """
        attended_rHE = torch.empty_like(qkv_r3HE[:, 0])
        start = 0
        for length in lengths:
            end = start + _rows(length)
            sequence_3HLE = qkv_r3HE[start:end].permute(1, 2, 0, 3)
            query_HLE, key_HLE, value_HLE = sequence_3HLE.unbind()
            scores_HLL = torch.baddbmm(self._bias(end - start), query_HLE, key_HLE.mT)
            scores_HLL[:, :, length:] = float("-inf")
            weights_HLL = torch.softmax(scores_HLL, dim=-1)
            attended_HLE = torch.bmm(weights_HLL, value_HLE)
            attended_rHE[start:end] = attended_HLE.transpose(0, 1)
            start = end
        return attended_rHE.flatten(1)


def _rows(length: int) -> int:
    """Return the rows that a sequence gets: its tokens and some spare rows."""
    return rounded_up(length, _STEP)


def _real_rows(lengths: Sequence[int]) -> torch.Tensor:
    """int64 (T,): the row of every token."""
    return torch.from_numpy(rows_of_tokens(lengths, [_rows(length) for length in lengths]))


def _pieces(x_RD: torch.Tensor, lengths: Sequence[int], least_rows: int) -> Iterator[Piece]:
    """Yield views of whole sequences, as many as fit into a number of rows, and their lengths.

    They share the rows evenly: a small rest would read all weights for a few rows.
    """
    first, start, rows, left = 0, 0, 0, len(x_RD)
    for n, length in enumerate(lengths):
        rows += _rows(length)
        if rows * max(1, left // least_rows) >= left:
            yield x_RD[start : start + rows], lengths[first : n + 1]
            first, start, left, rows = n + 1, start + rows, left - rows, 0
