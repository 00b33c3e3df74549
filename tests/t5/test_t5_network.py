"""Our forward against transformers': every family, any lengths, any labels, each precision."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import reference
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import T5Config, T5ForConditionalGeneration

from sentiment.errors import ModelError
from sentiment.t5 import cpu as pieces
from sentiment.t5 import decoder, encoder
from sentiment.t5 import gpu_padded as padded
from sentiment.t5.cpu import InPieces
from sentiment.t5.decoder import LabelTrie
from sentiment.t5.gpu import WholeBatch
from sentiment.t5.gpu_padded import PaddedOperations
from sentiment.t5.linear import ResolvedPrecision
from sentiment.t5.network import T5
from sentiment.t5.shape import T5Shape

FAMILIES = ("tiny_v1_0", "tiny_v1_1", "tiny_mt5")
# Relative errors of a batch's logits. A single row may have ten times that: transformers' own
# float32 is that far from its float64 where a row's terms cancel.
FP32_LOGITS = 1e-5  # float32, summed in another order
BF16_LOGITS = 0.03  # three significant digits a few layers deep, only 32 wide
INT8_LOGITS = 0.1
LOG_PROBS = 1e-4
VOCABULARY = tiny_models.SHAPE.vocab_size

# The far end of the bias, a table that grows and is cut, and rows of a single token.
MIXED_LENGTHS = (1, 64, 600, 65, 2, 129, 17, 1, 300)
LABELS: list[tuple[int, ...]] = [(3, 419), (3, 323, 31), (223,), (3, 419, 7)]

needs_int8 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="8-bit products are oneDNN's"
)


@pytest.fixture(scope="module")
def networks(vocabulary: Path) -> dict[str, Any]:
    """transformers' own model of each family."""
    return {name: getattr(tiny_models, name)(vocabulary) for name in FAMILIES}


@pytest.fixture(scope="module")
def ours(networks: dict[str, Any]) -> dict[str, T5]:
    """The same in our forward, float32, kept for all tests: none may depend on another."""
    return {name: reference.our_t5(network) for name, network in networks.items()}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tensors(networks: dict[str, Any]) -> dict[str, torch.Tensor]:
    """A checkpoint of T5 v1.1 that a test may change."""
    return {name: tensor.clone() for name, tensor in networks["tiny_v1_1"].state_dict().items()}


def relative_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    assert found.shape == exact.shape
    assert found.dtype == torch.float32
    return float((found - exact).norm() / exact.norm())


def worst_row(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Relative error of the worst row, so that none hides behind the others."""
    return max(map(relative_error, found, exact))


def assert_near(found: torch.Tensor, exact: torch.Tensor, bound: float) -> None:
    assert relative_error(found, exact) < bound
    assert worst_row(found, exact) < 10 * bound


def t5_of(shape: T5Shape, tensors: dict[str, torch.Tensor]) -> T5:
    return T5(shape, tensors, precision="fp32", device=reference.CPU)


def scorer_of(network: T5, labels: list[tuple[int, ...]]) -> Callable[[Any], Any]:
    made = network.decoder(LabelTrie.build(labels, network.shape.start_id))
    return lambda rows: network.label_log_probs(rows, made)[:, 0]


# --- logits ---------------------------------------------------------------------------------------


def test_logits_equal_transformers(
    family: str, networks: dict[str, Any], ours: dict[str, T5]
) -> None:
    rows = reference.random_ids(MIXED_LENGTHS, VOCABULARY)
    exact = reference.first_logits(networks[family], rows)
    assert_near(ours[family].logits(rows), exact, FP32_LOGITS)
    assert float(exact.std(dim=0).mean()) > 0.1, "rows must differ, or a mix-up passes"


@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 600), min_size=1, max_size=6),
    seed=st.integers(0, 99),
    family=st.sampled_from(FAMILIES),
)
def test_logits_equal_transformers_for_any_lengths(
    networks: dict[str, Any], ours: dict[str, T5], lengths: list[int], seed: int, family: str
) -> None:
    rows = reference.random_ids(lengths, VOCABULARY, seed)
    exact = reference.first_logits(networks[family], rows)
    assert worst_row(ours[family].logits(rows), exact) < 10 * FP32_LOGITS


def test_logits_of_five_hundred_sequences_equal_transformers(
    family: str, networks: dict[str, Any], ours: dict[str, T5]
) -> None:
    lengths = np.random.default_rng(5).choice([1, 2, 5, 11, 23, 47, 96], size=500)
    rows = reference.random_ids([600, *lengths[1:]], VOCABULARY)
    exact = reference.first_logits(networks[family], rows)
    assert_near(ours[family].logits(rows), exact, FP32_LOGITS)


def test_a_row_does_not_depend_on_its_batch(family: str, ours: dict[str, T5]) -> None:
    rows = reference.random_ids(MIXED_LENGTHS, VOCABULARY)
    alone = torch.cat([ours[family].logits([row]) for row in rows])
    assert_near(ours[family].logits(rows), alone, FP32_LOGITS)
    assert_near(ours[family].logits(rows[::-1]), alone.flip(0), FP32_LOGITS)


@pytest.mark.parametrize(
    "config",
    [
        {"d_kv": 5, "num_heads": 2},  # heads together narrower than the model
        {"d_kv": 16, "num_heads": 5},  # and wider
        {"num_heads": 1},
        {"num_layers": 1, "num_decoder_layers": 3},
        {"feed_forward_proj": "gelu"},
        {"feed_forward_proj": "gelu_new"},
        {"feed_forward_proj": "gated-relu"},
        {"feed_forward_proj": "gated-silu"},
        {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20},
        {"layer_norm_epsilon": 0.1},
        {"decoder_start_token_id": 17},
        {"pad_token_id": 3, "decoder_start_token_id": 3},
        {"tie_word_embeddings": False},
    ],
    ids=str,
)
def test_an_unusual_t5_equals_transformers(config: dict[str, Any]) -> None:
    values = {
        "vocab_size": 50, "d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 3,
        "decoder_start_token_id": 0, **config,
    }  # fmt: skip
    network = tiny_models.randomised(T5ForConditionalGeneration(T5Config(**values)))
    rows = reference.random_ids((1, 7, 40, 90), 50)
    found = reference.our_t5(network)
    exact = reference.first_logits(network, rows)
    assert_near(found.logits(rows), exact, FP32_LOGITS)
    labels = [(4, 5), (4, 6, 7), (8,)]
    np.testing.assert_allclose(
        scorer_of(found, labels)(rows),
        reference.label_log_probs(network, rows, labels),
        atol=LOG_PROBS,
        rtol=0,
    )


# --- labels ---------------------------------------------------------------------------------------


# Few different tokens, so that most draws share beginnings.
@settings(max_examples=15, deadline=None)
@given(
    labels=st.lists(
        st.lists(st.sampled_from([3, 4, 223, 599]), min_size=1, max_size=4).map(tuple),
        min_size=2,
        max_size=6,
        unique=True,
    ),
    lengths=st.lists(st.integers(1, 80), min_size=1, max_size=5),
    family=st.sampled_from(FAMILIES),
)
def test_label_log_probs_equal_teacher_forcing(
    networks: dict[str, Any],
    ours: dict[str, T5],
    labels: list[tuple[int, ...]],
    lengths: list[int],
    family: str,
) -> None:
    rows = reference.random_ids(lengths, VOCABULARY, len(labels))
    found = scorer_of(ours[family], labels)(rows)
    assert (found.dtype, found.shape) == (np.float32, (len(rows), len(labels)))
    exact = reference.label_log_probs(networks[family], rows, labels)
    np.testing.assert_allclose(found, exact, atol=LOG_PROBS, rtol=0)


def test_label_log_probs_of_a_large_batch_equal_teacher_forcing(
    family: str, networks: dict[str, Any], ours: dict[str, T5]
) -> None:
    lengths = np.random.default_rng(6).choice([1, 3, 9, 31], size=300)
    rows = reference.random_ids([600, *lengths], VOCABULARY)
    exact = reference.label_log_probs(networks[family], rows, LABELS)
    np.testing.assert_allclose(scorer_of(ours[family], LABELS)(rows), exact, atol=LOG_PROBS, rtol=0)


def test_labels_of_one_token_are_read_off_the_first_logits(
    family: str, ours: dict[str, T5]
) -> None:
    """A lone start token takes the shortcut of one self-attention matrix; a trie does not."""
    rows = reference.random_ids((4, 30), VOCABULARY)
    log_probs = torch.log_softmax(ours[family].logits(rows).double(), dim=-1).numpy()
    alone = scorer_of(ours[family], [(223,), (185,)])(rows)
    np.testing.assert_allclose(alone, log_probs[:, [223, 185]], atol=LOG_PROBS, rtol=0)
    beside = scorer_of(ours[family], [(223,), (185,), (3, 419)])(rows)
    np.testing.assert_allclose(beside[:, :2], alone, atol=LOG_PROBS, rtol=0)


def test_two_decoders_do_not_disturb_each_other(family: str, networks: dict[str, Any]) -> None:
    network = reference.our_t5(networks[family])
    rows = reference.random_ids((4, 30), VOCABULARY)
    other_labels: list[tuple[int, ...]] = [(55, 19, 8), (55,)]
    first = scorer_of(network, LABELS)
    before, logits = first(rows), network.logits(rows)
    second = scorer_of(network, other_labels)
    np.testing.assert_allclose(
        second(rows),
        reference.label_log_probs(networks[family], rows, other_labels),
        atol=LOG_PROBS,
        rtol=0,
    )
    np.testing.assert_array_equal(first(rows), before)
    assert torch.equal(network.logits(rows), logits)


def test_logits_of_a_large_vocabulary_are_made_in_parts(
    family: str, ours: dict[str, T5], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = reference.random_ids(MIXED_LENGTHS, VOCABULARY)
    score = scorer_of(ours[family], LABELS)
    whole = score(rows)
    nodes = 4
    sizes: list[int] = []
    logits = decoder.TrieDecoder._logits

    def counted(self: decoder.TrieDecoder, hidden_BMD: torch.Tensor) -> torch.Tensor:
        sizes.append(len(hidden_BMD))
        return logits(self, hidden_BMD)

    monkeypatch.setattr(decoder.TrieDecoder, "_logits", counted)
    for rows_of_a_part, parts in ((2, [2, 2, 2, 2, 1]), (0, [1] * 9)):
        monkeypatch.setattr(decoder, "_LOGITS_BYTES", 4 * VOCABULARY * nodes * rows_of_a_part)
        sizes.clear()
        np.testing.assert_allclose(score(rows), whole, atol=LOG_PROBS, rtol=0)
        assert sizes == parts


def test_scoring_a_row_again_gives_the_same(family: str, ours: dict[str, T5]) -> None:
    """A batch of one must not write into what all batches start from."""
    score = scorer_of(ours[family], LABELS)
    [row] = reference.random_ids((9,), VOCABULARY)
    first = score([row])
    np.testing.assert_array_equal(score([row]), first)
    np.testing.assert_allclose(score([row, row]), np.repeat(first, 2, axis=0), atol=LOG_PROBS)


# --- pieces and groups of a batch -----------------------------------------------------------------


@pytest.mark.parametrize("piece_rows", [1, 240, 10_000], ids=["alone", "some", "all"])
def test_a_batch_in_pieces_equals_a_batch_in_one(
    family: str, ours: dict[str, T5], piece_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = reference.random_ids((300, 120, 90, 90, 64, 40, 2, 1, 1), VOCABULARY)
    usual = ours[family].logits(rows)
    attend, sizes = InPieces._attend, []

    def counted(self: InPieces, qkv_r3HE: torch.Tensor, lengths: Any) -> torch.Tensor:
        sizes.append(len(lengths))
        return attend(self, qkv_r3HE, lengths)

    monkeypatch.setattr(InPieces, "_attend", counted)
    monkeypatch.setattr(pieces, "_PIECE_ROWS", piece_rows)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert_near(ours[family].logits(rows), usual, FP32_LOGITS)
    expected = {1: [1] * 9, 240: [1, 3, 5], 10_000: [9]}[piece_rows]
    assert sizes == expected * ours[family].shape.encoder_layers


@given(
    lengths=st.lists(st.integers(1, 600), min_size=1, max_size=60),
    least_rows=st.integers(1, 2000),
)
def test_pieces_hold_every_sequence_once_and_enough_of_them(
    lengths: list[int], least_rows: int
) -> None:
    rows = [pieces._rows(length) for length in lengths]
    x_RD = torch.arange(sum(rows)).view(-1, 1)
    found = list(pieces._pieces(x_RD, lengths, least_rows))
    assert [length for _, piece in found for length in piece] == lengths
    assert torch.equal(torch.cat([x_rD for x_rD, _ in found]), x_RD)
    for x_rD, piece in found:
        assert len(x_rD) == sum(map(pieces._rows, piece))
        assert sum(map(pieces._rows, piece[:-1])) < 2 * least_rows, "a piece of two is two pieces"
    assert all(len(x_rD) >= least_rows for x_rD, _ in found[:-1])
    # Views: what a layer adds to a piece must reach the batch.
    found[-1][0].fill_(-1)
    assert int(x_RD[-1, 0]) == -1


@given(sequences=st.integers(1, 3000), least_sequences=st.integers(1, 1000))
def test_pieces_leave_no_small_rest(sequences: int, least_sequences: int) -> None:
    rows = pieces._rows(1)
    found = pieces._pieces(
        torch.zeros(rows * sequences, 1), [1] * sequences, rows * least_sequences
    )
    sizes = [len(lengths) for _, lengths in found]
    assert len(sizes) == max(1, sequences // least_sequences)
    assert max(sizes) - min(sizes) <= 1


@given(lengths=st.lists(st.integers(1, 100), min_size=1, max_size=20))
def test_sequences_start_at_steps_and_keep_their_order(lengths: list[int]) -> None:
    """So that a night of reviews has few shapes for oneDNN to compile kernels for."""
    expected, start = [], 0
    for length in lengths:
        assert start % 16 == 0
        expected += range(start, start + length)
        start += pieces._rows(length)
    assert pieces._real_rows(lengths).tolist() == expected


def test_rows_to_spare_change_nothing(
    family: str, ours: dict[str, T5], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = reference.random_ids((300, 120, 48, 17, 16, 15, 2, 1, 1), VOCABULARY)
    usual = ours[family].logits(rows)
    monkeypatch.setattr(pieces, "_STEP", 1)
    assert_near(ours[family].logits(rows), usual, FP32_LOGITS)


def test_an_encoder_may_have_no_blocks(family: str, networks: dict[str, Any]) -> None:
    """Fine-tuning takes them out for its first epochs."""
    shape = T5Shape.from_config(networks[family].config.to_dict())
    bare = dataclasses.replace(shape, encoder_layers=0)
    tensors = {
        name: tensor
        for name, tensor in networks[family].state_dict().items()
        if not name.startswith("encoder.block.")
    }
    rows = reference.random_ids((1, 40, 7), VOCABULARY)
    network = copy.deepcopy(networks[family])
    network.encoder.block = torch.nn.ModuleList()
    exact = reference.first_logits(network, rows)
    assert_near(t5_of(bare, tensors).logits(rows), exact, FP32_LOGITS)


# --- a GPU's attention, on the CPU ----------------------------------------------------------------


@pytest.mark.parametrize("mask_bytes", [1, 300_000, 2**28], ids=["alone", "some", "all"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_attention_in_groups_equals_one_by_one(
    family: str,
    networks: dict[str, Any],
    mask_bytes: int,
    precision: ResolvedPrecision,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = reference.random_ids((120, 90, 90, 64, 40, 2, 1, 1, 7), VOCABULARY)
    one_by_one = reference.our_t5(networks[family], precision).logits(rows)
    fused = torch.nn.functional.scaled_dot_product_attention
    groups: list[int] = []

    def counted(query_GHSE: torch.Tensor, *passed: Any, **named: Any) -> torch.Tensor:
        groups.append(len(query_GHSE))
        return fused(query_GHSE, *passed, **named)

    def as_on_a_gpu(shape: T5Shape, layers: Any, bias: Any) -> WholeBatch:
        operations = PaddedOperations(shape, bias._weight_KH, bias.dtype)
        return WholeBatch(shape, layers, bias.dtype, operations)

    monkeypatch.setattr(encoder, "InPieces", as_on_a_gpu)
    monkeypatch.setattr(padded, "_MASK_BYTES", mask_bytes)
    monkeypatch.setattr(padded.F, "scaled_dot_product_attention", counted)
    network = reference.our_t5(networks[family], precision)
    bound = FP32_LOGITS if precision == "fp32" else BF16_LOGITS
    assert_near(network.logits(rows), one_by_one, bound)
    of_a_layer = groups[: len(groups) // network.shape.encoder_layers]
    assert groups == of_a_layer * network.shape.encoder_layers
    assert sum(of_a_layer) == len(rows)
    if mask_bytes == 1:
        assert of_a_layer == [1] * len(rows)
    elif mask_bytes == 2**28:
        assert of_a_layer == [len(rows)]
    else:
        assert 1 < len(of_a_layer) < len(rows)


@given(
    lengths=st.lists(st.integers(1, 600), min_size=1, max_size=60),
    heads=st.integers(1, 12),
    mask_bytes=st.integers(1, 2**24),
)
def test_groups_hold_every_sequence_once_within_the_mask(
    lengths: list[int], heads: int, mask_bytes: int
) -> None:
    with mock.patch.object(padded, "_MASK_BYTES", mask_bytes):
        groups = list(padded._groups(lengths, heads, 2))
    assert [length for _, group in groups for length in group] == lengths
    start = 0
    for first, group in groups:
        assert first == start
        assert len(group) == 1 or len(group) * heads * max(group) ** 2 * 2 <= mask_bytes
        start += sum(group)
    for (_, group), (_, after) in itertools.pairwise(groups):
        joined = [*group, after[0]]
        assert len(joined) * heads * max(joined) ** 2 * 2 > mask_bytes, "no group is left short"


# --- precision ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "bound"),
    [("bf16", BF16_LOGITS), pytest.param("int8", INT8_LOGITS, marks=needs_int8)],
)
def test_rounding_does_not_distort(
    family: str,
    networks: dict[str, Any],
    ours: dict[str, T5],
    precision: ResolvedPrecision,
    bound: float,
) -> None:
    rows = reference.random_ids(MIXED_LENGTHS, VOCABULARY)
    rounded = reference.our_t5(networks[family], precision)
    assert rounded.precision == precision
    exact = ours[family].logits(rows)
    assert_near(rounded.logits(rows), exact, bound)
    assert worst_row(rounded.logits(rows), exact) > 10 * FP32_LOGITS, "nothing was rounded"


@needs_int8
@pytest.mark.parametrize("kind", ["relu", "gelu", "gated-relu", "gated-gelu", "gated-silu"])
def test_8_bits_suit_every_feed_forward_kind(kind: str) -> None:
    """After a plain ReLU alone integers need no sign."""
    network = tiny_models.randomised(
        T5ForConditionalGeneration(
            T5Config(
                vocab_size=50, d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=3,
                decoder_start_token_id=0, feed_forward_proj=kind,
            )
        )
    )  # fmt: skip
    rows = reference.random_ids((1, 7, 40, 90), 50)
    exact = reference.first_logits(network, rows)
    assert relative_error(reference.our_t5(network, "int8").logits(rows), exact) < INT8_LOGITS


@needs_int8
def test_8_bits_round_more_than_16(family: str, networks: dict[str, Any]) -> None:
    """Otherwise one of them is not what it is called."""
    rows = reference.random_ids(MIXED_LENGTHS, VOCABULARY)
    exact = reference.first_logits(networks[family], rows)
    sixteen, eight = (
        relative_error(reference.our_t5(networks[family], precision).logits(rows), exact)
        for precision in ("bf16", "int8")
    )
    assert eight > 1.5 * sixteen


@pytest.mark.parametrize("precision", ["bf16", pytest.param("int8", marks=needs_int8)])
def test_the_output_product_is_never_rounded(
    family: str, networks: dict[str, Any], precision: ResolvedPrecision
) -> None:
    """Three digits of a logit are too few for a score within 0.01."""
    network = reference.our_t5(networks[family], precision)
    rows = reference.random_ids((5, 9), VOCABULARY)
    logits = network.logits(rows)
    representable = logits == logits.to(torch.bfloat16).float()
    assert float(representable.float().mean()) < 0.1
    probabilities = np.exp(scorer_of(network, [(n,) for n in range(VOCABULARY)])(rows))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-4)


def test_8_bits_are_refused_on_other_devices(networks: dict[str, Any]) -> None:
    network = networks["tiny_v1_0"]
    with pytest.raises(ModelError, match="int8 runs on CPUs only"):
        T5(
            T5Shape.from_config(network.config.to_dict()),
            network.state_dict(),
            precision="int8",
            device=torch.device("meta"),
        )


# --- checkpoints ----------------------------------------------------------------------------------


def test_every_missing_tensor_is_named(ours: dict[str, T5], family: str, networks: Any) -> None:
    shape, tensors = ours[family].shape, networks[family].state_dict()
    for name in shape.tensor_shapes():
        others = {other: tensor for other, tensor in tensors.items() if other != name}
        with pytest.raises(ModelError) as caught:
            t5_of(shape, others)
        assert str(caught.value) == f"1 weights are missing, first {name}"


def test_every_tensor_of_another_shape_is_named(
    ours: dict[str, T5], family: str, networks: Any
) -> None:
    shape, tensors = ours[family].shape, networks[family].state_dict()
    for name, size in shape.tensor_shapes().items():
        for wrong in ((size[0] + 1, *size[1:]), (*size[:-1], size[-1] + 1), (*size, 1)):
            with pytest.raises(ModelError) as caught:
                t5_of(shape, {**tensors, name: torch.zeros(wrong)})
            assert str(caught.value) == f"{name} is of shape {wrong}, config.json says {size}"


@pytest.mark.parametrize("name", ["shared.weight", "lm_head.weight"])
@pytest.mark.parametrize("size", [(VOCABULARY, 31), (32,), (VOCABULARY, 32, 1)], ids=str)
def test_embeddings_of_another_width_are_named(
    ours: dict[str, T5], tensors: dict[str, torch.Tensor], name: str, size: tuple[int, ...]
) -> None:
    tensors[name] = torch.zeros(size)
    with pytest.raises(ModelError, match=name):
        t5_of(ours["tiny_v1_1"].shape, tensors)


def test_a_checkpoint_without_embeddings_is_an_error(
    ours: dict[str, T5], tensors: dict[str, torch.Tensor]
) -> None:
    blocks = {name: tensor for name, tensor in tensors.items() if ".block." in name}
    norms = {name: tensor for name, tensor in tensors.items() if "final_layer_norm" in name}
    with pytest.raises(ModelError, match=r"no token embeddings: shared\.weight is missing"):
        t5_of(ours["tiny_v1_1"].shape, {**blocks, **norms})


@pytest.mark.parametrize("kept", ["shared.weight", "encoder.embed_tokens.weight", "lm_head.weight"])
def test_tied_embeddings_are_saved_under_one_of_several_names(
    kept: str, networks: dict[str, Any], ours: dict[str, T5]
) -> None:
    names = ("shared.weight", "lm_head.weight", "embed_tokens.weight")
    tensors = networks["tiny_v1_0"].state_dict()
    pruned = {name: tensor for name, tensor in tensors.items() if not name.endswith(names)}
    pruned[kept] = tensors["shared.weight"]
    rows = reference.random_ids((3, 8), VOCABULARY)
    found = t5_of(ours["tiny_v1_0"].shape, pruned)
    assert torch.equal(found.logits(rows), ours["tiny_v1_0"].logits(rows))
    trie = [(3, 4), (5,)]
    np.testing.assert_array_equal(
        scorer_of(found, trie)(rows), scorer_of(ours["tiny_v1_0"], trie)(rows)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_checkpoint_of_any_floating_dtype_counts_as_its_float32(
    dtype: torch.dtype, family: str, networks: dict[str, Any], ours: dict[str, T5]
) -> None:
    saved = {name: tensor.to(dtype) for name, tensor in networks[family].state_dict().items()}
    widened = {name: tensor.float() for name, tensor in saved.items()}
    rows = reference.random_ids((3, 8), VOCABULARY)
    shape = ours[family].shape
    found, exact = t5_of(shape, saved), t5_of(shape, widened)
    assert torch.equal(found.logits(rows), exact.logits(rows))
    np.testing.assert_array_equal(scorer_of(found, LABELS)(rows), scorer_of(exact, LABELS)(rows))


def test_embeddings_may_have_more_rows_than_the_tokenizer_has_pieces(
    family: str, networks: dict[str, Any], ours: dict[str, T5]
) -> None:
    """Published T5s have 32,128 for 32,100 pieces."""
    tensors = {
        name: torch.cat([tensor, torch.full((28, tensor.shape[1]), -0.5)])
        if len(tensor) == VOCABULARY
        else tensor
        for name, tensor in networks[family].state_dict().items()
    }
    found = t5_of(ours[family].shape, tensors)
    assert (ours[family].vocabulary, found.vocabulary) == (VOCABULARY, VOCABULARY + 28)
    rows = reference.random_ids((3, 8), VOCABULARY)
    logits = found.logits(rows)
    assert logits.shape == (2, VOCABULARY + 28)
    assert_near(logits[:, :VOCABULARY], ours[family].logits(rows), FP32_LOGITS)
    assert torch.isfinite(found.logits([np.array([VOCABULARY + 27], np.int32)])).all()


@pytest.mark.parametrize("precision", ["fp32", "bf16", pytest.param("int8", marks=needs_int8)])
def test_scoring_leaves_the_checkpoint_as_it_was(
    family: str, networks: dict[str, Any], precision: ResolvedPrecision
) -> None:
    """Float32 weights are used where they lie, and the encoder adds in place."""
    tensors = {name: tensor.clone() for name, tensor in networks[family].state_dict().items()}
    shape = T5Shape.from_config(networks[family].config.to_dict())
    network = T5(shape, tensors, precision=precision, device=reference.CPU)
    rows = reference.random_ids((1, 40, 7), VOCABULARY)
    score = scorer_of(network, LABELS)
    first = score(rows), network.logits(rows)
    for name, tensor in networks[family].state_dict().items():
        assert torch.equal(tensors[name], tensor), name
    np.testing.assert_array_equal(score(rows), first[0])
    assert torch.equal(network.logits(rows), first[1])


def test_the_bias_of_a_short_sequence_is_that_of_any_other(
    family: str, networks: dict[str, Any]
) -> None:
    """One table grows and is cut; what came before must not show."""
    rows = reference.random_ids((600, 65, 64, 3), VOCABULARY)
    fresh = torch.cat([reference.our_t5(networks[family]).logits([row]) for row in rows])
    used = reference.our_t5(networks[family])
    for order in (range(4), reversed(range(4))):
        for n in order:
            assert torch.equal(used.logits([rows[n]])[0], fresh[n])
