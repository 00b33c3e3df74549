"""OpenVINO: the converted graph in bfloat16, and in int8 after static post-training quantisation.

Both take the faster of one review at a time and batches of 1024 or 4096 padded tokens. The int8
graph computes what is not quantised in bfloat16.
"""

from __future__ import annotations

import warnings

import openvino
import torch

from peers.batching import fastest, graph_candidates, padded
from peers.first_step import FirstStep
from peers.protocol import Peer, Workload


def make(name: str, work: Workload) -> Peer:
    """Build `openvino-bf16` or `openvino-int8`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer about Python values it takes as constants
        model = openvino.convert_model(
            FirstStep(work.network).eval(), example_input=padded(work.ids[:2])
        )
    if name == "openvino-int8":
        model = quantised(model, work)
    compiled = openvino.compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "bf16",
            "INFERENCE_NUM_THREADS": work.threads,
            "PERFORMANCE_HINT": "LATENCY",  # all threads on one batch, as everybody here
        },
    )

    def forward(ids_BS: torch.Tensor, mask_BS: torch.Tensor) -> torch.Tensor:
        logits = torch.from_numpy(compiled([ids_BS.numpy(), mask_BS.numpy()])[0])
        return logits.reshape(len(ids_BS), -1)  # the int8 graph gives [1, B, V], against its word

    return fastest(graph_candidates(forward, work.label_ids), work.ids)


def quantised(model: openvino.Model, work: Workload) -> openvino.Model:
    """Quantise weights and activations to int8, with ranges seen on the calibration reviews."""
    import nncf  # here, because openvino-bf16 does without

    batches = [padded([row]) for row in work.calibration_ids]
    data = nncf.Dataset([[ids_BS.numpy(), mask_BS.numpy()] for ids_BS, mask_BS in batches])
    return nncf.quantize(
        model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(batches)
    )
