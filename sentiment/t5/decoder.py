"""The decoder over a trie of labels: one pass, without keys and values of the source.

A label is a path through a trie whose root is the start token. All nodes of the trie go through the
decoder at the same time. Each attends to itself and its ancestors, so one pass gives the
probability of every token of every label. Three exact rearrangements make the pass cheap:

* Cross-attention is absorbed. For a query q, q . (W_k h) = (W_k^T q) . h, and the weighted sum of
  values is W_v times the weighted sum of states. So the few queries and results are multiplied by
  W_k and W_v, and never the many states of the source.
* Before the first cross-attention nothing depends on the source. The embeddings and the first
  self-attention of all nodes are computed once, at load time.
* A trie with one node attends to itself alone, so its self-attention is one matrix, W_o W_v.

The decoder computes in float32 whatever the precision of the encoder. That costs a hundredth of the
time. In bfloat16 the decoder would cause half of the whole error: a logit of 10, rounded to three
digits, moves a probability by 0.01.

Shapes: B sequences, S tokens of the longest, M nodes of the trie, D model width, H heads, E head
width, V vocabulary, K labels, P tokens of labels to predict, N rows of B x M.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sentiment.t5.layers import FeedForward, Tensors, rms_norm
from sentiment.t5.lengths import starts_of, to_device
from sentiment.t5.linear import make_linear
from sentiment.t5.shape import T5Shape, relative_buckets

# Logits over a vocabulary of 250,000 are 1 MB a row: they are made for so many rows at a time.
_LOGITS_BYTES = 64 * 2**20


@dataclass(frozen=True)
class LabelTrie:
    """A trie of label token sequences: labels share the tokens that they begin with.

    Attributes:
        tokens: Decoder input of each node; node 0 is the start token.
        parents: Node before each node; -1 for the root. A parent comes before its children.
        labels: For each label, the nodes its tokens are predicted at and those tokens.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    labels: tuple[tuple[tuple[int, int], ...], ...]

    @classmethod
    def build(cls, labels: Sequence[tuple[int, ...]], start_id: int) -> LabelTrie:
        """Trie of these label token sequences; the last token of a label needs no node."""
        node_of: dict[tuple[int, ...], int] = {(): 0}
        tokens, parents = [start_id], [-1]
        paths = []
        for label in labels:
            path = []
            for end, token in enumerate(label):
                prefix = label[:end]
                if prefix not in node_of:
                    node_of[prefix] = len(tokens)
                    tokens.append(prefix[-1])
                    parents.append(node_of[prefix[:-1]])
                path.append((node_of[prefix], token))
            paths.append(tuple(path))
        return cls(tuple(tokens), tuple(parents), tuple(paths))

    def distances(self) -> torch.Tensor:
        """int64 (M, M): tokens from a node up to each ancestor, 0 or less; 1 where it is none."""
        nodes = len(self.tokens)
        away_MM = torch.ones(nodes, nodes, dtype=torch.int64)
        for node in range(nodes):
            ancestor, distance = node, 0
            while ancestor >= 0:
                away_MM[node, ancestor] = distance
                ancestor, distance = self.parents[ancestor], distance - 1
        return away_MM


class TrieDecoder:
    """The decoder of a T5 for one trie of labels.

    Args:
        shape: Its sizes.
        tensors: Checkpoint tensors by name, float32, on the device to compute on.
        embedding_VD: Token embeddings of the decoder.
        head_VD: Output matrix.
        trie: The labels.
    """

    def __init__(
        self,
        shape: T5Shape,
        tensors: Tensors,
        embedding_VD: torch.Tensor,
        head_VD: torch.Tensor,
        trie: LabelTrie,
    ) -> None:
        self._shape = shape
        self._trie = trie
        scale = shape.width**-0.5 if shape.scaled_output else 1.0
        self._head_VD = head_VD * (tensors["decoder.final_layer_norm.weight"] * scale)
        self._layers = [
            _Layer(shape, tensors, f"decoder.block.{n}", alone=len(trie.tokens) == 1)
            for n in range(shape.decoder_layers)
        ]
        distances_MM = trie.distances().to(head_VD.device)
        weight_KH = tensors["decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        bias_MMH = weight_KH[relative_buckets(distances_MM, shape, both_ways=False)]
        hidden_MM1 = (distances_MM > 0)[:, :, None]
        self._bias_HMM = bias_MMH.masked_fill(hidden_MM1, float("-inf")).permute(2, 0, 1)
        steps = sorted({step for label in trie.labels for step in label})
        column = {step: n for n, step in enumerate(steps)}
        # On the device once: an index that a batch brings along is waited for.
        self._node_P, self._token_P = (
            torch.tensor(steps, dtype=torch.int64, device=head_VD.device).view(len(steps), 2).T
        )
        # Steps are sorted: those that choose at the same node stand together.
        self._choices = list(Counter(node for node, _ in steps).values())
        self._steps = [
            torch.tensor([column[step] for step in label], device=head_VD.device)
            for label in trie.labels
        ]
        start_MD = embedding_VD[torch.tensor(trie.tokens, device=head_VD.device)].float()
        self._first_MD = start_MD + self._attend_to_ancestors(self._layers[0], start_MD[None])[0]

    def label_log_probs(self, states_TD: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """Return the log-probability of every label, over the full vocabulary and among the labels.

        The second is the probability of a decoder that at every node may only take a token of some
        label: of each step it is the share among these tokens. A token without a rival there costs
        a label nothing, so that long labels do not lose to short ones for the tokens they have
        more.

        Args:
            states_TD: float32 encoder states of all sequences, end to end.
            lengths: Tokens of each sequence.

        Returns:
            float32 (B, 2, K), natural logarithms: over the vocabulary, and among the labels, whose
            probabilities add up to 1.
        """
        hidden_BMD = self._decode(states_TD, lengths)
        rows = max(1, _LOGITS_BYTES // (4 * len(self._head_VD) * hidden_BMD.shape[1]))
        parts = []
        for part_bMD in hidden_BMD.split(rows):
            logits_bMV = self._logits(part_bMD)
            normaliser_bM = logits_bMV.logsumexp(dim=-1)
            parts.append(
                logits_bMV[:, self._node_P, self._token_P] - normaliser_bM[:, self._node_P]
            )
        log_probs_BP = torch.cat(parts)
        among_BP = torch.cat(
            [
                choice_BC.log_softmax(dim=1)
                for choice_BC in log_probs_BP.split(self._choices, dim=1)
            ],
            dim=1,
        )
        both_B2P = torch.stack([log_probs_BP, among_BP], dim=1)
        return torch.stack([both_B2P[:, :, step_L].sum(dim=2) for step_L in self._steps], dim=2)

    def logits(self, states_TD: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """Vocabulary logits at every node: float32 (B, M, V)."""
        return self._logits(self._decode(states_TD, lengths))

    def _logits(self, hidden_BMD: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(rms_norm(hidden_BMD, self._shape), self._head_VD)

    def _decode(self, states_TD: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
        """float32 states of all nodes after the last block, before its norm: (B, M, D)."""
        # Padding is cheap here. Sequences of a batch have similar lengths, and a layer reads the
        # states twice; it multiplies them by no matrix.
        spans_2B = np.stack([starts_of(lengths), np.asarray(lengths, np.int64)])
        start_B1, length_B1 = to_device(spans_2B, states_TD.device)[:, :, None]
        position_S = torch.arange(max(lengths), device=states_TD.device)
        padding_BS = position_S >= length_B1
        # Padded positions repeat the first state of their own sequence. Their weight is 0, but 0
        # times a NaN from another sequence would be NaN.
        row_BS = start_B1 + position_S.masked_fill(padding_BS, 0)
        states_BSD = states_TD.index_select(0, row_BS.flatten()).unflatten(0, row_BS.shape)
        padding_B1S = padding_BS[:, None, :]
        x_BMD = self._first_MD.expand(len(lengths), -1, -1).clone()
        for n, layer in enumerate(self._layers):
            if n > 0:  # the first self-attention is part of `_first_MD`
                x_BMD += self._attend_to_ancestors(layer, x_BMD)
            x_BMD += self._attend_to_source(layer, x_BMD, states_BSD, padding_B1S)
            x_BMD += layer.feed_forward(rms_norm(x_BMD, self._shape))
        return x_BMD

    def _attend_to_ancestors(self, layer: _Layer, x_BMD: torch.Tensor) -> torch.Tensor:
        normalised_BMD = rms_norm(x_BMD, self._shape)
        if layer.self_qkv is None:
            return layer.self_out(normalised_BMD)
        qkv_BM3HE = layer.self_qkv(normalised_BMD).unflatten(-1, (3, self._shape.heads, -1))
        query_BHME, key_BHME, value_BHME = qkv_BM3HE.permute(2, 0, 3, 1, 4).unbind()
        scores_BHMM = query_BHME @ key_BHME.mT + self._bias_HMM
        weights_BHMM = torch.softmax(scores_BHMM, dim=-1)
        attended_BHME = weights_BHMM @ value_BHME
        return layer.self_out(attended_BHME.transpose(1, 2).flatten(2))

    def _attend_to_source(
        self,
        layer: _Layer,
        x_BMD: torch.Tensor,
        states_BSD: torch.Tensor,
        padding_B1S: torch.Tensor,
    ) -> torch.Tensor:
        batch, nodes, _ = x_BMD.shape
        heads = self._shape.heads
        query_BMA = layer.cross_query(rms_norm(x_BMD, self._shape))
        query_HNE = query_BMA.view(batch * nodes, heads, -1).transpose(0, 1)
        # q . (W_k h) = (W_k^T q) . h: the few queries take W_k on, never the many states. Below,
        # Q are all pairs of node and head, so that one product serves all of them.
        absorbed_HND = torch.bmm(query_HNE, layer.cross_key_HED)
        absorbed_BQD = absorbed_HND.view(heads, batch, nodes, -1).permute(1, 2, 0, 3).flatten(1, 2)
        scores_BQS = torch.bmm(absorbed_BQD, states_BSD.mT)
        scores_BQS.masked_fill_(padding_B1S, float("-inf"))
        weights_BQS = torch.softmax(scores_BQS, dim=-1)
        pooled_BQD = torch.bmm(weights_BQS, states_BSD)
        pooled_HND = pooled_BQD.view(batch * nodes, heads, -1).transpose(0, 1)
        # In the same way the weighted sum is taken over states, and W_v applied to the sum.
        value_HNE = torch.bmm(pooled_HND, layer.cross_value_HDE)
        return layer.cross_out(value_HNE.transpose(0, 1).reshape(batch, nodes, -1))


class _Layer:
    """The weights of one decoder block, with norm weights folded into the matrices that read them.

    Args:
        alone: The trie has one node, so self-attention is a single matrix.
    """

    def __init__(
        self,
        shape: T5Shape,
        tensors: Tensors,
        block: str,
        *,
        alone: bool,
    ) -> None:
        attention = f"{block}.layer.0.SelfAttention"
        norm_D = tensors[f"{block}.layer.0.layer_norm.weight"]
        # A norm multiplies each column by its weight; so does scaling the columns of the matrix
        # that reads it, once and for all.
        query = tensors[f"{attention}.q.weight"] * norm_D
        key = tensors[f"{attention}.k.weight"] * norm_D
        value = tensors[f"{attention}.v.weight"] * norm_D
        out = tensors[f"{attention}.o.weight"]
        self.self_qkv = None if alone else make_linear(torch.cat([query, key, value]), "fp32")
        self.self_out = make_linear(out @ value if alone else out, "fp32")

        attention = f"{block}.layer.1.EncDecAttention"
        norm_D = tensors[f"{block}.layer.1.layer_norm.weight"]
        states_norm_D = tensors["encoder.final_layer_norm.weight"]
        heads = (shape.heads, shape.head_width, shape.width)
        # The encoder's last norm is folded in here, so it hands over states without that weight.
        key = tensors[f"{attention}.k.weight"] * states_norm_D
        value = tensors[f"{attention}.v.weight"] * states_norm_D
        self.cross_query = make_linear(tensors[f"{attention}.q.weight"] * norm_D, "fp32")
        self.cross_key_HED = key.view(heads).contiguous()
        self.cross_value_HDE = value.view(heads).transpose(1, 2).contiguous()
        self.cross_out = make_linear(tensors[f"{attention}.o.weight"], "fp32")
        self.feed_forward = FeedForward(shape, tensors, f"{block}.layer.2", "fp32")
