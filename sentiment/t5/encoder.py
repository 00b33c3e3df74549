"""The encoder over concatenated sequences: no padding, no mask, weights folded once.

Takes the token ids of a batch end to end and their lengths, gives normalised hidden states. Linear
layers see one long matrix of real tokens; only attention knows where a sequence starts. On CPUs a
sequence has up to 15 rows to spare, so that lengths come in steps of 16 (see `_CPU_STEP`).

Shapes: T tokens of all sequences, R rows of all sequences, r rows of a piece of them, L rows of one
sequence, G sequences in a padded group, S the longest of them, D model width, H heads, E head
width, A = H x E, Q = 3 x A, F feed-forward width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F

from sentiment.t5.linear import Linear, ResolvedPrecision, compute_dtype, make_linear
from sentiment.t5.shape import T5Shape, relative_buckets

Tensors = Mapping[str, torch.Tensor]
Piece = tuple[torch.Tensor, Sequence[int]]  # rows of whole sequences, and their lengths in tokens
Attention = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]

# Rows that go through a layer together on a CPU, per thread, in whole sequences: what lies
# between two products then stays in the cache, and so do the weights from one piece to the next.
_PIECE_ROWS = 512

# On a CPU a sequence starts and ends at multiples of so many rows. oneDNN compiles a kernel for
# every shape it meets: with lengths as they come it compiles all night, for a quarter of the time
# of a small model, and keeps a gigabyte of them.
_CPU_STEP = 16

# A GPU's bias and mask are written out for a group of sequences at a time, within this.
_MASK_BYTES = 256 * 2**20


class Encoder:
    """The encoder of a T5.

    Args:
        shape: Its sizes.
        tensors: Checkpoint tensors by name, float32, on the device to compute on.
        precision: Of the matrix products; the residual stream is float32 in all of them.
    """

    def __init__(self, shape: T5Shape, tensors: Tensors, precision: ResolvedPrecision) -> None:
        self._shape = shape
        self._layers = [
            _Layer(shape, tensors, f"encoder.block.{n}", precision)
            for n in range(shape.encoder_layers)
        ]
        # An encoder without blocks, as fine-tuning starts with, has no bias and asks for none.
        weight_KH = (
            tensors["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
            if shape.encoder_layers
            else torch.zeros(shape.buckets, shape.heads)
        )
        self._bias = RelativeBias(shape, weight_KH, compute_dtype(precision))

    def __call__(self, embedded_TD: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """Encode a batch.

        Args:
            embedded_TD: float32 embeddings of all sequences, end to end. Overwritten.
            lengths: Tokens of each sequence, which add up to T.

        Returns:
            float32 hidden states of shape (T, D), normalised; the weight of the final norm is
            folded into whatever reads them.
        """
        assert sum(lengths) == len(embedded_TD)
        if embedded_TD.is_cuda:
            pieces = [(embedded_TD, lengths)]
            self._through_layers(pieces, self._attend_in_groups)
            return rms_norm(embedded_TD, self._shape)
        real_T = _real_rows(lengths)
        x_RD = embedded_TD.new_zeros(sum(map(_rows, lengths)), self._shape.width)
        x_RD[real_T] = embedded_TD
        pieces = list(_pieces(x_RD, lengths, _PIECE_ROWS * torch.get_num_threads()))
        self._through_layers(pieces, self._attend_one_by_one)
        return rms_norm(x_RD[real_T], self._shape)

    def _through_layers(self, pieces: Sequence[Piece], attend: Attention) -> None:
        for layer in self._layers:
            for x_rD, lengths in pieces:
                qkv_r3HE = layer.qkv(rms_norm(x_rD, self._shape)).view(
                    -1, 3, self._shape.heads, self._shape.head_width
                )
                x_rD += layer.out(attend(qkv_r3HE, lengths))
                x_rD += layer.feed_forward(rms_norm(x_rD, self._shape))

    def _attend_one_by_one(self, qkv_r3HE: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """Sequence by sequence, heads left where the fused product put them: for CPUs.

        Two plain batched products and a softmax take half the time of PyTorch's fused attention
        there, which is written for masks of one row; copying heads together first would cost what
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

    def _attend_in_groups(self, qkv_t3HE: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """Padded groups through fused attention: for GPUs, where a kernel each is too many."""
        attended_tHE = torch.empty_like(qkv_t3HE[:, 0])
        heads = self._shape.heads
        for start, group in _groups(lengths, heads, self._bias.dtype.itemsize):
            end = start + sum(group)
            real_GS = _real_positions(group, qkv_t3HE.device)
            padded_GS3HE = qkv_t3HE.new_zeros(*real_GS.shape, *qkv_t3HE.shape[1:])
            padded_GS3HE[real_GS] = qkv_t3HE[start:end]
            query_GHSE, key_GHSE, value_GHSE = padded_GS3HE.permute(2, 0, 3, 1, 4).unbind()
            mask_GHSS = self._bias(real_GS.shape[1]).masked_fill(
                ~real_GS[:, None, None, :], float("-inf")
            )
            attended_GHSE = F.scaled_dot_product_attention(
                query_GHSE, key_GHSE, value_GHSE, attn_mask=mask_GHSS, scale=1.0
            )
            attended_tHE[start:end] = attended_GHSE.transpose(1, 2)[real_GS]
        return attended_tHE.flatten(1)


class RelativeBias:
    """Relative position bias of every head, for sequences of any length.

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
            position_S = torch.arange(-(-length // 64) * 64, device=self._weight_KH.device)
            buckets_SS = relative_buckets(
                position_S[None, :] - position_S[:, None], self._shape, both_ways=True
            )
            self._table_HSS = self._weight_KH[buckets_SS].permute(2, 0, 1).contiguous()
        return self._table_HSS[:, :length, :length]


class _Layer:
    """Weights of one encoder block; the weight of each norm is folded into what reads it."""

    def __init__(
        self, shape: T5Shape, tensors: Tensors, block: str, precision: ResolvedPrecision
    ) -> None:
        attention = f"{block}.layer.0.SelfAttention"
        norm_D = tensors[f"{block}.layer.0.layer_norm.weight"]
        qkv = torch.cat([tensors[f"{attention}.{name}.weight"] for name in ("q", "k", "v")])
        self.qkv = make_linear(qkv * norm_D, precision)
        self.out = make_linear(tensors[f"{attention}.o.weight"], precision)
        self.feed_forward = FeedForward(shape, tensors, f"{block}.layer.1", precision)


class FeedForward:
    """A feed-forward layer behind its norm, plain or gated.

    Args:
        layer: Name of the layer in the checkpoint, such as `encoder.block.0.layer.1`.
    """

    def __init__(
        self, shape: T5Shape, tensors: Tensors, layer: str, precision: ResolvedPrecision
    ) -> None:
        norm_D = tensors[f"{layer}.layer_norm.weight"]
        name = f"{layer}.DenseReluDense"
        first = tensors[f"{name}.{'wi_0' if shape.gated else 'wi'}.weight"]
        self._into = make_linear(first * norm_D, precision, activation=shape.activation)
        self._gate: Linear | None = None
        if shape.gated:
            self._gate = make_linear(tensors[f"{name}.wi_1.weight"] * norm_D, precision)
        self._out = make_linear(
            tensors[f"{name}.wo.weight"],
            precision,
            after_relu=shape.activation == "relu" and not shape.gated,
        )

    def __call__(self, normalised_TD: torch.Tensor) -> torch.Tensor:
        """What the layer adds to the residual stream."""
        hidden_TF = self._into(normalised_TD)
        if self._gate is not None:
            hidden_TF *= self._gate(normalised_TD)
        return self._out(hidden_TF)


def rms_norm(x_D: torch.Tensor, shape: T5Shape) -> torch.Tensor:
    """Rows scaled to a root mean square of 1; the learned weight is folded elsewhere.

    Source:
        Zhang and Sennrich, "Root Mean Square Layer Normalization", NeurIPS 2019.
    """
    return F.rms_norm(x_D, (shape.width,), eps=shape.epsilon)


def _rows(length: int) -> int:
    """Rows a sequence has on a CPU: its tokens, and some to spare."""
    return -(-length // _CPU_STEP) * _CPU_STEP


def _real_rows(lengths: Sequence[int]) -> torch.Tensor:
    """int64 (T,): the row of every token."""
    length_B = torch.tensor(lengths)
    spare_B = torch.tensor([_rows(length) - length for length in lengths])
    before_B = spare_B.cumsum(0) - spare_B
    return torch.arange(sum(lengths)) + before_B.repeat_interleave(length_B)


def _pieces(x_RD: torch.Tensor, lengths: Sequence[int], least_rows: int) -> Iterator[Piece]:
    """Views of whole sequences, end to end, as many as have so many rows, and their lengths.

    They share the rows evenly: a small rest would read all weights for a few rows.
    """
    first, start, rows, left = 0, 0, 0, len(x_RD)
    for n, length in enumerate(lengths):
        rows += _rows(length)
        if rows * max(1, left // least_rows) >= left:
            yield x_RD[start : start + rows], lengths[first : n + 1]
            first, start, left, rows = n + 1, start + rows, left - rows, 0


def _groups(
    lengths: Sequence[int], heads: int, itemsize: int
) -> Iterator[tuple[int, Sequence[int]]]:
    """First token and lengths of groups whose padded mask stays within `_MASK_BYTES`."""
    first, start, longest = 0, 0, 0
    for n, length in enumerate(lengths):
        widest = max(longest, length)
        if n > first and (n - first + 1) * heads * widest**2 * itemsize > _MASK_BYTES:
            yield start, lengths[first:n]
            start += sum(lengths[first:n])
            first, widest = n, length
        longest = widest
    yield start, lengths[first:]


def _real_positions(lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    """Mask of shape (G, S): where a padded group holds tokens."""
    length_G = torch.tensor(lengths, device=device)
    return torch.arange(max(lengths), device=device)[None, :] < length_G[:, None]
