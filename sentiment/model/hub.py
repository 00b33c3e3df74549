"""Models of the Hugging Face hub as local folders, and clear errors when one cannot be fetched.

The hub client decides where the cache is, whether to use the network, and which login to use. It
follows `HF_HUB_CACHE` (or `HF_HOME`), `HF_HUB_OFFLINE`, `HF_TOKEN` or the login of `hf auth login`,
and `HF_ENDPOINT`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sentiment.errors import ModelError

# What a folder needs to stand in for a model of the hub.
FOLDER_LAYOUT = "a folder with config.json, model.safetensors and tokenizer.json or spiece.model"


def fetch(
    name: str, revision: str | None, patterns: Sequence[str], *, asked: str | None = None
) -> Path:
    """Return the cached folder of a hub model, and download what is missing if the hub can be
    reached.

    Args:
        name: Hub id, `owner/name`.
        revision: Branch, tag or commit; the newest if None.
        patterns: Files to fetch, no others.
        asked: How the user named it, for messages.

    Raises:
        ModelError: It is not in the cache, and the hub does not give it.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    # The client lets errors of its HTTP library through, and which library that is has changed.
    except Exception as error:
        raise ModelError(_refusal(asked or f"--model {name}", revision, error)) from error


def find_cached(name: str, revision: str | None, patterns: Sequence[str]) -> Path | None:
    """Return the folder of a hub model if it is in the cache; the hub is not asked."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=list(patterns), local_files_only=True
            )
        )
    except LocalEntryNotFoundError:
        return None


def is_offline() -> bool:
    """Return whether the hub must not be asked (`HF_HUB_OFFLINE`)."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _refusal(asked: str, revision: str | None, error: Exception) -> str:
    """Return one line: why the model is not here, and what would help."""
    from huggingface_hub import constants, errors
    from huggingface_hub.errors import (
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    incomplete = getattr(errors, "IncompleteSnapshotError", ())  # not in every release we allow
    cache, at = constants.HF_HUB_CACHE, f" at revision {revision}" if revision else ""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, GatedRepoError):
        why = (
            "the hub gives it only to those who accepted its terms; accept them on its page, then "
            "set HF_TOKEN or run `hf auth login`"
        )
    elif isinstance(error, RevisionNotFoundError):
        why = f"the hub has no revision {revision or 'main'} of it; check --revision"
    elif isinstance(error, RepositoryNotFoundError):
        why = (
            "no such folder, and the hub has no such model or keeps it private; check the id, and "
            "for a private one set HF_TOKEN or run `hf auth login`"
        )
    elif status in (401, 403):
        why = f"the hub refuses the token it was sent ({status}); check HF_TOKEN or `hf auth login`"
    elif isinstance(error, incomplete):
        why = f"files of it are missing in the cache {cache}, and the hub could not be asked"
    elif is_offline():
        why = f"no such folder, not in the cache {cache}{at}, and HF_HUB_OFFLINE is set"
    else:
        why = (
            f"no such folder, not in the cache {cache}{at}, and the hub did not give it "
            f"({type(error.__cause__ or error).__name__}); check the id and the network"
        )
    return f"{asked}: {why}; or give --model FOLDER, {FOLDER_LAYOUT}"
