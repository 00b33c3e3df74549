"""A T5 that is ready to score: its encoder, and a decoder for any trie of labels.

Shapes: B sequences, T tokens of all of them, D model width, V vocabulary, K labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sentiment.errors import ModelError
from sentiment.t5.decoder import LabelTrie, TrieDecoder
from sentiment.t5.encoder import Encoder
from sentiment.t5.lengths import to_device
from sentiment.t5.linear import ResolvedPrecision
from sentiment.t5.shape import T5Shape

_SHARED = "shared.weight"
_HEAD = "lm_head.weight"


class T5:
    """A T5 of any size and family, for inference.

    Args:
        shape: Its sizes.
        tensors: Checkpoint tensors by their names in transformers, of any floating dtype.
        precision: Of the encoder's matrix products; all else is float32.
        device: Where it computes.

    Raises:
        ModelError: Tensors are missing or of another shape than the configuration says.
    """

    def __init__(
        self,
        shape: T5Shape,
        tensors: Mapping[str, torch.Tensor],
        *,
        precision: ResolvedPrecision,
        device: torch.device,
    ) -> None:
        _check(shape, tensors)
        self.shape = shape
        self.precision = precision
        self.device = device
        floats = _Floats(tensors, device)
        shared_VD = _first_of(tensors, _SHARED, "encoder.embed_tokens.weight", _HEAD)
        self._embedding_VD = _first_of(tensors, "encoder.embed_tokens.weight", _SHARED, _HEAD)
        self._embedding_VD = self._embedding_VD.to(device)
        self._target_VD = tensors.get("decoder.embed_tokens.weight", shared_VD).to(device)
        self._head_VD = tensors.get(_HEAD, shared_VD).to(device, torch.float32)
        with torch.inference_mode():
            self._encoder = Encoder(shape, floats, precision, device)
        # The encoder has what it needs; decoders are made later, from the rest.
        self._decoder_tensors = _Floats(
            {name: tensor for name, tensor in tensors.items() if _is_read_by_decoder(name)}, device
        )

    @property
    def vocabulary(self) -> int:
        """Token ids that have an embedding."""
        return len(self._embedding_VD)

    def decoder(self, trie: LabelTrie) -> TrieDecoder:
        """A decoder for the labels of this trie."""
        with torch.inference_mode():
            return TrieDecoder(
                self.shape,
                self._decoder_tensors,
                self._target_VD,
                self._head_VD,
                trie,
            )

    def encode(self, batch: Sequence[NDArray[np.int32]]) -> tuple[torch.Tensor, list[int]]:
        """Encoder states of all sequences end to end, (T, D), and their lengths."""
        ids_T = to_device(np.concatenate(batch).astype(np.int64), self.device)
        lengths = [len(ids) for ids in batch]
        # A copy, also of float32 weights: the encoder adds to it in place.
        embedded_TD = self._embedding_VD[ids_T].float()
        return self._encoder(embedded_TD, lengths), lengths

    @torch.inference_mode()
    def label_log_probs(
        self, batch: Sequence[NDArray[np.int32]], decoder: TrieDecoder
    ) -> NDArray[np.float32]:
        """Natural log of P(label | source), over the vocabulary and among the labels: (B, 2, K)."""
        values: NDArray[np.float32] = decoder.label_log_probs(*self.encode(batch)).cpu().numpy()
        return values

    @torch.inference_mode()
    def logits(self, batch: Sequence[NDArray[np.int32]]) -> torch.Tensor:
        """float32 vocabulary logits of the first generated token: (B, V)."""
        start = LabelTrie(tokens=(self.shape.start_id,), parents=(-1,), labels=())
        return self.decoder(start).logits(*self.encode(batch))[:, 0].cpu()


class _Floats(Mapping[str, torch.Tensor]):
    """The tensors of a checkpoint as float32 on one device, converted when they are read.

    A whole converted copy would double the memory of loading; most tensors are read once, folded
    into others and forgotten.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], device: torch.device) -> None:
        self._tensors = tensors
        self._device = device

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[name].to(self._device, torch.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _is_read_by_decoder(name: str) -> bool:
    return name.startswith("decoder.") or name == "encoder.final_layer_norm.weight"


def _check(shape: T5Shape, tensors: Mapping[str, torch.Tensor]) -> None:
    expected = shape.tensor_shapes()
    missing = sorted(expected.keys() - tensors.keys())
    if missing:
        raise ModelError(f"{len(missing)} weights are missing, first {missing[0]}")
    for name, size in expected.items():
        if tuple(tensors[name].shape) != size:
            raise ModelError(
                f"{name} is of shape {tuple(tensors[name].shape)}, config.json says {size}"
            )
        if not tensors[name].is_floating_point():
            raise ModelError(
                f"{name} is of {tensors[name].dtype}: quantised checkpoints do not load"
            )
    for name in (_SHARED, _HEAD):
        if name in tensors and (tensors[name].dim(), tensors[name].shape[-1]) != (2, shape.width):
            raise ModelError(f"{name} is {tuple(tensors[name].shape)}, not of width {shape.width}")


def _first_of(tensors: Mapping[str, torch.Tensor], *names: str) -> torch.Tensor:
    for name in names:
        if name in tensors:
            return tensors[name]
    raise ModelError(f"no token embeddings: {names[0]} is missing")
