"""Triton kernels: attention over sequences of any lengths, and residual sum with norm.

The sequences of a batch lie end to end, and a list of tiles says which rows belong to which
sequence. Nothing is padded, and no bias or mask is written to memory. Importing this module needs
Triton. Running it needs a C compiler, with which Triton builds the code that launches a kernel.

Shapes: T tokens of all sequences, S tokens of the longest, D model width, H heads, E head width, A
= H x E, P programs of each head.

Source:
    Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning",
    ICLR 2024.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import triton
import triton.language as tl

from sentiment.t5.lengths import rounded_up, starts_of, to_device

LOG2_E: Final = math.log2(math.e)

# Seen from within a kernel, where only a constexpr may be a global.
_LOG2_E = tl.constexpr(LOG2_E)


@dataclass(frozen=True)
class AttentionBlocks:
    """Block sizes of `attend`. They change its speed, and its result by rounding only.

    Attributes:
        queries: Rows of a tile, a power of 2 from 16 up.
        keys: Keys that a tile looks at together, likewise.
        warps: Of a program.
        stages: Blocks of keys that are in flight at once.
        direct: A bias goes from memory into the register that wants it, by an instruction of
            NVIDIA's. Triton alone would take it through shared memory, word by word, and as often
            as there are scores; of the direct loads the compiler drops those that are the same.
    """

    queries: int
    keys: int
    warps: int
    stages: int
    direct: bool

    @classmethod
    def suited_to(cls, dtype: torch.dtype) -> AttentionBlocks:
        """Return block sizes for a dtype: float32 uses no tensor cores and has wider operands."""
        if dtype == torch.bfloat16:
            direct = torch.version.cuda is not None
            # The fastest of 36 on an H100, by `benchmarks/gpu.py --parts`: small tiles leave
            # registers for more of them at once.
            return cls(queries=64, keys=32, warps=4, stages=3, direct=direct)
        return cls(queries=32, keys=32, warps=8, stages=1, direct=False)


@dataclass(frozen=True)
class NormBlocks:
    """Rows and warps of one program of `add_norm`."""

    rows: int = 2
    warps: int = 4


@dataclass(frozen=True)
class Tiles:
    """The tiles of a batch: which rows each program of a head works on. No tile is empty.

    Attributes:
        tile_P3: int32, on the device: first token of the sequence, its tokens, and first row of the
            tile within it.
        queries: Rows of a tile.
        longest: Tokens of the longest sequence.
    """

    tile_P3: torch.Tensor
    queries: int
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int], queries: int, device: torch.device) -> Tiles:
        """Return the tiles of a batch with these lengths in tokens."""
        length_B = np.asarray(lengths, np.int64)
        tiles_B = -(-length_B // queries)
        nth_P = np.arange(tiles_B.sum()) - np.repeat(np.cumsum(tiles_B) - tiles_B, tiles_B)
        start_P, length_P = np.repeat([starts_of(lengths), length_B], tiles_B, axis=1)
        tile_P3 = np.stack([start_P, length_P, nth_P * queries], axis=1).astype(np.int32)
        return cls(to_device(tile_P3, device), queries, max(lengths))


def attend(
    qkv_T3HE: torch.Tensor, tiles: Tiles, bias_HS: torch.Tensor, blocks: AttentionBlocks
) -> torch.Tensor:
    """Self-attention within each sequence, with a bias by distance and no scaling.

    Args:
        qkv_T3HE: Queries, keys and values, bfloat16 or float32, contiguous.
        tiles: Of the batch, with as many rows as `blocks` has queries.
        bias_HS: float32 (H, 2S - 1), contiguous: the bias of key - query = n is in column
            n + S - 1, times `LOG2_E`. S is the longest length or more, in whole blocks of queries
            and of keys.

    Returns:
        (T, A) of the dtype of `qkv_T3HE`.
    """
    tokens, _, heads, width = qkv_T3HE.shape
    assert qkv_T3HE.is_contiguous()
    assert bias_HS.is_contiguous()
    assert bias_HS.dtype == torch.float32
    assert tiles.queries == blocks.queries
    reach = bias_HS.shape[1] // 2
    # What lies outside the table would be read all the same: rows and keys past the end of a
    # sequence have a bias too, which comes to nothing.
    assert reach + 1 >= rounded_up(tiles.longest, blocks.queries)
    assert reach + 1 >= rounded_up(tiles.longest, blocks.keys)
    attended_TA = qkv_T3HE.new_empty(tokens, heads * width)
    _attend[(len(tiles.tile_P3) * heads,)](
        qkv_T3HE,
        tiles.tile_P3,
        bias_HS,
        attended_TA,
        reach,
        heads,
        width,
        max(16, triton.next_power_of_2(width)),
        blocks.queries,
        blocks.keys,
        blocks.direct,
        num_warps=blocks.warps,
        num_stages=blocks.stages,
    )
    return attended_TA


def add_norm(
    x_TD: torch.Tensor,
    y_TD: torch.Tensor | None,
    dtype: torch.dtype,
    epsilon: float,
    blocks: NormBlocks,
) -> torch.Tensor:
    """Add to the residual stream and normalise it, in one pass over both.

    Args:
        x_TD: The stream, float32, contiguous. What is added stays in it.
        y_TD: What to add, bfloat16 or float32, contiguous; nothing if None.
        dtype: Of what is returned.

    Returns:
        (T, D): rows of the sum, scaled to a root mean square of 1.

    Source:
        Zhang and Sennrich, "Root Mean Square Layer Normalization", NeurIPS 2019.
    """
    assert x_TD.is_contiguous()
    assert x_TD.dtype == torch.float32
    assert y_TD is None or (y_TD.is_contiguous() and y_TD.shape == x_TD.shape)
    rows, width = x_TD.shape
    normalised_TD = torch.empty_like(x_TD, dtype=dtype)
    _add_norm[(triton.cdiv(rows, blocks.rows),)](
        x_TD,
        x_TD if y_TD is None else y_TD,
        normalised_TD,
        rows,
        epsilon,
        y_TD is not None,
        width,
        triton.next_power_of_2(width),
        blocks.rows,
        num_warps=blocks.warps,
    )
    return normalised_TD


# In the kernels M and N are rows and keys of a tile, and E is the head width padded to a power of
# 2. Offsets of tokens are 64 bits wide: a batch of a large model holds more than 2^31 numbers.


# More than seven parameters: a kernel takes every pointer, stride and size as one of its own.
@triton.jit(do_not_specialize=["reach"])
def _attend(
    qkv: tl.tensor,
    tiles: tl.tensor,
    bias: tl.tensor,
    attended: tl.tensor,
    reach: tl.tensor,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    DIRECT: tl.constexpr,
) -> None:
    """Attention of one tile of queries in one head.

    Programs of the same tile are neighbours: their heads lie in the same rows of memory, which the
    cache then serves.
    """
    tile = tl.program_id(0) // HEADS
    head = tl.program_id(0) % HEADS
    start = tl.load(tiles + 3 * tile).to(tl.int64)
    length = tl.load(tiles + 3 * tile + 1)
    query_M = tl.load(tiles + 3 * tile + 2) + tl.arange(0, BLOCK_M)
    e_E = tl.arange(0, BLOCK_E)
    STRIDE: tl.constexpr = 3 * HEADS * WIDTH
    first = qkv + start * STRIDE + head * WIDTH
    query_ME = tl.load(
        first + query_M.to(tl.int64)[:, None] * STRIDE + e_E[None, :],
        mask=(query_M < length)[:, None] & (e_E < WIDTH)[None, :],
        other=0.0,
    )
    # The bias depends on key minus query only: one table of 2 * reach + 1 distances per head.
    bias_M = head * (2 * reach + 1) + reach - query_M
    largest_M = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total_M = tl.zeros([BLOCK_M], tl.float32)
    sum_ME = tl.zeros([BLOCK_M, BLOCK_E], tl.float32)
    # Blocks that lie inside the sequence run without a mask; the rest of it, with one, comes last.
    whole = length // BLOCK_N * BLOCK_N
    for key in range(0, whole, BLOCK_N):
        largest_M, total_M, sum_ME = _attend_to_keys(
            query_ME, first, bias, bias_M, key, length, largest_M, total_M, sum_ME,
            HEADS, WIDTH, BLOCK_E, BLOCK_N, DIRECT, False,
        )  # fmt: skip
    if whole < length:
        largest_M, total_M, sum_ME = _attend_to_keys(
            query_ME, first, bias, bias_M, whole, length, largest_M, total_M, sum_ME,
            HEADS, WIDTH, BLOCK_E, BLOCK_N, DIRECT, True,
        )  # fmt: skip
    row_M = start + query_M
    tl.store(
        attended + row_M[:, None] * (HEADS * WIDTH) + head * WIDTH + e_E[None, :],
        (sum_ME / total_M[:, None]).to(attended.dtype.element_ty),
        mask=(query_M < length)[:, None] & (e_E < WIDTH)[None, :],
    )


# The softmax over all keys is computed block by block (FlashAttention). Beside the weighted sum of
# values a tile keeps the largest score so far and the sum of weights, both relative to that score.
# When a block has a larger score, what was summed before shrinks by the difference. LAST says that
# the sequence ends within this block; all other blocks need no mask.
# More than seven parameters: a kernel takes every pointer, stride and size as one of its own.
@triton.jit
def _attend_to_keys(
    query_ME: tl.tensor,
    first: tl.tensor,
    bias: tl.tensor,
    bias_M: tl.tensor,
    key: tl.tensor,
    length: tl.tensor,
    largest_M: tl.tensor,
    total_M: tl.tensor,
    sum_ME: tl.tensor,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_E: tl.constexpr,
    BLOCK_N: tl.constexpr,
    DIRECT: tl.constexpr,
    LAST: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Add one block of keys to the running softmax of a tile."""
    key_N = key + tl.arange(0, BLOCK_N)
    e_E = tl.arange(0, BLOCK_E)
    STRIDE: tl.constexpr = 3 * HEADS * WIDTH
    there_NE = (e_E < WIDTH)[None, :]
    if LAST:
        there_NE = there_NE & (key_N < length)[:, None]
    keys_NE = first + HEADS * WIDTH + key_N.to(tl.int64)[:, None] * STRIDE + e_E[None, :]
    key_NE = tl.load(keys_NE, mask=there_NE, other=0.0)
    biases_MN = bias + (bias_M[:, None] + key_N[None, :])
    if DIRECT:
        # Biases of neighbouring rows overlap, so Triton would first bring them into shared memory.
        # Reading each through the read-only cache is faster.
        bias_MN = tl.inline_asm_elementwise(
            "ld.global.nc.f32 $0, [$1];",
            "=f,l",
            [biases_MN.to(tl.int64, bitcast=True)],
            dtype=tl.float32,
            is_pure=True,
            pack=1,
        )
    else:
        bias_MN = tl.load(biases_MN)
    product_MN = tl.dot(query_ME, tl.trans(key_NE), input_precision="ieee")
    # Powers of 2 are one instruction: scores and biases are scaled by log2(e) instead of using exp.
    score_MN = product_MN * _LOG2_E + bias_MN
    if LAST:
        score_MN = tl.where((key_N < length)[None, :], score_MN, float("-inf"))
    before_M = largest_M
    largest_M = tl.maximum(before_M, tl.max(score_MN, axis=1))
    weight_MN = tl.exp2(score_MN - largest_M[:, None])
    shrink_M = tl.exp2(before_M - largest_M)  # 0 in the first block, where `before_M` is -inf
    total_M = total_M * shrink_M + tl.sum(weight_MN, axis=1)
    value_NE = tl.load(keys_NE + HEADS * WIDTH, mask=there_NE, other=0.0)
    sum_ME = tl.dot(
        weight_MN.to(value_NE.dtype), value_NE, sum_ME * shrink_M[:, None], input_precision="ieee"
    )
    return largest_M, total_M, sum_ME


# More than seven parameters: a kernel takes every pointer, stride and size as one of its own.
@triton.jit(do_not_specialize=["rows"])
def _add_norm(
    x: tl.tensor,
    y: tl.tensor,
    normalised: tl.tensor,
    rows: tl.tensor,
    epsilon: tl.tensor,
    ADD: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
) -> None:
    """Add a residual to a few rows, if ADD, and normalise them: one read and one write of each."""
    row_M = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    d_D = tl.arange(0, BLOCK_D)
    offset_MD = row_M.to(tl.int64)[:, None] * WIDTH + d_D[None, :]
    there_MD = (row_M < rows)[:, None] & (d_D < WIDTH)[None, :]
    x_MD = tl.load(x + offset_MD, mask=there_MD, other=0.0)
    if ADD:
        x_MD += tl.load(y + offset_MD, mask=there_MD, other=0.0).to(tl.float32)
        tl.store(x + offset_MD, x_MD, mask=there_MD)
    square_M = tl.sum(x_MD * x_MD, axis=1) / WIDTH
    scaled_MD = x_MD * tl.rsqrt(square_M + epsilon)[:, None]
    tl.store(normalised + offset_MD, scaled_MD.to(normalised.dtype.element_ty), mask=there_MD)
