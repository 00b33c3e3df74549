"""Broken and odd files, each with what it costs: the table of docs/hostile-files.md.

Gives functions that make one file each. Knows nothing of how they are read. Run as a program it
prints the page.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
from file_kinds import zipped

ROWS = 30
GROUP_ROWS = 10
Make = Callable[[Path], object]


@dataclass(frozen=True)
class Hostile:
    """Files that have the same fate.

    Attributes:
        what: What they are, for the page.
        gets: What becomes of each: rows labelled, then what is rejected; or what stops the run.
        files: What makes each, by file name.
    """

    what: str
    gets: str
    files: Mapping[str, Make]


def put(content: bytes) -> Make:
    """A file with this content."""
    return lambda path: path.write_bytes(content)


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def altered(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def reviews(rows: int = ROWS) -> pa.Table:
    """Reviews that say which row they are."""
    return pa.table({"id": range(rows), "text": [f"review number {i}" for i in range(rows)]})


def parquet(table: pa.Table | None = None, **options: Any) -> bytes:
    target = io.BytesIO()
    options = {"row_group_size": GROUP_ROWS, **options}
    pq.write_table(reviews() if table is None else table, target, **options)
    return target.getvalue()


def csv(*lines: bytes, rows: int = 3, end: bytes = b"\n") -> bytes:
    good = [b"%d,review number %d" % (i, i) for i in range(rows)]
    return b"".join(line + end for line in [b"id,text", *good, *lines])


def jsonl(*lines: bytes, rows: int = 3) -> bytes:
    good = [json.dumps({"id": i, "text": f"review number {i}"}).encode() for i in range(rows)]
    return b"".join(line + b"\n" for line in [*good, *lines])


REVIEWS = [json.loads(line) for line in jsonl().splitlines()]


def orc(rows: int = ROWS) -> bytes:
    target = io.BytesIO()
    kinds = pa.schema([("id", pa.int64()), ("text", pa.string())])
    pyarrow.orc.write_table(reviews(rows).cast(kinds), target)
    return target.getvalue()


def avro(codec: str = "null", rows: int = ROWS, *, damaged: bool = False) -> bytes:
    """Blocks of GROUP_ROWS rows; if damaged, a length in the second one is too large."""
    fields = [{"name": "id", "type": "long"}, {"name": "text", "type": ["null", "string"]}]
    target = io.BytesIO()
    schema = fastavro.parse_schema({"type": "record", "name": "Review", "fields": fields})
    writer = fastavro.write.Writer(target, schema, codec)
    for review in reviews(rows).to_pylist():
        writer.write(review)
        if review["id"] % GROUP_ROWS == GROUP_ROWS - 1:
            writer.flush()
    content = target.getvalue()
    if damaged:
        at = content.index(b"review number 15") - 1
        content = content[:at] + b"\x7e" + content[at + 1 :]
    return content


def with_text(values: pa.Array) -> bytes:
    return parquet(pa.table({"text": values}))


def pages(content: bytes, group: int, column: int = 1) -> tuple[int, int]:
    """Where the pages of a column lie: first byte and one past the last."""
    chunk = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(group).column(column)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    return start, start + chunk.total_compressed_size


def deep_schema(levels: int) -> bytes:
    """A file of no rows whose one column lies in so many groups, one in the other."""
    root = b"\x48\x06schema\x15\x02\x00"
    column = b"\x15\x0c\x25\x00\x18\x01t\x00"
    elements = root + b"\x35\x00\x18\x01a\x15\x02\x00" * levels + column
    schema = b"\x19\xfc" + varint(levels + 2) + elements
    footer = b"\x15\x02" + schema + b"\x16\x00\x19\x0c\x00"
    return b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def varint(number: int) -> bytes:
    """A number as Parquet's headers hold it."""
    content = bytearray()
    while number > 127:
        content.append(number & 127 | 128)
        number >>= 7
    return bytes(content) + bytes([number])


def bad_page() -> bytes:
    content = bytearray(parquet())
    start, end = pages(bytes(content), 1)
    content[start:end] = b"\xa5" * (end - start)
    return bytes(content)


def flipped_bit() -> bytes:
    content = bytearray(parquet(compression="none", write_page_checksum=True))
    content[content.index(b"review number 15")] ^= 1
    return bytes(content)


def zigzag(number: int) -> bytes:
    return varint(number * 2)


def repeated(rows: int) -> pa.Table:
    return pa.table({"text": [f"review number {i % 7}" for i in range(rows)]})


def claiming_page(field: str, number: int) -> bytes:
    """A file of one column whose first page says of its size what it likes.

    Args:
        field: `uncompressed` or `compressed` bytes, or `entries` of the dictionary.
        number: What it says.
    """
    content = parquet(repeated(300), row_group_size=1000)
    chunk = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(0).column(0)
    # A header is numbers behind one byte that announces them: type, both sizes, then after one byte
    # more the entries.
    at = chunk.dictionary_page_offset
    spans = {}
    for name in ("type", "uncompressed", "compressed", "entries"):
        at += 2 if name == "entries" else 1
        end = next(i for i in range(at, at + 9) if content[i] < 128) + 1
        spans[name], at = (at, end), end
    start, end = spans[field]
    said = zigzag(number)
    footer = content[footer_of(content) : -8]
    grown = len(said) - (end - start)
    for known in (chunk.total_compressed_size, chunk.data_page_offset):
        assert footer.count(zigzag(known)) in (1, 2)
        footer = footer.replace(zigzag(known), zigzag(known + grown))
    body = content[:start] + said + content[end : footer_of(content)]
    return body + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def claiming_rows(rows: int) -> bytes:
    """A file whose footer agrees with itself on a number of rows that is not there."""
    content = parquet(repeated(300), row_group_size=1000)
    footer = content[footer_of(content) : -8].replace(zigzag(300), zigzag(rows))
    body = content[: footer_of(content)]
    return body + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def footer_of(content: bytes) -> int:
    """Where the footer starts."""
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")


def bad_footer() -> bytes:
    content = bytearray(parquet())
    start = footer_of(bytes(content))
    content[start : start + 40] = b"\xff" * 40
    return bytes(content)


def unknown_codec() -> bytes:
    # Field 4 of a column's metadata is the codec; 0x15 announces it and 0x00 is uncompressed.
    content = parquet(compression="none")
    start = footer_of(content)
    marker = b"text\x15\x00"
    assert marker in content[start:]
    return content[:start] + content[start:].replace(marker, b"text\x15\x62")


class _Keys(pe.KmsClient):
    """Keys wrapped in base64 alone: here it counts only that the reader has none."""

    def __init__(self, _: object) -> None:
        super().__init__()

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return base64.b64encode(key_bytes)

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return base64.b64decode(wrapped_key)


def encrypted(plain_footer: bool) -> bytes:
    """With the text encrypted, and the footer or not."""
    keys = pe.CryptoFactory(_Keys).file_encryption_properties(
        pe.KmsConnectionConfig(),
        pe.EncryptionConfiguration(
            footer_key="a", column_keys={"b": ["text"]}, plaintext_footer=plain_footer
        ),
    )
    target = io.BytesIO()
    with pq.ParquetWriter(target, reviews().schema, encryption_properties=keys) as writer:
        writer.write_table(reviews(), row_group_size=GROUP_ROWS)
    return target.getvalue()


def not_utf8(values: list[bytes]) -> pa.Array:
    return pa.Array.from_buffers(pa.string(), len(values), pa.array(values).buffers())


def renamed(old: bytes, new: bytes) -> bytes:
    """A Parquet file in which one column's name became other bytes of the same number."""
    return parquet(reviews().rename_columns([old.decode(), "text"])).replace(old, new)


def link_to(target: str) -> Make:
    return lambda path: os.symlink(target, path)


def long() -> bytes:
    return b"word " * (17 * 2**20 // 5)


GOOD_CSV = csv()
ODD = b'{"text": "a", "n": '

HOSTILE = [
    Hostile(
        "Parquet cut off, empty, with a damaged footer, one that is encrypted or claims more rows "
        "than fit, a column name that is not UTF-8, groups 100,000 deep",
        "file: unreadable_file",
        {
            "cut.parquet": put(parquet()[:-100]),
            "half.parquet": put(parquet()[:600]),
            "empty.parquet": put(b""),
            "footer.parquet": put(bad_footer()),
            "name.parquet": put(renamed(b"some name", b"some\xffname")),
            "deep.parquet": put(deep_schema(100_000)),
            "rows.parquet": put(claiming_rows(2**40)),
            "encrypted.parquet": put(encrypted(plain_footer=False)),
            "magic.parquet": put(b"PARE" + parquet()[4:-4] + b"PARE"),
        },
    ),
    Hostile(
        "Parquet with damaged pages in its second row group of three",
        "20 labelled; rows 10 to 19: unreadable_rows",
        {"page.parquet": put(bad_page()), "checksum.parquet": put(flipped_bit())},
    ),
    Hostile(
        "Parquet in a codec that nobody knows; an encrypted column behind a readable footer",
        "rows 0 to 29: unreadable_rows",
        {
            "codec.parquet": put(unknown_codec()),
            "column.parquet": put(encrypted(plain_footer=True)),
        },
    ),
    Hostile(
        "Parquet text as dictionary, large string, bytes or view",
        "3 labelled",
        {
            "dictionary.parquet": put(with_text(pa.array(["a", "b", "a"]).dictionary_encode())),
            "large.parquet": put(with_text(pa.array(["a", "b", "a"], pa.large_string()))),
            "bytes.parquet": put(with_text(pa.array([b"a", b"b", b"a"]))),
            "view.parquet": put(with_text(pa.array(["a", "b", "a"], pa.string_view()))),
        },
    ),
    Hostile(
        "Parquet text that is lists, structs or numbers",
        "rows 0 to 1: text_not_string",
        {
            "lists.parquet": put(with_text(pa.array([["a"], ["b"]]))),
            "structs.parquet": put(with_text(pa.array([{"a": "a"}, {"a": "b"}]))),
            "numbers.parquet": put(with_text(pa.array([1, 2]))),
        },
    ),
    Hostile(
        "Parquet text that is not UTF-8 in its second row",
        "2 labelled; row 1: undecodable_text",
        {
            "latin.parquet": put(with_text(not_utf8([b"a", b"\xff", b"c"]))),
            "latin-bytes.parquet": put(with_text(pa.array([b"a", b"\xff", b"c"]))),
            "latin-view.parquet": put(with_text(not_utf8([b"a", b"\xff" * 20, b"c"]))),
        },
    ),
    Hostile(
        "two columns of one name",
        "file: unusable_columns",
        {
            "twice.parquet": put(parquet(pa.table([pa.array(["a"])] * 2, names=["text", "text"]))),
            "twice.csv": put(b"text,text\na,b\n"),
        },
    ),
    Hostile(
        "no text column, or no column at all",
        "file: unusable_columns",
        {
            "without.parquet": put(parquet(reviews().select(["id"]))),
            "columns.parquet": put(parquet(pa.table({}))),
            "without.csv": put(b"id,review\n1,a\n"),
        },
    ),
    Hostile(
        "JSON Lines without the text column, beside files that have it: Spark writes no nulls",
        "row 0: null_text",
        {"without.jsonl": put(b'{"review": "a"}\n')},
    ),
    Hostile(
        "JSON Lines with an id as key, 5,000 of them",
        "file: unusable_columns",
        {"keys.jsonl": put(b"".join(b'{"text": "a", "%d": 1}\n' % i for i in range(5000)))},
    ),
    Hostile(
        "no rows: a schema or header alone, an empty text file",
        "0 labelled",
        {
            "none.parquet": put(parquet(reviews(0))),
            "header.csv": put(csv(rows=0)),
            "empty.jsonl": put(b""),
            "empty.csv": put(b""),
            "empty.csv.gz": put(packed(b"")),
            "blank.tsv": put(b"\n\r\n"),
            "empty.json": put(b"[]"),
            "none.orc": put(orc(rows=0)),
            "none.avro": put(avro(rows=0)),
        },
    ),
    Hostile(
        "CSV or JSON Lines in UTF-16, with a mark or without; CSV with semicolons, tabs or pipes, "
        "or with `sep=;` before it",
        "3 labelled",
        {
            "semicolons.csv": put(GOOD_CSV.replace(b",", b";")),
            "tabs.csv": put(GOOD_CSV.replace(b",", b"\t")),
            "pipes.csv": put(GOOD_CSV.replace(b",", b"|")),
            "sep.csv": put(b"sep=;\r\n" + GOOD_CSV.replace(b",", b";")),
            "mark.csv": put(GOOD_CSV.decode().encode("utf-16")),
            "little.csv": put(GOOD_CSV.decode().encode("utf-16-le")),
            "big.csv": put(GOOD_CSV.decode().encode("utf-16-be")),
            "little.jsonl": put(jsonl().decode().encode("utf-16-le")),
        },
    ),
    Hostile(
        "text in gzip, bzip2, xz, zstd or lz4, also without such a name or twice over; `.gz` that "
        "is plain text; a `.zip` with one file; CSV under a Parquet or JSON name, JSON Lines under "
        "a CSV name",
        "3 labelled",
        {
            "gzip.csv": put(packed(GOOD_CSV)),
            "bzip2.tsv.bz2": put(bz2.compress(GOOD_CSV.replace(b",", b"\t"))),
            "xz.json": put(lzma.compress(jsonl())),
            "zstd.jsonl.zst": put(pa.compress(jsonl(), "zstd", asbytes=True)),
            "lz4.csv.lz4": put(pa.compress(GOOD_CSV, "lz4", asbytes=True)),
            "twice.jsonl.gz": put(packed(packed(jsonl()))),
            "plain.csv.gz": put(GOOD_CSV),
            "one.csv.zip": put(zipped({"one.csv": GOOD_CSV})),
            "csv.parquet": put(GOOD_CSV),
            "csv.json": put(GOOD_CSV),
            "jsonl.csv": put(jsonl()),
        },
    ),
    Hostile(
        "Parquet, ORC or Avro under any name or without one, in gzip or in a `.zip`",
        "30 labelled",
        {
            "parquet.csv": put(parquet()),
            "000000_0": put(parquet()),
            "parquet.csv.gz": put(parquet()),
            "packed-parquet.csv.gz": put(packed(parquet())),
            "parquet.zip": put(zipped({"a/b.parquet": parquet()})),
            "orc": put(orc()),
            "orc.orc": put(orc()),
            "orc.orc.gz": put(packed(orc())),
            "avro.avro": put(avro()),
            "part-m-00000": put(avro("deflate")),
        },
    ),
    Hostile(
        "formats that hold data and are not read: Excel, Arrow, SQLite, tar, 7z; `.csv.snappy`; a "
        "zip archive under another name, or within one; bytes of any kind without an extension",
        "file: unreadable_file",
        {
            "book.xlsx": put(zipped({"[Content_Types].xml": b"", "xl/a.xml": b""})),
            "table.arrow": put(b"ARROW1\0\0"),
            "table.db": put(b"SQLite format 3\0"),
            "all.tar": put(bytes(257) + b"ustar"),
            "all.7z": put(b"7z\xbc\xaf\x27\x1c"),
            "a.csv.snappy": put(b"\x82\x53\xff\xfe\x01"),
            "zip.csv": put(zipped({"a.csv": GOOD_CSV})),
            "zip.zip": put(zipped({"a.zip": zipped({"a.csv": GOOD_CSV})})),
            "blob": put(b"\x82\x53\xff\xfe\x01"),
        },
    ),
    Hostile(
        "a block of Avro that is damaged",
        "20 labelled; rows 10 to 19: unreadable_rows",
        {"block.avro": put(avro(damaged=True))},
    ),
    Hostile(
        "a file of Avro that is cut off in its third block",
        "20 labelled; row 20 on: unreadable_rows",
        {"cut.avro": put(avro()[:-30])},
    ),
    Hostile(
        "CSV that is all zero bytes, or ends its lines in CR alone",
        "file: unreadable_file",
        {
            "zeros.csv": put(bytes(5000)),
            "old-mac.csv": put(csv(end=b"\r")),
        },
    ),
    Hostile(
        "CSV with CRLF, a byte order mark or a zero byte in a field; gzip in two parts",
        "4 labelled",
        {
            "crlf.csv": put(csv(b"3,a", end=b"\r\n")),
            "bom.csv": put(b"\xef\xbb\xbf" + csv(b"3,a")),
            "zero.csv": put(csv(b"3,a\0b")),
            "parts.csv.gz": put(packed(GOOD_CSV) + packed(b"3,a\n")),
        },
    ),
    Hostile(
        "CSV row with a field too many or too few, a quote or carriage return in the wrong place, "
        "all zeros",
        "4 labelled; row 3: malformed_record",
        {
            "few.csv": put(csv(b"3", b"4,a")),
            "many.csv": put(csv(b"3,a,b", b"4,a")),
            "quote.csv": put(csv(b'3,"a" b', b"4,a")),
            "return.csv": put(csv(b"3,a\rb", b"4,a")),
            "zeroed.csv": put(csv(bytes(5000), b"4,a")),
        },
    ),
    Hostile(
        "CSV with a quote that is closed two rows later: they are one record",
        "4 labelled; row 3: malformed_record",
        {"closed-late.csv": put(csv(b'3,"a', b"4,b", b'5,c" d', b"6,e"))},
    ),
    Hostile(
        "CSV with a quote that is never closed: where records end is anyone's guess",
        "3 labelled; row 3 on: unreadable_rows",
        {
            "open.csv": put(csv(b'3,"a', b"4,b", b"5,c")),
            "open.tsv": put(csv(b'3,"a""', b"4,b,c").replace(b",", b"\t")),
        },
    ),
    Hostile(
        "TSV that quotes nothing, with a quote at the start of a text; CSV in Windows-1252; CSV "
        "with quotes escaped by backslashes, as Spark writes it; an Excel sheet with blank columns "
        "and rows behind it; files with headers and marks put together",
        "5 labelled",
        {
            "plain.tsv": put(csv(b'3,"a', b"4,b").replace(b",", b"\t")),
            "windows.csv": put(csv("3,schön – 5 €".encode("cp1252"), b"4,a")),
            "spark.csv": put(csv(rb'3,"he said \"no\", and left"', rb'4,"C:\new"')),
            "excel.csv": put(csv(b"3,a,,", b"4,b,,", b",,,").replace(b"text\n", b"text,,\n")),
            "together.csv": put(csv() + b"\xef\xbb\xbfid,text\n3,a\nid,text\n4,b\n"),
        },
    ),
    Hostile(
        "CSV with a broken record of several lines: they are one record",
        "4 labelled; row 3: malformed_record",
        {"lines.csv": put(csv(b'3,"the "best" film,', b"that I saw,", b'and left, sad"', b"4,a"))},
    ),
    Hostile(
        "a Latin-1 row among UTF-8",
        "4 labelled; row 3: undecodable_text",
        {
            "latin.csv": put(csv(b"3,sch\xf6n", "4,schön".encode())),
            "latin.jsonl": put(jsonl(b'{"text": "sch\xf6n"}', b'{"text": "a"}')),
        },
    ),
    Hostile(
        "gzip with junk behind it, or without its end",
        "3 labelled; row 3 on: unreadable_rows",
        {
            "junk.csv.gz": put(packed(GOOD_CSV) + b"junk"),
            "end.csv.gz": put(packed(GOOD_CSV)[:-8]),
        },
    ),
    Hostile(
        "a compressed file whose checksum is wrong, or whose bytes are: any row may be altered",
        "file: unreadable_file",
        {
            "checksum.jsonl.gz": put(packed(jsonl())[:-8] + bytes(8)),
            "checksum.csv.xz": put(altered(lzma.compress(GOOD_CSV), 40)),
            "checksum.csv.bz2": put(altered(bz2.compress(GOOD_CSV), 11)),
            "checksum.zip": put(altered(zipped({"a.csv": GOOD_CSV}), 45)),
        },
    ),
    Hostile(
        "JSON line that is torn, no object, 5,000 levels deep, all zeros or with a number of "
        "5,000 digits",
        "4 labelled; row 3: malformed_record",
        {
            "torn.jsonl": put(jsonl(b'{"text": "a', b'{"text": "b"}')),
            "array.jsonl": put(jsonl(b'["a"]', b'{"text": "b"}')),
            "null.jsonl": put(jsonl(b"null", b'{"text": "b"}')),
            "deep.jsonl": put(jsonl(ODD + b"[" * 5000 + b"]" * 5000 + b"}", b'{"text": "b"}')),
            "digits.jsonl": put(jsonl(ODD + b"9" * 5000 + b"}", b'{"text": "b"}')),
            "zeros.jsonl": put(jsonl(bytes(5000), b'{"text": "b"}')),
        },
    ),
    Hostile(
        "a line, or a text in Parquet, of more than 16 MiB",
        "1 labelled; row 0: malformed_record",
        {
            "long.csv": lambda path: path.write_bytes(b"id,text\n0," + long() + b"\n1,a\n"),
            "long-line.jsonl": lambda path: path.write_bytes(
                b'{"text": "' + long() + b'"}\n{"text": "a"}\n'
            ),
            "long.parquet": lambda path: path.write_bytes(with_text(pa.array([long(), b"a"]))),
        },
    ),
    Hostile(
        "JSON objects in an array, on one line or on several; one after another; printed over "
        "several lines; with a byte order mark; in an array within an object",
        "3 labelled",
        {
            "array.json": put(json.dumps(REVIEWS).encode()),
            "array.jsonl": put(json.dumps(REVIEWS, indent=2).encode()),
            "lines-of-array.json": put(b"[\n" + b",\n".join(jsonl().splitlines()) + b"\n]\n"),
            "firehose": put(jsonl().replace(b"\n", b"")),
            "firehose.json.gz": put(packed(jsonl().replace(b"\n", b""))),
            "printed.json": put("\n".join(json.dumps(one, indent=2) for one in REVIEWS).encode()),
            "bom.json": put(b"\xef\xbb\xbf" + json.dumps(REVIEWS).encode()),
            "page.json": put(json.dumps({"next": None, "reviews": REVIEWS}).encode()),
            "commas.jsonl": put(jsonl().replace(b"}\n", b"},\n")),
        },
    ),
    Hostile(
        "a JSON array that is cut off, or damaged in the middle: where records start is anyone's "
        "guess",
        "3 labelled; row 3 on: unreadable_rows",
        {
            "cut.json": put(json.dumps(REVIEWS).encode()[:-1] + b', {"text": "a'),
            "open.json": put(json.dumps(REVIEWS).encode()[:-1]),
            "torn.json": put(json.dumps(REVIEWS).encode()[:-1] + b', {"text: 1}, {"text": "a"}]'),
        },
    ),
    Hostile(
        "JSON text that is a number",
        "3 labelled; row 3: text_not_string",
        {"number.jsonl": put(jsonl(b'{"text": 7}'))},
    ),
    Hostile(
        "JSON text with half of a surrogate pair",
        "3 labelled; row 3: undecodable_text",
        {"surrogate.jsonl": put(jsonl(b'{"text": "\\ud83d"}'))},
    ),
    Hostile(
        "JSON with a key twice (the last counts), `1e999`, 400 digits, an empty key",
        "4 labelled",
        {
            "key-twice.jsonl": put(jsonl(b'{"text": "a", "text": "b"}')),
            "infinite.jsonl": put(jsonl(ODD + b"1e999}")),
            "long.jsonl": put(jsonl(ODD + b"9" * 400 + b"}")),
            "empty-key.jsonl": put(jsonl(b'{"text": "a", "": 1}')),
        },
    ),
    Hostile(
        "names with spaces, `=`, `%2F`, `..`, a line end, letters beyond ASCII; a folder called "
        "`x.parquet`",
        "3 labelled",
        {
            "two words.csv": put(GOOD_CSV),
            "dt=1 & x=.csv": put(GOOD_CSV),
            "a%2Fb%.csv": put(GOOD_CSV),
            "a..b...csv": put(GOOD_CSV),
            "line\nend.csv": put(GOOD_CSV),
            "città 😀.csv": put(GOOD_CSV),
            "x.parquet/part-0.csv": put(GOOD_CSV),
        },
    ),
    Hostile(
        "a link that leads nowhere or to itself",
        "file: unreadable_file",
        {"broken.csv": link_to("nowhere"), "self.parquet": link_to("self.parquet")},
    ),
    Hostile(
        "a pipe; a file of which neither name nor content say that it holds records",
        "passed over with a warning",
        {
            "pipe.csv": os.mkfifo,
            "notes.txt": put(b"notes"),
            "README": put(b"# Reviews"),
            "photo.jpg": put(b"\xff\xd8\xff\xe0"),
            "settings.yaml": put(b"text: a"),
            "notes.txt.gz": put(packed(b"notes")),
            "program.jar": put(zipped({"META-INF/MANIFEST.MF": b""})),
            "papers.zip": put(zipped({"notes.txt": b"notes"})),
        },
    ),
    Hostile(
        "a link to a folder above: what it leads to is listed once",
        "passed over in silence",
        {"loop.csv": link_to("..")},
    ),
]


def page() -> str:
    """The page docs/hostile-files.md."""
    lines = [f"| {one.what} | {one.gets} |" for one in HOSTILE]
    table = ["| file | what becomes of it |", "|---|---|", *lines]
    return "\n".join([INTRODUCTION, *table, "", CLAIMS])


INTRODUCTION = """\
# Hostile files

What broken and odd files cost. Damage in a row costs the row, in a Parquet page its row group, in a
footer the file; where records can no longer be told apart, the rest of the file. The other files of
the run are labelled in any case. Where no file has usable columns, the run stops before it begins
and names the first. Rows count from 0.

This table is printed by `python tests/hostile_files.py`, and a test holds every line of it.
"""

CLAIMS = """\
What a file claims of its own size is not believed. The one exception is short: a damaged page of
Parquet may claim up to 2 GiB, which Arrow sets aside before it finds the page shorter.
"""

if __name__ == "__main__":
    print(page(), end="")
