"""What is declared about a model: labels and their meaning, prompt, limits and decoding.

Declarations come from `labels.json` in a model folder, from a model file (YAML), or from the
presets of the package.

A model answers with label texts of its own: one published model answers `0` and `1`. The meaning of
a label text (`negative`, `positive`) is what the output holds. A text without a meaning stands for
itself.

A model file:

    model: owner/name          # or a folder, relative to this file
    revision: main             # of a hub model
    labels:                    # a list of texts, or text: meaning
      "0": negative
      "1": positive
    template: "{text}"
    max_source_tokens: 512
    long_text: head            # or head_tail, windows
    decode: labels             # or generate, with num_beams and max_new_tokens

All keys but `model` are optional. `presets.yaml` holds such entries by name.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final, get_args

import yaml

from sentiment.errors import ModelError
from sentiment.model.checkpoint import read_json
from sentiment.settings.choices import Decode, LongText, are_labels, is_template

LABELS_FILE: Final = "labels.json"
MODEL_FILE_ENDINGS: Final = (".yaml", ".yml")

_PRESETS_FILE = Path(__file__).parent / "presets.yaml"


@dataclass(frozen=True)
class Declaration:
    """What one place declares about a model. None means that it declares nothing about a setting.

    Attributes:
        labels: Texts the model answers with.
        meanings: What they stand for, in the same order; set exactly where `labels` is.
    """

    labels: tuple[str, ...] | None = None
    meanings: tuple[str, ...] | None = None
    template: str | None = None
    max_source_tokens: int | None = None
    long_text: LongText | None = None
    decode: Decode | None = None
    num_beams: int | None = None
    max_new_tokens: int | None = None

    def or_else(self, other: Declaration) -> Declaration:
        """Return this declaration, with values of another one where this one has none.

        Labels bring their own meanings, so the two are never mixed from different places.
        """
        gaps = {name for name, value in vars(self).items() if value is None}
        return replace(self, **{name: getattr(other, name) for name in gaps})


@dataclass(frozen=True)
class ModelFile:
    """A model file, or an entry of the presets.

    Attributes:
        path: Where it stands.
        model: Hub id, folder or `builtin`, as written.
        revision: Branch, tag or commit of a hub model; the newest if None.
    """

    path: Path
    model: str
    revision: str | None
    declaration: Declaration


def read_labels_file(folder: Path) -> Declaration:
    """Read the `labels.json` of a model folder; empty if there is none.

    Keys that are unknown here may be for other programs.

    Raises:
        ModelError: It is no JSON object, or a value is unusable.
    """
    path = folder / LABELS_FILE
    return _declared(read_json(path), str(path)) if path.exists() else Declaration()


def read_model_file(path: Path) -> ModelFile:
    """Read a model file.

    Raises:
        ModelError: It cannot be read, lacks `model`, or has an unknown key or an unusable value.
    """
    return _model_file(_read_yaml(path), path, str(path))


@cache
def presets() -> dict[str, ModelFile]:
    """Return the models that this package knows by name."""
    entries = _read_yaml(_PRESETS_FILE).items()
    return {n: _model_file(values, _PRESETS_FILE, f"{_PRESETS_FILE}: {n}") for n, values in entries}


def find_preset(name: str) -> ModelFile | None:
    """Return the preset with this name or hub id, or None."""
    same = (preset for preset in presets().values() if preset.model == name)
    return presets().get(name) or next(same, None)


# The check of each value, and the words for what is expected.
_RULES: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "labels": (
        are_labels,
        "two or more different texts (in YAML, quotes keep numbers, yes and no texts)",
    ),
    "meanings": (are_labels, "a text for each label, no two alike"),
    "template": (is_template, "a prompt with {text} in it once"),
    "max_source_tokens": (lambda value: type(value) is int and value >= 2, "an integer from 2 up"),
    "long_text": (lambda value: value in get_args(LongText), " or ".join(get_args(LongText))),
    "decode": (lambda value: value in get_args(Decode), " or ".join(get_args(Decode))),
    "num_beams": (lambda value: type(value) is int and 1 <= value <= 64, "an integer, 1 to 64"),
    "max_new_tokens": (lambda value: type(value) is int and 1 <= value <= 512, "an integer, 1-512"),
}
_MODEL_FILE_KEYS = ("model", "revision", *(name for name in _RULES if name != "meanings"))


def _declared(values: Mapping[str, Any], where: str) -> Declaration:
    """Check values with the rules of the settings, and return them as a declaration."""
    wrong = [
        f"{name}: expected {expected}, got {values[name]!r}"
        for name, (holds, expected) in _RULES.items()
        if name in values and not holds(values[name])
    ]
    if wrong:
        raise ModelError(f"{where}: unusable value of {'; '.join(wrong)}")
    known = {name: values[name] for name in _RULES if name in values}
    labels = tuple(known.get("labels", ()))
    meanings = tuple(known.get("meanings", labels))
    if len(meanings) != len(labels):
        raise ModelError(
            f"{where}: unusable value of meanings: {len(meanings)} for {len(labels)} labels"
        )
    if labels:
        known |= {"labels": labels, "meanings": meanings}
    return Declaration(**known)


def _model_file(values: Any, path: Path, where: str) -> ModelFile:
    if not isinstance(values, dict):
        raise ModelError(f"{where}: expected `name: value` lines")
    unknown = [str(name) for name in values if name not in _MODEL_FILE_KEYS]
    if unknown:
        raise ModelError(f"{where}: no such key: {unknown[0]}; use {', '.join(_MODEL_FILE_KEYS)}")
    for name in ("model", "revision"):
        if name in values and not (isinstance(values[name], str) and values[name]):
            raise ModelError(f"{where}: {name}: expected a text, got {values[name]!r}; quote it")
    if "model" not in values:
        raise ModelError(f"{where}: model: is missing; give a folder or a hub id")
    labels = values.get("labels")
    if isinstance(labels, dict):
        meanings = list(labels.values())
        if are_labels(list(labels)) and not are_labels(meanings):
            raise ModelError(
                f"{where}: unusable value of labels: expected a meaning for each that no other has "
                f"(quotes keep numbers, yes and no texts), got {meanings}"
            )
        values = {**values, "labels": list(labels), "meanings": meanings}
    return ModelFile(path, values["model"], values.get("revision"), _declared(values, where))


class _Loader(yaml.SafeLoader):
    """A YAML loader that refuses a key given twice: the second label would replace the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [name.value for name, _ in node.value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                None, None, f"{twice!r} is given twice", node.start_mark
            )
        return super().construct_mapping(node, deep=deep)


def _read_yaml(path: Path) -> Any:
    try:
        # A safe loader; ruff knows safety by the name only.
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{path}: cannot be read as YAML: {reason}") from error
