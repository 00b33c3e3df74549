"""What a variant is given and what it must give back.

Knows no library but torch, which carries logits. Shapes: B rows of a batch, S source tokens,
V vocabulary, N all reviews.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import T5ForConditionalGeneration

Ids = NDArray[np.int32]

# The same in every T5: row 0 of the embeddings pads, and starts the decoder.
PAD_ID = 0
START_ID = 0


@dataclass(frozen=True)
class Workload:
    """What all variants get.

    Attributes:
        folder: Model in transformers layout.
        network: The same in float32, for peers that take it over and as the reference.
        label_ids: The one token of each label.
        ids: The reviews to score.
        calibration_ids: Other reviews, for peers that look at activations before they quantise.
        threads: Threads a variant may use.
        scratch: An empty folder for converted models.
    """

    folder: Path
    network: T5ForConditionalGeneration
    label_ids: list[int]
    ids: list[Ids]
    calibration_ids: list[Ids]
    threads: int
    scratch: Path


class Peer(Protocol):
    """One way to label reviews.

    Attributes:
        batching: How reviews are put together, in words.
    """

    batching: str

    def labels(self, ids: list[Ids]) -> list[int | None]:
        """Index of the best label of each review, in order. This is what is timed.

        None where the variant does not say which label it prefers.
        """

    def logits(self, ids: list[Ids]) -> torch.Tensor | None:
        """float32 [N, V] logits of the first decoder step, or None where they cannot be had."""


class Unavailable(Exception):
    """This variant cannot be built here; the message says why."""


def relative_error(found_NV: torch.Tensor, wanted_NV: torch.Tensor) -> float:
    """Frobenius norm of the difference over that of what was wanted."""
    difference = torch.linalg.norm(found_NV.double() - wanted_NV.double())
    return float(difference / torch.linalg.norm(wanted_NV.double()))
