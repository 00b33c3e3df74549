"""Write docs/configuration.md from the configuration models, so that it cannot go stale.

python docs/build_configuration.py
"""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sentiment.settings.evaluate import EvaluateConfig
from sentiment.settings.finetune import ArchitectureConfig, FinetuneConfig
from sentiment.settings.jobs import (
    ModelsConfig,
    ReplayConfig,
    ReportConfig,
    ScoreConfig,
    ScoringSettings,
    VerifyConfig,
)
from sentiment.settings.load import JobConfig

PAGE = Path(__file__).parent / "configuration.md"

INTRODUCTION = """\
# Configuration

Every job has one set of settings. Each can be given in four ways; where they differ, the first in
this list wins:

1. on the command line: `--max-rejected 0.05` (lists: repeat the flag, or separate by commas),
2. in the environment: `SENTIMENT_MAX_REJECTED=0.05` (lists and groups as JSON),
3. in a YAML file named by `--config`: `max_rejected: 0.05`,
4. by default, as below.

From Python, `ScoreConfig(...)` and `FinetuneConfig(...)` take the same names as keyword arguments
and read neither environment nor files; `ScoreConfig.load(arguments)` does all four.

Labels, scores and column names are decided by the model and by the settings marked **D**; their
digest is stamped into every output file, and an output made with others is never mixed with.

This page is written by `python docs/build_configuration.py`.
"""

DECIDING = {
    "model", "revision", "text_column", "labels", "template", "max_source_tokens", "long_text",
    "decode", "num_beams", "max_new_tokens", "precision", "prefix", "calibration",
}  # fmt: skip


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for settings in (
        ScoreConfig, EvaluateConfig, ReportConfig, VerifyConfig, ReplayConfig, FinetuneConfig,
        ModelsConfig,
    ):  # fmt: skip
        parts.append(f"## `sentiment {settings.command}`\n")
        parts.append(f"{settings.__doc__}\n")
        for title, names in settings.groups.items():
            own = [name for name in names if "." not in name]
            if settings is EvaluateConfig:
                own = [name for name in own if name not in SHARED or name in CHANGED]
            if own:
                parts.append(f"### {settings.command.capitalize()}: {title}\n")
                parts.append(table(settings, own))
        if settings is EvaluateConfig:
            parts.append(f"As for `sentiment score`: {', '.join(flags_of(SHARED))}.\n")
    parts.append("## `architecture`: a network trained from nothing\n")
    parts.append(f"{ArchitectureConfig.__doc__}\n")
    parts.append(table(ArchitectureConfig, list(ArchitectureConfig.model_fields)))
    return "\n".join(parts)


# Settings of `evaluate` that the page describes under `score`, and those of them that differ.
CHANGED = ("output", "label_column")
SHARED = [name for name in ScoringSettings.model_fields if name not in CHANGED]


def flags_of(names: Sequence[str]) -> list[str]:
    return [flag(EvaluateConfig, name) for name in names]


def table(settings: type[BaseModel], names: Sequence[str]) -> str:
    """One line per setting."""
    lines = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for name in names:
        field = settings.model_fields[name]
        lines.append(
            f"| {flag(settings, name)} | {kind(field.annotation)} | {default(name, field)} "
            f"| {field.description}{' **D**' if marked(settings, name) else ''} |"
        )
    return "\n".join(lines) + "\n"


def flag(settings: type[BaseModel], name: str) -> str:
    if name == "sources":
        return "`SOURCE…` (YAML: `sources`)"
    if issubclass(settings, JobConfig) and name in settings.positional:
        return f"`{name.upper()}` (YAML: `{name}`)"
    return f"`--{name.replace('_', '-')}`" if issubclass(settings, JobConfig) else f"`{name}`"


def marked(settings: type[BaseModel], name: str) -> bool:
    return settings is ScoreConfig and name in DECIDING


def kind(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{value}`" for value in typing.get_args(annotation))
    if origin in (typing.Union, types.UnionType):
        return kind(next(a for a in typing.get_args(annotation) if a is not type(None)))
    if origin is typing.Annotated:
        return kind(typing.get_args(annotation)[0])
    if origin is list:
        return f"list of {kind(typing.get_args(annotation)[0])}"
    if origin is dict:
        return "mapping"
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "yes or no"}
    return names.get(annotation.__name__, "group" if issubclass(annotation, BaseModel) else "path")


def default(name: str, field: FieldInfo) -> str:
    # SOURCE has a default only so that YAML may give it instead of the command line.
    if name == "sources" or field.default is PydanticUndefined:
        return "required"
    return "" if field.default is None else f"`{field.default}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
