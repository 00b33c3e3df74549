"""The encoder on a GPU: the whole batch goes through a layer at once, without waiting in between.

The work between two matrix products is done by Triton kernels (`gpu_fused`), or by PyTorch's
operators (`gpu_padded`) if Triton does not run on this machine. The choice is made once.

Shapes: T tokens of all sequences, D model width, H heads, E head width, A = H x E, K buckets.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache
from typing import Protocol

import torch

from sentiment.t5.gpu_padded import PaddedOperations
from sentiment.t5.layers import EncoderLayer
from sentiment.t5.linear import ResolvedPrecision, compute_dtype
from sentiment.t5.shape import T5Shape

Attention = Callable[[torch.Tensor], torch.Tensor]  # (T, 3, H, E) to (T, A)

_log = logging.getLogger(__name__)


class Operations(Protocol):
    """The work between two matrix products."""

    def attention(self, lengths: Sequence[int], device: torch.device) -> Attention:
        """Self-attention over a batch of these lengths, the same for all layers."""

    def add_norm(
        self, x_TD: torch.Tensor, y_TD: torch.Tensor | None, dtype: torch.dtype
    ) -> torch.Tensor:
        """Add `y_TD` to the float32 residual stream in place, and return the sum normalised."""


class WholeBatch:
    """Runs a whole batch through all layers at once."""

    def __init__(
        self,
        shape: T5Shape,
        layers: Sequence[EncoderLayer],
        dtype: torch.dtype,
        operations: Operations,
    ) -> None:
        self._shape = shape
        self._layers = layers
        self._dtype = dtype
        self._operations = operations

    def __call__(self, embedded_TD: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """float32 (T, D): see `Encoder`."""
        x_TD, add_norm = embedded_TD, self._operations.add_norm
        # What reads the last norm is not rounded: the decoder is float32.
        dtypes = [self._dtype] * len(self._layers) + [torch.float32]
        # Triton launches on the current device, whatever its tensors are on.
        with torch.cuda.device_of(x_TD):
            attend = self._operations.attention(lengths, x_TD.device)
            normalised_TD = add_norm(x_TD, None, dtypes[0])
            for layer, dtype in zip(self._layers, dtypes[1:], strict=True):
                qkv_T3HE = layer.qkv(normalised_TD).view(
                    -1, 3, self._shape.heads, self._shape.head_width
                )
                normalised_TD = add_norm(x_TD, layer.out(attend(qkv_T3HE)), self._dtype)
                normalised_TD = add_norm(x_TD, layer.feed_forward(normalised_TD), dtype)
        return normalised_TD


def suited_operations(
    shape: T5Shape, weight_KH: torch.Tensor, precision: ResolvedPrecision
) -> Operations:
    """Return Triton kernels if they compile and run here, else PyTorch's operators, with a warning.

    Args:
        weight_KH: Bias of each bucket and head, float32, on the device to compute on.
    """
    dtype = compute_dtype(precision)
    try:
        from sentiment.t5.gpu_fused import FusedOperations

        fused = FusedOperations(shape, weight_KH, dtype)
        fused.try_out()
    except Exception as error:  # Triton's own, the compiler's, the driver's: they share no class
        reason = (str(error).splitlines() or [""])[0][:200]
        _tell(f"{type(error).__name__}: {reason}")
        return PaddedOperations(shape, weight_KH, dtype)
    return fused


@cache
def _tell(reason: str) -> None:
    """Log a warning once per process, however many networks it loads."""
    _log.warning(
        "Triton's kernels do not run here (%s). Scoring goes on with PyTorch's own operators, with "
        "the same answers but more slowly and in more memory. On the GPU nodes, install triton "
        "and a C compiler (gcc), which it builds its launchers with",
        reason,
    )
