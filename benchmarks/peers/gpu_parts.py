"""The parts of a layer on a GPU, each by itself: products, attention and norm, cut in several ways.

Takes a shape and the lengths of a batch, prints tables, gives the same as figures. A part alone
finds its input in the cache more often than in a layer, so their sum is less than a batch takes.

Shapes: T tokens, D model width, H heads, E head width.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch

from sentiment.t5.gpu_padded import PaddedOperations
from sentiment.t5.linear import DenseLinear, make_linear
from sentiment.t5.shape import T5Shape

CUDA = torch.device("cuda")
PRODUCT = 8192

# Queries, keys, warps and stages of attention in bf16 that may be worth a try.
ATTENTION_CUTS = [
    (queries, keys, warps, stages)
    for queries, warps in ((64, 4), (128, 4), (128, 8))
    for keys in (32, 64, 128)
    for stages in (2, 3)
]
NORM_CUTS = [(1, 1), (1, 2), (1, 4), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8)]


def median_ms(run: Callable[[], Any], rounds: int = 20) -> float:
    """Median milliseconds on the GPU, after some runs that are not counted."""
    for _ in range(5):
        run()
    pairs = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)]
    for start, end in pairs:
        start.record()
        run()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in pairs)


def matmul_tflops() -> float:
    """What this card makes of a product of 8192 x 8192 x 8192 in bf16, on random numbers."""
    a, b = torch.randn(2, PRODUCT, PRODUCT, device=CUDA, dtype=torch.bfloat16)
    return 2 * PRODUCT**3 / median_ms(lambda: a @ b) / 1e9


@torch.inference_mode()
def describe_parts(shape: T5Shape, lengths: Sequence[int]) -> dict[str, Any]:
    """Times of every part over one batch, in milliseconds."""
    print(f"{len(lengths)} reviews of {sum(lengths)} tokens, longest {max(lengths)}\n")
    parts = {
        "products": _products(shape, sum(lengths)),
        "attention": _attentions(shape, lengths),
        "norm": _norms(shape, sum(lengths)),
    }
    for part, times in parts.items():
        print(f"| {part} | ms | |\n|---|---|---|")
        for name, (ms, said) in sorted(times.items(), key=lambda item: item[1][0]):
            print(f"| {name} | {ms:.3f} | {said} |")
        print()
    return parts


Times = dict[str, tuple[float, str]]


def _products(shape: T5Shape, tokens: int) -> Times:
    attention, width, wide = shape.attention_width, shape.width, shape.ff_width
    times: Times = {}
    for name, inputs, outputs in (
        ("qkv", width, 3 * attention),
        ("out", attention, width),
        ("into", width, wide),
        ("wo", wide, width),
    ):
        x_TD = torch.randn(tokens, inputs, device=CUDA, dtype=torch.bfloat16)
        weight_ND = torch.randn(outputs, inputs, device=CUDA) * inputs**-0.5
        linears = {name: make_linear(weight_ND, "bf16")}
        if name == "into":
            linears["into, ReLU fused"] = make_linear(weight_ND, "bf16", activation="relu")
            linears["into, ReLU after"] = DenseLinear(weight_ND.bfloat16(), "relu")
        for label, linear in linears.items():
            ms = median_ms(lambda linear=linear, x_TD=x_TD: linear(x_TD))
            times[label] = ms, f"{2 * tokens * inputs * outputs / ms / 1e9:.0f} TFLOP/s"
    return times


def _attentions(shape: T5Shape, lengths: Sequence[int]) -> Times:
    from sentiment.t5.gpu_fused import FusedOperations
    from sentiment.t5.gpu_kernels import AttentionBlocks

    qkv_T3HE = torch.randn(
        sum(lengths), 3, shape.heads, shape.head_width, device=CUDA, dtype=torch.bfloat16
    )
    qkv_T3HE[:, 0] *= shape.head_width**-0.5
    weight_KH = torch.randn(shape.buckets, shape.heads, device=CUDA)
    flop = 4 * shape.attention_width * sum(length**2 for length in lengths)
    usual = AttentionBlocks.suited_to(torch.bfloat16)
    wanted_TA = FusedOperations(shape, weight_KH, torch.bfloat16).attention(lengths, CUDA)(qkv_T3HE)

    def timed(attend: Callable[[torch.Tensor], torch.Tensor]) -> tuple[float, str]:
        error = float((attend(qkv_T3HE).float() - wanted_TA.float()).abs().max())
        ms = median_ms(lambda: attend(qkv_T3HE))
        return ms, f"{flop / ms / 1e9:.0f} TFLOP/s, differs by {error:.3f}"

    padded = PaddedOperations(shape, weight_KH, torch.bfloat16)
    times: Times = {"padded": timed(padded.attention(lengths, CUDA))}
    for direct in (True, False):
        for queries, keys, warps, stages in ATTENTION_CUTS:
            blocks = AttentionBlocks(queries, keys, warps, stages, direct)
            mark = " (in use)" if blocks == usual else ""
            name = ", ".join(f"{k} {v}" for k, v in dataclasses.asdict(blocks).items()) + mark
            operations = FusedOperations(shape, weight_KH, torch.bfloat16, attention=blocks)
            try:
                times[name] = timed(operations.attention(lengths, CUDA))
            except Exception as error:  # too much shared memory, mostly
                print(f"{name}: {type(error).__name__}: {str(error)[:100]}")
    return times


def _norms(shape: T5Shape, tokens: int) -> Times:
    from sentiment.t5.gpu_kernels import NormBlocks, add_norm

    x_TD = torch.randn(tokens, shape.width, device=CUDA)
    y_TD = torch.randn(tokens, shape.width, device=CUDA).bfloat16()
    padded = PaddedOperations(shape, torch.zeros(shape.buckets, shape.heads), torch.bfloat16)
    moved_bytes = tokens * shape.width * (4 + 2 + 4 + 2)
    runs: dict[str, Callable[[], Any]] = {
        "PyTorch": lambda: padded.add_norm(x_TD, y_TD, torch.bfloat16)
    }
    for rows, warps in NORM_CUTS:
        blocks = NormBlocks(rows, warps)
        mark = " (in use)" if blocks == NormBlocks() else ""
        runs[f"rows {rows}, warps {warps}{mark}"] = lambda blocks=blocks: add_norm(
            x_TD, y_TD, torch.bfloat16, shape.epsilon, blocks
        )
    times = {name: median_ms(run) for name, run in runs.items()}
    return {name: (ms, f"{moved_bytes / ms / 1e6:.0f} GB/s") for name, ms in times.items()}
