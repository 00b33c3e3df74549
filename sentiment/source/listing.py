"""Lists the shards of sources, which are files, folders and globs.

Every shard is listed once, with the folder of the output that it belongs to and its fingerprint.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import PurePosixPath
from typing import Any

from pyarrow import fs

from sentiment.errors import SourceError
from sentiment.source.content import NoDataError, layout_of, members_of
from sentiment.source.formats.lines import DamageError
from sentiment.source.globs import expand_glob, split_glob
from sentiment.source.layout import FORMAT_NAMES, ZIP_NAME, format_named, is_named_as_data
from sentiment.source.options import BY_DEFAULT, ReadOptions
from sentiment.source.shards import Member, Shard
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

# Of files of one kind, so many are named.
_PATHS_SHOWN = 1000

_HIVE = re.compile(r"[^=]+=.*", re.DOTALL)


@dataclass(frozen=True)
class Listing:
    """The shards of the sources.

    Attributes:
        shards: Sorted by URI, each once.
        skipped: Files in folders or globs that are no shards: neither name nor content say that
            they hold records, or they are not plain files. Sorted. What is skipped for its name
            (see `is_skipped`) is not among them, and neither are further paths to listed files.
        ignored: Files that the user's own patterns leave out. Sorted.
        excluded: Folders of partitions, and files named by the user, in which no row is wanted.
            Sorted. What is in the folders was not looked at.
    """

    shards: tuple[Shard, ...]
    skipped: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return what `run.json` says of the files that are no shards."""
        return {
            name: told_files(paths)
            for name, paths in (
                ("skipped", self.skipped),
                ("ignored", self.ignored),
                ("excluded", self.excluded),
            )
        }


def told_files(paths: Sequence[str]) -> dict[str, Any]:
    """Return what `run.json` says of files of one kind: how many they are, and the first."""
    return {"files": len(paths), "first": list(paths[:_PATHS_SHOWN])}


@dataclass(frozen=True)
class _Candidate:
    """A file that may become a shard, or several; it is not opened yet."""

    uri: str
    folder: str
    path: str
    filesystem: fs.FileSystem
    info: fs.FileInfo
    identity: str


@dataclass
class _Found:
    """What was found so far: candidates by identity, and URIs of other files."""

    candidates: dict[str, _Candidate] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    ignored: set[str] = field(default_factory=set)
    excluded: set[str] = field(default_factory=set)

    def add(self, candidate: _Candidate) -> None:
        """Add a file, by the best of its paths."""
        known = self.candidates.get(candidate.identity)
        if known is None or _rank(candidate) > _rank(known):
            self.candidates[candidate.identity] = candidate


def list_shards(sources: Sequence[str], options: ReadOptions = BY_DEFAULT) -> Listing:
    """List every shard of the sources.

    Args:
        sources: Files, folders (with all folders in them) and globs (`*`, `?`, `[…]`, `**`), each
            a local path or a URI. In a URI `?` starts the query and is no wildcard. A wildcard does
            not match names that are skipped (see `is_skipped`). A glob that matches a folder stands
            for all shards in it.
        options: How they are listed and read. Files whose names do not say what they hold are
            opened.

    Returns:
        The shards, and the files that are skipped. A link that leads nowhere is a shard that cannot
        be opened: if it were skipped, nobody would notice that its rows are missing. If sources
        overlap, also through links, a file is one shard with its real path and the longest of its
        possible folders, whatever the order of the sources. A zip archive is a shard for each file
        of records in it.

    Raises:
        SourceError: A source does not exist, cannot be listed or holds no shard.
    """
    if not sources:
        raise SourceError("no source given; name a file, a folder or a glob of reviews")
    found = _Found()
    by_source: list[tuple[str, list[str]]] = []
    for source in sources:
        try:
            by_source.append((source, _find(source, options, found)))
        except UnicodeError as error:
            raise SourceError(
                f"{source!r} holds a file name that is not UTF-8; rename it"
            ) from error
        except STORAGE_ERRORS as error:
            raise SourceError(
                f"cannot list {source!r}: {one_line(error)}; check permissions and credentials"
            ) from error
    in_order = sorted(found.candidates.values(), key=lambda candidate: candidate.uri)
    shards = in_threads(partial(_shards, options=options), in_order)
    empty = {one.identity for one, some in zip(in_order, shards, strict=True) if not some}
    for source, identities in by_source:
        # A source may lie in partitions without a wanted row, if another one does not.
        is_excluded = bool(found.excluded) and not identities and len(empty) < len(in_order)
        if empty.issuperset(identities) and not is_excluded:
            raise SourceError(_nothing_in(source, found))
    found.skipped.update(found.candidates[identity].uri for identity in empty)
    return Listing(
        tuple(shard for some in shards for shard in some),
        tuple(sorted(found.skipped)),
        tuple(sorted(found.ignored)),
        tuple(sorted(found.excluded)),
    )


def _nothing_in(source: str, found: _Found) -> str:
    if found.excluded:
        return (
            f"{source!r} holds no shards in partitions that --where wants; it excludes "
            f"{len(found.excluded)}, first {min(found.excluded)}"
        )
    ignored = f"; {len(found.ignored)} files are left out by --ignore" if found.ignored else ""
    return (
        f"{source!r} holds no shards. Known extensions are {', '.join(FORMAT_NAMES)}, also "
        "compressed or in a .zip. Files of other names are shards if their content shows it, or "
        "--format names it. Names that start with '.' or, without '=', with '_' are "
        f"skipped{ignored}"
    )


def _rank(shard: _Candidate) -> tuple[bool, int, str, str]:
    """Return the rank of one of several paths to the same shard; the highest rank is used."""
    depth = shard.folder.count("/") + bool(shard.folder)
    return shard.uri == shard.identity, depth, shard.folder, shard.uri


def _find(source: str, options: ReadOptions, found: _Found) -> list[str]:
    """Find the files of one source.

    Returns:
        The identities of those that may be shards.
    """
    base, pattern = split_glob(source)
    filesystem, path = open_filesystem(base)
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.NotFound:
        raise SourceError(f"source {source!r} does not exist; check the path")
    refuse_within_table(filesystem, path)
    if info.type != fs.FileType.Directory:
        if pattern:
            raise SourceError(f"{base!r} in source {source!r} is no folder; check the glob")
        if info.type != fs.FileType.File:
            raise SourceError(f"source {source!r} is no plain file; give a file or a folder")
        folder = "/".join(hive_folders(path.rpartition("/")[0]))
        uri = descendant_uri(base, "")
        if options.selection.excludes_folder(folder):
            found.excluded.add(uri)
            return []
        found.add(_Candidate(uri, folder, path, filesystem, info, identity_of(uri)))
        return [identity_of(uri)]
    folders = hive_folders(path)

    def enters(relative: str) -> bool:
        """Whether a folder below the source may hold rows that are wanted."""
        if not options.selection.excludes_folder("/".join([*folders, relative])):
            return True
        found.excluded.add(descendant_uri(base, relative))
        return False

    if options.selection.excludes_folder("/".join(folders)):
        found.excluded.add(base)
        return []
    real_folder = cache(os.path.realpath)  # of a folder of many files its links are followed once
    identities = []
    for relative, inside in expand_glob(
        filesystem, path, pattern, enters if options.selection.where is not None else None
    ):
        uri = descendant_uri(base, relative)
        if _is_ignored(relative, options):
            found.ignored.add(uri)
            continue
        is_broken = inside.type == fs.FileType.NotFound and os.path.islink(uri)
        if not (is_broken and is_named_as_data(relative)) and inside.type != fs.FileType.File:
            found.skipped.add(uri)
            continue
        # Shards of one folder share its name.
        folder = sys.intern("/".join([*folders, *map(_visible, relative.split("/")[:-1])]))
        identity = _identity(uri, real_folder)
        full_path = f"{path.rstrip('/')}/{relative}"
        found.add(_Candidate(uri, folder, full_path, filesystem, inside, identity))
        identities.append(identity)
    return identities


def _is_ignored(relative: str, options: ReadOptions) -> bool:
    return any(PurePosixPath(relative).match(pattern) for pattern in options.ignore)


def _identity(uri: str, real_folder: Callable[[str], str]) -> str:
    """Return what `identity_of` returns, without a look at every folder above for every file."""
    if is_uri(uri):
        return identity_of(uri)
    folder, name = os.path.split(uri)
    path = os.path.join(real_folder(folder), name)
    if os.path.islink(path):
        return os.path.realpath(path)
    return uri if path == uri else path  # one string for both


def hive_folders(path: str) -> list[str]:
    """Return the `key=value` components of a path, by which Hive names partitions.

    They are as folders of an output are named, see `_visible`.
    """
    return [_visible(part) for part in path.split("/") if _HIVE.fullmatch(part)]


def _visible(name: str) -> str:
    """Return the name that a folder has in the output.

    Readers skip names that start with `_` or `.`. Percent-encoded they do not, and Spark, pyarrow
    and pandas decode them, so that the partition key is what it was. DuckDB and Polars see no
    partition where there is a second `=`; Hive encodes it, too.
    """
    key, mark, value = name.partition("=")
    name = f"{key}{mark}{value.replace('=', '%3D')}"
    return f"%{ord(name[0]):02X}{name[1:]}" if is_hidden(name) else name


def _shards(file: _Candidate, options: ReadOptions) -> list[Shard]:
    """Return the shards that a file is: mostly one; none if it holds no records."""
    name = file.path.rpartition("/")[2]
    is_parquet = format_named(name) == "parquet"
    if name.lower().endswith(ZIP_NAME):
        return _members(file, name, options)
    if not is_named_as_data(name) and options.format is None:
        try:
            layout = layout_of(_shard(file, name, is_parquet=False), options)
            is_parquet = layout.format == "parquet" and not layout.compression
        except NoDataError:
            return []
        except DamageError:
            pass  # told when it is indexed
    return [_shard(file, name, is_parquet)]


def _members(file: _Candidate, name: str, options: ReadOptions) -> list[Shard]:
    """Return the shards of a zip archive; itself if it cannot be opened."""
    archive = _shard(file, name, is_parquet=False)
    try:
        with file.filesystem.open_input_file(file.path) as opened:
            members = members_of(opened, options)
    except (*STORAGE_ERRORS, DamageError):
        return [archive]
    return [
        replace(
            archive,
            uri=descendant_uri(file.uri, path),
            name=path.rpartition("/")[2],
            size_bytes=size_bytes,
            identity=identity_of(descendant_uri(file.identity, path)),
            member=Member(file.uri, path),
        )
        for path, size_bytes in members.items()
    ]


def _shard(file: _Candidate, name: str, is_parquet: bool) -> Shard:
    fingerprint = fingerprint_of(file.filesystem, file.path, file.info, is_parquet=is_parquet)
    size_bytes = file.info.size or 0
    return Shard(file.uri, file.folder, name, fingerprint, size_bytes, file.identity)
