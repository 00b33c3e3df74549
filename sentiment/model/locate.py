"""Where the files of a model are: the built-in one, presets, folders, the hub, model files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sentiment.errors import ModelError
from sentiment.metrics.calibration import CALIBRATION_FILE
from sentiment.model.checkpoint import PICKLES, SAFETENSORS, find_checkpoint, is_pickled
from sentiment.model.declaration import (
    LABELS_FILE,
    MODEL_FILE_ENDINGS,
    Declaration,
    find_preset,
    read_model_file,
)
from sentiment.model.hub import FOLDER_LAYOUT, fetch, is_offline

BUILTIN: Final = "builtin"
BUILTIN_FOLDER: Final = Path(__file__).parent / "builtin"

# A folder has some of these; all that it has belong together.
TOKENIZER_FILES: Final = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)

# What decides labels and scores. README, training logs and the like do not count.
DIGESTED = (
    "config.json",
    "generation_config.json",
    LABELS_FILE,
    *TOKENIZER_FILES,
    *SAFETENSORS,
)

# A model may bring a calibration; it is no part of the model, so it has a digest of its own.
_FETCHED = (*DIGESTED, CALIBRATION_FILE)


def locate(name: str, revision: str | None, *, allow_pickle: bool) -> tuple[Path, Declaration]:
    """Return the folder of a model, downloaded if necessary, and what was declared about it
    elsewhere.

    Args:
        name: `builtin`, a preset's name, a folder, a hub id or a model file.
        revision: Of a hub model; wins over the model file's.
        allow_pickle: Accept weights that are in `.bin` files only.

    Raises:
        ModelError: There is no such model, it has no revisions, or its weights are pickled.
    """
    folder, known = _find(name, revision, allow_pickle)
    if is_pickled(folder) and not allow_pickle:
        raise _refused_pickle(f"{folder}: its weights are in .bin files only,", str(folder))
    return folder, known


def _find(name: str, revision: str | None, allow_pickle: bool) -> tuple[Path, Declaration]:
    path = Path(name).expanduser()
    if not name.endswith(MODEL_FILE_ENDINGS) or path.is_dir():
        return _find_named(name, Path(), revision, allow_pickle, f"--model {name}")
    file = read_model_file(path)
    asked = f"{path}: model: {file.model}"
    if file.model.endswith(MODEL_FILE_ENDINGS):
        raise ModelError(f"{asked}: a model file cannot stand on another")
    folder, known = _find_named(
        file.model, path.parent, revision or file.revision, allow_pickle, asked
    )
    return folder, file.declaration.or_else(known)


def _find_named(
    name: str, base: Path, revision: str | None, allow_pickle: bool, asked: str
) -> tuple[Path, Declaration]:
    """Like `locate`, for a name that is no model file. Folders are relative to `base`."""
    if name == BUILTIN:
        _refuse_revision(revision, asked)
        return BUILTIN_FOLDER, Declaration()
    known, pinned, preset = Declaration(), revision, find_preset(name)
    if preset is not None:
        known, pinned = preset.declaration, revision or preset.revision
        if name != preset.model:  # its short name; a folder of that name is ./NAME
            return _from_hub(preset.model, pinned, allow_pickle, asked), known
    path = base / Path(name).expanduser()
    if path.is_dir():
        _refuse_revision(revision, asked)
        return path.resolve(), known
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(
            f"{asked}: not a folder, not a hub id (owner/name), not a model file and no name that "
            f"`sentiment models` lists; give {FOLDER_LAYOUT}"
        )
    return _from_hub(name, pinned, allow_pickle, asked), known


def _refuse_revision(revision: str | None, asked: str) -> None:
    if revision is not None:
        raise ModelError(
            f"{asked}: is a folder on this machine, which has no revision {revision!r}; leave the "
            "revision out, or pin the folder's content with --model-sha256"
        )


def _from_hub(name: str, revision: str | None, allow_pickle: bool, asked: str) -> Path:
    folder = fetch(name, revision, _FETCHED, asked=asked)
    if find_checkpoint(folder) is not None:
        return folder
    if is_offline():
        raise ModelError(
            f"{asked}: its folder in the cache, {folder}, has no weights, and HF_HUB_OFFLINE is "
            f"set; or give --model FOLDER, {FOLDER_LAYOUT}"
        )
    if not allow_pickle:
        raise _refused_pickle(
            f"{asked}: the hub has no model.safetensors of it; older models come as "
            "pytorch_model.bin files,",
            name,
        )
    return fetch(name, revision, (*_FETCHED, *PICKLES), asked=asked)


def _refused_pickle(what: str, name: str) -> ModelError:
    return ModelError(
        f"{what} which are pickles: reading one can run code. --allow-pickle-weights reads nothing "
        "but tensors from them. Or convert them once with transformers: "
        f"AutoModelForSeq2SeqLM.from_pretrained({name!r}).save_pretrained(FOLDER), the same with "
        "AutoTokenizer, then give --model FOLDER"
    )
