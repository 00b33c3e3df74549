"""What holds for every format: files that change, storage that fails, carriers."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_reading import column, read, rejects, shard_of, units_of

from sentiment.block import CARRIER_FIELDS, REASON, REASONS
from sentiment.errors import SourceChangedError, SourceError
from sentiment.source import content, state
from sentiment.source import index as index_module
from sentiment.source import read as read_module
from sentiment.source.blocks import Reject, Rows, assemble
from sentiment.source.formats import compression, lines
from sentiment.source.index import index_shard, index_shards
from sentiment.source.options import ReadOptions
from sentiment.source.read import read_unit
from sentiment.source.shards import Shard, ShardIndex, Unit
from sentiment.texts import TextColumns

NAMES = ["a.parquet", "a.csv", "a.jsonl"]


def make(path: Path, rows: int = 5) -> ShardIndex:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": [f"t{i}" for i in range(rows)]}), path)
    elif path.suffix == ".csv":
        path.write_text("text\n" + "".join(f"t{i}\n" for i in range(rows)))
    else:
        path.write_text("".join(f'{{"text": "t{i}"}}\n' for i in range(rows)))
    return index_shard(shard_of(path))


@pytest.mark.parametrize("name", NAMES)
def test_a_vanished_file_is_no_damage(tmp_path: Path, name: str) -> None:
    index = make(tmp_path / name)
    (tmp_path / name).unlink()
    with pytest.raises(SourceChangedError, match=rf"{name}: the file is gone"):
        read(index)
    with pytest.raises(SourceChangedError):
        index_shard(index.shard)
    [empty] = index_shards([index.shard], keep_going=True)
    assert empty.unavailable is not None
    assert (empty.rows, empty.damage) == (0, None)


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_file_is_no_damage(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    index = make(path)
    os.utime(path, ns=(0, 1))
    with pytest.raises(SourceChangedError, match=rf"{name}: the file changed"):
        read(index)
    make(path, rows=7)
    with pytest.raises(SourceChangedError):
        read(index)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_file_that_shrinks_unseen_rejects_what_is_missing(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    index = make(path)
    status, content = os.stat(path), path.read_bytes()
    path.write_bytes(b"".join(content.splitlines(keepends=True)[:-2]).ljust(len(content), b"\n"))
    os.utime(path, ns=(0, status.st_mtime_ns))
    assert rejects(read(index)) == [(3, 4, "unreadable_rows")]


@pytest.mark.parametrize("name", NAMES)
def test_storage_that_does_not_answer_is_no_fault_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    index = make(tmp_path / name)

    class Down:
        def get_file_info(self, path: str) -> Any:
            raise OSError("connection refused")

        open_input_file = get_file_info

    for place in (state, compression, lines, content):
        monkeypatch.setattr(place, "open_filesystem", lambda uri: (Down(), uri))
    with pytest.raises(OSError, match="connection refused"):
        read_unit(units_of(index)[0], index.columns)
    with pytest.raises(OSError, match="connection refused"):
        index_shard(index.shard)


@pytest.mark.parametrize("name", NAMES)
def test_carriers_of_good_rows(tmp_path: Path, name: str) -> None:
    index = make(tmp_path / name)
    (unit,) = units_of(index)
    block = read_unit(unit, index.columns)
    assert block.schema.names == ["text", *CARRIER_FIELDS.names]
    assert column(block, "_sentiment_row_end") == column(block, "_sentiment_row") == [*range(5)]
    for name_ in ("stage", "reason", "detail", "raw"):
        assert column(block, f"_sentiment_{name_}") == [None] * 5
    assert len(set(column(block, "_sentiment_read_sec"))) == 1


def test_seconds_add_up_and_rejects_take_their_place(tmp_path: Path) -> None:
    index = make(tmp_path / "a.csv", 10)
    (unit,) = units_of(index)
    good = pa.table({"text": ["b", "c", "g"]})
    found = [Reject(7, 9, "unreadable_rows", "d"), Reject(0, 0, "malformed_record", "d", "raw")]
    found.append(Reject(3, 5, "unreadable_rows", "d"))
    block = assemble(unit, index.columns, Rows(good, [1, 2, 6], found), 3.0)
    assert column(block, "text") == [None, "b", "c", None, "g", None]
    assert column(block, "_sentiment_row") == [0, 1, 2, 3, 6, 7]
    assert column(block, "_sentiment_row_end") == [0, 1, 2, 5, 6, 9]
    assert column(block, "_sentiment_stage") == ["read", None, None, "read", None, "read"]
    assert sum(column(block, "_sentiment_read_sec")) == pytest.approx(3.0)
    assert {reject.reason for reject in found} <= REASONS.keys()
    with pytest.raises(AssertionError, match="6 rows accounted for, not 10"):
        assemble(unit, index.columns, Rows(good, [1, 2, 6], found[2:]), 3.0)


def test_wrong_columns_are_a_programming_error(tmp_path: Path) -> None:
    index = make(tmp_path / "a.parquet")
    (unit,) = units_of(index)
    with pytest.raises(KeyError):
        read_unit(unit, pa.schema([("nope", pa.string())]), ReadOptions(TextColumns(("nope",))))
    # Even then a unit of another file is not read in its place.
    other = replace(unit, shard=replace(unit.shard, fingerprint="1-1"))
    with pytest.raises(SourceChangedError):
        read_unit(other, index.columns)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_changes_while_it_is_read_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    index = make(tmp_path / name)
    reader_of = read_module._reader_of

    def slow(*arguments: Any) -> Any:
        reader = reader_of(*arguments)
        read_before = reader.read

        def read_slowly(*unit: Any) -> Rows:
            rows = read_before(*unit)
            make(tmp_path / name, rows=7)
            return rows

        monkeypatch.setattr(reader, "read", read_slowly)
        return reader

    monkeypatch.setattr(read_module, "_reader_of", slow)
    with pytest.raises(SourceChangedError):
        read(index)


def test_many_columns_are_checked_in_linear_time(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(",".join(f"c{n}" for n in range(200_000)) + ",text\n")
    assert len(index_shard(shard_of(path)).columns) == 200_001


@pytest.mark.parametrize(
    ("kind", "outage"),
    [("NETWORK_CONNECTION", True), ("SLOW_DOWN", True), ("ACCESS_DENIED", False)],
)
def test_an_outage_of_the_store_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, outage: bool
) -> None:
    """Rows rejected for it would stay rejected."""
    pq.write_table(pa.table({"text": ["fine"]}), tmp_path / "a.parquet")
    shard = shard_of(tmp_path / "a.parquet")
    index = index_shard(shard)
    assert index.columns is not None
    detail = f"When reading object: AWS Error {kind} during GetObject operation"

    def fails(*_: object, **__: object) -> None:
        raise OSError(detail)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", fails)
    with pytest.raises(OSError, match=kind) if outage else nullcontext():
        block = read_unit(Unit(index.shard, 0, 0), index.columns)
        assert block[REASON].to_pylist() == ["unreadable_rows"]
    monkeypatch.setattr(pq, "ParquetFile", fails)
    with pytest.raises(OSError, match=kind) if outage else nullcontext():
        assert index_shard(shard).damage is not None


def test_shards_are_indexed_in_their_order(tmp_path: Path) -> None:
    shards = [make(tmp_path / name, rows).shard for rows, name in enumerate(NAMES, start=1)]
    indexes = index_shards(shards)
    assert [index.shard for index in indexes] == shards
    assert [index.rows for index in indexes] == [1, 2, 3]
    assert index_shards([]) == []


def test_an_outage_among_many_shards_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [make(tmp_path / f"{n}.csv").shard for n in range(40)]
    index_one = index_module.index_shard

    def index_until_the_outage(shard: Shard, *rest: Any, **more: Any) -> ShardIndex:
        if shard == shards[20]:
            raise OSError(f"{shard.uri}: connection refused")
        return index_one(shard, *rest, **more)

    monkeypatch.setattr(index_module, "index_shard", index_until_the_outage)
    with pytest.raises(SourceError, match=r"20\.csv: connection refused; run the same"):
        index_shards(shards)


def test_a_shard_without_the_column_is_named(tmp_path: Path) -> None:
    shards = [make(tmp_path / name).shard for name in NAMES[:2]]
    with pytest.raises(SourceError, match=r"a\.parquet: there is no column 'review'"):
        index_shards(shards, ReadOptions(TextColumns(("review",))))
