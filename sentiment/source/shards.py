"""Shards, the units they are cut into, and their indexes."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from typing import Final, Literal

import pyarrow as pa

ShardFormat = Literal["parquet", "csv", "tsv", "jsonl"]

_TEXT_FORMATS: dict[str, ShardFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
EXTENSIONS: Final[dict[str, ShardFormat]] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    **_TEXT_FORMATS,
    **{f"{extension}.gz": kind for extension, kind in _TEXT_FORMATS.items()},
}


_NAME_BYTES: Final = 200  # of a source file's name that output file names keep; most allow 255


def format_of(name: str) -> ShardFormat | None:
    """Return the format that a file name stands for; None if its extension is unknown."""
    stem, extension = os.path.splitext(name.lower())
    if extension == ".gz":
        extension = os.path.splitext(stem)[1] + extension
    return EXTENSIONS.get(extension)


@dataclass(frozen=True)
class Shard:
    """One input file, as listed.

    Attributes:
        uri: Absolute location, for example `/lake/dt=2026-11-20/part-0.parquet` or `s3://…`.
        folder: Where its output goes, relative to OUTPUT, `/`-separated, "" for the top.
        name: Full file name, extensions included.
        format: How to read it. Whether it is compressed follows from the name (`.gz`).
        fingerprint: Changes whenever the content may have changed (see `state.py`).
        size_bytes: Size on disk.
    """

    uri: str
    folder: str
    name: str
    format: ShardFormat
    fingerprint: str
    size_bytes: int

    @property
    def key(self) -> str:
        """The first part of every output file name of this shard: its name and a hash of its URI.

        Output names are longer than source names and must not exceed the limit of filesystems, so
        the name is shortened. The hash, 8 hex digits, tells shards of the same name apart.
        """
        name = self.name.encode()[:_NAME_BYTES].decode(errors="ignore")
        return f"{name}-{hashlib.sha256(self.uri.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Unit:
    """Rows `first_row` to `last_row` (inclusive, from 0) of a shard: read and committed as one.

    A unit without rows (`last_row` is `first_row` - 1) stands for an empty shard, or for damage
    from `first_row` on. It is committed as a file without rows, so that the next run need not
    repeat it.

    Attributes:
        offset_bytes: Delimited text and JSON Lines: where the first record of the unit starts in
            the decompressed file. None for Parquet.
    """

    shard: Shard
    first_row: int
    last_row: int
    offset_bytes: int | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.last_row - self.first_row + 1

    @property
    def file_name(self) -> str:
        """Output file name, always the same for the same unit."""
        last = f"{self.last_row:010d}" if self.rows else "none"
        return f"{self.shard.key}-{self.first_row:010d}-{last}.parquet"

    @property
    def unit_id(self) -> str:
        """Output path relative to OUTPUT; unique within an output."""
        return f"{self.shard.folder}/{self.file_name}" if self.shard.folder else self.file_name

    def to_json(self) -> str:
        """Return the unit as one line of JSON, for the UNIT carrier."""
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Unit:
        """Inverse of `to_json`."""
        values = json.loads(text)
        return cls(**{**values, "shard": Shard(**values["shard"])})


@dataclass(frozen=True)
class Damage:
    """The part of a shard that cannot be read, from some row to the end; one reject stands for it.

    Attributes:
        first_row: First row that is lost; -1 if it is the whole file.
        reason: One of `block.REASONS`.
        detail: The error of the reader, without review text.
    """

    first_row: int
    reason: str
    detail: str


@dataclass(frozen=True)
class ShardIndex:
    """What a run must know of a shard before it reads rows.

    Attributes:
        shard: The shard.
        rows: Records in the shard, with malformed ones, up to the damage.
        columns: Source columns and types, exactly as `read_unit` returns them; None if the file
            cannot be opened.
        cuts: Ascending row numbers at which a unit may start, with the byte offset of that row
            (None for Parquet). The first cut is row 0.
        damage: The part that cannot be read, if any.
    """

    shard: Shard
    rows: int
    columns: pa.Schema | None
    cuts: tuple[tuple[int, int | None], ...] = ((0, None),)
    damage: Damage | None = None
