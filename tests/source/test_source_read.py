"""Units read one after another are those read alone, and cost one pass over the file."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from file_kinds import COMPRESSIONS, FORMATS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentiment.block import READ_SEC, REASON, ROW, UNIT
from sentiment.source.cut import cut_into_units, group_into_passes
from sentiment.source.formats import groups, lines, parquet
from sentiment.source.index import index_shard
from sentiment.source.listing import list_shards
from sentiment.source.read import ShardReader, read_unit
from sentiment.source.shards import ShardIndex, Unit

ROWS = 300
NAMES = (
    "a.csv", "a.csv.gz", "a.tsv.bz2", "a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json", "a.json.xz",
    "a.orc", "a.avro", "a.avro.lz4", "one_group.parquet", "groups.parquet",
)  # fmt: skip


def texts(rows: int = ROWS) -> list[str]:
    return [f"the soup of day {row} was good\nand hot, {'x' * (row % 40)}" for row in range(rows)]


def write(path: Path, rows: int = ROWS) -> Path:
    """A shard of any format; its rows differ in length, and some records are malformed."""
    if path.suffix == ".parquet":
        size = rows if path.name.startswith("one") else 37
        table = pa.table({"id": list(range(rows)), "text": texts(rows)})
        pq.write_table(table, path, row_group_size=size, data_page_size=512)
        return path
    if path.suffix in (".orc", ".avro", ".json", ".lz4", ".xz", ".bz2", ".zst"):
        kind = path.name.split(".")[1]
        rows_of = [{"id": row, "text": text} for row, text in enumerate(texts(rows))]
        path.write_bytes(COMPRESSIONS.get(path.suffix, bytes)(FORMATS[kind](rows_of)))
        return path
    if ".csv" in path.name:
        records = [f'{row},"{text}"\n' for row, text in enumerate(texts(rows))]
        content = "".join(["id,text\n", *records]).replace("17,", "17,one,more,")
    else:
        records = [json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(texts(rows))]
        content = "".join([*records]).replace('{"id": 17,', "{")
    data = content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def indexed(path: Path) -> ShardIndex:
    [shard] = list_shards([str(path)]).shards
    return index_shard(shard)


def values(block: pa.Table) -> list[dict[str, Any]]:
    return block.drop_columns([READ_SEC, UNIT]).to_pylist()


def read_in_passes(index: ShardIndex, units: list[Unit]) -> Iterator[pa.Table]:
    assert index.columns is not None
    for some in group_into_passes(index, units):
        with ShardReader(index.shard, index.columns) as reader:
            for unit in some:
                yield reader.read(unit)


@pytest.fixture
def dense_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentiment.source.cut._CUT_ROWS", 7)
    monkeypatch.setattr(groups, "_BATCH_ROWS", 16)


@pytest.mark.usefixtures("dense_cuts")
@pytest.mark.parametrize("damage", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("name", NAMES)
def test_units_of_a_pass_are_those_read_alone(tmp_path: Path, name: str, damage: float) -> None:
    path = write(tmp_path / name)
    if damage:
        data = bytearray(path.read_bytes())
        at = int(len(data) * damage)
        data[at : at + 40] = random.Random(name).randbytes(40)
        path.write_bytes(bytes(data))
    index = indexed(path)
    if index.columns is None:
        return
    for unit_rows in (7, 50, ROWS):
        units = cut_into_units(index, unit_rows)
        for unit, block in zip(units, read_in_passes(index, units), strict=True):
            assert values(block) == values(read_unit(unit, index.columns))


@pytest.mark.usefixtures("dense_cuts")
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.randoms(use_true_random=False))
def test_units_can_be_read_in_any_order(tmp_path: Path, name: str, order: random.Random) -> None:
    index = indexed(write(tmp_path / name))
    assert index.columns is not None
    units = cut_into_units(index, 14)
    order.shuffle(units)
    with ShardReader(index.shard, index.columns) as reader:
        for unit in units[:6]:
            block = reader.read(unit)
            assert values(block) == values(read_unit(unit, index.columns))


@pytest.mark.usefixtures("dense_cuts")
@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz"])
def test_a_compressed_file_is_decompressed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    index = indexed(write(tmp_path / name))
    count, next_piece = [0], lines.Lines.next_piece

    def counted(one: lines.Lines, *sizes: Any, **how: Any) -> bytes:
        count[0] += 1
        return next_piece(one, *sizes, **how)

    monkeypatch.setattr(lines.Lines, "next_piece", counted)
    units = cut_into_units(index, 7)
    assert len(units) > 40
    assert sum(block.num_rows for block in read_in_passes(index, units)) == ROWS
    assert count[0] <= 2 * ROWS + 3  # a text has a line break


@pytest.mark.usefixtures("dense_cuts")
@pytest.mark.parametrize("name", ["one_group.parquet", "groups.parquet"])
@pytest.mark.parametrize("unit_rows", [7, 50, 100])
def test_a_row_group_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, unit_rows: int
) -> None:
    index = indexed(write(tmp_path / name))
    decoded, batches = [0], parquet.ParquetFile.batches

    def counted(*of_which: Any) -> Iterator[pa.RecordBatch]:
        for batch in batches(*of_which):
            decoded[0] += batch.num_rows
            yield batch

    monkeypatch.setattr(parquet.ParquetFile, "batches", counted)
    units = cut_into_units(index, unit_rows)
    assert sum(block.num_rows for block in read_in_passes(index, units)) == ROWS
    assert decoded[0] == ROWS


def test_small_row_groups_share_a_unit_and_none_is_in_two(tmp_path: Path) -> None:
    index = indexed(write(tmp_path / "groups.parquet"))
    units = cut_into_units(index, 100)
    assert [(unit.first_row, unit.last_row) for unit in units] == [
        (0, 73),
        (74, 147),
        (148, 221),
        (222, 299),
    ]
    assert [len(some) for some in group_into_passes(index, units)] == [1, 1, 1, 1]


def test_plain_text_is_read_by_many_tasks_and_compressed_by_one(tmp_path: Path) -> None:
    for name, passes in (("a.csv", 3), ("a.csv.gz", 1)):
        index = indexed(write(tmp_path / name, rows=3000))
        units = cut_into_units(index, 1024)
        assert len(units) == 3
        assert len(list(group_into_passes(index, units))) == passes
    assert list(group_into_passes(index, [])) == []


def test_a_unit_that_takes_much_memory_ends_early(tmp_path: Path) -> None:
    """A file says a repeated text once: 198 kB of it were 202 MB in memory."""
    path = tmp_path / "a.parquet"
    long = ["x" * 200_000] * 1000
    pq.write_table(pa.table({"text": [*long, "short"]}), path, row_group_size=800)
    assert path.stat().st_size < 100_000
    index = indexed(path)
    assert index.columns is not None
    most, rows = 2**22, []
    with ShardReader(index.shard, index.columns) as reader:
        for unit in cut_into_units(index, 5000):
            first = unit.first_row
            while first <= unit.last_row:
                block = reader.read(Unit(index.shard, first, unit.last_row), most)
                assert block.nbytes < 2.2 * most
                named = Unit.from_json(block.column(UNIT)[0].as_py())
                assert (named.first_row, named.rows) == (first, block.num_rows)
                rows += block.column(ROW).to_pylist()
                first = named.last_row + 1
    assert rows == list(range(1001))


def test_a_unit_of_text_is_cut_by_what_it_is_when_decompressed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("text\n")
        for row in range(1500):
            file.write(f"{row} {'x' * 100_000}\n")
    index = indexed(path)
    assert index.columns is not None
    units = cut_into_units(index, 1024)
    assert {unit.first_row for unit in units} <= {row for row, _ in index.cuts}
    assert sum(unit.rows for unit in units) == 1500
    assert max(unit.rows for unit in units) * 100_000 < 48 * 2**20
    assert min(unit.rows for unit in units[:-1]) * 100_000 > 16 * 2**20


def test_a_damaged_group_ends_no_pass(tmp_path: Path) -> None:
    path = write(tmp_path / "groups.parquet")
    start = pq.ParquetFile(path).metadata.row_group(3).column(1).data_page_offset
    data = bytearray(path.read_bytes())
    data[start + 2 : start + 30] = bytes(28)
    path.write_bytes(bytes(data))
    index = indexed(path)
    blocks = list(read_in_passes(index, cut_into_units(index, 37)))
    reasons = [block.column(REASON).to_pylist() for block in blocks]
    assert [one[0] for one in reasons].count("unreadable_rows") == 1
    assert sum(one == [None] * len(one) for one in reasons) == len(blocks) - 1
