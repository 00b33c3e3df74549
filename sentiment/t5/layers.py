"""The weights of an encoder block and what they compute.

The weight of each RMSNorm is folded into the matrix that reads its result.

Shapes: T rows, D model width, F feed-forward width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from sentiment.t5.linear import Linear, ResolvedPrecision, make_linear
from sentiment.t5.shape import T5Shape

Tensors = Mapping[str, torch.Tensor]


class EncoderLayer:
    """Weights of one encoder block.

    Args:
        block: Its name in the checkpoint, such as `encoder.block.0`.
    """

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
    """A feed-forward layer with its norm, plain or gated.

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
        """Return what the layer adds to the residual stream."""
        hidden_TF = self._into(normalised_TD)
        if self._gate is not None:
            hidden_TF *= self._gate(normalised_TD)
        return self._out(hidden_TF)


def rms_norm(x_D: torch.Tensor, shape: T5Shape) -> torch.Tensor:
    """Scale rows to a root mean square of 1. The learned weight is folded elsewhere.

    Source:
        Zhang and Sennrich, "Root Mean Square Layer Normalization", NeurIPS 2019.
    """
    return F.rms_norm(x_D, (shape.width,), eps=shape.epsilon)
