"""What a config.json says of a T5, and what that asks of a checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from transformers.models.t5.modeling_t5 import T5Attention

from sentiment.errors import ModelError
from sentiment.t5.shape import T5Shape, relative_buckets

# The sizes that no T5 goes without; everything else has a default.
SIZES = {"d_model": 512, "num_heads": 6, "d_kv": 64, "d_ff": 1024, "num_layers": 8}


def shape_of(**values: Any) -> T5Shape:
    return T5Shape.from_config({**SIZES, **values})


def test_sizes_are_read() -> None:
    shape = shape_of(
        num_decoder_layers=3,
        relative_attention_num_buckets=16,
        relative_attention_max_distance=64,
        layer_norm_epsilon=1e-5,
        pad_token_id=4,
        eos_token_id=5,
        decoder_start_token_id=6,
    )
    assert shape == T5Shape(
        width=512,
        heads=6,
        head_width=64,
        ff_width=1024,
        encoder_layers=8,
        decoder_layers=3,
        activation="relu",
        gated=False,
        buckets=16,
        max_distance=64,
        epsilon=1e-5,
        scaled_output=True,
        pad_id=4,
        eos_id=5,
        start_id=6,
    )
    assert shape.attention_width == 384


def test_what_is_not_said_has_the_defaults_of_transformers() -> None:
    shape = shape_of()
    assert (shape.buckets, shape.max_distance, shape.epsilon) == (32, 128, 1e-6)
    assert (shape.pad_id, shape.eos_id, shape.start_id) == (0, 1, 0)
    assert (shape.activation, shape.gated) == ("relu", False)


@pytest.mark.parametrize("missing", [{}, {"num_decoder_layers": None}], ids=["absent", "null"])
def test_decoder_layers_are_as_many_as_encoder_layers_unless_said(missing: dict[str, None]) -> None:
    assert shape_of(num_layers=5, **missing).decoder_layers == 5
    assert shape_of(num_layers=5, num_decoder_layers=2).decoder_layers == 2


def test_the_start_token_is_the_padding_unless_said() -> None:
    assert shape_of(pad_token_id=3).start_id == 3
    assert shape_of(pad_token_id=3, decoder_start_token_id=None).start_id == 3
    assert shape_of(pad_token_id=3, decoder_start_token_id=0).start_id == 0


def test_of_several_end_tokens_the_first_is_the_tokenizers() -> None:
    assert shape_of(eos_token_id=[7, 1]).eos_id == 7


@pytest.mark.parametrize(
    ("written", "scaled"),
    [
        ({}, True),
        ({"model_type": "t5"}, True),
        ({"tie_word_embeddings": True}, True),
        ({"tie_word_embeddings": False}, False),  # v1.1 and FLAN, by transformers 4
        ({"tie_word_embeddings": True, "scale_decoder_outputs": False}, False),  # the same, by 5
        ({"tie_word_embeddings": True, "scale_decoder_outputs": True}, True),
        ({"tie_word_embeddings": False, "scale_decoder_outputs": None}, False),
        ({"model_type": "mt5"}, False),
        ({"model_type": "mt5", "tie_word_embeddings": True}, False),
    ],
    ids=str,
)
def test_logits_are_scaled_by_the_rule_of_transformers(
    written: dict[str, Any], scaled: bool
) -> None:
    assert shape_of(**written).scaled_output is scaled


@pytest.mark.parametrize(
    ("kind", "activation", "gated"),
    [
        ("relu", "relu", False),
        ("gelu", "gelu", False),
        ("gelu_new", "gelu_tanh", False),
        ("gated-gelu", "gelu_tanh", True),  # trained with the approximation, whatever the name
        ("gated-relu", "relu", True),
        ("gated-silu", "silu", True),
    ],
)
def test_feed_forward_kinds(kind: str, activation: str, gated: bool) -> None:
    shape = shape_of(feed_forward_proj=kind)
    assert (shape.activation, shape.gated) == (activation, gated)


def test_an_mt5_is_gated_unless_said() -> None:
    shape = shape_of(model_type="mt5")
    assert (shape.activation, shape.gated) == ("gelu_tanh", True)
    assert not shape_of(model_type="mt5", feed_forward_proj="relu").gated


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("value", [None, "512", 1.5, True, -1, []], ids=repr)
def test_a_size_that_is_no_size_is_named(name: str, value: Any) -> None:
    with pytest.raises(ModelError, match=rf"config\.json: {name} is "):
        shape_of(**{name: value})


@pytest.mark.parametrize("kind", ["tanh", "gated-tanh", "gated", "", None])
def test_an_unknown_feed_forward_kind_is_named(kind: str | None) -> None:
    with pytest.raises(ModelError, match=rf"feed_forward_proj {str(kind)!r}"):
        shape_of(feed_forward_proj=kind)


@pytest.mark.parametrize("kind", ["tiny_v1_0", "tiny_v1_1", "tiny_mt5"])
def test_the_tensors_asked_for_are_those_of_transformers(kind: str, vocabulary: Path) -> None:
    network = getattr(tiny_models, kind)(vocabulary)
    apart = ("shared.weight", "lm_head.weight", "embed_tokens.weight")
    theirs = {
        name: tuple(tensor.shape)
        for name, tensor in network.state_dict().items()
        if not name.endswith(apart)
    }
    assert T5Shape.from_config(network.config.to_dict()).tensor_shapes() == theirs


@pytest.mark.parametrize("both_ways", [True, False], ids=["encoder", "decoder"])
@pytest.mark.parametrize(
    ("buckets", "max_distance"), [(32, 128), (32, 1000), (64, 256), (16, 64), (8, 20), (6, 9)]
)
def test_buckets_are_those_of_transformers(
    buckets: int, max_distance: int, both_ways: bool
) -> None:
    distances = torch.arange(-3000, 3001)
    shape = dataclasses.replace(shape_of(), buckets=buckets, max_distance=max_distance)
    ours = relative_buckets(distances, shape, both_ways=both_ways)
    theirs = T5Attention._relative_position_bucket(
        distances, bidirectional=both_ways, num_buckets=buckets, max_distance=max_distance
    )
    assert torch.equal(ours, theirs)
    assert int(ours.max()) == buckets - 1
