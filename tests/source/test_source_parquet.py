"""Parquet: row groups, damage, types that pass through, bytes that are not UTF-8."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_reading import column, load, read, rejects, shard_of

from sentiment.errors import SourceError
from sentiment.source.formats import binary_text, groups, parquet
from sentiment.source.index import index_shard
from sentiment.source.options import ReadOptions
from sentiment.source.read import read_unit
from sentiment.source.shards import Unit
from sentiment.texts import TextColumns


def save(path: Path, table: pa.Table, **options: object) -> Path:
    pq.write_table(table, path, **options)
    return path


def reviews(rows: int) -> pa.Table:
    return pa.table({"id": range(rows), "text": [f"review {i}" for i in range(rows)]})


def damage_page(path: Path, group: int, column: int = 1) -> None:
    """Overwrite the pages of one column of one row group."""
    chunk = pq.ParquetFile(path).metadata.row_group(group).column(column)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + chunk.total_compressed_size] = b"\xa5" * chunk.total_compressed_size
    path.write_bytes(content)


def test_cuts_are_row_groups(tmp_path: Path) -> None:
    index, block = load(save(tmp_path / "a.parquet", reviews(25), row_group_size=10))
    assert index.cuts == ((0, None), (10, None), (20, None))
    assert (index.rows, index.damage) == (25, None)
    assert column(block, "id") == list(range(25))


@pytest.mark.parametrize("batch_rows", [1, 3, 4096])
@pytest.mark.parametrize(("first", "last"), [(0, 24), (3, 3), (9, 10), (4, 22), (20, 24)])
def test_any_range_is_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_rows: int, first: int, last: int
) -> None:
    monkeypatch.setattr(groups, "_BATCH_ROWS", batch_rows)
    index = index_shard(shard_of(save(tmp_path / "a.parquet", reviews(25), row_group_size=10)))
    block = read_unit(Unit(index.shard, first, last), index.columns)
    assert column(block, "id") == list(range(first, last + 1))
    assert column(block, "_sentiment_row") == list(range(first, last + 1))


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_damaged_page_costs_its_row_group(tmp_path: Path, compression: str) -> None:
    path = save(tmp_path / "a.parquet", reviews(30), row_group_size=10, compression=compression)
    damage_page(path, 1)
    index = index_shard(shard_of(path))
    assert (index.rows, index.damage) == (30, None)
    block = read(index, starts=[])
    assert rejects(block) == [(10, 19, "unreadable_rows")]
    assert column(block, "id") == [*range(10), None, *range(20, 30)]
    assert column(block, "_sentiment_row") == [*range(11), *range(20, 30)]
    assert column(block, "_sentiment_detail")[10].startswith("row group 1: ")
    assert column(block, "_sentiment_raw")[10] is None
    part = read_unit(Unit(index.shard, 5, 14), index.columns)
    assert rejects(part) == [(10, 14, "unreadable_rows")]
    assert column(part, "id") == [5, 6, 7, 8, 9, None]


def test_flipped_byte_is_caught_by_page_checksums(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.parquet",
        reviews(10),
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
    )
    content = path.read_bytes()
    path.write_bytes(content.replace(b"review 5", b"review Z", 1))
    _, block = load(path)
    assert rejects(block) == [(0, 9, "unreadable_rows")]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 500, b"x" * 90 + b"\xff\xff\0\0PAR1"])
def test_bad_footer_is_an_unreadable_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    index = index_shard(shard_of(path))
    assert (index.rows, index.columns) == (0, None)
    assert index.damage is not None
    assert (index.damage.first_row, index.damage.reason) == (-1, "unreadable_file")
    assert index.damage.detail


def test_empty_file_and_empty_row_groups(tmp_path: Path) -> None:
    index = index_shard(shard_of(save(tmp_path / "a.parquet", reviews(0))))
    assert (index.rows, index.cuts, index.damage) == (0, ((0, None),), None)
    with pq.ParquetWriter(tmp_path / "b.parquet", reviews(1).schema) as writer:
        for rows in (0, 2, 0, 3):
            writer.write_table(reviews(5).slice(0, rows))
    index, block = load(tmp_path / "b.parquet")
    assert index.cuts == ((0, None), (2, None))
    assert column(block, "id") == [0, 1, 0, 1, 2]


def test_types_pass_through_beside_a_reject(tmp_path: Path) -> None:
    n = 6
    table = pa.table(
        {
            "text": pa.array([f"t{i}" for i in range(n)], pa.large_string()),
            "brand": pa.array(["a", "b", None] * 2).dictionary_encode(),
            "tags": pa.array([["x"], [], None] * 2),
            "map": pa.array([[("k", 1)]] * n, pa.map_(pa.string(), pa.int8())),
            "who": pa.array([{"name": "é", "age": i} for i in range(n)]),
            "when": pa.array([datetime.datetime(2026, 11, 20)] * n, pa.timestamp("ns", "UTC")),
            "price": pa.array([1] * n, pa.decimal128(9, 2)),
            "key": pa.array([uuid.UUID(int=i).bytes for i in range(n)], pa.uuid()),
            "fixed": pa.array([b"ab"] * n, pa.binary(2)),
        }
    ).cast(
        pa.schema(
            [
                pa.field("text", pa.large_string(), nullable=False),
                pa.field("brand", pa.dictionary(pa.int32(), pa.string())),
                pa.field("tags", pa.list_(pa.string())),
                pa.field("map", pa.map_(pa.string(), pa.int8())),
                pa.field("who", pa.struct([("age", pa.int64()), ("name", pa.string())])),
                pa.field("when", pa.timestamp("ns", "UTC")),
                pa.field("price", pa.decimal128(9, 2)),
                pa.field("key", pa.uuid()),
                pa.field("fixed", pa.binary(2)),
            ],
            metadata={b"pandas": b"{}"},
        )
    )
    path = save(tmp_path / "a.parquet", table, row_group_size=2)
    index, block = load(path)
    assert index.columns.types == table.schema.types
    assert index.columns.metadata is None
    assert all(field.nullable for field in index.columns)
    assert block.select(table.column_names).to_pylist() == table.to_pylist()
    damage_page(path, 1, 0)
    index = index_shard(shard_of(path))
    block = read(index, starts=[])
    assert rejects(block) == [(2, 3, "unreadable_rows")]
    lost = dict.fromkeys(table.column_names)
    expected = [*table.to_pylist()[:2], lost, *table.to_pylist()[4:]]
    assert block.select(table.column_names).to_pylist() == expected


class Registered(pa.ExtensionType):
    """A type as other libraries register with Arrow; as Ray's does, its values run code."""

    looked_at = 0

    def __init__(self) -> None:
        super().__init__(pa.large_binary(), "tests.registered")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> Registered:
        return cls()

    def __arrow_ext_scalar_class__(self) -> type:
        return Looked


class Looked(pa.ExtensionScalar):
    def as_py(self, **_: object) -> bytes:
        Registered.looked_at += 1
        return b"whatever a pickle does"


@pytest.fixture
def registered() -> Iterator[Registered]:
    kind = Registered()
    pa.register_extension_type(kind)
    yield kind
    pa.unregister_extension_type(kind.extension_name)


def carried(block: pa.Table) -> pa.Table:
    """A block as the next process gets it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, block.schema) as stream:
        stream.write_table(block)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


def test_types_of_other_libraries_run_no_code(tmp_path: Path, registered: Registered) -> None:
    values = pa.ExtensionArray.from_storage(registered, pa.array([b"a", b"b"], pa.large_binary()))
    nested = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), values)
    table = pa.table({"text": values, "list": nested})
    path = save(tmp_path / "a.parquet", table)
    assert pq.read_schema(path).field("text").type == registered, "it would come back by itself"
    index, block = load(path)
    assert index.columns.types == [pa.large_binary(), pa.list_(pa.large_binary())]
    block = carried(block)
    assert column(block, "text") == [b"a", b"b"]
    assert column(block, "list") == [[b"a"], [b"b"]]
    assert Registered.looked_at == 0


def test_a_type_registered_later_does_not_come_back(tmp_path: Path, registered: Registered) -> None:
    values = pa.ExtensionArray.from_storage(registered, pa.array([b"a", b"b"], pa.large_binary()))
    nested = pa.StructArray.from_arrays([values], ["inside"])
    path = save(tmp_path / "a.parquet", pa.table({"text": values, "struct": nested}))
    pa.unregister_extension_type(registered.extension_name)
    _, block = load(path)
    pa.register_extension_type(registered)
    assert carried(block).schema.types == block.schema.types


def test_a_type_whose_code_fails_is_an_unreadable_file(
    tmp_path: Path, registered: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = pa.ExtensionArray.from_storage(registered, pa.array([b"a"], pa.large_binary()))
    path = save(tmp_path / "a.parquet", pa.table({"text": values}))

    def fail(*_: object) -> None:
        raise KeyError("freq")

    index = index_shard(shard_of(path))
    monkeypatch.setattr(Registered, "__arrow_ext_deserialize__", fail)
    assert rejects(read(index)) == [(0, 0, "unreadable_file")]
    index = index_shard(index.shard)
    assert index.damage is not None
    assert index.damage.detail == "its types cannot be decoded (KeyError)"


def test_views_become_strings(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array(["a", None], pa.string_view()),
            "bytes": pa.array([b"a", None], pa.binary_view()),
            "list": pa.array([["a"], None], pa.list_(pa.string_view())),
            "fixed": pa.array([["a"], ["b"]], pa.list_(pa.string_view(), 1)),
            "struct": pa.array([{"x": "a"}, None], pa.struct([("x", pa.string_view())])),
            "map": pa.array([[("k", "a")], None], pa.map_(pa.string(), pa.string_view())),
        }
    )
    index, block = load(save(tmp_path / "a.parquet", table))
    text = pa.large_string()
    assert index.columns.types == [
        text,
        pa.large_binary(),
        pa.list_(text),
        pa.list_(text, 1),
        pa.struct([("x", text)]),
        pa.map_(pa.string(), text),
    ]
    assert block.select(table.column_names).to_pylist() == table.to_pylist()
    assert block.filter(pa.array([True, False])).num_rows == 1


def test_a_view_that_is_not_utf8_rejects_its_row_only(tmp_path: Path) -> None:
    text = not_utf8([b"good", b"long enough for a buffer of its own \xf6", b"fine"])
    path = save(tmp_path / "a.parquet", pa.table({"text": text.cast(pa.string_view())}))
    _, block = load(path)
    assert rejects(block) == [(1, 1, "undecodable_text")]
    assert column(block, "text") == ["good", None, "fine"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_binary(), pa.dictionary("int8", "string")])
def test_a_text_without_end_rejects_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: pa.DataType
) -> None:
    monkeypatch.setattr(binary_text, "MAX_RECORD_BYTES", 5)
    texts = pa.array(["short", None, "longer", "øøø", "øø"]).cast(
        pa.string() if pa.types.is_dictionary(kind) else kind
    )
    texts = texts.dictionary_encode() if pa.types.is_dictionary(kind) else texts
    _, block = load(save(tmp_path / "a.parquet", pa.table({"text": texts, "n": ["longer"] * 5})))
    assert rejects(block) == [(2, 2, "malformed_record"), (3, 3, "malformed_record")]
    assert block.column("text").null_count == 3


def test_a_column_name_that_is_not_utf8_is_an_unreadable_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.parquet", reviews(3).rename_columns(["some name", "text"]))
    path.write_bytes(path.read_bytes().replace(b"some name", b"some\xffname"))
    index = index_shard(shard_of(path))
    assert (index.rows, index.columns) == (0, None)
    assert index.damage is not None
    assert index.damage.detail == "its types cannot be decoded (UnicodeDecodeError)"


@pytest.mark.parametrize(
    ("sizes", "total", "message"),
    [
        ([10, 10], 20, None),
        ([], 0, None),
        ([10, 11], 20, "contradict"),
        ([30, -10], 20, "contradict"),
        ([2**40], 2**40, "claims 1099511627776 rows in 1000 bytes"),
    ],
)
def test_row_counts_that_cannot_be_are_damage(
    sizes: list[int], total: int, message: str | None
) -> None:
    found = [SimpleNamespace(num_rows=size) for size in sizes]
    metadata = SimpleNamespace(
        num_rows=total, num_row_groups=len(found), row_group=found.__getitem__
    )
    if message is None:
        assert parquet._group_rows(metadata, 1000) == sizes
        return
    with pytest.raises(pa.ArrowInvalid, match=message):
        parquet._group_rows(metadata, 1000)


def not_utf8(values: list[bytes | None]) -> pa.Array:
    return pa.Array.from_buffers(pa.string(), len(values), pa.array(values).buffers())


@pytest.mark.parametrize("encode", [False, True])
def test_text_that_is_not_utf8_rejects_its_row_only(tmp_path: Path, encode: bool) -> None:
    text = not_utf8([b"good", b"sch\xf6n", None, b"fine"])
    city = not_utf8([b"M\xfcnchen", b"Oslo", b"Oslo", None])
    if encode:
        text, city = text.dictionary_encode(), city.dictionary_encode()
    table = pa.table({"text": text, "city": city, "n": [0, 1, 2, 3]})
    index, block = load(save(tmp_path / "a.parquet", table))
    assert index.columns.types == table.schema.types
    assert rejects(block) == [(1, 1, "undecodable_text")]
    assert column(block, "n") == [0, None, 2, 3]
    assert column(block, "city") == ["M\\xfcnchen", None, "Oslo", None]
    assert column(block, "_sentiment_raw") == [None, "sch\\xf6n", None, None]
    assert "sch" not in column(block, "_sentiment_detail")[1]


def test_nested_bytes_that_are_not_utf8_reject_their_row(tmp_path: Path) -> None:
    inner = pa.StructArray.from_arrays([not_utf8([b"a", b"\xff", b"c"])], ["name"])
    table = pa.table({"text": ["x", "y", "z"], "who": inner})
    _, block = load(save(tmp_path / "a.parquet", table))
    assert rejects(block) == [(1, 1, "malformed_record")]
    assert column(block, "text") == ["x", None, "z"]


def test_column_names_are_checked(tmp_path: Path) -> None:
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pytest.raises(SourceError, match="two columns are named 'text'"):
        index_shard(shard_of(save(tmp_path / "a.parquet", twice)))
    with pytest.raises(SourceError, match="no column 'body'"):
        index_shard(
            shard_of(save(tmp_path / "b.parquet", reviews(1))), ReadOptions(TextColumns(("body",)))
        )
    reserved = reviews(1).rename_columns(["_sentiment_ids", "text"])
    with pytest.raises(SourceError, match="_sentiment_ids"):
        index_shard(shard_of(save(tmp_path / "c.parquet", reserved)))
