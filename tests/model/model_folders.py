"""Folders of tiny models that a test damages, splits or pickles."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from sentiment.model.load import load_t5
from sentiment.t5.network import T5

CPU = torch.device("cpu")
IDS = [np.array(row, np.int32) for row in ([5, 9, 30, 1], [77, 1], [4, 4, 250, 599, 17, 2, 1])]


def change_json(path: Path, **values: Any) -> None:
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, **values}))


def pickle_weights(folder: Path, *, parts: bool = False) -> None:
    """Turn the safetensors of a folder into what older models are published as."""
    if parts:
        split_in_two(folder, "pytorch_model.bin", lambda tensors, path: torch.save(tensors, path))
    else:
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()


def split_in_two(folder: Path, name: str, save: Callable[[dict[str, Any], Path], None]) -> None:
    """Weights as large models are published: in parts, with an index of what is where."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem, ending = name.split(".")
    parts = [f"{stem}-0000{n}-of-00002.{ending}" for n in (1, 2)]
    weight_map = {key: parts[n % 2] for n, key in enumerate(sorted(tensors))}
    for part in parts:
        save({key: tensors[key] for key in tensors if weight_map[key] == part}, folder / part)
    (folder / f"{name}.index.json").write_text(json.dumps({"weight_map": weight_map}))


def t5_of(folder: Path) -> T5:
    return load_t5(folder, device=CPU, precision="fp32")
