"""Finding a model by name, with its labels, prompt, limits and digest.

A model folder has the layout of transformers and may hold a `labels.json`:

    {"labels": ["0", "1"], "meanings": ["negative", "positive"], "template": "{text}",
     "max_source_tokens": 320, "long_text": "head_tail"}

No code in a model folder is run. Weights in pickles (`.bin` files) are refused unless the user
allows them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

from sentiment.digest import digest
from sentiment.errors import ModelError
from sentiment.model.checkpoint import PICKLES, is_pickled, read_json
from sentiment.model.declaration import LABELS_FILE, Declaration, read_labels_file
from sentiment.model.locate import DIGESTED, locate
from sentiment.model.tokenizer import Tokeniser
from sentiment.settings.choices import Decode, LongText, contradiction

_MODEL_TYPES = ("t5", "mt5")

# What a plain T5 is asked where nobody says anything else.
_PLAIN = Declaration(
    template="{text}",
    max_source_tokens=512,
    long_text="head",
    decode="labels",
    num_beams=1,
    max_new_tokens=8,
)


@dataclass(frozen=True)
class Model:
    """A model that was found and described, but not loaded. Small enough to send to every worker.

    Attributes:
        name: What the user asked for.
        folder: Local folder in transformers layout.
        labels: Label texts; their order is the order of label probabilities.
        meanings: What they stand for, in the same order; this is what the output holds.
        digest: SHA-256 over the sorted names and SHA-256 of weights, config and tokenizer files.
    """

    name: str
    folder: Path
    labels: tuple[str, ...]
    meanings: tuple[str, ...]
    template: str
    max_source_tokens: int
    long_text: LongText
    decode: Decode
    num_beams: int
    max_new_tokens: int
    digest: str

    def tokeniser(self) -> Tokeniser:
        """Return its tokenizer, with its template and source limit.

        Raises:
            ModelError: The folder has no usable tokenizer.
        """
        return Tokeniser(self.folder, self.template, self.max_source_tokens, self.long_text)


class Asked(TypedDict, total=False):
    """What a caller may ask of a model. None or an absent key leaves the choice to the model."""

    template: str | None
    max_source_tokens: int | None
    long_text: LongText | None
    decode: Decode | None
    num_beams: int | None
    max_new_tokens: int | None


def find_model(
    name: str,
    *,
    labels: Sequence[str] | None = None,
    revision: str | None = None,
    sha256: str | None = None,
    allow_pickle: bool = False,
    **asked: Unpack[Asked],
) -> Model:
    """Find a model, and settle its labels, prompt and limits.

    What is asked here wins over a model file, that over a preset, and that over the folder's
    `labels.json`. Labels that are given here stand for themselves.

    Args:
        name: `builtin`, the name of a preset, a folder, a hub id or a model file.
        labels: The texts it answers with.
        revision: Of a hub model; wins over the revision of a model file.
        sha256: The digest that the model must have; any if None.
        allow_pickle: Accept a model whose weights are in `.bin` files only.
        asked: Prompt, limits and decoding; see `Asked`.

    Raises:
        ModelError: There is no such model, it is no T5 or not the expected one, its weights are
            pickled, or nothing says which labels it answers with.
    """
    texts = tuple(labels) if labels else None
    folder, described = locate(name, revision, allow_pickle=allow_pickle)
    _check_config(folder)
    settled = (
        Declaration(labels=texts, meanings=texts, **asked)
        .or_else(described)
        .or_else(read_labels_file(folder))
        .or_else(_PLAIN)
    )
    if not settled.labels:
        raise ModelError(
            f"--model {name}: nothing says which labels it answers with; "
            f"give --labels or add {LABELS_FILE} to the folder"
        )
    problem = contradiction(settled.decode, settled.num_beams, settled.long_text, settled.template)
    if problem is not None:
        raise ModelError(problem)
    found = folder_digest(folder)
    if sha256 not in (None, found):
        raise ModelError(
            f"{folder}: its digest is {found}, but --model-sha256 is {sha256}; this is another "
            "model than the expected one, or one of its files was changed"
        )
    values: dict[str, Any] = vars(settled)  # none is None: `_PLAIN` has all but the labels
    return Model(name=name, folder=folder, digest=found, **values)


def folder_digest(folder: Path) -> str:
    """Return the SHA-256 over the sorted (name, SHA-256) of the files that decide labels and
    scores.

    Pickles beside safetensors are not read, so they do not count.
    """
    patterns = (*DIGESTED, *PICKLES) if is_pickled(folder) else DIGESTED
    names = sorted({path.name for pattern in patterns for path in folder.glob(pattern)})
    return digest([[name, _file_sha256(folder / name)] for name in names])


def _check_config(folder: Path) -> None:
    config = read_json(folder / "config.json")
    if config.get("model_type") not in _MODEL_TYPES:
        raise ModelError(
            f"{folder}: model_type is {config.get('model_type')!r}; only T5 models can score"
        )


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
