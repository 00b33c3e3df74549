"""What a new network starts as, and what the pooling phase makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_models
import torch
from transformers import T5ForConditionalGeneration, T5Tokenizer

from sentiment.training.network import new_network, set_dropout, set_uniform_attention

IDS = torch.tensor([[20, 31, 44, 59, 60, 1]])


@pytest.fixture
def network(vocabulary: Path) -> T5ForConditionalGeneration:
    torch.manual_seed(3)
    tokenizer = T5Tokenizer.from_pretrained(str(vocabulary))
    return new_network(tiny_models.SHAPE, tokenizer, dropout=0.2).eval()


@torch.no_grad()
def logits(network: T5ForConditionalGeneration, ids: torch.Tensor) -> torch.Tensor:
    answer: torch.Tensor = network(input_ids=ids, decoder_input_ids=torch.tensor([[0]])).logits
    return answer


def test_the_encoder_starts_as_the_identity(network: T5ForConditionalGeneration) -> None:
    with torch.no_grad():
        hidden = network.encoder(input_ids=IDS).last_hidden_state
        normed = network.encoder.final_layer_norm(network.shared(IDS))
    assert torch.equal(hidden, normed)


def test_embeddings_have_the_spread_asked_for(network: T5ForConditionalGeneration) -> None:
    spread = float(network.shared.weight.std().detach())
    assert spread == pytest.approx(tiny_models.SHAPE.embedding_std, rel=1e-4)
    assert network.lm_head.weight is network.shared.weight


def test_the_shape_is_the_one_asked_for(network: T5ForConditionalGeneration) -> None:
    config, shape = network.config, tiny_models.SHAPE
    assert (config.d_model, config.d_kv, config.d_ff) == (shape.d_model, shape.d_kv, shape.d_ff)
    assert (config.num_layers, config.num_decoder_layers) == (2, 1)
    assert (config.pad_token_id, config.eos_token_id, config.decoder_start_token_id) == (0, 1, 0)


def test_three_heads_start_on_the_neighbours(network: T5ForConditionalGeneration) -> None:
    attention = network.encoder.block[0].layer[0].SelfAttention
    attention.has_relative_attention_bias = True
    with torch.no_grad():
        bias_HQK = attention.compute_bias(8, 8)[0]
    offsets = [int(bias_HQK[head, 4].argmax()) - 4 for head in range(3)]
    assert offsets == [-1, 1, -2]
    assert not bias_HQK[3].any()


def test_pooling_does_not_see_the_order_of_tokens(network: T5ForConditionalGeneration) -> None:
    with torch.no_grad():  # as after some training, so that blocks and queries do something
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    shuffled = IDS[:, torch.tensor([3, 1, 5, 0, 4, 2])]
    assert not torch.allclose(logits(network, IDS), logits(network, shuffled), atol=1e-3)
    network.encoder.block = torch.nn.ModuleList()
    set_uniform_attention(network)
    torch.testing.assert_close(logits(network, IDS), logits(network, shuffled))
    other = logits(network, torch.tensor([[20, 31, 44, 59, 61, 1]]))
    assert not torch.allclose(logits(network, IDS), other, atol=1e-4)


def test_uniform_attention_is_frozen(network: T5ForConditionalGeneration) -> None:
    set_uniform_attention(network)
    for block in network.decoder.block:
        query = block.layer[1].EncDecAttention.q.weight
        assert not query.requires_grad
        assert not query.any()


def test_dropout_is_set_everywhere_but_in_attention(network: T5ForConditionalGeneration) -> None:
    set_dropout(network, 0.4, attention=0.1)
    kinds = {type(module): module for module in network.modules()}
    rates = {m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)}
    attention = [m for kind, m in kinds.items() if kind.__name__ == "T5Attention"]
    assert rates == {0.4}
    assert [module.dropout for module in attention] == [0.1]
