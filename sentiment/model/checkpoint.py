"""The files that hold a model's weights, and reading their tensors.

These files come from other people, so no code in them is run. Safetensors hold tensors and nothing
else. `.bin` files are pickles. They are used only if there are no safetensors, and torch's
restricted unpickler reads them: it refuses everything but tensors and plain values.
"""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sentiment.errors import ModelError

if TYPE_CHECKING:
    import torch

# Patterns of all files a checkpoint may consist of.
SAFETENSORS: Final = ("*.safetensors", "*.safetensors.index.json")
PICKLES: Final = ("pytorch_model*.bin", "pytorch_model.bin.index.json")

# The weights, or the index of their parts: the first of these that a folder has.
_CHECKPOINTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def find_checkpoint(folder: Path) -> Path | None:
    """Return the file with all weights, or the index of their parts, that will be read."""
    return next((folder / name for name in _CHECKPOINTS if (folder / name).exists()), None)


def is_pickled(folder: Path) -> bool:
    """Return whether the weights would be read from pickles."""
    found = find_checkpoint(folder)
    return found is not None and ".bin" in found.suffixes


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Read all tensors of a checkpoint. Safetensors are memory-mapped and read when they are used.

    Raises:
        Exception: Missing or damaged files, parts that the folder's digest does not cover, a pickle
            that holds more than tensors; safetensors, pickle and file errors share no base class.
    """
    import torch
    from safetensors.torch import load_file

    whole, pickled = find_checkpoint(folder), is_pickled(folder)
    if whole is None:
        raise FileNotFoundError("neither model.safetensors nor pytorch_model.bin, whole or parts")
    tensors: dict[str, torch.Tensor] = {}
    for name in _parts(whole, PICKLES[0] if pickled else SAFETENSORS[0]):
        path = folder / name
        tensors |= (
            torch.load(path, map_location="cpu", weights_only=True) if pickled else load_file(path)
        )
    if not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise ValueError(f"{whole.name} holds other things than tensors")
    return tensors


def _parts(whole: Path, pattern: str) -> list[str]:
    """Return the names of the files to read. An index may name only files that hold weights."""
    if whole.suffix != ".json":
        return [whole.name]
    names = sorted(set(read_json(whole)["weight_map"].values()))
    strange = [name for name in names if "/" in name or not fnmatch(name, pattern)]
    if strange:
        raise ValueError(f"{whole.name} names {strange[0]!r} as a part of the weights")
    return names


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        ModelError: The file is missing or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({type(error).__name__})") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: expected a JSON object")
    return values
