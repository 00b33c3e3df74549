"""Models as folders: where one is found, what it declares, its digest, its network.

Takes `builtin`, a folder or a hub id; gives a `ModelCard` and the loaded T5. Knows nothing of
scoring. A model folder is the standard transformers layout plus an optional `labels.json`:

    {"labels": ["negative", "positive"], "template": "{text}",
     "max_source_tokens": 320, "long_text": "head_tail"}

Nothing in a model folder is ever run. Weights that are pickles (`.bin` files) are refused unless
the user allows them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from sentiment.checkpoint import (
    PICKLES,
    SAFETENSORS,
    find_checkpoint,
    is_pickled,
    read_json,
    read_tensors,
)
from sentiment.config import LongText
from sentiment.errors import ModelError
from sentiment.schema import digest
from sentiment.tokenise import Tokeniser

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
    *SAFETENSORS,
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
    sha256: str | None = None,
    allow_pickle: bool = False,
) -> ModelCard:
    """Locate a model and settle what it is asked; explicit arguments win over its `labels.json`.

    Args:
        sha256: Digest it must have; any if None.
        allow_pickle: Accept weights that are in `.bin` files only.

    Raises:
        ModelError: No such model, not a T5, not the expected one, its weights are pickled, or
            nothing says which labels it answers with.
    """
    folder = _folder_of(name, revision, allow_pickle)
    _check_config(folder)
    if is_pickled(folder) and not allow_pickle:
        raise _refused_pickle(f"{folder}: its weights are in .bin files only,", name)
    declared = _declared(folder)
    texts = labels or declared.get("labels") or _PUBLISHED.get(name)
    if not texts:
        raise ModelError(
            f"--model {name}: nothing says which labels it answers with; "
            f"give --labels or add {LABELS_FILE} to the folder"
        )
    found = folder_digest(folder)
    if sha256 not in (None, found):
        raise ModelError(
            f"{folder}: its digest is {found}, but --model-sha256 is {sha256}; this is another "
            "model than the expected one, or one of its files was changed"
        )
    return ModelCard(
        name=name,
        folder=folder,
        labels=tuple(texts),
        template=template or declared.get("template", "{text}"),
        max_source_tokens=max_source_tokens or int(declared.get("max_source_tokens", 512)),
        long_text=long_text or declared.get("long_text", "head"),
        digest=found,
    )


def folder_digest(folder: Path) -> str:
    """SHA-256 over the sorted (name, SHA-256) of the files that decide labels and scores.

    Pickles beside safetensors are not read, so they do not count.
    """
    patterns = (*_DIGESTED, *PICKLES) if is_pickled(folder) else _DIGESTED
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


def _refused_pickle(what: str, name: str) -> ModelError:
    return ModelError(
        f"{what} which are pickles: reading one can run code. --allow-pickle-weights reads nothing "
        "but tensors from them. Or convert them once with transformers: "
        f"AutoModelForSeq2SeqLM.from_pretrained({name!r}).save_pretrained(FOLDER), the same with "
        "AutoTokenizer, then give --model FOLDER"
    )


def _folder_of(name: str, revision: str | None, allow_pickle: bool) -> Path:
    if name == BUILTIN:
        return BUILTIN_FOLDER
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(
            f"--model {name}: not a folder, not a hub id (owner/name) and not `{BUILTIN}`"
        )
    folder = _from_hub(name, revision, _DIGESTED)
    if find_checkpoint(folder) is None:
        if not allow_pickle:
            raise _refused_pickle(
                f"--model {name}: the hub has no model.safetensors of it; older models come as "
                "pytorch_model.bin files,",
                name,
            )
        folder = _from_hub(name, revision, (*_DIGESTED, *PICKLES))
    return folder


def _from_hub(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelError(
            f"--model {name}: no such folder, and the hub did not give it "
            f"({type(error).__name__}); check the id, the network and HF_TOKEN"
        ) from error


def _check_config(folder: Path) -> None:
    config = read_json(folder / "config.json")
    if config.get("model_type") not in _MODEL_TYPES:
        raise ModelError(
            f"{folder}: model_type is {config.get('model_type')!r}; only T5 models can score"
        )


def _declared(folder: Path) -> dict[str, Any]:
    """What `labels.json` says, held to the rules of the options it stands in for."""
    path = folder / LABELS_FILE
    if not path.exists():
        return {}
    values = read_json(path)
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


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _not_loadable(folder: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{folder}: the weights cannot be loaded ({type(error).__name__}: {_first_line(error)})"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
