"""Published sizes of T5, for weights made from a seed. Knows no files and no text."""

from __future__ import annotations

from typing import Any

from transformers import T5Config

from peers.protocol import PAD_ID, START_ID

# The initial weights of v1.0 are scaled by transformers so that activations stay in range.
_V1_0 = {"feed_forward_proj": "relu", "tie_word_embeddings": True}
_FLAN = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
SHAPES: dict[str, dict[str, Any]] = {
    "t5-small": {**_V1_0, "d_model": 512, "d_ff": 2048, "num_heads": 8, "num_layers": 6},
    "t5-base": {**_V1_0, "d_model": 768, "d_ff": 3072, "num_heads": 12, "num_layers": 12},
    "t5-large": {**_V1_0, "d_model": 1024, "d_ff": 4096, "num_heads": 16, "num_layers": 24},
    "flan-t5-base": {**_FLAN, "d_model": 768, "d_ff": 2048, "num_heads": 12, "num_layers": 12},
}


def shape_of(name: str) -> T5Config:
    """The configuration of one of `SHAPES`."""
    sizes = SHAPES[name]
    return T5Config(
        vocab_size=32128,
        d_kv=64,
        num_decoder_layers=sizes["num_layers"],
        pad_token_id=PAD_ID,
        eos_token_id=1,
        decoder_start_token_id=START_ID,
        **sizes,
    )
