"""Label probabilities from token ids, in one pass of the decoder over the trie of labels.

Shapes: B rows of a batch, V vocabulary, K labels, N all rows.

A classifier that answers with one of K known texts needs no free generation. Every label is a
sequence of tokens, and its probability is the product of the probabilities of its tokens. The best
label, however, is decided token by token, among the tokens that continue to some label, as a
decoder would decide that can only answer with labels. A comparison of the products alone would
favour labels with fewer tokens: each further token multiplies in the probability that the decoder
gives to texts that are no label. `</s>` belongs to a label only if one label is a prefix of
another; only then does it decide anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentiment.engine.batching import Fill, TokenBatcher
from sentiment.engine.devices import device_error, device_faults
from sentiment.errors import ModelError
from sentiment.t5.decoder import LabelTrie
from sentiment.t5.network import T5

Ids = NDArray[np.int32]
TokenIds = tuple[int, ...]

OUTSIDE_VOCABULARY = "a token id is outside the model's vocabulary"


@dataclass(frozen=True)
class LabelScores:
    """Scores of N rows.

    Attributes:
        log_probs_NK: float32 natural log of P(label | text) over the full vocabulary. NaN marks a
            row the model failed on.
        among_NK: The same among the labels: of a decoder that can say nothing else.
        errors: What happened to the failed rows: row number to exception name.
    """

    log_probs_NK: NDArray[np.float32]
    among_NK: NDArray[np.float32]
    errors: dict[int, str]

    @property
    def best_N(self) -> NDArray[np.intp]:
        """Index of the most probable label (0 for failed rows)."""
        return np.asarray(np.argmax(np.nan_to_num(self.among_NK, nan=-np.inf), axis=1))

    @property
    def probabilities_NK(self) -> NDArray[np.float32]:
        """Probability of each label among the labels; rows add up to 1."""
        # They do so already, but for rounding.
        weight_NK = np.exp(self.among_NK)
        return np.asarray(weight_NK / weight_NK.sum(axis=1, keepdims=True), dtype=np.float32)

    @property
    def score_N(self) -> NDArray[np.float32]:
        """Probability of the best label among the labels, in [1/K, 1]."""
        return np.asarray(self.probabilities_NK.max(axis=1), dtype=np.float32)

    @property
    def off_label_N(self) -> NDArray[np.float32]:
        """Probability mass outside all labels, in [0, 1]."""
        inside_N = np.exp(self.log_probs_NK.astype(np.float64)).sum(axis=1)
        return np.asarray(np.clip(1.0 - inside_N, 0.0, 1.0), dtype=np.float32)


def label_sequences(
    labels: Sequence[TokenIds], eos_id: int, *, ended: bool = False
) -> list[TokenIds]:
    """Return the token sequences of the labels, with `</s>` if one label is a prefix of another.

    Args:
        ended: Append it in any case.

    Raises:
        ModelError: A label has no tokens, or two labels are spelt alike.
    """
    if any(not label for label in labels):
        raise ModelError("a label text has no tokens in this model's vocabulary; change --labels")
    if len(set(labels)) < len(labels):
        raise ModelError("two label texts have the same tokens in this model's vocabulary")
    ambiguous = any(one != other and other[: len(one)] == one for one in labels for other in labels)
    return [(*label, eos_id) for label in labels] if ambiguous or ended else list(labels)


class Engine:
    """Scores label texts with a T5, batch by batch.

    Args:
        network: The model, on its device, in its precision.
        labels: Token ids of each label, without `</s>`.
        batch_tokens: Tokens of a batch.
        ended: Score `</s>` after every label, also where it decides nothing.

    Raises:
        ModelError: Labels that this vocabulary cannot spell or tell apart.
    """

    def __init__(
        self, network: T5, labels: Sequence[TokenIds], *, batch_tokens: int, ended: bool = False
    ) -> None:
        self.network = network
        spelt = label_sequences(labels, network.shape.eos_id, ended=ended)
        if any(token >= network.vocabulary for label in spelt for token in label):
            raise ModelError("a label text has tokens outside the model's vocabulary")
        self._decoder = network.decoder(LabelTrie.build(spelt, network.shape.start_id))
        self._labels = len(spelt)
        self._batcher = TokenBatcher(batch_tokens)

    @property
    def fill(self) -> Fill:
        """Totals of the batches so far."""
        return self._batcher.fill

    def score(self, ids: Sequence[Ids]) -> LabelScores:
        """Compute the label log-probabilities of every row. A row on which the model fails is
        reported alone.

        Raises:
            DeviceError: The GPU failed in a way that no other batch would survive.
        """
        both_N2K = np.full((len(ids), 2, self._labels), np.nan, dtype=np.float32)
        errors = {
            row: OUTSIDE_VOCABULARY
            for row, values in enumerate(ids)
            if not embeds(values, self.network.vocabulary)
        }
        good = [row for row in range(len(ids)) if row not in errors]

        def keep(picked: list[int], values: NDArray[np.float32]) -> None:
            both_N2K[[good[n] for n in picked]] = values

        failed = self._batcher.run(
            [len(ids[row]) for row in good],
            lambda picked: self._answer([ids[good[n]] for n in picked]),
            keep,
        )
        errors |= {good[n]: name for n, name in failed.items()}
        for row in np.flatnonzero(~np.isfinite(both_N2K).all(axis=(1, 2))):
            errors.setdefault(int(row), "non-finite probabilities")
            both_N2K[row] = np.nan
        return LabelScores(both_N2K[:, 0], both_N2K[:, 1], errors)

    def _answer(self, batch: Sequence[Ids]) -> NDArray[np.float32]:
        try:
            return self.network.label_log_probs(batch, self._decoder)
        except device_faults() as error:
            raise device_error(error) from error


def embeds(ids: Ids, vocabulary: int) -> bool:
    """Return whether every id has an embedding. On a GPU, looking up one without is a fault of the
    device.
    """
    return len(ids) > 0 and int(ids.min()) >= 0 and int(ids.max()) < vocabulary
