"""How the bytes of a shard are to be read: format and compression, by name and by content."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final, Literal

ShardFormat = Literal["parquet", "orc", "avro", "csv", "tsv", "json", "jsonl"]
Compression = Literal["gzip", "bzip2", "xz", "zstd", "lz4"]

UTF_8: Final = "utf-8"
# Two bytes a letter, or four. Text is recoded from its start on, so it cannot be entered elsewhere.
WIDE_ENCODINGS: Final = frozenset({"utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"})

# Formats of records in binary groups. All others are text.
BINARY_FORMATS: Final = frozenset({"parquet", "orc", "avro"})

FORMAT_NAMES: Final[dict[str, ShardFormat]] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".orc": "orc",
    ".avro": "avro",
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
COMPRESSION_NAMES: Final[dict[str, Compression]] = {
    ".gz": "gzip",
    ".bz2": "bzip2",
    ".xz": "xz",
    ".zst": "zstd",
    ".lz4": "lz4",
}
ZIP_NAME: Final = ".zip"
# Further extensions that say compressed. A file of such a name is data, whether it can be unpacked
# or not.
MORE_COMPRESSION_NAMES: Final = frozenset(
    {".gzip", ".zstd", ".lzma", ".deflate", ".snappy", ".sz", ".lzo", ".br", ".z"}
)
# Extensions of data in formats that are not read.
UNREAD_NAMES: Final = frozenset(
    {".arrow", ".feather", ".ipc", ".xlsx", ".xls", ".ods", ".sas7bdat", ".dta", ".sav", ".rds",
     ".h5", ".hdf5", ".sqlite", ".tar", ".tgz", ".7z", ".rar", ".pkl", ".pickle", ".npy", ".npz"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dialect:
    """How records of delimited text are written.

    Attributes:
        delimiter: Between fields.
        quote: Around fields that hold delimiters or line ends, and doubled within; "" for none.
        escape: Before a quote within quotes, as Spark writes it, and before itself; "" for none.
        has_header: Whether the first record names the columns.
        has_separator_line: Whether a line `sep=;` comes first, as Excel knows it.
        null_values: Values that stand for nothing.
        blank_columns: Columns behind the others that have neither names nor values, as Excel leaves
            them.
    """

    delimiter: str
    quote: str = '"'
    escape: str = ""
    has_header: bool = True
    has_separator_line: bool = False
    null_values: tuple[str, ...] = ()
    blank_columns: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """How the bytes of a shard are to be read.

    Attributes:
        format: Format of the records. `json` is any sequence of JSON values, `jsonl` has one object
            or several on each line.
        compression: What to unpack, outermost first; mostly nothing or one.
        encoding: How text is encoded, as Python names it.
        dialect: Of delimited text; None of everything else.
        json_start: Of JSON whose records lie in an array within an object, the byte at which the
            array starts; 0 of everything else.
    """

    format: ShardFormat
    compression: tuple[Compression, ...] = ()
    encoding: str = UTF_8
    dialect: Dialect | None = None
    json_start: int = 0

    def told(self) -> str:
        """Return it in words, for logs; what is usual is left out."""
        words: list[str] = [self.format, *self.compression]
        if self.encoding != UTF_8:
            words.append(self.encoding)
        if self.json_start:
            words.append("an array within an object")
        if (dialect := self.dialect) is not None:
            usual = "\t" if self.format == "tsv" else ","
            if dialect.delimiter != usual:
                words.append(f"delimiter {dialect.delimiter!r}")
            if dialect.quote != '"':
                words.append(f"quote {dialect.quote!r}" if dialect.quote else "no quotes")
            if dialect.escape:
                words.append(f"escape {dialect.escape!r}")
            if not dialect.has_header:
                words.append("no header")
            if dialect.blank_columns:
                words.append(f"{dialect.blank_columns} blank columns left out")
        return ", ".join(words)

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Layout:
        """Inverse of `dataclasses.asdict`, also after a way through JSON."""
        values = {**values, "compression": tuple(values["compression"])}
        if (dialect := values["dialect"]) is not None:
            dialect = {**dialect, "null_values": tuple(dialect["null_values"])}
            values["dialect"] = Dialect(**dialect)
        return cls(**values)


def format_named(name: str) -> ShardFormat | None:
    """Return the format that a file name stands for; None if it names none."""
    return FORMAT_NAMES.get(os.path.splitext(unpacked_name(name).lower())[1])


def is_named_as_data(name: str) -> bool:
    """Whether the name of a file says that it holds data, even of a kind that is not read."""
    extension = os.path.splitext(unpacked_name(name).lower())[1]
    return (
        format_named(name) is not None
        or name.lower().endswith(ZIP_NAME)
        or extension in UNREAD_NAMES
    )


def unpacked_name(name: str) -> str:
    """Return a file name without the extension that says how it is compressed."""
    stem, extension = os.path.splitext(name)
    is_packed = extension.lower() in COMPRESSION_NAMES.keys() | MORE_COMPRESSION_NAMES
    return stem if is_packed or extension.lower() == ZIP_NAME else name
