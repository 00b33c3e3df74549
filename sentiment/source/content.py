"""Finds out what a file holds from its first bytes: the name may be missing, or wrong.

Nothing is guessed: a file is taken for what a magic number, a JSON value or the text column in its
header row shows it to be, and otherwise for what its name says.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import zipfile
from dataclasses import replace
from typing import IO, Any, Final

from sentiment.source.first_bytes import (
    array_start,
    binary_format,
    delimited_format,
    dialect_of,
    encoding_of,
    json_format,
    starts_with_json,
)
from sentiment.source.formats.compression import (
    MAGIC_BYTES,
    UNPACK_ERRORS,
    ZIP_MAGIC,
    compression_of,
    open_member,
    unpack,
)
from sentiment.source.formats.lines import BOM, DamageError
from sentiment.source.globs import is_skipped
from sentiment.source.layout import (
    BINARY_FORMATS,
    COMPRESSION_NAMES,
    MORE_COMPRESSION_NAMES,
    UNREAD_NAMES,
    UTF_8,
    ZIP_NAME,
    Compression,
    Layout,
    ShardFormat,
    format_named,
    is_named_as_data,
    unpacked_name,
)
from sentiment.source.options import ReadOptions
from sentiment.source.shards import Shard
from sentiment.storage import STORAGE_ERRORS, one_line, open_filesystem

# Bytes of a file that are looked at. The first record of a JSON file has to end within them, or it
# is read as JSON Lines.
HEAD_BYTES: Final = 512 * 1024
_MAX_COMPRESSIONS: Final = 3

# First bytes of files that hold data which is not read, and what to do about it.
_UNREAD: Final = {
    b"PARE": "its footer is encrypted, which is not read; decrypt it",
    b"ARROW1": "the file is Arrow IPC (Feather), which is not read; write it as Parquet",
    b"\xd0\xcf\x11\xe0": "the file is an old Office document; save it as CSV",
    b"SQLite format 3": "the file is a SQLite database; write the table as Parquet or CSV",
    b"7z\xbc\xaf\x27\x1c": "the file is a 7z archive, which is not read; unpack it",
    b"Rar!": "the file is a RAR archive, which is not read; unpack it",
    b"\x89HDF": "the file is HDF5, which is not read; write it as Parquet",
}
# Names without an extension that files of notes have, in any case.
_NOTES: Final = frozenset(
    {"readme", "license", "licence", "copying", "notice", "authors", "changelog", "changes",
     "contributors", "makefile", "dockerfile", "manifest", "todo", "version", "index"}
)  # fmt: skip


class NoDataError(Exception):
    """The file holds no records. Always caught within this folder."""


def layout_of(shard: Shard, options: ReadOptions) -> Layout:
    """Find out how to read a shard.

    Raises:
        DamageError: It cannot be opened or unpacked, or holds what is not read.
        NoDataError: Neither name nor content say that it holds records.
    """
    filesystem, path = open_filesystem(shard.file_uri)
    try:
        with filesystem.open_input_file(path) as file:
            member = None if shard.member is None else shard.member.path
            return _layout(file, shard.name, options, member)
    except STORAGE_ERRORS as error:
        raise DamageError(one_line(error)) from error


def members_of(file: Any, options: ReadOptions) -> dict[str, int]:
    """Return the members of a zip archive that hold records, with their unpacked sizes in bytes.

    Args:
        file: The archive, at its start.
        options: How sources are read.

    Raises:
        DamageError: The archive is damaged.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            if len({info.filename for info in infos}) < len(infos):
                raise DamageError("two files in the archive share a name; unpack it and rename one")
            return {
                info.filename: info.file_size
                for info in infos
                if _is_data(archive, info.filename, options)
            }
    except UNPACK_ERRORS as error:
        raise DamageError(one_line(error)) from error


def _is_data(archive: zipfile.ZipFile, path: str, options: ReadOptions) -> bool:
    if is_skipped(path):
        return False
    if is_named_as_data(path):
        return True
    try:
        with archive.open(path) as member:
            _layout(member, os.path.basename(path), options)
    except NoDataError:
        return False
    except (DamageError, *UNPACK_ERRORS):
        pass  # told when it is read
    return True


def _layout(file: Any, name: str, options: ReadOptions, member: str | None = None) -> Layout:
    stream = io.BufferedReader(file, HEAD_BYTES)
    compressions: list[Compression] = []
    try:
        if member is not None:
            stream = open_member(stream, member)
        while (found := compression_of(stream.peek(MAGIC_BYTES))) is not None:
            compressions.append(found)
            if len(compressions) > _MAX_COMPRESSIONS:
                raise DamageError(f"it is compressed more than {_MAX_COMPRESSIONS} times over")
            stream = unpack(stream, found)
        is_plain = not compressions and member is None
        if stream.peek(MAGIC_BYTES).startswith(ZIP_MAGIC):
            raise _zip_problem(name, is_inside=not is_plain)
        head, ends = _head(stream)
    except UNPACK_ERRORS as error:
        raise DamageError(one_line(error)) from error
    encoding = UTF_8
    if binary_format(head, tail := _tail(file) if is_plain else b"") is None:
        encoding = encoding_of(head, options)
    if encoding != UTF_8:
        head = head.decode(encoding, "ignore").encode()
    found_format = _format(head, ends, tail, name, options)
    if found_format in BINARY_FORMATS:
        encoding = UTF_8
    elif not compressions:
        _check_unpacked(head, name)
    layout = Layout(found_format, tuple(compressions), encoding)
    if found_format in ("csv", "tsv"):
        dialect = dialect_of(head.removeprefix(BOM), found_format, options)
        return replace(layout, dialect=dialect)
    if found_format in ("json", "jsonl") and (start := array_start(head, options.texts.names)):
        return replace(layout, format="json", json_start=start)
    return layout


def _zip_problem(name: str, *, is_inside: bool) -> DamageError | NoDataError:
    """Return the error for a zip archive that was not opened as one."""
    if is_inside:
        return DamageError("it holds a zip archive, which is not read there; unpack it once")
    if problem := _unread(name):
        return DamageError(problem)
    if name.lower().endswith(ZIP_NAME):
        return DamageError("the zip archive has changed, or holds no data")
    if os.path.splitext(unpacked_name(name))[1] and format_named(name) is None:
        return NoDataError()  # documents and programs are such archives
    return DamageError("the file is a zip archive; give it a name that ends in .zip")


def _unread(name: str) -> str:
    """Return why a file of this name is not read; "" if its name does not say so."""
    extension = os.path.splitext(unpacked_name(name).lower())[1]
    if extension not in UNREAD_NAMES:
        return ""
    return f"files that end in {extension} are not read; write it as Parquet or CSV"


def _head(stream: IO[bytes]) -> tuple[bytes, bool]:
    """Return the first bytes of a stream, and whether they are all; what damage leaves counts.

    Raises:
        UNPACK_ERRORS: There is nothing before the damage.
    """
    head = b""
    try:
        while len(head) < HEAD_BYTES:
            piece = stream.read1(HEAD_BYTES - len(head))  # type: ignore[attr-defined]
            if not piece:
                return head, True
            head += piece
    except UNPACK_ERRORS:
        if not head:
            raise
    return head, False


def _tail(file: Any) -> bytes:
    """Return the last four bytes of a file, from which Parquet and ORC are known."""
    if not file.seekable():
        return b""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 4))
    return bytes(file.read(4))


def _check_unpacked(head: bytes, name: str) -> None:
    """Refuse a file that its name calls compressed, and that is neither unpacked nor text.

    A plain text is fine: some web servers and their clients unpack files without renaming them.
    """
    extension = os.path.splitext(name.lower())[1]
    if extension not in COMPRESSION_NAMES and extension not in MORE_COMPRESSION_NAMES:
        return
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError as error:
        known = ", ".join(COMPRESSION_NAMES.values())
        raise DamageError(
            f"its name ends in {extension}, and its bytes are none of {known}; unpack the file"
        ) from error


def _format(head: bytes, ends: bool, tail: bytes, name: str, options: ReadOptions) -> ShardFormat:
    named = format_named(name)
    if options.format is not None:
        return _forced(head, ends, options.format)
    if (found := binary_format(head, tail)) is not None:
        return found
    for start, problem in _UNREAD.items():
        if head.startswith(start):
            raise DamageError(problem)
    if head[257:262] == b"ustar":
        raise DamageError("the file is a tar archive, which is not read; unpack it")
    if not head.strip() and named is None:
        raise NoDataError
    may_be_anything = named is not None or not os.path.splitext(unpacked_name(name))[1]
    text = head.removeprefix(BOM)
    found = json_format(text, ends)
    if named in ("csv", "tsv") and not starts_with_json(text):
        found = None  # a header may begin with a bracket
    if found is not None and (may_be_anything or _has_key(text, options)):
        return found
    if named in ("csv", "tsv"):
        return named
    if (found := delimited_format(text, options)) is not None:
        return found
    if named is not None:
        return "jsonl" if named == "json" else named
    return _nothing_known(name)


def _has_key(text: bytes, options: ReadOptions) -> bool:
    return any(json.dumps(name).encode() in text for name in options.texts.names)


def _forced(head: bytes, ends: bool, wanted: ShardFormat) -> ShardFormat:
    """Return the format that a user has named; of JSON, find out which of the two it is."""
    if wanted in ("json", "jsonl"):
        return json_format(head.removeprefix(BOM), ends) or "jsonl"
    return wanted


def _nothing_known(name: str) -> ShardFormat:
    """Decide on a file of which neither name nor content say anything.

    Raises:
        NoDataError: It has the name of notes, or an extension that no data has.
        DamageError: It may be data: engines write files without an extension.
    """
    if problem := _unread(name):
        raise DamageError(problem)
    stem, extension = os.path.splitext(unpacked_name(name))
    if extension or stem.lower() in _NOTES:
        raise NoDataError
    raise DamageError(
        "neither its name nor its first bytes say what it holds; name its format with --format, or "
        "leave it out with --ignore"
    )
