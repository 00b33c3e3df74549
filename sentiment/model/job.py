"""The command `sentiment models`: a table of the models that have a name.

It uses what is on this machine. It asks no hub and loads no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sentiment.model.checkpoint import find_checkpoint, is_pickled
from sentiment.model.declaration import ModelFile, presets
from sentiment.model.find import find_model
from sentiment.model.hub import find_cached
from sentiment.model.locate import BUILTIN, DIGESTED
from sentiment.settings.jobs import ModelsConfig

_COLUMNS = ("name", "labels", "prompt", "tokens", "long text", "decoding", "here")


def list_models(config: ModelsConfig) -> None:
    """Print a table of all named models: labels, meanings, prompt, limits, and whether it is here.

    Args:
        config: Says nothing but that the list is wanted.
    """
    lines = _table([_COLUMNS, _builtin(), *map(_preset, presets(), presets().values())])
    width = max(map(len, presets()))
    lines += ["", "from the hub:"]
    lines += [
        f"  {name:<{width}}  {preset.model}, revision {preset.revision or 'main'}"
        for name, preset in presets().items()
    ]
    print("\n".join(lines))


def _builtin() -> tuple[str, ...]:
    model = find_model(BUILTIN)
    return (
        model.name,
        _labels(model.labels, model.meanings),
        model.template,
        str(model.max_source_tokens),
        model.long_text,
        model.decode,
        "yes, comes with the package",
    )


def _preset(name: str, preset: ModelFile) -> tuple[str, ...]:
    said = preset.declaration
    return (
        name,
        _labels(said.labels or (), said.meanings or ()),
        str(said.template),
        str(said.max_source_tokens),
        str(said.long_text),
        str(said.decode),
        _whereabouts(find_cached(preset.model, preset.revision, DIGESTED)),
    )


def _labels(labels: Sequence[str], meanings: Sequence[str]) -> str:
    pairs = zip(labels, meanings, strict=True)
    return ", ".join(
        label if label == meaning else f"{label} = {meaning}" for label, meaning in pairs
    )


def _whereabouts(folder: Path | None) -> str:
    """Return whether a model is in the hub's cache, and which commit of it."""
    if folder is None or find_checkpoint(folder) is None:
        return "no"
    pickled = " (.bin files: --allow-pickle-weights)" if is_pickled(folder) else ""
    return f"cached, {folder.name[:12]}{pickled}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
