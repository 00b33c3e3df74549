"""The encoder and one decoder step as one torch module, for peers that convert graphs.

Shapes: B rows of a batch, S source tokens, V vocabulary.
"""

from __future__ import annotations

import torch
from transformers import T5ForConditionalGeneration

from peers.protocol import START_ID


class FirstStep(torch.nn.Module):
    """Padded ids and mask to the logits of the first decoder step."""

    def __init__(self, network: T5ForConditionalGeneration) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """int64 ids_BS and mask_BS to logits_BV."""
        # Made from the input, so that a traced graph keeps the number of rows open.
        start_B1 = torch.full_like(input_ids[:, :1], START_ID)
        answer = self.network(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=start_B1,
            use_cache=False,
        )
        return answer.logits[:, 0]
