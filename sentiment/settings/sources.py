"""The settings of reading sources, which every command that reads any shares."""

from __future__ import annotations

import codecs
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from sentiment.settings.load import JobConfig
from sentiment.texts import parse_names

# Under which heading of `--help` they stand, and what their values are called.
HOW_TO_READ: Final = {
    "format": None,
    "ignore": "PATTERN",
    "csv_delimiter": "CHARACTER",
    "csv_quote": "CHARACTER",
    "csv_escape": "CHARACTER",
    "csv_header": None,
    "encoding": "NAME",
    "null_values": "VALUE",
    "where": "CONDITION",
    "sample": "FRACTION",
}
_WORDS: Final = ("auto", "none", "tab", "\\t")


def _one_character(value: str) -> str:
    if value not in _WORDS and (len(value) != 1 or not value.isascii() or value in "\r\n\0"):
        raise ValueError("give one ASCII character, `tab`, `none` or `auto`")
    return value


def _known_encoding(value: str) -> str:
    if value == "auto":
        return value
    try:
        name = codecs.lookup(value).name
        b"a".decode(name)
    except (LookupError, ValueError) as error:
        raise ValueError("is no encoding that Python knows; try utf-8, cp1252 or utf-16") from error
    return name


def _yes_or_no(value: Any) -> Any:
    """In YAML the words yes and no are booleans."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _known_names(value: str) -> str:
    try:
        parse_names(value)
    except ValueError as error:
        raise ValueError(f"--text-column {value}: {error}; give names as text,review") from error
    return value


Character = Annotated[str, AfterValidator(_one_character)]


class SourceSettings(JobConfig):
    """How files are listed and read."""

    text_column: Annotated[str, AfterValidator(_known_names)] = Field(
        "text",
        description="Column that holds the review; of several, as text,review, the first that a "
        "file has, or all that --template joins.",
    )
    format: Literal["parquet", "orc", "avro", "csv", "tsv", "json", "jsonl"] | None = Field(
        None,
        description="Format of every file; default: what its content shows, else its extension.",
    )
    ignore: list[str] = Field(
        [], description="Names or ends of paths of files that are no data, as *.bak or tmp/*."
    )
    csv_delimiter: Character = Field(
        "auto", description="Between fields of delimited text; auto: what the header row shows."
    )
    csv_quote: Character = Field(
        "auto", description='Around fields of delimited text, or none; auto: ", or none in TSV.'
    )
    csv_escape: Character = Field(
        "auto", description="Before quotes within quotes, or none; auto: \\ where it must be."
    )
    csv_header: Annotated[Literal["auto", "yes", "no"], BeforeValidator(_yes_or_no)] = Field(
        "auto",
        description="Whether the first row names the columns; without, they are column_1 and so "
        "on. auto: yes.",
    )
    encoding: Annotated[str, AfterValidator(_known_encoding)] = Field(
        "auto",
        description="Encoding of text; auto: UTF-8, UTF-16 or, where nothing else fits, cp1252.",
    )
    null_values: list[str] = Field(
        [], description="Values of delimited text that stand for nothing, as NULL; default: none."
    )
    where: str | None = Field(
        None,
        description="Condition on rows, as \"dt >= '2026-11-01' and rating < 3\"; others are "
        "excluded and counted.",
    )
    sample: float | None = Field(
        None, gt=0, le=1, description="Share of the rows to draw at random, the same every time."
    )

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Names of the columns that hold the review."""
        return parse_names(self.text_column)
