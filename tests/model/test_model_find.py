"""Model folders: found, described, digested, loaded, and every way that can fail."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import reference
import tiny_models
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, T5ForConditionalGeneration

from sentiment.errors import ModelError, SourceError
from sentiment.model import find as weights
from sentiment.model import locate as catalogue
from sentiment.model.find import find_model, folder_digest
from sentiment.model.load import load_network, load_t5
from sentiment.scoring.job import score
from sentiment.settings.finetune import FinetuneConfig
from sentiment.settings.jobs import ScoreConfig
from sentiment.t5.network import T5
from sentiment.training.job import finetune

CPU = torch.device("cpu")
KINDS = ("tiny_v1_0", "tiny_v1_1", "tiny_mt5")
IDS = [np.array(row, np.int32) for row in ([5, 9, 30, 1], [77, 1], [4, 4, 250, 599, 17, 2, 1])]
PUBLISHED = "mrm8488/t5-base-finetuned-imdb-sentiment"


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def change_json(path: Path, **values: Any) -> None:
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, **values}))


def t5_of(folder: Path) -> T5:
    return load_t5(folder, device=CPU, precision="fp32")


# What both loaders promise of a damaged folder.
Loader = Callable[[Path], Any]
LOADERS: list[Loader] = [t5_of, lambda folder: load_network(folder, device=CPU)]
NAMES = ["load_t5", "load_network"]


def pickle_weights(folder: Path, *, parts: bool = False) -> None:
    """Turn the safetensors of a folder into what older models are published as."""
    if parts:
        split_in_two(folder, "pytorch_model.bin", lambda tensors, path: torch.save(tensors, path))
    else:
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()


def assert_scores_as(network: Any, folder: Path) -> None:
    """What is loaded from the folder gives the logits of transformers' model."""
    theirs = reference.first_logits(network, IDS)
    torch.testing.assert_close(t5_of(folder).logits(IDS), theirs, atol=1e-4, rtol=1e-4)


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


def logits_of(network: Any) -> torch.Tensor:
    with torch.no_grad():
        answer: torch.Tensor = network(
            input_ids=torch.tensor([[5, 9, 30, 1]]), decoder_input_ids=torch.tensor([[0, 4]])
        ).logits
    return answer


def test_a_folder_says_what_it_answers(folder: Path) -> None:
    change_json(folder / "labels.json", template="review: {text}", long_text="head_tail")
    model = find_model(str(folder))
    assert model.folder == folder
    assert model.labels == ("negative", "positive")
    assert (model.template, model.max_source_tokens) == ("review: {text}", 64)
    assert model.long_text == "head_tail"


def test_labels_mean_themselves_unless_the_folder_says_otherwise(folder: Path) -> None:
    assert find_model(str(folder)).meanings == ("negative", "positive")
    change_json(folder / "labels.json", labels=["0", "1"], meanings=["bad", "good"])
    model = find_model(str(folder))
    assert (model.labels, model.meanings) == (("0", "1"), ("bad", "good"))
    model = find_model(str(folder), labels=["1", "0"])
    assert (model.labels, model.meanings) == (("1", "0"), ("1", "0"))


def test_the_folder_may_say_how_it_is_decoded(folder: Path) -> None:
    model = find_model(str(folder))
    assert (model.decode, model.num_beams, model.max_new_tokens) == ("labels", 1, 8)
    change_json(folder / "labels.json", decode="generate", num_beams=2, max_new_tokens=3)
    model = find_model(str(folder))
    assert (model.decode, model.num_beams, model.max_new_tokens) == ("generate", 2, 3)
    model = find_model(str(folder), decode="labels", num_beams=1)
    assert (model.decode, model.num_beams) == ("labels", 1)


def test_beams_are_for_generation(folder: Path) -> None:
    with pytest.raises(ModelError, match="--num-beams 4 needs --decode generate"):
        find_model(str(folder), num_beams=4)


def test_options_win_over_the_folder(folder: Path) -> None:
    model = find_model(
        str(folder), labels=["bad", "good"], template="x {text}", max_source_tokens=7,
        long_text="head_tail",
    )  # fmt: skip
    assert (model.labels, model.template) == (("bad", "good"), "x {text}")
    assert (model.max_source_tokens, model.long_text) == (7, "head_tail")


def test_without_labels_json_the_defaults_are_those_of_a_plain_t5(folder: Path) -> None:
    (folder / "labels.json").unlink()
    model = find_model(str(folder), labels=["bad", "good"])
    assert (model.template, model.max_source_tokens, model.long_text) == ("{text}", 512, "head")


def test_a_model_that_declares_no_labels_is_an_error(folder: Path) -> None:
    (folder / "labels.json").unlink()
    with pytest.raises(ModelError, match="--labels"):
        find_model(str(folder))


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": "positive"},
        {"labels": ["positive"]},
        {"labels": ["a", "a"]},
        {"labels": ["a", 1]},
        {"template": "no place for it"},
        {"template": "{text} {text}"},
        {"max_source_tokens": 0},
        {"max_source_tokens": "64"},
        {"long_text": "middle"},
        {"meanings": ["negative"]},
        {"meanings": ["negative", "negative"]},
        {"meanings": ["negative", 1]},
        {"meanings": ["a", "b", "c"]},
        {"decode": "guess"},
        {"num_beams": 0},
        {"max_new_tokens": True},
    ],
    ids=str,
)
def test_a_wrong_labels_json_is_named(folder: Path, wrong: dict[str, Any]) -> None:
    change_json(folder / "labels.json", **wrong)
    with pytest.raises(ModelError, match=rf"labels\.json: unusable value of {next(iter(wrong))}"):
        find_model(str(folder))


def test_builtin_is_the_folder_in_the_package(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = catalogue.BUILTIN_FOLDER
    assert shipped == Path(weights.__file__).parent / "builtin"
    monkeypatch.setattr(catalogue, "BUILTIN_FOLDER", tiny_model)
    assert find_model("builtin").folder == tiny_model


def test_a_hub_id_is_fetched_without_code_and_logs(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def fetch(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(tiny_model)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    model = find_model("someone/reviews-t5", revision="v2")
    assert (model.name, model.folder) == ("someone/reviews-t5", tiny_model)
    assert (asked["name"], asked["revision"]) == ("someone/reviews-t5", "v2")
    allowed = asked["allow_patterns"]
    names = ["config.json", "model.safetensors", "model-00001-of-00002.safetensors",
             "model.safetensors.index.json", "spiece.model",
             "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
             "generation_config.json", "labels.json"]  # fmt: skip
    kept = huggingface_hub.utils.filter_repo_objects(
        [*names, "README.md", "pytorch_model.bin", "training_args.bin", "modeling.py",
         "tf_model.h5", "trainer_state.json", "onnx/model.onnx"],
        allow_patterns=allowed,
    )  # fmt: skip
    assert list(kept) == names


class Hub:
    """Stands in for the hub: a model as published, and what was asked for."""

    def __init__(self, published: Path, cache: Path) -> None:
        self.published, self.cache = published, cache
        self.asked: list[list[str]] = []

    def snapshot_download(self, name: str, *, allow_patterns: list[str], **_: Any) -> str:
        self.cache.mkdir(exist_ok=True)
        self.asked.append(allow_patterns)
        for path in self.published.iterdir():
            if any(path.match(pattern) for pattern in allow_patterns):
                shutil.copy2(path, self.cache / path.name)
        return str(self.cache)

    def cached(self, pattern: str) -> list[str]:
        return [path.name for path in self.cache.glob(pattern)]


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(folder, tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    return hub


@pytest.mark.parametrize("parts", [False, True])
def test_pickles_on_the_hub_are_refused_unseen(hub: Hub, parts: bool) -> None:
    pickle_weights(hub.published, parts=parts)
    with pytest.raises(ModelError, match=r"hub has no model\.safetensors") as caught:
        find_model(PUBLISHED)
    assert hub.cached("*.bin*") == []
    for fact in (PUBLISHED, "pickle", "can run code", "--allow-pickle-weights", "save_pretrained"):
        assert fact in str(caught.value)


@pytest.mark.parametrize("parts", [False, True])
def test_pickles_on_the_hub_are_fetched_once_allowed(hub: Hub, parts: bool) -> None:
    before = t5_of(hub.published).logits(IDS)
    pickle_weights(hub.published, parts=parts)
    model = find_model(PUBLISHED, allow_pickle=True)
    assert torch.equal(t5_of(model.folder).logits(IDS), before)
    # From now on they lie in the cache. That makes them no better.
    with pytest.raises(ModelError, match="--allow-pickle-weights"):
        find_model(PUBLISHED)


def test_a_hub_model_of_both_kinds_is_fetched_without_pickles(hub: Hub) -> None:
    torch.save({}, hub.published / "pytorch_model.bin")
    find_model(PUBLISHED, allow_pickle=True)
    assert len(hub.asked) == 1
    assert hub.cached("*.bin") == []


@pytest.mark.parametrize("name", ["./missing", "/missing/model", "plain", "a/b/c", "~/missing"])
def test_what_is_no_model_is_not_asked_of_the_hub(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", asked.append)
    with pytest.raises(ModelError, match="not a folder"):
        find_model(name)
    assert asked == []


def test_only_t5_can_score(folder: Path) -> None:
    change_json(folder / "config.json", model_type="bert")
    with pytest.raises(ModelError, match="'bert'; only T5"):
        find_model(str(folder))


@pytest.mark.parametrize("content", [None, "{", "[]", "\xff"])
def test_an_unreadable_config_is_an_error(folder: Path, content: str | None) -> None:
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(ModelError, match=r"config\.json"):
        find_model(str(folder))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "labels.json"]
)
def test_the_digest_follows_what_decides_scores(folder: Path, name: str) -> None:
    before = folder_digest(folder)
    with (folder / name).open("ab") as file:
        file.write(b" ")
    assert folder_digest(folder) != before


def test_the_digest_ignores_papers_and_place(folder: Path, tmp_path: Path) -> None:
    before = folder_digest(folder)
    for name in ("README.md", "training.json", "trainer_state.json", "notes.txt"):
        (folder / name).write_text("{}")
    moved = folder.rename(tmp_path / "elsewhere")
    assert folder_digest(moved) == before
    (moved / "special_tokens_map.json").write_text("{}")
    assert folder_digest(moved) != before


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


@pytest.mark.parametrize("parts", [False, True])
def test_a_folder_of_pickles_is_refused_with_reason_and_remedy(folder: Path, parts: bool) -> None:
    pickle_weights(folder, parts=parts)
    with pytest.raises(ModelError) as caught:
        find_model(str(folder))
    for fact in (str(folder), "pickle", "can run code", "--allow-pickle-weights"):
        assert fact in str(caught.value)
    assert find_model(str(folder), allow_pickle=True).digest == folder_digest(folder)


def test_the_digest_covers_pickles_that_are_read(folder: Path) -> None:
    pickle_weights(folder)
    before = folder_digest(folder)
    with (folder / "pytorch_model.bin").open("ab") as file:
        file.write(b" ")
    assert folder_digest(folder) != before


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


def test_a_model_may_be_pinned_to_its_digest(folder: Path) -> None:
    model = find_model(str(folder))
    assert find_model(str(folder), sha256=model.digest) == model
    change_json(folder / "labels.json", template="Is this good? {text}")
    now = folder_digest(folder)
    with pytest.raises(ModelError, match=rf"{now}.*--model-sha256 is {model.digest}") as caught:
        find_model(str(folder), sha256=model.digest)
    assert str(folder) in str(caught.value)


def test_a_run_hands_on_what_the_user_allows(folder: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "sources": [str(tmp_path / "missing")], "output": str(tmp_path / "out"),
        "model": str(folder),
    }  # fmt: skip
    with pytest.raises(ModelError, match="--model-sha256"):
        score(ScoreConfig(**settings, model_sha256="0" * 64))
    pickle_weights(folder)
    with pytest.raises(ModelError, match="--allow-pickle-weights"):
        score(ScoreConfig(**settings))
    with pytest.raises(SourceError, match="missing"):
        score(ScoreConfig(**settings, allow_pickle_weights=True))


def test_fine_tuning_hands_on_what_the_user_allows(folder: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "train": [str(tmp_path / "missing")], "output": str(tmp_path / "out"), "model": str(folder),
    }  # fmt: skip
    pickle_weights(folder)
    with pytest.raises(ModelError, match="--allow-pickle-weights"):
        finetune(FinetuneConfig(**settings))
    with pytest.raises(SourceError, match="missing"):
        finetune(FinetuneConfig(**settings, allow_pickle_weights=True))


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
    package = Path(weights.__file__).parents[1]
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
