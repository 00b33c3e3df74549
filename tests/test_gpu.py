"""The network on a GPU against transformers on the same one; without a GPU nothing of this runs.

    python -m pytest -m gpu tests/test_gpu.py

Needs torch, transformers and Triton, none of what the rest of the job is built on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import reference
import torch
from transformers import T5Config, T5ForConditionalGeneration

from sentiment.engine.batching import TokenBatcher
from sentiment.t5 import gpu as whole
from sentiment.t5.decoder import LabelTrie
from sentiment.t5.gpu_padded import PaddedOperations
from sentiment.t5.linear import (
    ActivatedLinear,
    Activation,
    DenseLinear,
    ResolvedPrecision,
    make_linear,
)
from sentiment.t5.network import T5
from sentiment.t5.shape import T5Shape, relative_buckets

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # Libraries of a GPU machine are its own, and so is what they warn of.
    pytest.mark.filterwarnings("default"),
]

CUDA = torch.device("cuda")
VOCABULARY = 1000
LENGTHS = (512, 511, 300, 257, 256, 129, 128, 127, 65, 64, 63, 17, 16, 2, 1, 700)
LABELS: list[tuple[int, ...]] = [(223,), (185,)]
FP32_LOGITS = 2e-5  # relative: float32, summed in another order
BF16_PROBABILITY = 0.01  # the output contract
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 0.015}  # absolute and relative, of a kernel

SHAPES: dict[str, dict[str, Any]] = {
    "t5-small": {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_heads": 8, "num_layers": 6},
    "built-in": {"d_model": 256, "d_kv": 32, "d_ff": 1024, "num_heads": 8, "num_layers": 4},
    "flan": {
        "d_model": 512, "d_kv": 64, "d_ff": 1024, "num_heads": 6, "num_layers": 8,
        "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=SHAPES)
def published(request: pytest.FixtureRequest) -> Any:
    """transformers' own model, float32, on the GPU, with a bias that is felt."""
    torch.manual_seed(3)
    config = T5Config(vocab_size=VOCABULARY, decoder_start_token_id=0, **SHAPES[request.param])
    network = T5ForConditionalGeneration(config)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "relative_attention_bias" in name:
                weight.normal_()
            elif "layer_norm" in name:
                weight.uniform_(0.5, 1.5)
        if not config.scale_decoder_outputs:  # untied, whatever transformers made of that
            head = torch.randn(VOCABULARY, config.d_model) * config.d_model**-0.5
            network.lm_head.weight = torch.nn.Parameter(head)
    return network.eval().to(CUDA)


def ours(published: Any, precision: ResolvedPrecision) -> T5:
    shape = T5Shape.from_config(published.config.to_dict())
    return T5(shape, published.state_dict(), precision=precision, device=CUDA)


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A node that Triton cannot compile on."""
    from sentiment.t5.gpu_fused import FusedOperations

    def fails(_: FusedOperations) -> None:
        raise RuntimeError("Failed to find C compiler")

    whole._tell.cache_clear()
    monkeypatch.setattr(FusedOperations, "try_out", fails)
    yield
    whole._tell.cache_clear()


@torch.no_grad()
def exact_logits(published: Any, rows: Sequence[np.ndarray]) -> torch.Tensor:
    """float32 logits of the first generated token, row by row: (rows, V)."""
    start_11 = torch.zeros(1, 1, dtype=torch.int64, device=CUDA)
    return torch.cat(
        [
            published(
                input_ids=torch.from_numpy(row[None].astype(np.int64)).to(CUDA),
                decoder_input_ids=start_11,
            ).logits[:, 0]
            for row in rows
        ]
    ).cpu()


def operations_of(network: T5) -> object:
    return network._encoder._walk._operations  # type: ignore[attr-defined]


def relative_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


# --- the network ----------------------------------------------------------------------------------


def test_float32_equals_transformers(published: Any) -> None:
    rows = reference.random_ids(LENGTHS, VOCABULARY)
    network = ours(published, "fp32")
    assert not isinstance(operations_of(network), PaddedOperations), "the kernels do not run here"
    found, exact = network.logits(rows), exact_logits(published, rows)
    assert relative_error(found, exact) < FP32_LOGITS
    assert max(map(relative_error, found, exact)) < 10 * FP32_LOGITS
    assert float(exact.std(dim=0).mean()) > 0.1, "rows must differ, or a mix-up passes"


@pytest.mark.parametrize("kernels", [True, False])
def test_bfloat16_stays_within_the_contract(
    published: Any, kernels: bool, request: pytest.FixtureRequest
) -> None:
    if not kernels:
        request.getfixturevalue("without_kernels")
    rows = reference.random_ids(LENGTHS * 4, VOCABULARY, seed=1)
    network = ours(published, "bf16")
    assert isinstance(operations_of(network), PaddedOperations) is not kernels
    scored = network.label_log_probs(rows, network.decoder(LabelTrie.build(LABELS, 0)))[:, 0]
    found = torch.softmax(torch.from_numpy(scored), dim=1)
    exact = torch.softmax(exact_logits(published, rows)[:, [223, 185]], dim=1)
    assert float((found - exact).abs().max()) < BF16_PROBABILITY
    assert float(exact[:, 0].std()) > 0.05


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_node_without_a_compiler_answers_the_same(
    published: Any,
    precision: ResolvedPrecision,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = reference.random_ids(LENGTHS, VOCABULARY, seed=2)
    with_kernels = ours(published, precision).logits(rows)
    assert "do not run here" not in caplog.text
    request.getfixturevalue("without_kernels")
    with caplog.at_level(logging.WARNING):
        network = ours(published, precision)
    assert "Failed to find C compiler" in caplog.text
    assert isinstance(operations_of(network), PaddedOperations)
    bound = FP32_LOGITS if precision == "fp32" else 0.03
    assert relative_error(network.logits(rows), with_kernels) < bound


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_row_does_not_depend_on_its_batch(published: Any, precision: ResolvedPrecision) -> None:
    rows = reference.random_ids(LENGTHS, VOCABULARY, seed=3)
    network = ours(published, precision)
    alone = torch.cat([network.logits([row]) for row in rows])
    bound = FP32_LOGITS if precision == "fp32" else 0.03
    assert relative_error(network.logits(rows), alone) < bound
    assert relative_error(network.logits(rows[::-1]).flip(0), alone) < bound


@pytest.mark.parametrize("kernels", [True, False])
@torch.inference_mode()
def test_nothing_is_waited_for_within_a_batch(
    published: Any, kernels: bool, request: pytest.FixtureRequest
) -> None:
    """The host runs ahead of the GPU, or small batches take as long as it takes to launch them."""
    if not kernels:
        request.getfixturevalue("without_kernels")
    network = ours(published, "bf16")
    decoder = network.decoder(LabelTrie.build([(223,), (3, 419)], 0))
    rows = reference.random_ids(LENGTHS, VOCABULARY)
    once = decoder.label_log_probs(*network.encode(rows))
    torch.cuda.set_sync_debug_mode("error")
    try:
        again = decoder.label_log_probs(*network.encode(rows))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(again, once)


def test_a_batch_that_does_not_fit_is_cut_until_it_does(published: Any) -> None:
    rows = reference.random_ids([512] * 64, VOCABULARY, seed=4)
    network = ours(published, "bf16")
    decoder = network.decoder(LabelTrie.build(LABELS, 0))
    expected = network.label_log_probs(rows, decoder)
    answers = np.zeros_like(expected)

    def keep(picked: list[int], values: Any) -> None:
        answers[picked] = values

    batcher = TokenBatcher(512 * len(rows))
    torch.cuda.empty_cache()
    room_bytes = torch.cuda.memory_reserved() + 100 * 2**20
    total_bytes = torch.cuda.get_device_properties(CUDA).total_memory
    torch.cuda.set_per_process_memory_fraction(room_bytes / total_bytes)
    try:
        failed = batcher.run(
            [len(row) for row in rows],
            lambda picked: network.label_log_probs([rows[n] for n in picked], decoder),
            keep,
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert failed == {}
    assert batcher.batch_tokens < 512 * len(rows)
    np.testing.assert_allclose(answers, expected, atol=0.02)


def test_the_gpu_sorts_distances_into_the_same_buckets(published: Any) -> None:
    shape = T5Shape.from_config(published.config.to_dict())
    distances = torch.arange(-3000, 3001)
    here = relative_buckets(distances, shape, both_ways=True)
    assert torch.equal(relative_buckets(distances.to(CUDA), shape, both_ways=True).cpu(), here)


# --- the kernels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("width", [24, 32, 64, 128])
@pytest.mark.parametrize("dtype", TOLERANCE.keys(), ids=str)
def test_attention_equals_float64(dtype: torch.dtype, width: int, direct: bool) -> None:
    from sentiment.t5.gpu_kernels import LOG2_E, AttentionBlocks, Tiles, attend

    blocks = replace(AttentionBlocks.suited_to(dtype), direct=direct)
    qkv_T3HE = torch.randn(sum(LENGTHS), 3, 5, width, device=CUDA)
    qkv_T3HE[:, 0] *= width**-0.5
    qkv_T3HE = qkv_T3HE.to(dtype)
    bias_HS = torch.randn(5, 2 * 768 - 1, device=CUDA)
    found_TA = attend(qkv_T3HE, Tiles.of(LENGTHS, blocks.queries, CUDA), bias_HS * LOG2_E, blocks)
    exact_TA = reference.exact_attention(qkv_T3HE, LENGTHS, bias_HS)
    torch.testing.assert_close(
        found_TA.double(), exact_TA, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype]
    )


def test_attention_reaches_beyond_two_to_the_31_numbers() -> None:
    from sentiment.t5.gpu_kernels import LOG2_E, AttentionBlocks, Tiles, attend

    heads, width, lengths = 64, 64, [512] * 350
    if torch.cuda.mem_get_info()[0] < 12 * 2**30:
        pytest.skip("needs 12 GB of GPU memory")
    qkv_T3HE = torch.zeros(sum(lengths), 3, heads, width, dtype=torch.bfloat16, device=CUDA)
    assert qkv_T3HE.numel() > 2**31
    qkv_T3HE[-512:].normal_(std=0.3)
    bias_HS = torch.randn(heads, 2 * 512 - 1, device=CUDA)
    blocks = AttentionBlocks.suited_to(torch.bfloat16)
    found_TA = attend(qkv_T3HE, Tiles.of(lengths, blocks.queries, CUDA), bias_HS * LOG2_E, blocks)
    exact_TA = reference.exact_attention(qkv_T3HE[-512:], [512], bias_HS)
    torch.testing.assert_close(found_TA[-512:].double(), exact_TA, atol=0.01, rtol=0)
    assert not found_TA[:-512].any()


@pytest.mark.parametrize("added", [True, False])
@pytest.mark.parametrize("width", [96, 512, 768, 1024, 4096])
@pytest.mark.parametrize("dtype", TOLERANCE.keys(), ids=str)
def test_add_norm_equals_float64(dtype: torch.dtype, width: int, added: bool) -> None:
    from sentiment.t5.gpu_kernels import NormBlocks, add_norm

    x_TD = 3 * torch.randn(1003, width, device=CUDA)
    y_TD = torch.randn(1003, width, device=CUDA).to(dtype) if added else None
    sum_TD = x_TD.double() + (0 if y_TD is None else y_TD.double())
    exact_TD = sum_TD * torch.rsqrt(sum_TD.square().mean(1, keepdim=True) + 1e-6)
    found_TD = add_norm(x_TD, y_TD, dtype, 1e-6, NormBlocks())
    torch.testing.assert_close(x_TD.double(), sum_TD, atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(
        found_TD.double(), exact_TD, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype]
    )


@pytest.mark.parametrize("activation", ["relu", "gelu_tanh"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_activation_at_the_end_of_a_product_equals_one_after_it(
    precision: ResolvedPrecision, activation: Activation
) -> None:
    weight_ND, x_TD = torch.randn(2048, 512, device=CUDA), torch.randn(300, 512, device=CUDA)
    fused = make_linear(weight_ND, precision, activation=activation)
    assert isinstance(fused, ActivatedLinear)
    plain = DenseLinear(weight_ND.to(fused(x_TD).dtype), activation)
    bound = 1e-5 if precision == "fp32" else 1e-2
    assert relative_error(fused(x_TD).float(), plain(x_TD).float()) < bound
    if activation == "relu":
        assert float(fused(x_TD).min()) == 0
