"""Listing sources: from files, folders and globs to shards, on local disks and object stores.

Every input file is listed once, with its output folder and fingerprint. Of Parquet files the footer
is read.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pyarrow import fs

from sentiment.errors import SourceError
from sentiment.source.shards import Shard, ShardFormat
from sentiment.source.state import fingerprint
from sentiment.storage import (
    STORAGE_ERRORS,
    WAITING_THREADS,
    descendant_uri,
    is_hidden,
    is_uri,
    one_line,
    open_filesystem,
)

_TEXT_FORMATS: dict[str, ShardFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_FORMATS: dict[str, ShardFormat] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    **_TEXT_FORMATS,
    **{f"{extension}.gz": kind for extension, kind in _TEXT_FORMATS.items()},
}
_HIVE = re.compile(r"[^=]+=.*", re.DOTALL)
_FOOTER_GUESS_BYTES = 64 * 1024
# A damaged length may claim gigabytes. The end of a footer tells as much as all of it.
_FOOTER_MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Listing:
    """What the sources hold.

    Attributes:
        shards: Sorted by URI, each once.
        skipped: Files in folders or globs that are no shards (unknown extension, not a plain
            file). Sorted. Names that start with `_` or `.` are left out on purpose and not named
            here, nor are links to files that are listed under their own folder.
    """

    shards: tuple[Shard, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    """One file, before its footer is read."""

    uri: str
    folder: str
    path: str
    filesystem: fs.FileSystem
    info: fs.FileInfo
    format: ShardFormat


def list_shards(sources: Sequence[str]) -> Listing:
    """Every shard of the sources.

    Args:
        sources: Files, folders (searched to the bottom) and globs (`*`, `?`, `[…]`, `**`), each a
            local path or a URI. In a URI `?` starts the query and is no wildcard. A wildcard does
            not match a name that starts with `_` or `.`; a glob that matches a folder takes all
            shards in it.

    Returns:
        Shards and what was passed over. A link that leads nowhere is a shard too, one that cannot
        be opened: left out, its rows would be missing from the ledger. Where sources overlap,
        through links to folders too, a shard keeps its real path and the longest of its possible
        folders, whatever the order of the sources.

    Raises:
        SourceError: A source does not exist, cannot be listed or holds no shard, or a file given
            by name has an unknown extension.
    """
    if not sources:
        raise SourceError("no source given; name a file, a folder or a glob of reviews")
    found: dict[str, _Found] = {}
    skipped: set[str] = set()
    for source in sources:
        try:
            shards, passed_over = _find(source)
        except UnicodeError as error:
            raise SourceError(
                f"{source!r} holds a file name that is not UTF-8; rename it"
            ) from error
        except STORAGE_ERRORS as error:
            raise SourceError(
                f"cannot list {source!r}: {one_line(error)}; check permissions and credentials"
            ) from error
        if not shards:
            raise SourceError(
                f"{source!r} holds no shards; known extensions are {', '.join(_FORMATS)}, and "
                "names that start with '_' or '.' are skipped"
            )
        skipped.update(passed_over)
        for shard in shards:
            identity = shard.uri if is_uri(shard.uri) else _real(shard.uri)
            known = found.get(identity)
            if known is None or _rank(shard, identity) > _rank(known, identity):
                found[identity] = shard
    with ThreadPoolExecutor(WAITING_THREADS) as threads:
        result = tuple(threads.map(_shard, sorted(found.values(), key=lambda shard: shard.uri)))
    return Listing(result, tuple(sorted(skipped)))


def _real(path: str) -> str:
    """The path without links to folders; a link to a file stays, it may stand for a copy."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def _rank(shard: _Found, identity: str) -> tuple[bool, int, str, str]:
    """Sorts the ways to reach one shard; the highest wins."""
    depth = shard.folder.count("/") + bool(shard.folder)
    return shard.uri == identity, depth, shard.folder, shard.uri


def _find(source: str) -> tuple[list[_Found], list[str]]:
    """Shards of one source and the URIs passed over."""
    base, pattern = split_glob(source)
    filesystem, path = open_filesystem(base)
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise SourceError(f"source {source!r} does not exist; check the path")
    if info.type != fs.FileType.Directory:
        if pattern:
            raise SourceError(f"{base!r} in source {source!r} is no folder; check the glob")
        if info.type != fs.FileType.File or _format(info.base_name) is None:
            raise SourceError(
                f"source {source!r} is no shard; known extensions are {', '.join(_FORMATS)}, so "
                "rename or convert it, or give the folder to skip what is no shard"
            )
        parent = path.rpartition("/")[0]
        return [_found(descendant_uri(base, ""), hive_folders(parent), path, filesystem, info)], []
    folders = hive_folders(path)
    shards, passed_over = [], []
    for relative, inside in _expand(filesystem, path, pattern):
        uri = descendant_uri(base, relative)
        is_broken = inside.type == fs.FileType.NotFound and os.path.islink(uri)
        is_file = inside.type == fs.FileType.File or is_broken
        if _format(relative) is None or not is_file:
            passed_over.append(uri)
            continue
        folder = [*folders, *relative.split("/")[:-1]]
        shards.append(_found(uri, folder, f"{path.rstrip('/')}/{relative}", filesystem, inside))
    return shards, passed_over


def _found(
    uri: str, folder: list[str], path: str, filesystem: fs.FileSystem, info: fs.FileInfo
) -> _Found:
    kind = _format(path)
    assert kind is not None
    return _Found(uri, "/".join(folder), path, filesystem, info, kind)


def _format(name: str) -> ShardFormat | None:
    stem, extension = os.path.splitext(name.lower())
    if extension == ".gz":
        extension = os.path.splitext(stem)[1] + extension
    return _FORMATS.get(extension)


def hive_folders(path: str) -> list[str]:
    """The `key=value` components of a path."""
    return [part for part in path.split("/") if _HIVE.fullmatch(part)]


def split_glob(source: str) -> tuple[str, list[str]]:
    """The longest folder without wildcards, and the components after it ([] for no glob)."""
    if not is_uri(source) and os.path.lexists(source):
        return source, []  # a name that happens to hold brackets
    location, mark, query = source.partition("?") if is_uri(source) else (source, "", "")
    wild = "*[" if is_uri(source) else "*?["
    parts = location.split("/")
    for index, part in enumerate(parts):
        if any(character in part for character in wild):
            base = "/".join(parts[:index]) or ("/" if location.startswith("/") else ".")
            return base + mark + query, [part for part in parts[index:] if part]
    return source, []


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) and (not is_hidden(name) or pattern[0] == name[0])


def matches_path(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a pattern matches a file, or a folder that the file is in."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(matches_path(parts[skip:], pattern[1:]) for skip in range(len(parts)))
    return bool(parts) and _matches(parts[0], pattern[0]) and matches_path(parts[1:], pattern[1:])


def _expand(
    filesystem: fs.FileSystem, path: str, pattern: Sequence[str]
) -> Iterator[tuple[str, fs.FileInfo]]:
    """Files below a folder that a pattern matches, as (relative path, info).

    Folders that cannot match are not opened, so a glob over the days of a lake does not list the
    whole lake.
    """
    if not pattern or pattern[0] == "**":
        for relative, info in _walk(filesystem, path):
            if matches_path(relative.split("/"), pattern):
                yield relative, info
        return
    for info in _children(filesystem, path):
        if not _matches(info.base_name, pattern[0]):
            continue
        if info.type == fs.FileType.Directory:
            for relative, inside in _expand(filesystem, info.path, pattern[1:]):
                yield f"{info.base_name}/{relative}", inside
        elif len(pattern) == 1:
            yield info.base_name, info


def _children(filesystem: fs.FileSystem, path: str) -> list[fs.FileInfo]:
    """What is directly inside a folder; pyarrow's own listing drops links that lead nowhere."""
    inside: Any = fs.FileSelector(path)
    if isinstance(filesystem, fs.LocalFileSystem):
        inside = [os.path.join(path, name) for name in os.listdir(path)]
    return list(filesystem.get_file_info(inside))


def _walk(filesystem: fs.FileSystem, path: str) -> Iterator[tuple[str, fs.FileInfo]]:
    """Every file below a folder without hidden names, as (relative path, info)."""
    if isinstance(filesystem, fs.LocalFileSystem):
        yield from _walk_local(filesystem, path)
        return
    # An object store has no links, and one flat listing costs fewer requests than one per folder.
    for info in filesystem.get_file_info(fs.FileSelector(path, recursive=True)):
        relative = info.path[len(path.rstrip("/")) + 1 :]
        if info.type != fs.FileType.Directory and not is_hidden(relative):
            yield relative, info


def _walk_local(filesystem: fs.FileSystem, root: str) -> Iterator[tuple[str, fs.FileInfo]]:
    """As `_walk`, opening every folder once so that a loop of links ends.

    Links wait until all real folders are done: a folder with a link to it beside it is listed
    under its own name.
    """
    seen: set[tuple[int, int]] = set()
    folders, links = [root], list[str]()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as scan:
            entries = sorted((e for e in scan if not is_hidden(e.name)), key=lambda e: e.name)
        files = []
        for entry in entries:
            if not _is_utf8(entry.name):
                shown = os.fsencode(entry.path).decode("utf-8", "backslashreplace")
                if os.path.isdir(entry.path) or _format(entry.name) is not None:
                    raise SourceError(f"{shown}: the name is not UTF-8; rename it")
                yield os.path.relpath(shown, root), fs.FileInfo(shown)
            elif os.path.isdir(entry.path):
                (links if entry.is_symlink() else folders).append(entry.path)
            else:
                files.append(entry.path)
        for name, info in zip(files, filesystem.get_file_info(files), strict=True):
            yield os.path.relpath(name, root), info


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shard(found: _Found) -> Shard:
    mark = fingerprint(found.info)
    if found.format == "parquet":
        mark += _footer_hash(found.filesystem, found.path, found.info.size or 0)
    name = found.path.rpartition("/")[2]
    return Shard(found.uri, found.folder, name, found.format, mark, found.info.size or 0)


def _footer_hash(filesystem: fs.FileSystem, path: str, size_bytes: int) -> str:
    """`-` and 16 hex digits of the footer's SHA-256; "" when there is no footer to hash."""
    if size_bytes < 12:
        return ""
    try:
        with filesystem.open_input_file(path) as file:
            guess = min(size_bytes, _FOOTER_GUESS_BYTES)
            tail = file.read_at(guess, size_bytes - guess)
            footer_bytes = 8 + int.from_bytes(tail[-8:-4], "little")
            if tail[-4:] != b"PAR1" or footer_bytes > size_bytes - 4:
                return ""
            footer_bytes = min(footer_bytes, _FOOTER_MOST_BYTES)
            if footer_bytes > len(tail):
                tail = file.read_at(footer_bytes, size_bytes - footer_bytes)
    except STORAGE_ERRORS:
        return ""  # indexing opens the file again and says what is wrong with it
    return "-" + hashlib.sha256(tail[-footer_bytes:]).hexdigest()[:16]
