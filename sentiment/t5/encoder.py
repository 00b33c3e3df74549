"""The encoder over concatenated sequences: no padding, no mask, norm weights folded once.

Linear layers see one long matrix of the tokens of all sequences. Only attention knows where a
sequence starts. The way through the layers depends on the processor: piece by piece on a CPU
(`cpu`), the whole batch at once on a GPU (`gpu`).

Shapes: T tokens of all sequences, D model width, H heads, K buckets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from sentiment.t5.bias import RelativeBias
from sentiment.t5.cpu import InPieces
from sentiment.t5.gpu import WholeBatch, suited_operations
from sentiment.t5.layers import EncoderLayer, Tensors
from sentiment.t5.linear import ResolvedPrecision, compute_dtype
from sentiment.t5.shape import T5Shape

# float32 embeddings, which it may overwrite, and lengths, to hidden states.
Walk = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]


class Encoder:
    """The encoder of a T5.

    Args:
        shape: Its sizes.
        tensors: Checkpoint tensors by name, float32, on the device to compute on.
        precision: Of the matrix products; the residual stream is float32 in all of them.
        device: Where it computes.
    """

    def __init__(
        self,
        shape: T5Shape,
        tensors: Tensors,
        precision: ResolvedPrecision,
        device: torch.device,
    ) -> None:
        layers = [
            EncoderLayer(shape, tensors, f"encoder.block.{n}", precision)
            for n in range(shape.encoder_layers)
        ]
        # An encoder without blocks, as fine-tuning starts with, has no bias and asks for none.
        weight_KH = (
            tensors["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
            if shape.encoder_layers
            else torch.zeros(shape.buckets, shape.heads, device=device)
        )
        dtype = compute_dtype(precision)
        self._walk: Walk
        if device.type == "cuda":
            operations = suited_operations(shape, weight_KH, precision)
            self._walk = WholeBatch(shape, layers, dtype, operations)
        else:
            self._walk = InPieces(shape, layers, RelativeBias(shape, weight_KH, dtype))

    def __call__(self, embedded_TD: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """Encode a batch.

        Args:
            embedded_TD: float32 embeddings of all sequences, end to end. Overwritten.
            lengths: Tokens of each sequence, which add up to T.

        Returns:
            float32 hidden states of shape (T, D), normalised; the weight of the final norm is
            folded into whatever reads them.
        """
        assert sum(lengths) == len(embedded_TD)
        return self._walk(embedded_TD, lengths)
