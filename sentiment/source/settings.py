"""Turns the settings of a command into options of reading. Workers need only those."""

from __future__ import annotations

from sentiment.settings.sources import SourceSettings
from sentiment.source.options import ReadOptions

_WORDS = {"none": "", "tab": "\t", "\\t": "\t"}


def read_options(settings: SourceSettings) -> ReadOptions:
    """Return what the settings of a command say of its sources."""
    return ReadOptions(
        text_column=settings.text_column,
        format=settings.format,
        ignore=tuple(settings.ignore),
        delimiter=_character(settings.csv_delimiter),
        quote=_character(settings.csv_quote),
        escape=_character(settings.csv_escape),
        has_header={"auto": None, "yes": True, "no": False}[settings.csv_header],
        encoding=None if settings.encoding == "auto" else settings.encoding,
        null_values=tuple(settings.null_values),
    )


def _character(value: str) -> str | None:
    return None if value == "auto" else _WORDS.get(value, value)
