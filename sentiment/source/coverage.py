"""Decides whether a file that is gone belonged to a source, from its location alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote

from sentiment.source.globs import matches_path, split_glob
from sentiment.source.listing import hive_folders
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
        """Make the rule of a file, a folder or a glob."""
        base, pattern = split_glob(source)
        _, path = open_filesystem(base)
        return cls("/".join(hive_folders(path)), _plain(descendant_uri(base, "")), tuple(pattern))

    def holds(self, uri: str) -> bool:
        """Whether the source would list a shard of this location."""
        location = _plain(uri)
        if location == self._root:
            return True
        prefix = self._root.rstrip("/") + "/"
        if not location.startswith(prefix):
            return False
        return matches_path(location.removeprefix(prefix).split("/"), self._pattern)


def _plain(location: str) -> str:
    """Return a location without the query, which configures the filesystem."""
    return unquote(location.partition("?")[0]) if is_uri(location) else location
