"""Matrix products in float32, bfloat16 and int8, with weights packed for the processor.

A product takes float32 or bfloat16 rows and returns rows in the dtype that is cheapest for it.
Callers add the result to a float32 residual stream.

Shapes: T tokens, N outputs, D inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F

from sentiment.errors import ModelError

ResolvedPrecision = Literal["fp32", "bf16", "int8"]
Activation = Literal["none", "relu", "gelu", "gelu_tanh", "silu"]
Linear = Callable[[torch.Tensor], torch.Tensor]

# Attribute and algorithm of oneDNN's products for each activation they can end with.
_FUSED: Final[dict[Activation, tuple[str, str]]] = {
    "none": ("none", ""),
    "relu": ("relu", ""),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "silu": ("swish", ""),
}


def compute_dtype(precision: ResolvedPrecision) -> torch.dtype:
    """Return the dtype of activations between products."""
    return torch.float32 if precision == "fp32" else torch.bfloat16


def make_linear(
    weight_ND: torch.Tensor,
    precision: ResolvedPrecision,
    *,
    activation: Activation = "none",
    after_relu: bool = False,
) -> Linear:
    """Return the product with a matrix, without bias, followed by an activation.

    Args:
        weight_ND: float32, on the device it will be used on.
        after_relu: Its input is never negative, which gives int8 one more bit.

    Raises:
        ModelError: int8 where torch has no kernel for it.
    """
    if precision == "int8":
        return Int8Linear(weight_ND, activation=activation, after_relu=after_relu)
    weight_ND = weight_ND.to(compute_dtype(precision))
    if weight_ND.device.type == "cpu":
        try:
            packed = PackedLinear(weight_ND, activation)
            packed(torch.zeros(2, weight_ND.shape[1]))
        except (AttributeError, RuntimeError):
            pass  # torch built without oneDNN, or a oneDNN that lacks this product
        else:
            return packed
    if weight_ND.device.type == "cuda" and activation in ("relu", "gelu_tanh"):
        try:
            fused = ActivatedLinear(weight_ND, tanh_gelu=activation == "gelu_tanh")
            fused(torch.zeros(2, weight_ND.shape[1], device=weight_ND.device))
        except (AttributeError, RuntimeError):
            pass  # a torch without this operator: it is none of the documented ones
        else:
            return fused
    return DenseLinear(weight_ND, activation)


def activate(x_TN: torch.Tensor, activation: Activation) -> torch.Tensor:
    """Apply an activation, in place if possible."""
    match activation:
        case "none":
            return x_TN
        case "relu":
            return torch.relu_(x_TN)
        case "silu":
            return F.silu(x_TN)
        case _:
            return F.gelu(x_TN, approximate="tanh" if activation == "gelu_tanh" else "none")


class DenseLinear:
    """A product in the dtype of the weights by PyTorch's public function, for GPUs."""

    def __init__(self, weight_ND: torch.Tensor, activation: Activation) -> None:
        self._weight_ND = weight_ND.contiguous()
        self._activation = activation

    def __call__(self, x_TD: torch.Tensor) -> torch.Tensor:
        return activate(F.linear(x_TD.to(self._weight_ND.dtype), self._weight_ND), self._activation)


class ActivatedLinear:
    """A product on a GPU followed by ReLU, or by GELU in its tanh form, in one kernel.

    On its own an activation reads and writes a matrix four times as wide as the model: a tenth of
    the time of a layer. The operator is the one that `torch.nn.TransformerEncoderLayer` ends its
    products with; it wants a bias, which is zero here. On a CPU its GELU is the exact one.
    """

    def __init__(self, weight_ND: torch.Tensor, *, tanh_gelu: bool) -> None:
        self._weight_DN = weight_ND.contiguous().T
        self._zero_N = weight_ND.new_zeros(len(weight_ND))
        self._gelu = tanh_gelu

    def __call__(self, x_TD: torch.Tensor) -> torch.Tensor:
        rows_RD = x_TD.to(self._weight_DN.dtype).flatten(0, -2)
        y_RN = torch._addmm_activation(self._zero_N, rows_RD, self._weight_DN, use_gelu=self._gelu)
        return y_RN.view(*x_TD.shape[:-1], -1)


class PackedLinear:
    """A product on CPUs with weights packed once for oneDNN, activation included.

    `F.linear` lays them out on every call: for some hundred rows that is a tenth of the time in
    bfloat16 and up to half in float32. The operators are those that `torch.compile` puts in for
    frozen weights.
    """

    def __init__(self, weight_ND: torch.Tensor, activation: Activation) -> None:
        self._dtype = weight_ND.dtype
        self._packed: Any = torch.ops.mkldnn._reorder_linear_weight(weight_ND.contiguous(), None)
        self._fused = _FUSED[activation]

    def __call__(self, x_TD: torch.Tensor) -> torch.Tensor:
        attribute, algorithm = self._fused
        y_TN: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x_TD.to(self._dtype), self._packed, None, attribute, [], algorithm
        )
        return y_TN


class Int8Linear:
    """A product of 8-bit integers on CPUs, with one scale per output channel and one per token.

    Scales per token, found while running, need no calibration data and keep one loud token from
    drowning the others. oneDNN uses VNNI or AMX where the processor has them.

    Args:
        after_relu: Integers stand for 0 to the largest value of a token, not for both signs.
    """

    def __init__(
        self, weight_ND: torch.Tensor, *, activation: Activation, after_relu: bool
    ) -> None:
        if weight_ND.device.type != "cpu":
            raise ModelError("--precision int8 runs on CPUs only; on a GPU use bf16")
        self._activation = activation
        # Unsigned either way: for signed integers oneDNN falls back to a loop a hundred times
        # slower.
        self._zero, self._largest = (0, 255) if after_relu else (128, 127)
        scale_N = weight_ND.abs().amax(dim=1).clamp(min=1e-12) / 127
        rounded_ND = (weight_ND / scale_N[:, None]).round_().to(torch.int8)
        self._scale_N = scale_N
        self._zero_N = torch.zeros(len(scale_N), dtype=torch.int64)
        try:
            self._packed: Any = torch.ops.onednn.qlinear_prepack(rounded_ND, None)
            self(torch.zeros(2, weight_ND.shape[1]))
        except (AttributeError, RuntimeError) as error:
            raise ModelError(
                "--precision int8: this build of torch has no 8-bit product for this processor; "
                "use bf16 or fp32"
            ) from error

    def __call__(self, x_TD: torch.Tensor) -> torch.Tensor:
        rounded_TD, scale_T1 = self._quantise(x_TD)
        y_TN: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            rounded_TD, 1.0, self._zero, self._packed, self._scale_N, self._zero_N,
            None, 1.0, 0, torch.bfloat16, "relu" if self._activation == "relu" else "none", [], "",
        )  # fmt: skip
        y_TN.mul_(scale_T1.to(torch.bfloat16))
        # ReLU may come before a positive factor; the others must see the value itself.
        return y_TN if self._activation == "relu" else activate(y_TN, self._activation)

    def _quantise(self, x_TD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        extent_TD = x_TD if self._zero == 0 else x_TD.abs()
        largest_T1 = extent_TD.amax(dim=-1, keepdim=True).float().clamp_(min=1e-12)
        scale_T1 = largest_T1.div_(self._largest)
        # Half a step on top makes the cut to integers a rounding.
        rounded_TD = (x_TD.float() * scale_T1.reciprocal()).add_(self._zero + 0.5)
        return rounded_TD.to(torch.uint8), scale_T1
