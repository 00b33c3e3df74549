"""Shards, the units they are cut into, and their indexes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Final

import pyarrow as pa

from sentiment.source.layout import BINARY_FORMATS, UTF_8, Layout
from sentiment.storage import identity_of, is_hidden, is_uri

# Of a source file's name that output file names keep. Most filesystems allow 255 bytes; the hashes
# and the row range of a reject file take 65.
_NAME_BYTES: Final = 180

# 64 bits: among a million sources of one name, two share a hash in one lake of 37 million.
_HASH_DIGITS: Final = 16
EARLIER_HASH_DIGITS: Final = 8  # in the names of files of earlier versions


@dataclass(frozen=True, slots=True)
class Member:
    """Where a shard lies in an archive.

    Attributes:
        archive: Where to open the archive.
        path: The member of the archive.
    """

    archive: str
    path: str


@dataclass(frozen=True, slots=True)
class Shard:
    """One input file, as listed.

    Attributes:
        uri: Where to open it, for example `/lake/dt=2026-11-20/part-0.parquet` or `s3://…`, with
            the query that configures the store.
        folder: Where its output goes, relative to OUTPUT, `/`-separated, "" for the top.
        name: Full file name, extensions included.
        fingerprint: Changes whenever the content may have changed (see `state.py`).
        size_bytes: Size on disk.
        identity: The name by which the source is known in the output, today and in every later run
            (see `storage.identity_of`). Found out once, where the source was listed: a link may
            lead elsewhere on another machine. Default: the URI without its query.
        member: Where it lies in an archive, if it does. Then `uri` and `identity` name it as if the
            archive were a folder.
        layout: How to read it. None until it is indexed, and for equality it does not count.
    """

    uri: str
    folder: str
    name: str
    fingerprint: str
    size_bytes: int
    identity: str = ""
    member: Member | None = None
    layout: Layout | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.identity:
            object.__setattr__(self, "identity", _without_query(self.uri))

    @property
    def file_uri(self) -> str:
        """Where to open the file: for a member of a zip archive, the archive."""
        return self.uri if self.member is None else self.member.archive

    @property
    def is_binary(self) -> bool:
        """Whether records lie in binary groups, and not in text."""
        return self.layout is not None and self.layout.format in BINARY_FORMATS

    @property
    def has_one_entry(self) -> bool:
        """Whether text can be read from its start only, so that a row costs all rows before it."""
        if self.member is not None or self.layout is None:
            return self.member is not None
        return bool(self.layout.compression) or self.layout.encoding != UTF_8

    @property
    def key(self) -> str:
        """The first part of every output file name of this shard: its name and a hash.

        Output names are longer than source names and must not exceed the limit of filesystems, so
        the name is shortened. Readers skip names that start with `_` or `.`, so such a name gets a
        word in front, and DuckDB and Polars take a name with `=` for a partition. The hash tells
        sources of the same name apart.
        """
        name = self.name.replace("=", "-").encode()[:_NAME_BYTES].decode(errors="ignore")
        visible = f"file{name}" if is_hidden(name) else name
        return f"{visible}-{hash_of(self.identity)}"


def _without_query(uri: str) -> str:
    return identity_of(uri) if is_uri(uri) else uri


def hash_of(identity: str) -> str:
    """Return the hash of a source that is part of the names of its output files."""
    return hashlib.sha256(identity.encode()).hexdigest()[:_HASH_DIGITS]


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows `first_row` to `last_row` (inclusive, from 0) of a shard: read and committed as one.

    A unit without rows (`last_row` is `first_row` - 1) stands for an empty shard, or for damage
    from `first_row` on. It is committed as a file without rows, so that the next run need not
    repeat it.

    Attributes:
        offset_bytes: Delimited text and JSON Lines: where the first record of the unit starts in
            the decompressed file. None for Parquet.
        shard_rows: Rows of the whole shard; None if unknown.
    """

    shard: Shard
    first_row: int
    last_row: int
    offset_bytes: int | None = None
    shard_rows: int | None = None

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
        shard = values["shard"]
        if shard["member"] is not None:
            shard["member"] = Member(**shard["member"])
        if shard["layout"] is not None:
            shard["layout"] = Layout.from_values(shard["layout"])
        return cls(**{**values, "shard": Shard(**shard)})


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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
        is_known: Whether the index comes from the files in the output, and not from the shard. Then
            there are no columns and no cuts: nothing of the shard is read.
        wide_columns: Columns of 64-bit integers that a float of 64 bits may not hold.
        lacks_text: Whether no object has the text column. Then it is null in every row, if other
            files have it: Spark writes no nulls to JSON.
        unavailable: Why nothing can be said of the shard in this run, and what to do; None if the
            index is one.
    """

    shard: Shard
    rows: int
    columns: pa.Schema | None
    cuts: tuple[tuple[int, int | None], ...] = ((0, None),)
    damage: Damage | None = None
    is_known: bool = False
    unavailable: str | None = None
    wide_columns: frozenset[str] = frozenset()
    lacks_text: bool = False
