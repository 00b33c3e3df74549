"""The settings of reading sources, which every command that reads any shares."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from sentiment.settings.load import JobConfig

# Under which heading of `--help` they stand, and what their values are called.
HOW_TO_READ: Final = {"format": None, "ignore": "PATTERN"}


class SourceSettings(JobConfig):
    """How files are listed and read."""

    text_column: str = Field("text", min_length=1, description="Column that holds the review.")
    format: Literal["parquet", "orc", "avro", "csv", "tsv", "json", "jsonl"] | None = Field(
        None,
        description="Format of every file; default: what its content shows, else its extension.",
    )
    ignore: list[str] = Field(
        [], description="Names or ends of paths of files that are no data, as *.bak or tmp/*."
    )
