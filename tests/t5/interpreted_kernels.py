"""The kernels in Triton's interpreter, on a CPU: a session of its own, see `test_t5_kernels.py`.

Triton decides at its import whether it compiles or interprets, so TRITON_INTERPRET=1 must be set
before. What a GPU makes of them is for `tests/test_gpu.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import reference
import tiny_models
import torch
from hypothesis import given
from hypothesis import strategies as st
from triton.runtime import interpreter

from sentiment.t5 import encoder
from sentiment.t5.gpu import WholeBatch
from sentiment.t5.gpu_fused import FusedOperations
from sentiment.t5.gpu_kernels import LOG2_E, AttentionBlocks, NormBlocks, Tiles, add_norm, attend
from sentiment.t5.linear import ResolvedPrecision

# Around the edges of blocks of 16 and 32, and whole blocks of both.
LENGTHS = (150, 64, 49, 47, 33, 32, 31, 17, 16, 15, 1)
BLOCKS = {
    "more queries": AttentionBlocks(queries=32, keys=16, warps=4, stages=2, direct=False),
    "more keys": AttentionBlocks(queries=16, keys=32, warps=4, stages=2, direct=False),
}
# Absolute and relative: of a number that is rounded three times on its way.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.015}
CPU = reference.CPU


@pytest.fixture(scope="module", autouse=True)
def mended_interpreter() -> Any:
    """Triton 3.6 with numpy from 2.4 on, and its products of bfloat16, which it keeps as uint16."""
    patch_tensor, dot = interpreter._patch_lang_tensor, interpreter.InterpreterBuilder.create_dot

    def patched(tensor: Any, scope: Any) -> None:
        patch_tensor(tensor, scope)
        # numpy no longer makes an int of an array of one number.
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    def widened(handle: Any) -> Any:
        if handle.data.dtype != np.uint16:
            return handle
        wide = (handle.data.astype(np.uint32) << 16).view(np.float32)
        return interpreter.TensorHandle(wide, interpreter.tl.float32)

    def mended_dot(self: Any, a: Any, b: Any, *others: Any) -> Any:
        return dot(self, widened(a), widened(b), *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_patch_lang_tensor", patched)
        patch.setattr(interpreter.InterpreterBuilder, "create_dot", mended_dot)
        yield


def random_qkv(lengths: Sequence[int], width: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(sum(lengths), 3, 2, width).to(dtype)


@pytest.mark.parametrize(
    ("width", "cut"), [(24, "more queries"), (32, "more keys"), (64, "more queries")]
)
@pytest.mark.parametrize("dtype", TOLERANCE.keys(), ids=str)
def test_attention_equals_float64(dtype: torch.dtype, width: int, cut: str) -> None:
    blocks = BLOCKS[cut]
    qkv_T3HE = random_qkv(LENGTHS, width, dtype)
    bias_HS = torch.randn(2, 2 * 160 - 1)
    tiles = Tiles.of(LENGTHS, blocks.queries, CPU)
    found_TA = attend(qkv_T3HE, tiles, bias_HS * LOG2_E, blocks)
    exact_TA = reference.exact_attention(qkv_T3HE, LENGTHS, bias_HS)
    assert found_TA.dtype == dtype
    torch.testing.assert_close(
        found_TA.double(), exact_TA, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype]
    )
    assert float(exact_TA.std()) > 10 * TOLERANCE[dtype]


def test_large_scores_do_not_overflow() -> None:
    qkv_T3HE = 10 * random_qkv((40, 3), 32, torch.float32)
    blocks, bias_HS = BLOCKS["more queries"], torch.zeros(2, 2 * 64 - 1)
    found_TA = attend(qkv_T3HE, Tiles.of((40, 3), blocks.queries, CPU), bias_HS, blocks)
    exact_TA = reference.exact_attention(qkv_T3HE, (40, 3), bias_HS)
    torch.testing.assert_close(found_TA.double(), exact_TA, atol=0.02, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")  # numpy's, of the interpreter
def test_what_is_no_number_stays_in_its_sequence() -> None:
    lengths, blocks = (20, 30, 17), BLOCKS["more queries"]
    qkv_T3HE = random_qkv(lengths, 32, torch.float32)
    qkv_T3HE[20:50] = float("nan")
    bias_HS = torch.randn(2, 2 * 32 - 1)
    found_TA = attend(qkv_T3HE, Tiles.of(lengths, blocks.queries, CPU), bias_HS, blocks)
    assert found_TA[20:50].isnan().all()
    assert found_TA[:20].isfinite().all()
    assert found_TA[50:].isfinite().all()


def test_a_table_that_is_too_short_is_refused() -> None:
    """A GPU would read past its end."""
    blocks = BLOCKS["more queries"]
    with pytest.raises(AssertionError):
        attend(
            random_qkv((33,), 32, torch.float32),
            Tiles.of((33,), blocks.queries, CPU),
            torch.zeros(2, 2 * 48 - 1),
            blocks,
        )


@given(
    lengths=st.lists(st.integers(1, 600), min_size=1, max_size=40),
    queries=st.sampled_from([16, 64, 128]),
)
def test_tiles_hold_every_row_once_and_none_is_empty(lengths: list[int], queries: int) -> None:
    tiles = Tiles.of(lengths, queries, CPU)
    assert (tiles.queries, tiles.longest) == (queries, max(lengths))
    rows, owners = [], []
    for start, length, first in tiles.tile_P3.tolist():
        assert first < length
        rows += range(start + first, start + min(first + queries, length))
        owners.append((start, length))
    assert rows == list(range(sum(lengths)))
    starts = np.cumsum([0, *lengths[:-1]]).tolist()
    assert list(dict.fromkeys(owners)) == list(zip(starts, lengths, strict=True))


@pytest.mark.parametrize("width", [24, 96, 128])
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("dtype", TOLERANCE.keys(), ids=str)
def test_add_norm_equals_float64(dtype: torch.dtype, rows: int, width: int) -> None:
    x_TD, y_TD = 3 * torch.randn(13, width), torch.randn(13, width).to(dtype)
    sum_TD = x_TD.double() + y_TD.double()
    exact_TD = sum_TD * torch.rsqrt(sum_TD.square().mean(1, keepdim=True) + 0.1)
    found_TD = add_norm(x_TD, y_TD, dtype, 0.1, NormBlocks(rows, 4))
    assert found_TD.dtype == dtype
    torch.testing.assert_close(x_TD.double(), sum_TD, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(
        found_TD.double(), exact_TD, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype]
    )


def test_nothing_to_add_leaves_the_stream_as_it_was() -> None:
    x_TD = torch.randn(5, 32)
    before_TD = x_TD.clone()
    found_TD = add_norm(x_TD, None, torch.float32, 1e-6, NormBlocks())
    assert torch.equal(x_TD, before_TD)
    exact_TD = torch.nn.functional.rms_norm(before_TD, (32,), eps=1e-6)
    torch.testing.assert_close(found_TD, exact_TD)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", ["tiny_v1_0", "tiny_v1_1", "tiny_mt5"])
def test_a_network_with_kernels_equals_one_without(
    family: str, precision: ResolvedPrecision, vocabulary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = getattr(tiny_models, family)(vocabulary)
    rows = reference.random_ids((40, 16, 2, 1), tiny_models.SHAPE.vocab_size)
    exact = reference.our_t5(published).logits(rows)

    def fused(shape: Any, layers: Any, bias: Any) -> WholeBatch:
        table_KH = published.state_dict()[
            "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        ]
        operations = FusedOperations(
            shape, table_KH, bias.dtype, attention=BLOCKS["more queries"], norm=NormBlocks(4, 4)
        )
        operations.try_out()
        return WholeBatch(shape, layers, bias.dtype, operations)

    monkeypatch.setattr(encoder, "InPieces", fused)
    found = reference.our_t5(published, precision).logits(rows)
    error = float((found - exact).norm() / exact.norm())
    assert error < (1e-5 if precision == "fp32" else 0.03)
