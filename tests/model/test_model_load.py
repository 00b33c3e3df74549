"""Weights of a model folder: loaded alike by both loaders, and every way that can fail."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reference
import tiny_models
import torch
from model_folders import CPU, IDS, change_json, pickle_weights, split_in_two, t5_of
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, T5ForConditionalGeneration

from sentiment.errors import ModelError
from sentiment.model import find
from sentiment.model.find import find_model, folder_digest
from sentiment.model.load import load_network

KINDS = ("tiny_v1_0", "tiny_v1_1", "tiny_mt5")


# What both loaders promise of a damaged folder.
Loader = Callable[[Path], Any]
LOADERS: list[Loader] = [t5_of, lambda folder: load_network(folder, device=CPU)]
NAMES = ["load_t5", "load_network"]


def assert_scores_as(network: Any, folder: Path) -> None:
    """What is loaded from the folder gives the logits of transformers' model."""
    theirs = reference.first_logits(network, IDS)
    torch.testing.assert_close(t5_of(folder).logits(IDS), theirs, atol=1e-4, rtol=1e-4)


def logits_of(network: Any) -> torch.Tensor:
    with torch.no_grad():
        answer: torch.Tensor = network(
            input_ids=torch.tensor([[5, 9, 30, 1]]), decoder_input_ids=torch.tensor([[0, 4]])
        ).logits
    return answer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_saved_model_scores_as_it_did(
    kind: str, dtype: torch.dtype, vocabulary: Path, tmp_path: Path
) -> None:
    network = getattr(tiny_models, kind)(vocabulary).to(dtype)
    folder = tiny_models.save_model(network, vocabulary, tmp_path)
    assert_scores_as(network.float(), folder)


@pytest.mark.parametrize(
    "kind",
    [
        "tiny_v1_0",
        "tiny_v1_1",
        "tiny_mt5",
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_model_comes_back_as_it_was(
    kind: str, dtype: torch.dtype, vocabulary: Path, tmp_path: Path
) -> None:
    network = getattr(tiny_models, kind)(vocabulary).to(dtype)
    folder = tiny_models.save_model(network, vocabulary, tmp_path)
    loaded = load_network(folder, device=CPU)
    assert loaded.dtype == torch.float32
    assert not loaded.training
    assert torch.equal(logits_of(loaded), logits_of(network.float()))
    assert load_network(folder, device=CPU, dtype="bf16").dtype == torch.bfloat16


def test_scoring_builds_no_model_of_transformers(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take seconds and twice the memory, only to be taken apart."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model of transformers was built")

    monkeypatch.setattr(T5ForConditionalGeneration, "__init__", refuse)
    assert torch.isfinite(t5_of(tiny_model).logits(IDS)).all()
    with pytest.raises(ModelError, match="was built"):
        load_network(tiny_model, device=CPU)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_of_older_transformers_loads_alike(
    kind: str, vocabulary: Path, tmp_path: Path
) -> None:
    """They said by `tie_word_embeddings` alone whether the decoder's output is scaled."""
    network = getattr(tiny_models, kind)(vocabulary)
    folder = tiny_models.save_model(network, vocabulary, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["tie_word_embeddings"] = config.pop("scale_decoder_outputs", False)
    for name in ("dense_act_fn", "is_gated_act", "dtype"):
        config.pop(name)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    for stack in ("encoder", "decoder"):  # the copies that such checkpoints carry
        tensors[f"{stack}.embed_tokens.weight"] = tensors["shared.weight"].clone()
    # And a bias that transformers dropped from cross-attention, and ignores.
    stray = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    tensors[stray] = torch.ones(32, 4)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert_scores_as(network, folder)
    if kind != "tiny_mt5":
        assert torch.equal(logits_of(load_network(folder, device=CPU)), logits_of(network))


def test_weights_in_parts_are_one_model(folder: Path) -> None:
    network = load_network(folder, device=CPU)
    before = t5_of(folder).logits(IDS)
    split_in_two(folder, "model.safetensors", lambda tensors, path: save_file(tensors, path))
    assert not (folder / "model.safetensors").exists()
    assert torch.equal(t5_of(folder).logits(IDS), before)
    assert_scores_as(network, folder)


def test_pickled_weights_in_parts_are_one_model(folder: Path) -> None:
    before = t5_of(folder).logits(IDS)
    pickle_weights(folder, parts=True)
    assert torch.equal(t5_of(folder).logits(IDS), before)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_missing_part_is_an_error(folder: Path, name: str) -> None:
    def save(tensors: dict[str, Any], path: Path) -> None:
        save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)

    split_in_two(folder, name, save)
    [part] = folder.glob("*-00002-of-00002.*")
    part.unlink()
    with pytest.raises(ModelError, match=rf"cannot be loaded .*{part.name}") as caught:
        t5_of(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{", "{}", '{"weight_map": {}}'])
def test_an_index_without_parts_is_an_error(folder: Path, content: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelError, match=re.escape(str(folder))):
        t5_of(folder)


@pytest.mark.parametrize("load", LOADERS, ids=NAMES)
def test_a_pickle_beside_safetensors_is_never_opened(
    load: Loader, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folder_digest(folder)
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "pytorch_model.bin.index.json").write_text("{}")

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle was read")

    monkeypatch.setattr(torch, "load", refuse)
    assert find_model(str(folder)).digest == before
    load(folder)


def test_pickles_are_converted_as_the_message_says(folder: Path, tmp_path: Path) -> None:
    before = t5_of(folder).logits(IDS)
    pickle_weights(folder)
    for kind in (AutoModelForSeq2SeqLM, AutoTokenizer):
        kind.from_pretrained(str(folder)).save_pretrained(str(tmp_path / "converted"))
    model = find_model(str(tmp_path / "converted"), labels=["negative", "positive"])
    assert torch.equal(t5_of(model.folder).logits(IDS), before)
    assert model.tokeniser().label_ids("positive") == find_model(
        str(folder), allow_pickle=True
    ).tokeniser().label_ids("positive")


def test_pickled_weights_load_as_tensors_only(folder: Path) -> None:
    expected = logits_of(load_network(folder, device=CPU))
    before = t5_of(folder).logits(IDS)
    pickle_weights(folder)
    assert torch.equal(logits_of(load_network(folder, device=CPU)), expected)
    assert torch.equal(t5_of(folder).logits(IDS), before)


@pytest.mark.parametrize("load", LOADERS, ids=NAMES)
@pytest.mark.parametrize("kind", ["zip", "legacy", "part", "whole object"])
def test_pickled_code_is_refused(
    load: Loader, kind: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = tmp_path / "ran"

    class Malice:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (ran,)

    # Turns the check off where it was not asked for; we ask for it.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    pickle_weights(folder, parts=kind == "part")
    path = folder / ("pytorch_model-00001-of-00002.bin" if kind == "part" else "pytorch_model.bin")
    tensors = torch.load(path, weights_only=True)
    content = Malice() if kind == "whole object" else {**tensors, "a.weight": Malice()}
    torch.save(content, path, _use_new_zipfile_serialization=kind != "legacy")

    torch.load(path, weights_only=False)
    assert ran.exists(), "the payload does not work"
    ran.unlink()
    find_model(str(folder), allow_pickle=True)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(folder)
    assert not ran.exists()


def test_generation_reads_the_weights_that_scoring_reads(folder: Path) -> None:
    """transformers would follow names in the configuration and look for checkpoints in shards."""
    expected = logits_of(load_network(folder, device=CPU))
    other = load_file(folder / "model.safetensors")
    zeros = {name: torch.zeros_like(value) for name, value in other.items()}
    for name in ("other.safetensors", "shard-00000-model-00001-of-00001.safetensors"):
        save_file(zeros, folder / name, metadata={"format": "pt"})
    change_json(folder / "config.json", transformers_weights="other.safetensors")
    assert torch.equal(logits_of(load_network(folder, device=CPU)), expected)


@pytest.mark.parametrize("own", [True, False], ids=["generation_config", "config only"])
def test_generation_settings_are_those_that_transformers_reads(folder: Path, own: bool) -> None:
    path = folder / "generation_config.json"
    if own:
        change_json(path, num_beams=3, length_penalty=0.5)
    else:
        path.unlink()
        change_json(folder / "config.json", num_beams=3, length_penalty=0.5)
    theirs = T5ForConditionalGeneration.from_pretrained(str(folder))
    ours = load_network(folder, device=CPU)
    assert ours.generation_config.num_beams == 3
    assert ours.generation_config.to_dict() == theirs.generation_config.to_dict()


def test_code_in_a_model_folder_is_never_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: "yes")  # were transformers to ask
    ran = tmp_path / "ran"
    (folder / "evil.py").write_text(
        "from pathlib import Path\n"
        f"Path({str(ran)!r}).touch()\n"
        "from transformers import T5Tokenizer as EvilTokenizer, T5Config as EvilConfig\n"
        "from transformers import T5ForConditionalGeneration as EvilT5\n"
    )
    (folder / "custom_generate").mkdir()
    shutil.copy(folder / "evil.py", folder / "custom_generate" / "generate.py")
    change_json(
        folder / "config.json",
        auto_map={"AutoConfig": "evil.EvilConfig", "AutoModelForSeq2SeqLM": "evil.EvilT5"},
    )
    change_json(
        folder / "tokenizer_config.json",
        tokenizer_class="EvilTokenizer",
        auto_map={"AutoTokenizer": ["evil.EvilTokenizer", None]},
    )
    model = find_model(str(folder))
    with contextlib.suppress(ModelError):  # a tokenizer that is only code may be refused
        model.tokeniser()
    t5_of(folder)
    load_network(folder, device=CPU)
    assert not ran.exists()


def test_remote_code_is_trusted_nowhere() -> None:
    package = Path(find.__file__).parents[1]
    found = {
        (path.name, value)
        for path in package.rglob("*.py")
        for value in re.findall(r"trust_remote_code\W*(\w*)", path.read_text(encoding="utf-8"))
    }
    assert ("load.py", "False") in found
    assert {value for _, value in found} == {"False"}


@pytest.mark.parametrize("load", LOADERS, ids=NAMES)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_truncated_weights_are_one_line(load: Loader, folder: Path, name: str) -> None:
    path = folder / "model.safetensors"
    if name != path.name:
        pickle_weights(folder)
        path = folder / name
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("load", LOADERS, ids=NAMES)
def test_no_weights_is_an_error(load: Loader, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(folder)


@pytest.mark.parametrize("load", LOADERS, ids=NAMES)
def test_a_missing_tensor_is_named(load: Loader, folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["encoder.final_layer_norm.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"1 weights are missing, first encoder\.final_layer_norm\.weight"
    ) as caught:
        load(folder)
    assert str(folder) in str(caught.value)


def test_a_tensor_of_another_shape_is_an_error(folder: Path) -> None:
    change_json(folder / "config.json", d_ff=65)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_network(folder, device=CPU)
    with pytest.raises(ModelError, match=r"DenseReluDense.*\(64, 32\).*\(65, 32\)") as caught:
        t5_of(folder)
    assert str(folder) in str(caught.value)


def test_a_config_that_describes_no_t5_is_an_error(folder: Path) -> None:
    change_json(folder / "config.json", d_kv=None)
    with pytest.raises(ModelError, match="d_kv") as caught:
        t5_of(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("load", LOADERS, ids=NAMES)
def test_loading_is_silent(
    load: Loader,
    tiny_flan: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    load(tiny_flan)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
