"""ONNX Runtime: the exported graph in float32, and in int8 with activations quantised on the way.

Both take the faster of one review at a time and batches of 1024 or 4096 padded tokens.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

from peers.batching import fastest, graph_candidates, padded
from peers.first_step import FirstStep
from peers.protocol import Peer, Workload


def make(name: str, work: Workload) -> Peer:
    """Build `onnxruntime-fp32` or `onnxruntime-int8`."""
    path = work.scratch / "onnxruntime-fp32" / "model.onnx"
    if not path.exists():
        export(work, path)
    if name == "onnxruntime-int8":
        path = quantised(path, work.scratch / "onnxruntime-int8")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = work.threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait would take time from the variant that runs next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def forward(ids_BS: torch.Tensor, mask_BS: torch.Tensor) -> torch.Tensor:
        feeds = {"input_ids": ids_BS.numpy(), "attention_mask": mask_BS.numpy()}
        return torch.from_numpy(session.run(None, feeds)[0])

    return fastest(graph_candidates(forward, work.label_ids), work.ids)


def export(work: Workload, path: Path) -> None:
    """Write the first step as ONNX with open numbers of rows and tokens."""
    path.parent.mkdir()
    network = copy.deepcopy(work.network)
    # The exporter cannot follow transformers' SDPA; written out, it is the same graph.
    network.set_attn_implementation("eager")
    rows, tokens = torch.export.Dim("rows"), torch.export.Dim("tokens")
    example = padded([np.arange(2, 12, dtype=np.int32), np.arange(2, 9, dtype=np.int32)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        torch.onnx.export(
            FirstStep(network).eval(),
            example,
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes=({0: rows, 1: tokens}, {0: rows, 1: tokens}),
            dynamo=True,
            verbose=False,
        )


def quantised(path: Path, folder: Path) -> Path:
    """Quantise the weights of all matrix products to int8, one scale per column."""
    folder.mkdir()
    quant_pre_process(str(path), str(folder / "prepared.onnx"), save_as_external_data=True)
    quantize_dynamic(
        str(folder / "prepared.onnx"),
        str(folder / "model.onnx"),
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
    )
    return folder / "model.onnx"
