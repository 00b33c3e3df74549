"""Finds the files that a folder or a glob stands for, on local disks and object stores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from pyarrow import fs

from sentiment.errors import SourceError
from sentiment.source.formats.surrogates import is_utf8, shown
from sentiment.source.layout import is_named_as_data
from sentiment.source.tables import refuse_table, refuse_table_among
from sentiment.storage import is_uri

# Whether to look into a folder, by its path relative to the source.
Enters = Callable[[str], bool]


def split_glob(source: str) -> tuple[str, list[str]]:
    """Split a source at its first wildcard.

    Returns:
        The longest folder without wildcards, and the components after it; no components if the
        source is not a glob.
    """
    if not is_uri(source) and os.path.lexists(source):
        return source, []  # such a file exists: its name holds brackets and is no glob
    location, mark, query = source.partition("?") if is_uri(source) else (source, "", "")
    wild = "*[" if is_uri(source) else "*?["
    parts = location.split("/")
    for index, part in enumerate(parts):
        if any(character in part for character in wild):
            base = "/".join(parts[:index]) or ("/" if location.startswith("/") else ".")
            return base + mark + query, [part for part in parts[index:] if part]
    return source, []


def _matches(name: str, pattern: str) -> bool:
    """Whether a component of a glob matches a name; wildcards do not match names to skip."""
    return fnmatchcase(name, pattern) and (not is_skipped(name) or pattern[0] == name[0])


def is_skipped(path: str) -> bool:
    """Whether a file of a source is passed over for its name, or for that of a folder above it.

    As in Spark: names that start with `.`, and those that start with `_` unless they hold `=`, as
    the partition `_date=2026-11-20` does.
    """
    parts = path.split("/")
    return any(part[:1] == "." or (part[:1] == "_" and "=" not in part) for part in parts)


def matches_path(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a glob matches a file, or a folder that holds it.

    Args:
        parts: Components of the path of the file.
        pattern: Components of the glob; `**` stands for any number of components.
    """
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(matches_path(parts[skip:], pattern[1:]) for skip in range(len(parts)))
    return bool(parts) and _matches(parts[0], pattern[0]) and matches_path(parts[1:], pattern[1:])


def expand_glob(
    filesystem: fs.FileSystem, path: str, pattern: Sequence[str], enters: Enters | None = None
) -> Iterator[tuple[str, fs.FileInfo]]:
    """Find the files below a folder that a glob matches.

    Folders that cannot match are not opened: a glob over a few days of a lake does not list the
    whole lake.

    Args:
        filesystem: Where the folder is.
        path: The folder.
        pattern: Components of the glob; none to find every file that is not skipped for its name.
        enters: Whether to look into a folder, by its path relative to the first one.

    Yields:
        The path of each file relative to the folder, and what the filesystem says of it.
    """
    if not pattern or pattern[0] == "**":
        for relative, info in _walk(filesystem, path, enters):
            if matches_path(relative.split("/"), pattern):
                yield relative, info
        return
    children = _children(filesystem, path)
    refuse_table(filesystem, path, [info.base_name for info in children])
    for info in children:
        if not _matches(info.base_name, pattern[0]):
            continue
        if info.type == fs.FileType.Directory:
            name = info.base_name
            if enters is not None and not enters(name):
                continue
            within = None if enters is None else partial(_below, enters, name)
            for relative, inside in expand_glob(filesystem, info.path, pattern[1:], within):
                yield f"{name}/{relative}", inside
        elif len(pattern) == 1:
            yield info.base_name, info


def _below(enters: Enters, folder: str, relative: str) -> bool:
    return enters(f"{folder}/{relative}")


def _children(filesystem: fs.FileSystem, path: str) -> list[fs.FileInfo]:
    """List what is directly inside a folder.

    pyarrow's own listing leaves out links that lead nowhere. Those are shards that cannot be
    opened.
    """
    inside: Any = fs.FileSelector(path)
    if isinstance(filesystem, fs.LocalFileSystem):
        inside = [os.path.join(path, name) for name in os.listdir(path)]
    return list(filesystem.get_file_info(inside))


def _walk(
    filesystem: fs.FileSystem, path: str, enters: Enters | None
) -> Iterator[tuple[str, fs.FileInfo]]:
    """Find every file below a folder that is not skipped; yield relative paths and infos."""
    if isinstance(filesystem, fs.LocalFileSystem):
        yield from _walk_local(filesystem, path, enters)
        return
    yield from _walk_store(filesystem, path, enters)


def _walk_store(
    filesystem: fs.FileSystem, path: str, enters: Enters | None
) -> Iterator[tuple[str, fs.FileInfo]]:
    """Do it on an object store, which has no links.

    One flat listing costs fewer requests than one per folder. But if partitions may be left out,
    they are listed one by one, and those cost nothing.
    """
    if enters is not None:
        children = list(filesystem.get_file_info(fs.FileSelector(path)))
        folders = [one for one in children if one.type == fs.FileType.Directory]
        if folders and all("=" in one.base_name for one in folders):
            yield from _walk_partitions(filesystem, children, enters)
            return
    root = path.rstrip("/")
    infos = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    found = [(info.path[len(root) + 1 :], info) for info in infos]
    refuse_table_among(root, (relative.split("/") for relative, _ in found))
    for relative, info in found:
        if info.type != fs.FileType.Directory and not is_skipped(relative):
            yield relative, info


def _walk_partitions(
    filesystem: fs.FileSystem, children: Sequence[fs.FileInfo], enters: Enters
) -> Iterator[tuple[str, fs.FileInfo]]:
    for one in children:
        name = one.base_name
        if is_skipped(name):
            continue
        if one.type != fs.FileType.Directory:
            yield name, one
        elif enters(name):
            within = partial(_below, enters, name)
            for relative, info in _walk_store(filesystem, one.path, within):
                yield f"{name}/{relative}", info


def _walk_local(
    filesystem: fs.FileSystem, root: str, enters: Enters | None
) -> Iterator[tuple[str, fs.FileInfo]]:
    """Do the same on a local disk, where links to folders may form a loop.

    Every folder is opened once, so that a loop ends. Links are followed after all real folders: a
    folder that can be reached in both ways is listed under its own name.
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
            found = sorted(scan, key=lambda entry: entry.name)
        refuse_table(filesystem, folder, [entry.name for entry in found])
        entries = [entry for entry in found if not is_skipped(entry.name)]
        # Of a folder of many files the path below the root is worked out once.
        inside = os.path.relpath(folder, root)
        start = "" if inside == os.curdir else f"{inside}/"
        files = list[str]()
        for entry in entries:
            if not is_utf8(entry.name):
                if os.path.isdir(entry.path) or is_named_as_data(entry.name):
                    raise SourceError(f"{shown(entry.path)}: the name is not UTF-8; rename it")
                yield start + shown(entry.name), fs.FileInfo(shown(entry.path))
            elif os.path.isdir(entry.path):
                if enters is None or enters(start + entry.name):
                    (links if entry.is_symlink() else folders).append(entry.path)
            else:
                files.append(entry.name)
        infos = filesystem.get_file_info([os.path.join(folder, name) for name in files])
        for name, info in zip(files, infos, strict=True):
            yield start + name, info
