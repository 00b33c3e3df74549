"""Networks for fine-tuning: initialisation, pooling, dropout."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from transformers import PreTrainedTokenizerBase, T5Config, T5ForConditionalGeneration

from sentiment.settings.finetune import ArchitectureConfig
from sentiment.t5.linear import ResolvedPrecision
from sentiment.t5.network import T5
from sentiment.t5.shape import T5Shape

# A head that starts on one neighbour gives it e^6, 400 times the weight of any other token; its
# content scores start small, so as not to drown that.
_LOCAL_BIAS: Final = 6.0
_LOCAL_QUERY_SCALE: Final = 0.1


def new_network(
    shape: ArchitectureConfig, tokenizer: PreTrainedTokenizerBase, dropout: float
) -> T5ForConditionalGeneration:
    """Return a T5 with random weights, initialised for short training on little data.

    Embeddings start small, so that Adam can turn them within a few hundred steps, and every encoder
    block starts as the identity (its output matrices are zero), so that what the pooling phase
    taught the embeddings survives until the blocks have something to add.
    """
    network = T5ForConditionalGeneration(
        T5Config(  # type: ignore[call-arg]  # takes more settings than it declares
            vocab_size=len(tokenizer),
            d_model=shape.d_model,
            d_kv=shape.d_kv,
            d_ff=shape.d_ff,
            num_layers=shape.encoder_layers,
            num_decoder_layers=shape.decoder_layers,
            num_heads=shape.heads,
            feed_forward_proj=shape.feed_forward,
            dropout_rate=dropout,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
        )
    )
    with torch.no_grad():
        network.shared.weight.mul_(shape.embedding_std / network.shared.weight.std())
        for block in _blocks(network.encoder):
            block.layer[0].SelfAttention.o.weight.zero_()
            block.layer[1].DenseReluDense.wo.weight.zero_()
        if shape.local_heads:
            _attend_to_neighbours(network)
    set_dropout(network, dropout, attention=0.0)
    return network


def _attend_to_neighbours(network: T5ForConditionalGeneration) -> None:
    """Initialise heads 0, 1 and 2 to attend to the previous token, the next, and the one two back.

    What a unigram model misses in reviews is mostly negation, two tokens away at most. Random heads
    attend uniformly and take thousands of steps to find their neighbours.
    """
    blocks = _blocks(network.encoder)
    first = blocks[0].layer[0].SelfAttention
    bias = first.relative_attention_bias.weight
    after = bias.shape[0] // 2  # the upper half of the buckets is for keys after the query
    bias.zero_()
    for head, bucket in enumerate((1, after + 1, 2)[: bias.shape[1]]):
        bias[bucket, head] = _LOCAL_BIAS
    for block in blocks:
        block.layer[0].SelfAttention.q.weight.mul_(_LOCAL_QUERY_SCALE)


@contextmanager
def bypassed_blocks(network: T5ForConditionalGeneration) -> Iterator[None]:
    """While the block runs, the encoder returns its normalised embeddings."""
    blocks = network.encoder.block
    network.encoder.block = torch.nn.ModuleList()
    try:
        yield
    finally:
        network.encoder.block = blocks


def set_uniform_attention(network: T5ForConditionalGeneration) -> None:
    """Zero and freeze the cross-attention queries, so that every source token has the same weight.

    Left free, they saturate on a few tokens within two hundred steps, and the embeddings of all
    others stop learning.
    """
    for block in _blocks(network.decoder):
        query = block.layer[1].EncDecAttention.q.weight
        query.requires_grad_(False)
        query.zero_()


def set_dropout(network: torch.nn.Module, rate: float, *, attention: float) -> None:
    """Set the dropout of hidden states and of attention probabilities.

    On a CPU, dropping attention probabilities costs as much as the attention itself.
    """
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = rate
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = attention  # type: ignore[assignment]


def recompute_activations(network: T5ForConditionalGeneration) -> None:
    """Do not keep activations inside the blocks: the backward pass computes them again."""
    # transformers 5 renamed it on the way.
    new_name = getattr(network, "activation_checkpointing_enable", None)
    (new_name or network.gradient_checkpointing_enable)({"use_reentrant": False})


def for_scoring(
    network: T5ForConditionalGeneration, precision: ResolvedPrecision, device: torch.device
) -> T5:
    """Return the present weights in the engine that scores."""
    shape = T5Shape.from_config(network.config.to_dict())
    return T5(
        # While its blocks are bypassed, the encoder has fewer than its configuration says.
        dataclasses.replace(shape, encoder_layers=len(_blocks(network.encoder))),
        network.state_dict(),
        precision=precision,
        device=device,
    )


def _blocks(stack: torch.nn.Module) -> list[Any]:
    """Return the blocks of an encoder or decoder. torch's types do not know these submodules."""
    return list(stack.block)  # type: ignore[arg-type]
