"""Avro files: every type as Arrow has it, every codec, damage that costs one block."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from file_kinds import avro, avro_of
from source_reading import column, load, rejects, shard_of

from sentiment.source.formats import avro as module
from sentiment.source.index import index_shard

MAX64, MIN64 = 2**63 - 1, -(2**63)


def field(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": kind}


def logical(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "logicalType": name, **more}


CASES: list[tuple[Any, Any, pa.DataType, Any]] = [
    ("boolean", True, pa.bool_(), True),
    ("int", -(2**31), pa.int32(), -(2**31)),
    ("long", MAX64, pa.int64(), MAX64),
    ("double", 0.1, pa.float64(), 0.1),
    ("bytes", b"\xff\0", pa.binary(), b"\xff\0"),
    (["null", "long"], None, pa.int64(), None),
    (["long", "null"], MIN64, pa.int64(), MIN64),
    ("null", None, pa.null(), None),
    ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B", pa.string(), "B"),
    ({"type": "fixed", "name": "F", "size": 2}, b"ab", pa.binary(2), b"ab"),
    ({"type": "array", "items": ["null", "int"]}, [1, None], pa.list_(pa.int32()), [1, None]),
    (
        {"type": "map", "values": "string"},
        {"a": "b"},
        pa.map_(pa.string(), pa.string()),
        [("a", "b")],
    ),
    (
        {"type": "record", "name": "R", "fields": [field("x", "int"), field("y", "string")]},
        {"x": 1, "y": "z"},
        pa.struct([("x", pa.int32()), ("y", pa.string())]),
        {"x": 1, "y": "z"},
    ),
    (logical("int", "date"), date(2026, 11, 27), pa.date32(), date(2026, 11, 27)),
    (logical("int", "time-millis"), time(1, 2, 3), pa.time32("ms"), time(1, 2, 3)),
    (
        logical("long", "timestamp-micros"),
        datetime(2026, 11, 27, 1, 2, 3, 4, UTC),
        pa.timestamp("us", "UTC"),
        datetime(2026, 11, 27, 1, 2, 3, 4, UTC),
    ),
    (
        logical("bytes", "decimal", precision=9, scale=2),
        Decimal("-12.34"),
        pa.decimal128(9, 2),
        Decimal("-12.34"),
    ),
    (logical("string", "uuid"), "a" * 36, pa.string(), "a" * 36),
    (["null", "string", "long"], "7", pa.string(), "7"),
    (["null", "string", "long"], 7, pa.string(), "7"),
    (["string", {"type": "array", "items": "int"}], [1, 2], pa.string(), "[1, 2]"),
]


def encoded(kind: Any, value: Any, **options: Any) -> bytes:
    fields = [field("text", "string"), field("v", kind)]
    schema = fastavro.parse_schema({"type": "record", "name": "n.Row", "fields": fields})
    return avro_of(schema, [{"text": "fine", "v": value}] * 3, **options)


@pytest.mark.parametrize(("kind", "value", "arrow", "expected"), CASES)
def test_types_are_those_of_arrow(
    tmp_path: Path, kind: Any, value: Any, arrow: pa.DataType, expected: Any
) -> None:
    data = encoded(kind, value)
    (tmp_path / "a.avro").write_bytes(data)
    index, block = load(tmp_path / "a.avro")
    assert index.columns.field("v").type == arrow
    assert column(block, "v") == [expected] * 3
    assert rejects(block) == []


def test_a_time_after_the_year_9999_passes(tmp_path: Path) -> None:
    """Python has no such date."""
    stored = fastavro.parse_schema(
        {"type": "record", "name": "Row", "fields": [field("text", "string"), field("v", "long")]}
    )
    data = avro_of(stored, [{"text": "fine", "v": 2**58}])
    data = data.replace(b'"long"}', b'{"type": "long", "logicalType": "timestamp-micros"}}')
    grown = len(b'{"type": "long", "logicalType": "timestamp-micros"}') - len(b'"long"')
    at = data.index(b"avro.schema") + len(b"avro.schema")
    size = module._varint(io.BytesIO(data[at : at + 3]))
    old = zigzag(size)
    assert data[at : at + len(old)] == old
    data = data[:at] + zigzag(size + grown) + data[at + len(old) :]
    (tmp_path / "a.avro").write_bytes(data)
    _, block = load(tmp_path / "a.avro")
    assert block.column("v").cast(pa.int64()).to_pylist() == [2**58]


def zigzag(number: int) -> bytes:
    number, content = number * 2, bytearray()
    while number > 127:
        content.append(number & 127 | 128)
        number >>= 7
    return bytes([*content, number])


def test_a_record_that_holds_itself_and_names_that_are_used_again(tmp_path: Path) -> None:
    node = {
        "type": "record",
        "name": "Node",
        "fields": [field("v", "int"), field("next", ["null", "Node"])],
    }
    kind = {"type": "enum", "name": "K", "symbols": ["A"]}
    fields = [field("text", "string"), field("n", node), field("k", kind), field("l", "K")]
    schema = fastavro.parse_schema({"type": "record", "name": "a.b.Row", "fields": fields})
    nested = {"v": 1, "next": {"v": 2, "next": None}}
    (tmp_path / "a.avro").write_bytes(
        avro_of(schema, [{"text": "fine", "n": nested, "k": "A", "l": "A"}])
    )
    _, block = load(tmp_path / "a.avro")
    assert column(block, "n") == [{"v": 1, "next": '{"v": 2, "next": null}'}]
    assert column(block, "l") == ["A"]


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz", "snappy", "zstandard"])
def test_codecs(tmp_path: Path, codec: str) -> None:
    rows = [{"text": f"fine {n}"} for n in range(50)]
    if codec in ("snappy", "zstandard"):  # fastavro needs more packages to write them
        data = recompressed(avro(rows, "null", 20), codec)
    else:
        data = avro(rows, codec, 20)
    (tmp_path / "a.avro").write_bytes(data)
    index, block = load(tmp_path / "a.avro")
    assert index.cuts == ((0, None), (20, None), (40, None))
    assert column(block, "text") == [row["text"] for row in rows]


def recompressed(data: bytes, codec: str) -> bytes:
    """The same file with its blocks compressed."""
    file = module.AvroFile(io.BytesIO(data), len(data))
    target = io.BytesIO()
    start = file._blocks[0][0]
    header = io.BytesIO(data)
    meta = fastavro.schemaless_reader(header, module._HEADER, None)
    meta["meta"]["avro.codec"] = codec.encode()
    fastavro.schemaless_writer(target, module._HEADER, meta)
    assert start > header.tell()
    for (begin, size), rows in zip(file._blocks, file.group_rows, strict=True):
        raw = data[begin : begin + size]
        packed = pa.compress(raw, "zstd" if codec == "zstandard" else codec, asbytes=True)
        if codec == "snappy":
            packed += module.zlib.crc32(raw).to_bytes(4, "big")
        target.write(zigzag(rows) + zigzag(len(packed)) + packed + meta["sync"])
    return target.getvalue()


def test_an_unknown_codec_and_a_wrong_checksum_are_told(tmp_path: Path) -> None:
    data = recompressed(avro([{"text": "fine"}] * 50, "null", 20), "snappy")
    (tmp_path / "a.avro").write_bytes(data.replace(b"snappy", b"lzo123"))
    damage = index_shard(shard_of(tmp_path / "a.avro")).damage
    assert damage is not None
    assert "'lzo123', which is not read" in damage.detail
    file = module.AvroFile(io.BytesIO(data), len(data))
    start, size = file._blocks[1]
    data = data[: start + size - 1] + b"\0" + data[start + size :]
    (tmp_path / "a.avro").write_bytes(data)
    _, block = load(tmp_path / "a.avro")
    assert rejects(block) == [(20, 39, "unreadable_rows")]
    assert "block 1: the checksum" in str(column(block, "_sentiment_detail")[20])


def test_what_a_block_claims_is_not_believed(tmp_path: Path) -> None:
    """Planning would make units of all the rows that it claims."""
    data = avro([{"text": f"fine {n}"} for n in range(40)], "null", 20)
    file = module.AvroFile(io.BytesIO(data), len(data))
    start, size = file._blocks[1]
    head = zigzag(20) + zigzag(size)
    assert data[start - len(head) : start] == head
    claimed = zigzag(2**50) + zigzag(size)
    (tmp_path / "a.avro").write_bytes(data[: start - len(head)] + claimed + data[start:])
    index, block = load(tmp_path / "a.avro")
    assert column(block, "text") == [f"fine {n}" for n in range(20)]
    assert index.damage is not None
    assert (index.rows, index.damage.first_row) == (20, 20)
    assert f"claims {2**50} rows" in index.damage.detail


def test_text_that_is_not_utf8_costs_its_row(tmp_path: Path) -> None:
    data = avro([{"text": f"fine {n}", "other": f"good {n}"} for n in range(30)], "null", 10)
    data = data.replace(b"fine 15", b"fin\xff 15").replace(b"good 17", b"goo\xff 17")
    (tmp_path / "a.avro").write_bytes(data)
    _, block = load(tmp_path / "a.avro")
    assert rejects(block) == [(15, 15, "undecodable_text")]
    assert column(block, "other")[17] == "goo\\xff 17"
