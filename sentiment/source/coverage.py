"""Decides whether a file that is gone belonged to a source, from its location alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import unquote

from sentiment.source.globs import matches_path, split_glob
from sentiment.source.listing import hive_folders
from sentiment.storage import identity_of, is_below, is_uri, open_filesystem


@dataclass(frozen=True)
class Coverage:
    """A source, as a rule for locations.

    Attributes:
        folder: Output folder, relative to the output, below which all of its shards are.
        root: Identity of the file or folder that the source starts from.
    """

    folder: str
    root: str
    _pattern: tuple[str, ...]

    @classmethod
    def of(cls, source: str) -> Self:
        """Make the rule of a file, a folder or a glob."""
        base, pattern = split_glob(source)
        _, path = open_filesystem(base)
        return cls("/".join(hive_folders(path)), identity_of(base), tuple(pattern))

    def holds(self, location: str) -> bool:
        """Whether the source would list a shard of this location.

        Args:
            location: A location that may be gone. If links led to it, nobody can tell any more.
        """
        identity = identity_of(location)
        if identity == self.root:
            return True
        if not is_below(identity, self.root):
            return False
        below = unquote(identity) if is_uri(identity) else identity
        root = unquote(self.root) if is_uri(self.root) else self.root
        return matches_path(below.removeprefix(root.rstrip("/") + "/").split("/"), self._pattern)
