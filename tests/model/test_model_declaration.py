"""Model files and presets: what they may say, and how a mistake in one is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sentiment.errors import ModelError
from sentiment.model.declaration import (
    Declaration,
    find_preset,
    presets,
    read_labels_file,
    read_model_file,
)

FULL = """
model: someone/stars
revision: v2
labels: {"1": awful, "2": fine}
template: "stars: {text}"
max_source_tokens: 256
long_text: head_tail
decode: generate
num_beams: 4
max_new_tokens: 3
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stars.yaml"


def test_a_model_file_says_all_there_is_to_say(path: Path) -> None:
    path.write_text(FULL)
    file = read_model_file(path)
    assert (file.path, file.model, file.revision) == (path, "someone/stars", "v2")
    assert file.declaration == Declaration(
        labels=("1", "2"), meanings=("awful", "fine"), template="stars: {text}",
        max_source_tokens=256, long_text="head_tail", decode="generate", num_beams=4,
        max_new_tokens=3,
    )  # fmt: skip


def test_a_model_file_needs_only_the_model(path: Path) -> None:
    path.write_text("model: someone/stars")
    file = read_model_file(path)
    assert (file.revision, file.declaration) == (None, Declaration())


def test_texts_in_a_list_mean_themselves(path: Path) -> None:
    path.write_text("model: a/b\nlabels: [bad, good]")
    said = read_model_file(path).declaration
    assert said.labels == said.meanings == ("bad", "good")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("labels: [a, b]", "model: is missing"),
        ("model: 7", "model: expected a text, got 7; quote it"),
        ("model: a/b\nrevision: 1.0", r"revision: expected a text, got 1\.0; quote it"),
        ("model: a/b\nlabel: [a, b]", "no such key: label; use model, revision, labels"),
        ("model: a/b\nmeanings: [a, b]", "no such key: meanings"),
        ("model: a/b\nlabels: [1, 2]", r"value of labels: .*quotes.*, got \[1, 2\]"),
        ("model: a/b\nlabels: [yes, no]", r"value of labels: .*got \[True, False\]"),
        ("model: a/b\nlabels: [a, a]", "value of labels: expected two or more different texts"),
        ("model: a/b\nlabels: {0: bad, 1: good}", "value of labels: expected two or more"),
        ("model: a/b\nlabels: {a: bad, b: bad}", "value of labels: expected a meaning for each"),
        ("model: a/b\nlabels: {a: bad, b: 1}", "value of labels: expected a meaning for each"),
        ("model: a/b\nlabels: {a: bad, a: good}", "'a' is given twice"),
        ("model: a/b\nlabels:", "value of labels: .*got None"),
        ("model: a/b\ntemplate: is it good?", r"value of template: .*\{text\} in it once"),
        ("model: a/b\nmax_source_tokens: 1", "value of max_source_tokens: .* from 2 up, got 1"),
        ("model: a/b\nlong_text: tail", "value of long_text: expected head or head_tail"),
        ("model: a/b\ndecode: beams", "value of decode: expected labels or generate"),
        ("model: a/b\nnum_beams: 65", "value of num_beams: .*1 to 64, got 65"),
        ("- model: a/b", "expected `name: value` lines"),
        ("", "expected `name: value` lines"),
        ("model: [", "cannot be read as YAML"),
        ("model: !!python/object/apply:os.getcwd []", "cannot be read as YAML"),
    ],
)
def test_a_mistake_names_file_and_key(path: Path, content: str, complaint: str) -> None:
    path.write_text(content)
    with pytest.raises(ModelError, match=complaint) as caught:
        read_model_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_model_file_is_an_error(path: Path) -> None:
    with pytest.raises(ModelError, match=r"stars\.yaml: cannot be read as YAML: .*No such file"):
        read_model_file(path)


def test_a_gap_is_filled_from_elsewhere_and_labels_bring_their_meanings() -> None:
    other = Declaration(labels=("0", "1"), meanings=("bad", "good"), template="x {text}")
    assert Declaration(max_source_tokens=9).or_else(other) == Declaration(
        labels=("0", "1"), meanings=("bad", "good"), template="x {text}", max_source_tokens=9
    )
    said = Declaration(labels=("a", "b"), meanings=("a", "b")).or_else(other)
    assert (said.labels, said.meanings, said.template) == (("a", "b"), ("a", "b"), "x {text}")


def test_a_labels_file_may_hold_what_others_read(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text('{"template": "x {text}", "author": "me"}')
    assert read_labels_file(tmp_path) == Declaration(template="x {text}")


@pytest.mark.parametrize(
    ("name", "model", "labels", "meanings"),
    [
        (
            "t5-base-imdb",
            "mrm8488/t5-base-finetuned-imdb-sentiment",
            ("negative", "positive"),
            ("negative", "positive"),
        ),
        (
            "flan-t5-base-imdb",
            "arjuntheprogrammer/flan-t5-base-imdb-text-classification",
            ("0", "1"),
            ("negative", "positive"),
        ),
    ],
)
def test_a_preset_is_what_its_card_says(
    name: str, model: str, labels: tuple[str, ...], meanings: tuple[str, ...]
) -> None:
    preset = presets()[name]
    assert find_preset(name) == find_preset(model) == preset
    assert (preset.model, preset.revision) == (model, None)
    assert preset.declaration == Declaration(
        labels=labels, meanings=meanings, template="{text}", max_source_tokens=512,
        long_text="head", decode="labels",
    )  # fmt: skip


def test_these_are_all_presets() -> None:
    assert list(presets()) == ["t5-base-imdb", "flan-t5-base-imdb"]
    shipped = yaml.safe_load(
        (Path(__file__).parents[2] / "sentiment/model/presets.yaml").read_text()
    )
    assert list(shipped) == list(presets())
    assert find_preset("google/flan-t5-base") is None
