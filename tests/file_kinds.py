"""Makes files of every format and compression."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    ".lz4": lambda data: pa.compress(data, "lz4", asbytes=True),
}
Rows = Sequence[Mapping[str, Any]]


def zipped(members: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


def delimited(rows: Rows, delimiter: str) -> bytes:
    target = io.StringIO(newline="")
    writer = csv.writer(target, delimiter=delimiter, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return target.getvalue().encode()


def parquet(rows: Rows) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), target, row_group_size=100)
    return target.getvalue()


def orc(rows: Rows) -> bytes:
    """Stripes of a few hundred rows."""
    target = io.BytesIO()
    with pyarrow.orc.ORCWriter(target, stripe_size=4096, batch_size=100) as writer:
        for start in range(0, len(rows), 100):
            writer.write(pa.Table.from_pylist(list(rows[start : start + 100])))
    return target.getvalue()


def avro(rows: Rows, codec: str = "deflate", block_rows: int = 70) -> bytes:
    kinds = {int: "long", str: "string"}
    fields = [{"name": key, "type": ["null", kinds[type(one)]]} for key, one in rows[0].items()]
    schema = fastavro.parse_schema({"type": "record", "name": "Review", "fields": fields})
    return avro_of(schema, rows, codec, block_rows)


def avro_of(schema: Any, rows: Rows, codec: str = "null", block_rows: int = 70) -> bytes:
    target = io.BytesIO()
    writer = fastavro.write.Writer(target, schema, codec)
    for number, row in enumerate(rows, start=1):
        writer.write(dict(row))
        if number % block_rows == 0:
            writer.flush()
    writer.flush()
    return target.getvalue()


def lines(rows: Rows) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


FORMATS: dict[str, Callable[[Rows], bytes]] = {
    "csv": lambda rows: delimited(rows, ","),
    "tsv": lambda rows: delimited(rows, "\t"),
    "jsonl": lines,
    "json": lambda rows: json.dumps(rows).encode(),
    "indented.json": lambda rows: json.dumps(rows, indent=2).encode(),
    "firehose.json": lambda rows: lines(rows).replace(b"\n", b""),
    "parquet": parquet,
    "orc": orc,
    "avro": avro,
}
