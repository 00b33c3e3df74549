"""What transformers says: no padding, no batch of unlike rows, one full pass per label.

The yardstick of the network and the engine. Rows of one length share a pass, for speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from sentiment.t5.linear import ResolvedPrecision
from sentiment.t5.network import T5
from sentiment.t5.shape import T5Shape

if TYPE_CHECKING:
    from sentiment.engine.labels import LabelScores

Ids = NDArray[np.int32]
CPU = torch.device("cpu")


def our_t5(network: Any, precision: ResolvedPrecision = "fp32") -> T5:
    """The same weights in our own forward."""
    shape = T5Shape.from_config(network.config.to_dict())
    return T5(shape, network.state_dict(), precision=precision, device=CPU)


def random_ids(lengths: Sequence[int], vocabulary: int, seed: int = 0) -> list[Ids]:
    random = np.random.default_rng(seed)
    return [random.integers(0, vocabulary, length).astype(np.int32) for length in lengths]


def first_logits(network: Any, rows: Sequence[Ids]) -> torch.Tensor:
    """float32 vocabulary logits of the first generated token: (rows, vocabulary)."""
    return _decoded(network, rows, ())[:, 0]


def label_log_probs(
    network: Any, rows: Sequence[Ids], labels: Sequence[tuple[int, ...]]
) -> NDArray[np.float64]:
    """Log-probability of each label, by teacher forcing: (rows, labels)."""
    columns = []
    for label in labels:
        log_p_RTV = torch.log_softmax(_decoded(network, rows, label).double(), dim=-1)
        columns.append(sum(log_p_RTV[:, step, token] for step, token in enumerate(label)))
    return torch.stack(columns, dim=1).numpy()


def among_labels(
    network: Any, rows: Sequence[Ids], labels: Sequence[tuple[int, ...]]
) -> NDArray[np.float64]:
    """Log-probability of each label if nothing else can be said, by teacher forcing.

    At every step the logits of tokens that go on to no label are left out.
    """
    columns = []
    for label in labels:
        logits_RTV = _decoded(network, rows, label).double()
        total_R = torch.zeros(len(rows), dtype=torch.float64)
        for step, token in enumerate(label):
            rivals = {one[step] for one in labels if one[:step] == label[:step]} - {token}
            allowed_RC = logits_RTV[:, step, [token, *sorted(rivals)]]
            total_R += allowed_RC.log_softmax(dim=1)[:, 0]
        columns.append(total_R)
    return torch.stack(columns, dim=1).numpy()


def label_scores(log_probs_NK: NDArray[np.float32], errors: dict[int, str]) -> LabelScores:
    """Scores of labels of one token each, made up from their log-probabilities."""
    from sentiment.engine.labels import LabelScores

    with np.errstate(invalid="ignore"):  # NaN where the model failed
        inside_N1 = np.logaddexp.reduce(log_probs_NK, axis=1, keepdims=True)
    return LabelScores(log_probs_NK, log_probs_NK - inside_N1, errors)


def exact_attention(
    qkv_T3HE: torch.Tensor, lengths: Sequence[int], bias_HS: torch.Tensor
) -> torch.Tensor:
    """Self-attention in float64, sequence by sequence; T tokens, H heads, S tokens of the longest.

    Args:
        qkv_T3HE: Queries, keys and values of all sequences, end to end.
        bias_HS: By distance: that of key - query = n is in column n + S - 1 of 2S - 1.
    """
    parts = []
    for part_L3HE in qkv_T3HE.double().split(list(lengths)):
        query_LHE, key_LHE, value_LHE = part_L3HE.unbind(1)
        position_L = torch.arange(len(part_L3HE), device=part_L3HE.device)
        distance_LL = position_L[None, :] - position_L[:, None]
        score_HLL = torch.einsum("qhe,khe->hqk", query_LHE, key_LHE)
        score_HLL += bias_HS.double()[:, distance_LL + bias_HS.shape[1] // 2]
        parts.append(torch.einsum("hqk,khe->qhe", score_HLL.softmax(-1), value_LHE).flatten(1))
    return torch.cat(parts)


@torch.no_grad()
def _decoded(network: Any, rows: Sequence[Ids], target: tuple[int, ...]) -> torch.Tensor:
    """float32 logits after the start token and each target token."""
    start_id = network.config.decoder_start_token_id
    target_1T = torch.tensor([[start_id, *target]])
    answers: dict[int, torch.Tensor] = {}
    for length in {len(row) for row in rows}:
        same = [n for n, row in enumerate(rows) if len(row) == length]
        ids_RS = torch.from_numpy(np.stack([rows[n] for n in same]).astype(np.int64))
        logits_RTV = network(
            input_ids=ids_RS, decoder_input_ids=target_1T.expand(len(same), -1)
        ).logits
        answers.update(zip(same, logits_RTV, strict=True))
    return torch.stack([answers[n] for n in range(len(rows))])
