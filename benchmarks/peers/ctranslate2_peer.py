"""CTranslate2: a C++ runtime for encoder-decoders, in float32 and in int8 with float32 activations.

It sorts and cuts by tokens itself; one token a batch means one review a batch. It has no bfloat16
on most CPUs, so that is not a variant.
"""

from __future__ import annotations

from dataclasses import dataclass

import ctranslate2
import numpy as np
import torch
from ctranslate2.converters import TransformersConverter
from numpy.typing import NDArray

from peers.batching import BUDGETS_TOKENS, fastest
from peers.protocol import Ids, Peer, Workload
from sentiment.model.tokenizer import load_tokenizer


def make(name: str, work: Workload) -> Peer:
    """Build `ctranslate2-float32` or `ctranslate2-int8`."""
    compute_type = name.removeprefix("ctranslate2-")
    folder = work.scratch / name
    TransformersConverter(str(work.folder)).convert(str(folder), quantization=compute_type)
    translator = ctranslate2.Translator(
        str(folder),
        device="cpu",
        compute_type=compute_type,
        inter_threads=1,
        intra_threads=work.threads,
    )
    vocabulary = range(work.network.config.vocab_size)
    tokens = load_tokenizer(work.folder).convert_ids_to_tokens(list(vocabulary))
    candidates = [
        CTranslate2Peer(translator, tokens, work.label_ids, budget)
        for budget in (1, *BUDGETS_TOKENS)
    ]
    return fastest(candidates, work.ids)


@dataclass(frozen=True)
class CTranslate2Peer:
    """A translator whose translation is one token long.

    Attributes:
        tokens: The vocabulary as text, which is how it takes a source. Looking ids up in a list
            costs microseconds a review.
    """

    translator: ctranslate2.Translator
    tokens: list[str]
    label_ids: list[int]
    batch_tokens: int

    @property
    def batching(self) -> str:
        """How reviews are put together, in words."""
        return "one by one" if self.batch_tokens == 1 else f"sorted, {self.batch_tokens} tokens"

    def labels(self, ids: list[Ids]) -> list[int | None]:
        """Index of the best label of each review."""
        return [int(logits_V[self.label_ids].argmax()) for logits_V in self._translate(ids)]

    def logits(self, ids: list[Ids]) -> torch.Tensor:
        """float32 logits_NV."""
        return torch.from_numpy(np.stack(self._translate(ids)))

    def _translate(self, ids: list[Ids]) -> list[NDArray[np.float32]]:
        results = self.translator.translate_batch(
            [[self.tokens[token] for token in row.tolist()] for row in ids],
            beam_size=1,
            max_decoding_length=1,
            min_decoding_length=0,  # 1 would strike `</s>` out of the logits
            max_batch_size=self.batch_tokens,
            batch_type="tokens",
            return_logits_vocab=True,  # costs nothing that could be measured
        )
        return [np.array(result.logits[0][0]).reshape(-1) for result in results]
