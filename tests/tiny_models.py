"""Tiny T5 models with random weights and a vocabulary of their own, built in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import (
    MT5Config,
    MT5ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

from sentiment.settings.finetune import ArchitectureConfig
from sentiment.training.network import new_network
from sentiment.training.vocabulary import train_vocabulary

# Beside matrices this small, a second thread only waits; on a busy machine it waits long.
torch.set_num_threads(1)

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "reviews.jsonl"

SHAPE = ArchitectureConfig(vocab_size=600, d_model=32, d_kv=8, d_ff=64)
AnyT5 = TypeVar("AnyT5", T5ForConditionalGeneration, MT5ForConditionalGeneration)
LABELS = {
    "labels": ["negative", "positive"],
    "template": "{text}",
    "max_source_tokens": 64,
    "long_text": "head",
}


def example_reviews() -> list[dict[str, Any]]:
    """The reviews that come with the project, without the deliberately bad rows of the demo."""
    return [json.loads(line) for line in EXAMPLES.read_text(encoding="utf-8").splitlines()]


def example_texts() -> list[str]:
    return [review["text"] for review in example_reviews()]


def new_vocabulary(folder: Path) -> T5Tokenizer:
    return train_vocabulary(example_texts(), folder, vocab_size=SHAPE.vocab_size)


def tiny_v1_0(vocabulary: Path) -> T5ForConditionalGeneration:
    """T5 v1.0: ReLU, the decoder reads its logits off the shared embeddings, scaled down."""
    network = new_network(SHAPE, T5Tokenizer.from_pretrained(str(vocabulary)), dropout=0.0)
    return randomised(network)


def tiny_v1_1(vocabulary: Path) -> T5ForConditionalGeneration:
    """T5 v1.1 as FLAN: gated GELU, an output matrix of its own, no scaling."""
    return untied_of(len(T5Tokenizer.from_pretrained(str(vocabulary))))


def untied_of(rows: int) -> T5ForConditionalGeneration:
    """T5 v1.1 with so many rows of embeddings."""
    network = T5ForConditionalGeneration(
        T5Config(
            vocab_size=rows,
            d_model=SHAPE.d_model,
            d_kv=SHAPE.d_kv,
            d_ff=SHAPE.d_ff,
            num_layers=2,
            num_decoder_layers=2,
            num_heads=SHAPE.heads,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
            decoder_start_token_id=0,
        )
    )
    return randomised(untied(network))


def tiny_mt5(vocabulary: Path) -> MT5ForConditionalGeneration:
    """mT5: as T5 v1.1 by another name; as in mt5-small, heads together are not the model width."""
    network = MT5ForConditionalGeneration(
        MT5Config(
            vocab_size=len(T5Tokenizer.from_pretrained(str(vocabulary))),
            d_model=SHAPE.d_model,
            d_kv=SHAPE.d_kv,
            d_ff=SHAPE.d_ff,
            num_layers=3,
            num_decoder_layers=2,
            num_heads=3,
            tie_word_embeddings=False,
        )
    )
    return randomised(untied(network))


def untied(network: AnyT5) -> AnyT5:
    """Give the network an output matrix of its own.

    transformers ties at construction whatever the configuration says, and unties on loading where
    the two differ.
    """
    network.lm_head.weight = torch.nn.Parameter(torch.empty_like(network.lm_head.weight))
    return network


def save_model(network: AnyT5, vocabulary: Path, folder: Path, **labels: Any) -> Path:
    """A model folder as published: weights, config, tokenizer and `labels.json`."""
    network.save_pretrained(str(folder))
    T5Tokenizer.from_pretrained(str(vocabulary)).save_pretrained(str(folder))
    (folder / "labels.json").write_text(json.dumps({**LABELS, **labels}))
    return folder


def randomised(network: AnyT5) -> AnyT5:
    """Weights large enough that rows differ, and labels too."""
    random = torch.Generator().manual_seed(7)
    scaled = getattr(network.config, "scale_decoder_outputs", False)  # mT5 has no such switch
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "layer_norm" in name:
                weight.uniform_(0.5, 1.5, generator=random)
            elif weight is network.lm_head.weight and not scaled:
                weight.normal_(0.0, 0.15, generator=random)
            elif weight is network.shared.weight:
                weight.normal_(0.0, 1.0, generator=random)
            else:
                weight.normal_(0.0, 0.2, generator=random)
    return network.eval()
