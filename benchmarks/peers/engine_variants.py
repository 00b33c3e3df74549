"""Our engine, and the floor under it: the encoder's linear layers and nothing else.

Shapes: B rows of a batch, V vocabulary, N all reviews.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from peers.protocol import Ids, Peer, Unavailable, Workload
from sentiment.engine.batching import TokenBatcher
from sentiment.engine.labels import Engine
from sentiment.errors import ModelError
from sentiment.model.load import load_t5

BATCH_TOKENS = 4096


def make(name: str, work: Workload) -> Peer:
    """Build `engine-fp32`, `engine-bf16`, `engine-int8` or `linears-bf16`."""
    if name == "linears-bf16":
        return EncoderLinears(work)
    return EngineVariant(name.removeprefix("engine-"), work)


class EngineVariant:
    """The engine as a scoring run uses it.

    Raises:
        Unavailable: The engine does not have this precision here.
    """

    batching = f"packed, {BATCH_TOKENS} tokens"

    def __init__(self, precision: str, work: Workload) -> None:
        try:
            self._network = load_t5(work.folder, device=torch.device("cpu"), precision=precision)
        except ModelError as error:
            raise Unavailable(str(error)) from error
        labels = [(token,) for token in work.label_ids]
        self._engine = Engine(self._network, labels, batch_tokens=BATCH_TOKENS)

    def labels(self, ids: list[Ids]) -> list[int | None]:
        """Index of the best label of each review."""
        return self._engine.score(ids).best_N.tolist()

    def logits(self, ids: list[Ids]) -> torch.Tensor:
        """float32 logits_NV."""
        logits_NV = torch.full((len(ids), self._network.vocabulary), torch.nan)

        def keep(rows: list[int], logits_BV: torch.Tensor) -> None:
            logits_NV[rows] = logits_BV

        TokenBatcher(BATCH_TOKENS).run(
            [len(row) for row in ids],
            lambda rows: self._network.logits([ids[row] for row in rows]),
            keep,
        )
        return logits_NV


class EncoderLinears:
    """Only the encoder's matrix products with weights, in bfloat16, over the same batches.

    No engine that multiplies with torch in bfloat16 can be faster than this. Query, key and value
    are one matrix, and so are the two inputs of a gated feed-forward.
    """

    batching = f"packed, {BATCH_TOKENS} tokens"

    def __init__(self, work: Workload) -> None:
        self._weights: list[torch.Tensor] = []
        for block in work.network.encoder.block:
            attention, forward = block.layer[0].SelfAttention, block.layer[1].DenseReluDense
            into = [part.weight for name, part in forward.named_children() if name[:2] == "wi"]
            self._weights += [
                torch.cat([attention.q.weight, attention.k.weight, attention.v.weight]),
                attention.o.weight,
                torch.cat(into),
                forward.wo.weight,
            ]
        self._weights = [weight.detach().bfloat16() for weight in self._weights]
        # What is multiplied does not matter for the time; where it lies in memory does.
        widest = max(weight.shape[1] for weight in self._weights)
        most_tokens = max(BATCH_TOKENS, *(len(row) for row in work.ids))
        self._inputs = torch.randn(most_tokens * widest).bfloat16()

    def labels(self, ids: list[Ids]) -> list[int | None]:
        """Multiply; there is no answer."""
        lengths = [len(row) for row in ids]

        def multiply(rows: list[int]) -> None:
            tokens = sum(lengths[row] for row in rows)
            for weight in self._weights:
                width = weight.shape[1]
                functional.linear(self._inputs[: tokens * width].view(tokens, width), weight)

        with torch.inference_mode():
            failed = TokenBatcher(BATCH_TOKENS).run(lengths, multiply, lambda rows, answer: None)
        assert not failed, failed
        return [None] * len(ids)

    def logits(self, ids: list[Ids]) -> None:
        """None."""
        return
