"""Models as folders: what one is asked, its digest, its network.

Takes the name of a model; gives a `ModelCard` and the loaded T5. Knows nothing of scoring. A model
folder is the standard transformers layout plus an optional
`labels.json`:

    {"labels": ["0", "1"], "meanings": ["negative", "positive"], "template": "{text}",
     "max_source_tokens": 320, "long_text": "head_tail"}

Nothing in a model folder is ever run. Weights that are pickles (`.bin` files) are refused unless
the user allows them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from sentiment.catalogue import DIGESTED, locate
from sentiment.checkpoint import PICKLES, is_pickled, read_json, read_tensors
from sentiment.declaration import LABELS_FILE, Declaration, read_labels_file
from sentiment.digest import digest
from sentiment.errors import ModelError
from sentiment.settings.choices import Decode, LongText
from sentiment.tokenise import Tokeniser

if TYPE_CHECKING:
    import torch
    from transformers import T5ForConditionalGeneration

    from sentiment.t5.linear import ResolvedPrecision
    from sentiment.t5.network import T5

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
class ModelCard:
    """A model, found and described but not loaded. Small enough to send to every worker.

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
        """Its tokenizer, with its template and source limit.

        Raises:
            ModelError: The folder has no usable tokenizer.
        """
        return Tokeniser(self.folder, self.template, self.max_source_tokens, self.long_text)


def find_model(
    name: str,
    *,
    revision: str | None = None,
    labels: Sequence[str] | None = None,
    template: str | None = None,
    max_source_tokens: int | None = None,
    long_text: LongText | None = None,
    decode: Decode | None = None,
    num_beams: int | None = None,
    max_new_tokens: int | None = None,
    sha256: str | None = None,
    allow_pickle: bool = False,
) -> ModelCard:
    """Locate a model and settle what it is asked.

    Explicit arguments win over a model file, that over a preset, that over the folder's
    `labels.json`. Labels given here mean themselves.

    Args:
        name: `builtin`, a preset's name, a folder, a hub id or a model file.
        revision: Of a hub model; wins over the model file's.
        sha256: Digest it must have; any if None.
        allow_pickle: Accept weights that are in `.bin` files only.

    Raises:
        ModelError: No such model, not a T5, not the expected one, its weights are pickled, or
            nothing says which labels it answers with.
    """
    asked = Declaration(
        labels=tuple(labels) if labels else None,
        meanings=tuple(labels) if labels else None,
        template=template,
        max_source_tokens=max_source_tokens,
        long_text=long_text,
        decode=decode,
        num_beams=num_beams,
        max_new_tokens=max_new_tokens,
    )
    folder, described = locate(name, revision, allow_pickle=allow_pickle)
    _check_config(folder)
    settled = asked.or_else(described).or_else(read_labels_file(folder)).or_else(_PLAIN)
    if not settled.labels:
        raise ModelError(
            f"--model {name}: nothing says which labels it answers with; "
            f"give --labels or add {LABELS_FILE} to the folder"
        )
    if settled.decode == "labels" and settled.num_beams != 1:
        raise ModelError(f"--num-beams {settled.num_beams} needs --decode generate")
    if settled.long_text == "windows" and settled.decode == "generate":
        raise ModelError("--long-text windows needs --decode labels: answers cannot be averaged")
    if settled.long_text == "windows" and settled.template != "{text}":
        raise ModelError(
            f"--long-text windows: only the first window would have the prompt "
            f"{settled.template!r}; use head or head_tail"
        )
    found = folder_digest(folder)
    if sha256 not in (None, found):
        raise ModelError(
            f"{folder}: its digest is {found}, but --model-sha256 is {sha256}; this is another "
            "model than the expected one, or one of its files was changed"
        )
    values: dict[str, Any] = vars(settled)  # none is None: `_PLAIN` has all but the labels
    return ModelCard(name=name, folder=folder, digest=found, **values)


def folder_digest(folder: Path) -> str:
    """SHA-256 over the sorted (name, SHA-256) of the files that decide labels and scores.

    Pickles beside safetensors are not read, so they do not count.
    """
    patterns = (*DIGESTED, *PICKLES) if is_pickled(folder) else DIGESTED
    names = sorted({path.name for pattern in patterns for path in folder.glob(pattern)})
    return digest([[name, _file_sha256(folder / name)] for name in names])


def load_t5(folder: Path, *, device: torch.device, precision: ResolvedPrecision) -> T5:
    """Load the T5 of a model folder for scoring, without building transformers' own model.

    Args:
        folder: Transformers layout, as `find_model` accepted it; weights whole or in parts.
        device: Where the weights go.
        precision: Of the matrix products.

    Raises:
        ModelError: Missing, truncated or mismatching weights, or a precision this device lacks.
    """
    from sentiment.t5.network import T5
    from sentiment.t5.shape import T5Shape

    config = read_json(folder / "config.json")
    try:
        tensors = read_tensors(folder)
    except Exception as error:  # safetensors, pickle and file errors share no base class
        raise _not_loadable(folder, error) from error
    try:
        return T5(T5Shape.from_config(config), tensors, precision=precision, device=device)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error


def load_network(
    folder: Path, *, device: torch.device, dtype: Literal["fp32", "bf16"] = "fp32"
) -> T5ForConditionalGeneration:
    """Load a model folder into transformers' own T5, to generate or to train with.

    transformers gets configuration and tensors, never the folder: there it would look for adapters,
    pickles and files that the configuration names, none of which are in the digest.

    Args:
        folder: Transformers layout, as `find_model` accepted it.
        device: Where the weights go.
        dtype: How the weights are stored in memory.

    Raises:
        ModelError: Missing, truncated or mismatching weights.
    """
    import torch
    from transformers import (
        GenerationConfig,
        MT5ForConditionalGeneration,
        T5ForConditionalGeneration,
    )

    config, generation = read_json(folder / "config.json"), folder / "generation_config.json"
    kind: Any = T5ForConditionalGeneration
    if config.get("model_type") == "mt5":
        kind = MT5ForConditionalGeneration  # which does not scale the decoder's output
    loaded: Any
    try:
        with _quiet_transformers():
            loaded = kind.from_pretrained(
                None,
                config=kind.config_class.from_dict(config),
                generation_config=GenerationConfig.from_dict(read_json(generation))
                if generation.exists()
                else GenerationConfig.from_model_config(config),
                state_dict=read_tensors(folder),
                dtype=torch.bfloat16 if dtype == "bf16" else torch.float32,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # safetensors, pickle and shape errors share no base class
        raise _not_loadable(folder, error) from error
    network, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(f"{folder}: {len(missing)} weights are missing, first {missing[0]}")
    return cast("T5ForConditionalGeneration", network.eval().to(device))


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No progress bar for weights that load in seconds, no advice that only its author can take.

    Problems reach the user as a `ModelError`.
    """
    from transformers.utils import logging as hf

    bars, level = hf.is_progress_bar_enabled(), hf.get_verbosity()
    hf.disable_progress_bar()
    hf.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        hf.set_verbosity(level)
        if bars:
            hf.enable_progress_bar()


def _check_config(folder: Path) -> None:
    config = read_json(folder / "config.json")
    if config.get("model_type") not in _MODEL_TYPES:
        raise ModelError(
            f"{folder}: model_type is {config.get('model_type')!r}; only T5 models can score"
        )


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _not_loadable(folder: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{folder}: the weights cannot be loaded ({type(error).__name__}: {_first_line(error)})"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
