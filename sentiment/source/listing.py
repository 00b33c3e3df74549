"""Lists the shards of sources, which are files, folders and globs.

Every shard is listed once, with the folder of the output that it belongs to and its fingerprint.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from pyarrow import fs

from sentiment.errors import SourceError
from sentiment.source.globs import expand_glob, split_glob
from sentiment.source.shards import EXTENSIONS, Shard, ShardFormat, format_of
from sentiment.source.state import fingerprint_of
from sentiment.source.tables import refuse_within_table
from sentiment.storage import (
    STORAGE_ERRORS,
    descendant_uri,
    identity_of,
    in_threads,
    is_hidden,
    is_uri,
    one_line,
    open_filesystem,
)

_HIVE = re.compile(r"[^=]+=.*", re.DOTALL)


@dataclass(frozen=True)
class Listing:
    """The shards of the sources.

    Attributes:
        shards: Sorted by URI, each once.
        skipped: Files in folders or globs that are no shards, because their extension is unknown or
            they are not plain files. Sorted. What is skipped for its name (see `is_skipped`) is not
            among them, and neither are further paths to files that are listed.
    """

    shards: tuple[Shard, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class _Candidate:
    """A file that may become a shard; its footer is not read yet."""

    uri: str
    folder: str
    path: str
    filesystem: fs.FileSystem
    info: fs.FileInfo
    format: ShardFormat
    identity: str


def list_shards(sources: Sequence[str]) -> Listing:
    """List every shard of the sources.

    Args:
        sources: Files, folders (with all folders in them) and globs (`*`, `?`, `[…]`, `**`), each
            a local path or a URI. In a URI `?` starts the query and is no wildcard. A wildcard does
            not match names that are skipped (see `is_skipped`). A glob that matches a folder stands
            for all shards in it.

    Returns:
        The shards, and the files that are skipped. A link that leads nowhere is a shard that cannot
        be opened: if it were skipped, nobody would notice that its rows are missing. If sources
        overlap, also through links, a file is one shard with its real path and the longest of its
        possible folders, whatever the order of the sources.

    Raises:
        SourceError: A source does not exist, cannot be listed or holds no shard, or a file given
            by name has an unknown extension.
    """
    if not sources:
        raise SourceError("no source given; name a file, a folder or a glob of reviews")
    candidates: dict[str, _Candidate] = {}
    skipped: set[str] = set()
    for source in sources:
        try:
            found, skipped_here = _find(source)
        except UnicodeError as error:
            raise SourceError(
                f"{source!r} holds a file name that is not UTF-8; rename it"
            ) from error
        except STORAGE_ERRORS as error:
            raise SourceError(
                f"cannot list {source!r}: {one_line(error)}; check permissions and credentials"
            ) from error
        if not found:
            raise SourceError(
                f"{source!r} holds no shards; known extensions are {', '.join(EXTENSIONS)}, and "
                "names that start with '.' or, without '=', with '_' are skipped"
            )
        skipped.update(skipped_here)
        for shard in found:
            known = candidates.get(shard.identity)
            if known is None or _rank(shard) > _rank(known):
                candidates[shard.identity] = shard
    in_order = sorted(candidates.values(), key=lambda candidate: candidate.uri)
    shards = in_threads(_shard, in_order)
    return Listing(tuple(shards), tuple(sorted(skipped)))


def _rank(shard: _Candidate) -> tuple[bool, int, str, str]:
    """Return the rank of one of several paths to the same shard; the highest rank is used."""
    depth = shard.folder.count("/") + bool(shard.folder)
    return shard.uri == shard.identity, depth, shard.folder, shard.uri


def _find(source: str) -> tuple[list[_Candidate], list[str]]:
    """Find the shards of one source, and the URIs of files that are skipped."""
    base, pattern = split_glob(source)
    filesystem, path = open_filesystem(base)
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise SourceError(f"source {source!r} does not exist; check the path")
    refuse_within_table(filesystem, path)
    if info.type != fs.FileType.Directory:
        if pattern:
            raise SourceError(f"{base!r} in source {source!r} is no folder; check the glob")
        if info.type != fs.FileType.File or format_of(info.base_name) is None:
            raise SourceError(
                f"source {source!r} is no shard; known extensions are {', '.join(EXTENSIONS)}, so "
                "rename or convert it, or give the folder to skip what is no shard"
            )
        parent = path.rpartition("/")[0]
        uri = descendant_uri(base, "")
        shard = _candidate(uri, hive_folders(parent), path, filesystem, info, identity_of(uri))
        return [shard], []
    folders = hive_folders(path)
    real_folder = cache(os.path.realpath)  # of a folder of many files its links are followed once
    shards, skipped = [], []
    for relative, inside in expand_glob(filesystem, path, pattern):
        uri = descendant_uri(base, relative)
        is_broken = inside.type == fs.FileType.NotFound and os.path.islink(uri)
        is_file = inside.type == fs.FileType.File or is_broken
        if format_of(relative) is None or not is_file:
            skipped.append(uri)
            continue
        folder = [*folders, *map(_visible, relative.split("/")[:-1])]
        identity = _identity(uri, real_folder)
        full_path = f"{path.rstrip('/')}/{relative}"
        shards.append(_candidate(uri, folder, full_path, filesystem, inside, identity))
    return shards, skipped


def _identity(uri: str, real_folder: Callable[[str], str]) -> str:
    """Return what `identity_of` returns, without a look at every folder above for every file."""
    if is_uri(uri):
        return identity_of(uri)
    folder, name = os.path.split(uri)
    path = os.path.join(real_folder(folder), name)
    if os.path.islink(path):
        return os.path.realpath(path)
    return uri if path == uri else path  # one string for both


def _candidate(
    uri: str,
    folder: list[str],
    path: str,
    filesystem: fs.FileSystem,
    info: fs.FileInfo,
    identity: str,
) -> _Candidate:
    kind = format_of(path)
    assert kind is not None
    # Shards of one folder share its name.
    return _Candidate(uri, sys.intern("/".join(folder)), path, filesystem, info, kind, identity)


def hive_folders(path: str) -> list[str]:
    """Return the `key=value` components of a path, by which Hive names partitions.

    They are as folders of an output are named, see `_visible`.
    """
    return [_visible(part) for part in path.split("/") if _HIVE.fullmatch(part)]


def _visible(name: str) -> str:
    """Return the name that a folder has in the output.

    Readers skip names that start with `_` or `.`. Percent-encoded they do not, and Spark, pyarrow
    and pandas decode them, so that the partition key is what it was.
    """
    return f"%{ord(name[0]):02X}{name[1:]}" if is_hidden(name) else name


def _shard(file: _Candidate) -> Shard:
    name = file.path.rpartition("/")[2]
    fingerprint = fingerprint_of(file.filesystem, file.path, file.info, file.format)
    size_bytes = file.info.size or 0
    return Shard(file.uri, file.folder, name, file.format, fingerprint, size_bytes, file.identity)
