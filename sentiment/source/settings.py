"""Turns the settings of a command into options of reading. Workers need only those."""

from __future__ import annotations

from sentiment.settings.sources import SourceSettings
from sentiment.source.options import ReadOptions
from sentiment.source.selection.selection import Selection
from sentiment.source.selection.sql import parse_condition
from sentiment.texts import TextColumns, joins

_WORDS = {"none": "", "tab": "\t", "\\t": "\t"}


def read_options(settings: SourceSettings) -> ReadOptions:
    """Return what the settings of a command say of its sources.

    Raises:
        ConfigError: The condition is none.
    """
    return ReadOptions(
        texts=texts_of(settings),
        format=settings.format,
        ignore=tuple(settings.ignore),
        delimiter=_character(settings.csv_delimiter),
        quote=_character(settings.csv_quote),
        escape=_character(settings.csv_escape),
        has_header={"auto": None, "yes": True, "no": False}[settings.csv_header],
        encoding=None if settings.encoding == "auto" else settings.encoding,
        null_values=tuple(settings.null_values),
        selection=Selection(
            None if settings.where is None else parse_condition(settings.where), settings.sample
        ),
    )


def texts_of(settings: SourceSettings) -> TextColumns:
    """Return the columns of the text; joined, if the template of the command names them."""
    names = settings.text_columns
    template = getattr(settings, "template", None)
    return TextColumns(names, template if joins(template, names) else None)


def _character(value: str) -> str | None:
    return None if value == "auto" else _WORDS.get(value, value)
