"""Which files of a model folder hold its weights, and what they may hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sentiment.model.checkpoint import find_checkpoint, is_pickled, read_tensors

NAMES = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
]


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name]) for name in expected
    )


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    return {"a": torch.arange(4.0), "b": torch.ones(2, 3, dtype=torch.bfloat16)}


@pytest.mark.parametrize("first", range(len(NAMES)))
def test_safetensors_come_before_pickles_and_whole_before_parts(tmp_path: Path, first: int) -> None:
    for name in NAMES[first:]:
        (tmp_path / name).write_text("{}")
    assert find_checkpoint(tmp_path) == tmp_path / NAMES[first]
    assert is_pickled(tmp_path) == (first >= 2)


def test_other_files_are_no_checkpoint(tmp_path: Path) -> None:
    for name in ("adapter_model.bin", "training_args.bin", "other.safetensors", "tf_model.h5"):
        (tmp_path / name).write_bytes(b"")
    assert find_checkpoint(tmp_path) is None
    assert not is_pickled(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor pytorch_model"):
        read_tensors(tmp_path)


def test_tensors_come_back_as_they_were(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    assert same(read_tensors(tmp_path), tensors)
    save_file({"a": tensors["a"]}, tmp_path / "model.safetensors")
    assert same(read_tensors(tmp_path), {"a": tensors["a"]})


@pytest.mark.parametrize("content", [{"a": 1}, {"a": torch.ones(2), "step": 7}, {"a": [0.5]}])
def test_a_pickle_of_other_things_than_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin holds other things than tensors"):
        read_tensors(tmp_path)


@pytest.mark.parametrize(
    ("index", "part"),
    [
        ("model.safetensors.index.json", "../model-1.safetensors"),
        ("model.safetensors.index.json", "parts/model-1.safetensors"),
        ("model.safetensors.index.json", "pytorch_model-1.bin"),
        ("pytorch_model.bin.index.json", "/tmp/pytorch_model-1.bin"),
        ("pytorch_model.bin.index.json", "training_args.bin"),
    ],
)
def test_an_index_names_only_what_the_digest_covers(
    tmp_path: Path, tensors: dict[str, torch.Tensor], index: str, part: str
) -> None:
    folder = tmp_path / "model"
    (folder / "parts").mkdir(parents=True)
    if not part.startswith("/"):  # it is there and could be read
        save = save_file if part.endswith(".safetensors") else torch.save
        save(tensors, folder / part)
    (folder / index).write_text(json.dumps({"weight_map": dict.fromkeys(tensors, part)}))
    with pytest.raises(ValueError, match=f"{index} names '{part}' as a part of the weights"):
        read_tensors(folder)
