"""Models as folders: where one is found, what it declares, its digest, its network.

Takes `builtin`, a folder or a hub id; gives a `ModelCard` and the loaded T5. Knows nothing of
scoring. A model folder is the standard transformers layout plus an optional `labels.json`:

    {"labels": ["negative", "positive"], "template": "{text}",
     "max_source_tokens": 320, "long_text": "head_tail"}
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from sentiment.config import LongText
from sentiment.errors import ModelError
from sentiment.schema import digest

if TYPE_CHECKING:
    import torch
    from transformers import T5ForConditionalGeneration

    from sentiment.t5.linear import ResolvedPrecision
    from sentiment.t5.network import T5

BUILTIN: Final = "builtin"
BUILTIN_FOLDER: Final = Path(__file__).parent / "builtin"
LABELS_FILE: Final = "labels.json"

# A folder has some of these; all that it has belong together.
TOKENIZER_FILES: Final = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
)

# What decides labels and scores. README, training logs and the like do not count.
_DIGESTED = (
    "config.json",
    "generation_config.json",
    LABELS_FILE,
    *TOKENIZER_FILES,
    "*.safetensors",
    "*.safetensors.index.json",
    "pytorch_model*.bin",
    "pytorch_model.bin.index.json",
)
_MODEL_TYPES = ("t5", "mt5")

# Published models that carry no labels.json: what their cards say.
_PUBLISHED: Final[dict[str, tuple[str, ...]]] = {
    "mrm8488/t5-base-finetuned-imdb-sentiment": ("negative", "positive"),
    "arjuntheprogrammer/flan-t5-base-imdb-text-classification": ("0", "1"),
}


@dataclass(frozen=True)
class ModelCard:
    """A model, found and described but not loaded. Small enough to send to every worker.

    Attributes:
        name: What the user asked for.
        folder: Local folder in transformers layout.
        labels: Label texts; their order is the order of label probabilities.
        digest: SHA-256 over the sorted names and SHA-256 of weights, config and tokenizer files.
    """

    name: str
    folder: Path
    labels: tuple[str, ...]
    template: str
    max_source_tokens: int
    long_text: LongText
    digest: str


def find_model(
    name: str,
    *,
    revision: str | None = None,
    labels: Sequence[str] | None = None,
    template: str | None = None,
    max_source_tokens: int | None = None,
    long_text: LongText | None = None,
) -> ModelCard:
    """Locate a model and settle what it is asked; explicit arguments win over its `labels.json`.

    Raises:
        ModelError: No such model, not a T5, or nothing says which labels it answers with.
    """
    folder = _folder_of(name, revision)
    _check_config(folder)
    declared = _declared(folder)
    texts = labels or declared.get("labels") or _PUBLISHED.get(name)
    if not texts:
        raise ModelError(
            f"--model {name}: nothing says which labels it answers with; "
            f"give --labels or add {LABELS_FILE} to the folder"
        )
    return ModelCard(
        name=name,
        folder=folder,
        labels=tuple(texts),
        template=template or declared.get("template", "{text}"),
        max_source_tokens=max_source_tokens or int(declared.get("max_source_tokens", 512)),
        long_text=long_text or declared.get("long_text", "head"),
        digest=folder_digest(folder),
    )


def folder_digest(folder: Path) -> str:
    """SHA-256 over the sorted (name, SHA-256) of the files that decide labels and scores."""
    names = sorted({path.name for pattern in _DIGESTED for path in folder.glob(pattern)})
    return digest([[name, _file_sha256(folder / name)] for name in names])


def load_t5(folder: Path, *, device: torch.device, precision: ResolvedPrecision) -> T5:
    """Load the T5 of a model folder for scoring, without building transformers' own model.

    Args:
        folder: Transformers layout: one or several safetensors files, or `pytorch_model.bin`.
        device: Where the weights go.
        precision: Of the matrix products.

    Raises:
        ModelError: Missing, truncated or mismatching weights, or a precision this device lacks.
    """
    from sentiment.t5.network import T5
    from sentiment.t5.shape import T5Shape

    config = _read_json(folder / "config.json")
    try:
        tensors = _read_tensors(folder)
    except Exception as error:  # safetensors, pickle and file errors share no base class
        raise _not_loadable(folder, error) from error
    try:
        return T5(T5Shape.from_config(config), tensors, precision=precision, device=device)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error


def _read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, mapped from its files and read as they are used."""
    import torch
    from safetensors.torch import load_file

    single, pickled = folder / "model.safetensors", folder / "pytorch_model.bin"
    for whole in (single, pickled):
        index = whole.with_name(f"{whole.name}.index.json")
        if whole.exists():
            paths = [whole]
        elif index.exists():
            paths = [
                folder / name for name in sorted(set(_read_json(index)["weight_map"].values()))
            ]
        else:
            continue
        tensors: dict[str, torch.Tensor] = {}
        for path in paths:
            tensors |= (
                load_file(path)
                if whole is single
                # Tensors only: a pickle could run code.
                else torch.load(path, map_location="cpu", weights_only=True)
            )
        return tensors
    raise FileNotFoundError("neither model.safetensors nor pytorch_model.bin, whole or in parts")


def load_network(
    folder: Path, *, device: torch.device, dtype: Literal["fp32", "bf16"] = "fp32"
) -> T5ForConditionalGeneration:
    """Load a model folder into transformers' own T5, to generate or to train with.

    Never runs code from the folder.

    Args:
        folder: Transformers layout.
        device: Where the weights go.
        dtype: How the weights are stored in memory.

    Raises:
        ModelError: Missing, truncated or mismatching weights.
    """
    import torch
    from transformers import MT5ForConditionalGeneration, T5ForConditionalGeneration

    kind: Any = T5ForConditionalGeneration
    if _read_json(folder / "config.json").get("model_type") == "mt5":
        kind = MT5ForConditionalGeneration  # which does not scale the decoder's output
    loaded: Any
    try:
        with _quiet_transformers():
            loaded = kind.from_pretrained(
                str(folder),
                dtype=torch.bfloat16 if dtype == "bf16" else torch.float32,
                local_files_only=True,
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


def _folder_of(name: str, revision: str | None) -> Path:
    if name == BUILTIN:
        return BUILTIN_FOLDER
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(
            f"--model {name}: not a folder, not a hub id (owner/name) and not `{BUILTIN}`"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(_DIGESTED)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelError(
            f"--model {name}: no such folder, and the hub did not give it "
            f"({type(error).__name__}); check the id, the network and HF_TOKEN"
        ) from error


def _check_config(folder: Path) -> None:
    config = _read_json(folder / "config.json")
    if config.get("model_type") not in _MODEL_TYPES:
        raise ModelError(
            f"{folder}: model_type is {config.get('model_type')!r}; only T5 models can score"
        )


def _declared(folder: Path) -> dict[str, Any]:
    """What `labels.json` says, held to the rules of the options it stands in for."""
    path = folder / LABELS_FILE
    if not path.exists():
        return {}
    values = _read_json(path)
    rules: dict[str, Callable[[Any], bool]] = {
        "labels": lambda v: isinstance(v, list) and _distinct_texts(v),
        "template": lambda v: isinstance(v, str) and v.count("{text}") == 1,
        "max_source_tokens": lambda v: type(v) is int and v >= 2,
        "long_text": lambda v: v in get_args(LongText),
    }
    wrong = [name for name, holds in rules.items() if name in values and not holds(values[name])]
    if wrong:
        raise ModelError(f"{path}: unusable value of {', '.join(wrong)}")
    return values


def _distinct_texts(values: list[Any]) -> bool:
    texts = {value for value in values if isinstance(value, str) and value}
    return len(texts) == len(values) >= 2


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({type(error).__name__})") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: expected a JSON object")
    return values


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _not_loadable(folder: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{folder}: the weights cannot be loaded ({type(error).__name__}: {_first_line(error)})"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
