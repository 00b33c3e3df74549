"""Where a model is found by each of the names it may be called, and who has the last word on it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from model_hub import COMMIT, fill_cache

from sentiment.errors import ModelError
from sentiment.model.declaration import presets
from sentiment.model.find import find_model
from sentiment.model.locate import BUILTIN_FOLDER

PRESETS = {name: preset.model for name, preset in presets().items()}


@pytest.fixture
def unlabelled(tiny_model: Path, tmp_path: Path) -> Path:
    """A model as others publish it: without `labels.json`."""
    ignored = shutil.ignore_patterns("labels.json")
    return Path(shutil.copytree(tiny_model, tmp_path / "published", ignore=ignored))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache of somebody who is offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def model_file(folder: Path, **values: Any) -> str:
    path = folder / "model.yaml"
    path.write_text(json.dumps(values))  # which is YAML as well
    return str(path)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_and_its_hub_id_are_one_model(name: str, unlabelled: Path, cache: Path) -> None:
    snapshot = fill_cache(cache, PRESETS[name], unlabelled)
    model = find_model(name)
    assert model.folder == snapshot
    assert model.meanings == ("negative", "positive")
    assert model.max_source_tokens == 512
    assert vars(find_model(PRESETS[name])) == {**vars(model), "name": PRESETS[name]}


def test_options_win_over_a_preset(unlabelled: Path, cache: Path) -> None:
    fill_cache(cache, PRESETS["flan-t5-base-imdb"], unlabelled)
    model = find_model("flan-t5-base-imdb", labels=["1", "0"], template="x {text}")
    assert (model.labels, model.meanings, model.template) == (("1", "0"), ("1", "0"), "x {text}")


def test_a_preset_wins_over_what_its_owner_may_add(unlabelled: Path, cache: Path) -> None:
    (unlabelled / "labels.json").write_text('{"labels": ["1", "0"], "long_text": "head_tail"}')
    fill_cache(cache, PRESETS["flan-t5-base-imdb"], unlabelled)
    model = find_model("flan-t5-base-imdb")
    assert (model.labels, model.long_text) == (("0", "1"), "head")


@pytest.mark.parametrize("revision", ["v2", COMMIT[::-1]])
def test_a_preset_can_be_pinned(revision: str, unlabelled: Path, cache: Path) -> None:
    model = PRESETS["t5-base-imdb"]
    fill_cache(cache, model, unlabelled)
    other = fill_cache(cache, model, unlabelled, commit=COMMIT[::-1], branch="v2")
    assert find_model("t5-base-imdb", revision=revision).folder == other
    with pytest.raises(ModelError, match="at revision v3"):
        find_model("t5-base-imdb", revision="v3")


def test_a_folder_with_the_name_of_a_preset_is_given_as_a_path(
    unlabelled: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = fill_cache(cache, PRESETS["t5-base-imdb"], unlabelled)
    shutil.copytree(unlabelled, tmp_path / "t5-base-imdb")
    monkeypatch.chdir(tmp_path)
    assert find_model("t5-base-imdb").folder == snapshot
    assert find_model("./t5-base-imdb", labels=["a", "b"]).folder == tmp_path / "t5-base-imdb"


def test_a_folder_is_found_from_its_model_file(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_model, tmp_path / "here" / "models" / "mine")
    monkeypatch.chdir(tmp_path)
    file = model_file(tmp_path / "here", model="models/mine", labels={"a": "bad", "b": "good"})
    model = find_model(file)
    assert (model.name, model.folder) == (file, tmp_path / "here" / "models" / "mine")
    assert (model.labels, model.meanings) == (("a", "b"), ("bad", "good"))
    assert model.max_source_tokens == 64  # by the labels.json of the folder
    model = find_model(file, labels=["b", "c"], max_source_tokens=9)
    assert (model.labels, model.meanings, model.max_source_tokens) == (("b", "c"), ("b", "c"), 9)


def test_a_folder_elsewhere_is_not_the_one_a_model_file_means(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_model, tmp_path / "mine")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    file = model_file(tmp_path / "here", model="./mine")
    with pytest.raises(ModelError, match=r"model\.yaml: model: \./mine: not a folder") as caught:
        find_model(file)
    assert "config.json" in str(caught.value)


def test_a_model_file_may_pin_a_hub_model(unlabelled: Path, cache: Path, tmp_path: Path) -> None:
    fill_cache(cache, "someone/stars", unlabelled)
    other = fill_cache(cache, "someone/stars", unlabelled, commit=COMMIT[::-1], branch="v2")
    file = model_file(tmp_path, model="someone/stars", revision="v2", labels=["a", "b"])
    assert find_model(file).folder == other
    assert find_model(file, revision="main").folder != other


def test_a_model_file_may_stand_on_a_preset_or_the_built_in_model(
    unlabelled: Path, cache: Path, tmp_path: Path
) -> None:
    fill_cache(cache, PRESETS["flan-t5-base-imdb"], unlabelled)
    for model in ("flan-t5-base-imdb", PRESETS["flan-t5-base-imdb"]):
        card = find_model(model_file(tmp_path, model=model, max_source_tokens=128))
        assert (card.meanings, card.max_source_tokens) == (("negative", "positive"), 128)
    card = find_model(model_file(tmp_path, model="builtin", template="Review: {text}"))
    assert (card.folder, card.template) == (BUILTIN_FOLDER, "Review: {text}")


def test_a_model_file_does_not_stand_on_another(tmp_path: Path) -> None:
    file = model_file(tmp_path, model="other.yaml")
    with pytest.raises(ModelError, match=r"model: other\.yaml: a model file cannot stand on"):
        find_model(file)


def test_a_mistyped_name_says_what_there_is(cache: Path) -> None:
    with pytest.raises(ModelError, match=r"--model t5-base: not a folder.*`sentiment models`"):
        find_model("t5-base")


def test_a_folder_has_no_revisions(unlabelled: Path) -> None:
    for name in (str(unlabelled), "builtin"):
        with pytest.raises(ModelError, match=r"has no revision 'v2'.*--model-sha256"):
            find_model(name, revision="v2")
    file = model_file(unlabelled.parent, model=str(unlabelled), revision="v2", labels=["a", "b"])
    with pytest.raises(ModelError, match="has no revision 'v2'"):
        find_model(file)
