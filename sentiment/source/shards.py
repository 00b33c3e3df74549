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
        format: How to read it; `.gz` is read off the name.
        fingerprint: Changes when the content may have changed (size, mtime, Parquet footer hash).
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
        """First part of every output file name of this shard: name and 8 hex digits of its URI.

        Names may be as long as a filesystem allows, and ours are longer: the hash tells them apart.
        """
        name = self.name.encode()[:_NAME_BYTES].decode(errors="ignore")
        return f"{name}-{hashlib.sha256(self.uri.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Unit:
    """Rows `first_row` to `last_row` (inclusive, from 0) of a shard: read and committed as one.

    A unit of no rows (`last_row` one less than `first_row`) stands for an empty shard or for damage
    from `first_row` on: it commits a file without rows, so that the next run knows.

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
        """Output file name: the same unit always commits under the same name."""
        last = f"{self.last_row:010d}" if self.rows else "none"
        return f"{self.shard.key}-{self.first_row:010d}-{last}.parquet"

    @property
    def unit_id(self) -> str:
        """Output path relative to OUTPUT; unique within an output."""
        return f"{self.shard.folder}/{self.file_name}" if self.shard.folder else self.file_name

    def to_json(self) -> str:
        """The unit as one line of JSON, as it travels in the UNIT carrier."""
        return json.dumps(asdict(self), separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Unit:
        """Inverse of `to_json`."""
        values = json.loads(text)
        return cls(**{**values, "shard": Shard(**values["shard"])})


@dataclass(frozen=True)
class Damage:
    """Part of a shard that cannot be read at all and is rejected as one row.

    Attributes:
        first_row: First row that is lost; -1 when it is the whole file.
        reason: One of REASONS.
        detail: What the reader said, without review text.
    """

    first_row: int
    reason: str
    detail: str


@dataclass(frozen=True)
class ShardIndex:
    """What planning needs to know of a shard.

    Attributes:
        rows: Records in the shard, malformed ones included, damage excluded.
        columns: Source columns and types exactly as `read_unit` will deliver them; None when the
            file cannot be opened.
        cuts: Ascending row numbers at which a unit may start, with the byte offset of that row
            (None for Parquet). The first cut is row 0.
        damage: The part that cannot be read, if any.
    """

    shard: Shard
    rows: int
    columns: pa.Schema | None
    cuts: tuple[tuple[int, int | None], ...] = ((0, None),)
    damage: Damage | None = None
