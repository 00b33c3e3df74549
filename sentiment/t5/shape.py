"""The shape of a T5: sizes and switches, read from the `config.json` of transformers.

One description covers T5 v1.0 (ReLU; logits from the scaled embeddings), T5 v1.1 and FLAN-T5 (gated
GELU; an output matrix of its own) and mT5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from sentiment.errors import ModelError
from sentiment.t5.linear import Activation

# transformers' names of activations, as in `dense_act_fn` and after `gated-`.
_ACTIVATIONS: Final[dict[str, Activation]] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}


@dataclass(frozen=True)
class T5Shape:
    """Sizes and switches of a T5.

    Attributes:
        width: Of the residual stream (`d_model`).
        heads: Of every attention.
        head_width: Of a query, key or value (`d_kv`).
        ff_width: Of the feed-forward layers (`d_ff`).
        gated: Feed-forward layers multiply their activation by a second projection.
        buckets: Distances that the relative position bias tells apart.
        max_distance: In tokens; everything farther shares the last bucket.
        scaled_output: Logits are multiplied by `width ** -0.5`, as in T5 v1.0.
        start_id: First decoder input.
    """

    width: int
    heads: int
    head_width: int
    ff_width: int
    encoder_layers: int
    decoder_layers: int
    activation: Activation
    gated: bool
    buckets: int
    max_distance: int
    epsilon: float
    scaled_output: bool
    pad_id: int
    eos_id: int
    start_id: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> T5Shape:
        """Read a `config.json` with the defaults of transformers' `T5Config` and `MT5Config`.

        Raises:
            ModelError: A value is missing or one that no T5 has.
        """
        activation, gated = _feed_forward(config)
        layers = _integer(config, "num_layers")
        pad_id = _integer(config, "pad_token_id", 0, least=0)
        return cls(
            width=_integer(config, "d_model"),
            heads=_integer(config, "num_heads"),
            head_width=_integer(config, "d_kv"),
            ff_width=_integer(config, "d_ff"),
            encoder_layers=layers,
            decoder_layers=_integer(config, "num_decoder_layers", layers),
            activation=activation,
            gated=gated,
            buckets=_integer(config, "relative_attention_num_buckets", 32),
            max_distance=_integer(config, "relative_attention_max_distance", 128),
            epsilon=float(config.get("layer_norm_epsilon", 1e-6)),
            scaled_output=_scales_output(config),
            pad_id=pad_id,
            eos_id=_integer(config, "eos_token_id", 1, least=0),
            start_id=_integer(config, "decoder_start_token_id", pad_id, least=0),
        )

    @property
    def attention_width(self) -> int:
        """Width of all heads together; in some T5s it differs from `width`."""
        return self.heads * self.head_width

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of the blocks by its name in a checkpoint; embeddings and head are apart."""
        shapes: dict[str, tuple[int, ...]] = {
            f"{stack}.final_layer_norm.weight": (self.width,) for stack in ("encoder", "decoder")
        }
        for stack, layers in (("encoder", self.encoder_layers), ("decoder", self.decoder_layers)):
            if layers == 0:
                continue
            shapes[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = (
                self.buckets,
                self.heads,
            )
            for n in range(layers):
                shapes |= self._block_shapes(f"{stack}.block.{n}", crossed=stack == "decoder")
        return shapes

    def _block_shapes(self, block: str, *, crossed: bool) -> dict[str, tuple[int, ...]]:
        attentions = ["SelfAttention", *(["EncDecAttention"] if crossed else [])]
        shapes: dict[str, tuple[int, ...]] = {}
        for n, attention in enumerate(attentions):
            for projection in ("q", "k", "v"):
                name = f"{block}.layer.{n}.{attention}.{projection}.weight"
                shapes[name] = (self.attention_width, self.width)
            shapes[f"{block}.layer.{n}.{attention}.o.weight"] = (self.width, self.attention_width)
        feed_forward = f"{block}.layer.{len(attentions)}.DenseReluDense"
        for projection in ("wi_0", "wi_1") if self.gated else ("wi",):
            shapes[f"{feed_forward}.{projection}.weight"] = (self.ff_width, self.width)
        shapes[f"{feed_forward}.wo.weight"] = (self.width, self.ff_width)
        for n in range(len(attentions) + 1):
            shapes[f"{block}.layer.{n}.layer_norm.weight"] = (self.width,)
        return shapes


def relative_buckets(distances: torch.Tensor, shape: T5Shape, *, both_ways: bool) -> torch.Tensor:
    """Bucket of the relative position bias for each distance.

    Half of the buckets hold one distance each, the others grow logarithmically up to
    `max_distance`.

    Args:
        distances: Integers, key position minus query position.
        both_ways: Keys after the query have buckets of their own (encoder); otherwise they share
            the bucket of distance 0 (decoder, which never looks at them).

    Source:
        Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
        Transformer", JMLR 2020, section 2.1.
    """
    buckets = shape.buckets
    offset = torch.zeros_like(distances)
    if both_ways:
        buckets //= 2
        offset = (distances > 0).long() * buckets
        away = distances.abs()
    else:
        away = (-distances).clamp(min=0)
    exact = buckets // 2
    # In float32, as every T5 was trained: at the edge of a bucket the last bit decides.
    grown = torch.log(away.clamp(min=1).float() / exact) / math.log(shape.max_distance / exact)
    far = (exact + (grown * (buckets - exact)).long()).clamp(max=buckets - 1)
    return offset + torch.where(away < exact, away, far)


def _integer(
    config: Mapping[str, Any], name: str, default: int | None = None, *, least: int = 1
) -> int:
    value = config.get(name)
    if value is None:
        value = default
    if isinstance(value, list) and value:
        value = value[0]  # some configs list several end tokens; the first is the tokenizer's
    if type(value) is not int or value < least:
        raise ModelError(f"config.json: {name} is {value!r}, expected an integer from {least} up")
    return value


def _feed_forward(config: Mapping[str, Any]) -> tuple[Activation, bool]:
    """Activation, and whether it is gated, by transformers' own rule.

    `feed_forward_proj` says both in one word; `dense_act_fn` and `is_gated_act` win where they are
    given, as transformers has done since it began to write them.
    """
    default = "gated-gelu" if config.get("model_type") == "mt5" else "relu"
    kind = str(config.get("feed_forward_proj", default))
    gated, name = kind.startswith("gated-"), kind.removeprefix("gated-")
    if gated and name == "gelu":
        name = "gelu_new"  # what T5 v1.1 was trained with, whatever its config calls it
    name = config.get("dense_act_fn") or name
    written = config.get("is_gated_act")
    if name not in _ACTIVATIONS:
        raise ModelError(
            f"config.json: feed_forward_proj {kind!r} with activation {name!r} is not supported"
        )
    return _ACTIVATIONS[name], gated if written is None else bool(written)


def _scales_output(config: Mapping[str, Any]) -> bool:
    """Whether logits are scaled, by transformers' own rule.

    T5 v1.1 and FLAN say `tie_word_embeddings: false`; transformers 5 writes the switch itself.
    """
    if config.get("model_type") == "mt5":
        return False
    written = config.get("scale_decoder_outputs")
    return config.get("tie_word_embeddings") is not False if written is None else bool(written)
