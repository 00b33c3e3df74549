"""What a user says of the sources, beside where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from sentiment.settings.sources import SourceSettings
from sentiment.source.layout import ShardFormat


@dataclass(frozen=True)
class ReadOptions:
    """How sources are listed and read.

    Attributes:
        text_column: The column to score.
        format: Format of every file, whatever its name and content say; None to find it out.
        ignore: Globs of files that are no data. One without `/` is compared with the name of a
            file, any other with the end of its path.
    """

    text_column: str = "text"
    format: ShardFormat | None = None
    ignore: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: SourceSettings) -> Self:
        """Return what the settings of a command say."""
        return cls(settings.text_column, settings.format, tuple(settings.ignore))


BY_DEFAULT: Final = ReadOptions()
