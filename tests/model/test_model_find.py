"""Models found by name: described, pinned, digested, and every way that can fail."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from model_folders import IDS, change_json, pickle_weights, t5_of

from sentiment.errors import ModelError, SourceError
from sentiment.model import find, locate
from sentiment.model.find import find_model, folder_digest
from sentiment.scoring.job import score
from sentiment.settings.finetune import FinetuneConfig
from sentiment.settings.jobs import ScoreConfig
from sentiment.training.job import finetune

PUBLISHED = "mrm8488/t5-base-finetuned-imdb-sentiment"


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
    shipped = locate.BUILTIN_FOLDER
    assert shipped == Path(find.__file__).parent / "builtin"
    monkeypatch.setattr(locate, "BUILTIN_FOLDER", tiny_model)
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
