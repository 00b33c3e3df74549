"""transformers: as on the model card, as most people batch it, and as well as it can be batched.

All three call `generate` for one token. `output_logits` hands out what `generate` computes anyway.
"""

from __future__ import annotations

import torch
from transformers import T5ForConditionalGeneration

from peers.batching import BUDGETS_TOKENS, BatchedPeer, Forward, by_tokens, fastest, in_order
from peers.protocol import Peer, Workload

# Start token and the answer.
MAX_LENGTH_TOKENS = 2

PADDED_BATCH_ROWS = 16


def make(name: str, work: Workload) -> Peer:
    """Build `transformers-card`, `transformers-fp32-padded` or `transformers-bf16-sorted`."""
    if name == "transformers-card":
        return BatchedPeer(_generate(work.network), in_order(1), work.label_ids)
    if name == "transformers-fp32-padded":
        return BatchedPeer(_generate(work.network), in_order(PADDED_BATCH_ROWS), work.label_ids)
    network = T5ForConditionalGeneration.from_pretrained(
        str(work.folder),
        dtype=torch.bfloat16,
        attn_implementation="sdpa",
        local_files_only=True,
    ).eval()
    forward = _generate(network)
    candidates = [
        BatchedPeer(forward, by_tokens(tokens), work.label_ids) for tokens in BUDGETS_TOKENS
    ]
    return fastest(candidates, work.ids)


def _generate(network: T5ForConditionalGeneration) -> Forward:
    def forward(ids_BS: torch.Tensor, mask_BS: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            answer = network.generate(
                input_ids=ids_BS,
                attention_mask=mask_BS,
                max_length=MAX_LENGTH_TOKENS,
                num_beams=1,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
            )
        return answer.logits[0]

    return forward
