"""Label scoring compared with free generation by transformers, on the same rows.

Model cards report a loss and a generated length. They generate greedily, or with four beams and
early stopping. Label scoring chooses among the labels only, so the three can differ on rows for
which the model would generate something else.

Shapes: N rows, K labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sentiment.engine.devices import default_batch_tokens, default_device
from sentiment.engine.generation import Generator
from sentiment.engine.labels import Engine, TokenIds
from sentiment.model.find import Model
from sentiment.model.load import load_network, load_t5
from sentiment.t5.linear import ResolvedPrecision

_BEAMS: Final = 4
_MAX_NEW_TOKENS: Final = 8  # no label text is longer; what goes on beyond is none


def compare_decoding(
    model: Model,
    texts: Sequence[str],
    truth: Sequence[str],
    precision: ResolvedPrecision,
) -> dict[str, Any]:
    """Score labels, and generate greedily and with beams, on the same rows and in one precision.

    Args:
        model: The model.
        texts: Reviews.
        truth: True label of each, as the model's labels are meant.

    Returns:
        `rows`; `loss`, the mean cross-entropy in nats of a token of the true label text and its
        `</s>`; `gen_len`, the mean tokens of a greedy answer, `</s>` included; for each way of
        decoding the `accuracy`, and for the free ones `agreement` with label scoring and the share
        of answers that are no label (`off_label`).
    """
    if model.long_text == "windows":
        model = replace(model, long_text="head")  # as model cards read
    tokeniser = model.tokeniser()
    label_ids = [tokeniser.label_ids(label) for label in model.labels]
    ids = [encoded.ids for encoded in tokeniser.encode(texts)]
    device = default_device()
    batch_tokens = default_batch_tokens(device.type)
    network = load_t5(model.folder, device=device, precision=precision)
    engine = Engine(network, label_ids, batch_tokens=batch_tokens)
    scored = [model.meanings[k] for k in engine.score(ids).best_N]
    ended = Engine(network, label_ids, batch_tokens=batch_tokens, ended=True)
    found: dict[str, Any] = {
        "rows": len(texts),
        "loss": _loss(ended.score(ids).log_probs_NK, model.meanings, truth, label_ids),
        "labels": {"accuracy": _share(scored, truth)},
    }
    free = load_network(model.folder, device=device)
    for name, beams in (("greedy", 1), ("beams", _BEAMS)):
        generator = Generator(
            free,
            precision=precision,
            batch_tokens=batch_tokens,
            max_new_tokens=_MAX_NEW_TOKENS,
            num_beams=beams,
        )
        answers, _ = generator.generate(ids)
        if name == "greedy":
            found["gen_len"] = float(np.mean([len(answer) for answer in answers]))
        said = [
            None if k is None else model.meanings[k]
            for k in tokeniser.labels_of(answers, label_ids)
        ]
        found[name] = {
            "accuracy": _share(said, truth),
            "agreement": _share(said, scored),
            "off_label": said.count(None) / len(said),
        }
    return found


def _loss(
    log_probs_NK: NDArray[np.float32],
    labels: Sequence[str],
    truth: Sequence[str],
    label_ids: Sequence[TokenIds],
) -> float | None:
    """Return the mean loss over all target tokens, as in training. Rows with an unknown label are
    left out.
    """
    place = {label: k for k, label in enumerate(labels)}
    rows = [(n, place[label]) for n, label in enumerate(truth) if label in place]
    tokens = sum(len(label_ids[k]) + 1 for _, k in rows)
    return -float(sum(log_probs_NK[n, k] for n, k in rows)) / tokens if tokens else None


def _share(said: Sequence[str | None], expected: Sequence[str]) -> float:
    return float(np.mean([one == other for one, other in zip(said, expected, strict=True)]))
