"""The list of named models, as a shell shows it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models
import torch
from huggingface_hub import constants
from model_hub import COMMIT, fill_cache
from safetensors.torch import load_file

from sentiment.cli import main
from sentiment.model.declaration import presets


def listed(cache: Path) -> list[str]:
    """Lines of `sentiment models` in a process of its own, where the variables count."""
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "sentiment", "models"],
        env=environment, capture_output=True, text=True, check=True, timeout=60,
    ).stdout.splitlines()  # fmt: skip


def test_the_list_has_what_one_chooses_by(tmp_path: Path, tiny_model: Path) -> None:
    fill_cache(tmp_path, presets()["t5-base-imdb"].model, tiny_model)
    head, builtin, t5, flan, *hub = listed(tmp_path)
    assert head.split() == ["name", "labels", "prompt", "tokens", "long", "text", "decoding",
                            "here"]  # fmt: skip
    assert builtin.startswith("builtin ")
    assert builtin.endswith("  yes, comes with the package")
    assert t5.startswith("t5-base-imdb ")
    assert "  {text}  512 " in t5
    assert t5.endswith(f"  cached, {COMMIT[:12]}")
    assert "  0 = negative, 1 = positive  " in flan
    assert flan.endswith("  no")
    for name, preset in presets().items():
        assert any(name in line and f" {preset.model}, revision main" in line for line in hub)


def test_the_page_shows_what_is_printed(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "models.md"
    shown = page.read_text(encoding="utf-8").split("```text\n")[1].split("```")[0]
    assert shown.splitlines() == listed(tmp_path)


def test_a_cached_model_that_is_pickles_says_what_it_takes(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    published = tmp_path / "published"
    published.mkdir()
    (published / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    torch.save(load_file(tiny_model / "model.safetensors"), published / "pytorch_model.bin")
    fill_cache(tmp_path / "cache", presets()["flan-t5-base-imdb"].model, published)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    assert main(["models"]) == 0
    assert f"cached, {COMMIT[:12]} (.bin files: --allow-pickle-weights)" in capsys.readouterr().out


def test_half_a_model_is_not_called_cached(
    tmp_path: Path, vocabulary: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    tiny_models.new_vocabulary(tmp_path / "published")
    fill_cache(tmp_path / "cache", presets()["t5-base-imdb"].model, tmp_path / "published")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    assert main(["models"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "t5-base-imdb" in line)
    assert line.endswith("  no")
