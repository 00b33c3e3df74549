"""Whether a source, as the user named it, would contain a given file.

It tells whether a file that no longer exists belonged to a source. Nothing is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote

from sentiment.source.listing import hive_folders, matches_path, split_glob
from sentiment.storage import descendant_uri, is_uri, open_filesystem


@dataclass(frozen=True)
class Coverage:
    """A source, as a rule for locations.

    Attributes:
        folder: Output folder, relative to the output, below which all of its shards are.
    """

    folder: str
    _root: str
    _pattern: tuple[str, ...]

    @classmethod
    def of(cls, source: str) -> Self:
        """The rule of a file, a folder or a glob."""
        base, pattern = split_glob(source)
        _, path = open_filesystem(base)
        return cls("/".join(hive_folders(path)), _plain(descendant_uri(base, "")), tuple(pattern))

    def holds(self, uri: str) -> bool:
        """Whether a shard of this location would be one of the source's."""
        location = _plain(uri)
        if location == self._root:
            return True
        prefix = self._root.rstrip("/") + "/"
        if not location.startswith(prefix):
            return False
        return matches_path(location.removeprefix(prefix).split("/"), self._pattern)


def _plain(location: str) -> str:
    """A location without what configures its filesystem."""
    return unquote(location.partition("?")[0]) if is_uri(location) else location
