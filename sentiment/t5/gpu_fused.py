"""The work between two matrix products on a GPU, by Triton kernels. Importing it needs Triton.

Shapes: T tokens of all sequences, D model width, H heads, E head width, K buckets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from sentiment.t5.bias import DistanceBias
from sentiment.t5.gpu_kernels import LOG2_E, AttentionBlocks, NormBlocks, Tiles, add_norm, attend
from sentiment.t5.shape import T5Shape


class FusedOperations:
    """Attention and norm of one model.

    Args:
        weight_KH: Bias of each bucket and head, float32, on the device to compute on.
        dtype: Of activations between products.
        attention: How attention is cut; what suits the dtype if None.
        norm: How norms are cut.
    """

    def __init__(
        self,
        shape: T5Shape,
        weight_KH: torch.Tensor,
        dtype: torch.dtype,
        *,
        attention: AttentionBlocks | None = None,
        norm: NormBlocks | None = None,
    ) -> None:
        self._shape = shape
        self._device = weight_KH.device
        self._dtype = dtype
        self._attention = attention or AttentionBlocks.suited_to(dtype)
        self._norm = norm or NormBlocks()
        self._bias = DistanceBias(
            shape, weight_KH, factor=LOG2_E, step=max(self._attention.queries, self._attention.keys)
        )

    def attention(
        self, lengths: Sequence[int], device: torch.device
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        """Self-attention over a batch of these lengths, the same for all layers."""
        tiles = Tiles.of(lengths, self._attention.queries, device)
        bias_HS = self._bias(tiles.longest)
        return lambda qkv_T3HE: attend(qkv_T3HE, tiles, bias_HS, self._attention)

    def add_norm(
        self, x_TD: torch.Tensor, y_TD: torch.Tensor | None, dtype: torch.dtype
    ) -> torch.Tensor:
        """Add to the residual stream, if there is anything to add, and normalise it."""
        return add_norm(x_TD, y_TD, dtype, self._shape.epsilon, self._norm)

    def try_out(self) -> None:
        """Compile and run every kernel once that batches will need.

        Raises:
            Exception: Of any kind: one of them does not compile or does not run here.
        """
        shape, lengths = self._shape, (1, 2)
        with torch.cuda.device_of(torch.empty(0, device=self._device)):
            qkv_T3HE = torch.zeros(
                sum(lengths), 3, shape.heads, shape.head_width,
                dtype=self._dtype, device=self._device,
            )  # fmt: skip
            self.attention(lengths, self._device)(qkv_T3HE)
            x_TD = torch.zeros(sum(lengths), shape.width, device=self._device)
            for dtype in (self._dtype, torch.float32):
                self.add_norm(x_TD, None, dtype)
                self.add_norm(x_TD, x_TD.to(self._dtype), dtype)
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
