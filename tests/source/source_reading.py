"""Helpers of the tests in this folder: list, index and read one file."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from sentiment.block import CARRIER_FIELDS
from sentiment.source.index import index_shard
from sentiment.source.listing import list_shards
from sentiment.source.options import ReadOptions
from sentiment.source.read import read_unit
from sentiment.source.shards import Shard, ShardIndex, Unit
from sentiment.texts import TextColumns


def shard_of(path: Path) -> Shard:
    (shard,) = list_shards([str(path)]).shards
    return shard


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def units_of(index: ShardIndex, starts: Iterable[int] | None = None) -> list[Unit]:
    """Units from cut to cut, or from the cuts whose numbers are in `starts` (0 is always in)."""
    chosen = [
        cut for n, cut in enumerate(index.cuts) if n == 0 or starts is None or n in set(starts)
    ]
    ends = [*(row for row, _ in chosen[1:]), index.rows]
    return [
        Unit(index.shard, row, end - 1, offset)
        for (row, offset), end in zip(chosen, ends, strict=True)
        if end > row
    ]


def read(index: ShardIndex, text_column: str = "text", starts: Any = None) -> pa.Table:
    """All units of a shard, each checked against the contract, joined."""
    blocks = []
    for unit in units_of(index, starts):
        block = read_unit(unit, index.columns, ReadOptions(TextColumns((text_column,))))
        assert block.schema.equals(pa.schema([*index.columns, *CARRIER_FIELDS]))
        block.validate(full=True)
        covered = []
        for row in block.select(list(CARRIER_FIELDS.names)).to_pylist():
            covered += range(row["_sentiment_row"], row["_sentiment_row_end"] + 1)
            assert Unit.from_json(row["_sentiment_unit"]) == unit
            assert row["_sentiment_read_sec"] > 0
        assert covered == list(range(unit.first_row, unit.last_row + 1))
        blocks.append(block)
    return pa.concat_tables(blocks)


def load(path: Path, text_column: str = "text") -> tuple[ShardIndex, pa.Table]:
    index = index_shard(shard_of(path), ReadOptions(TextColumns((text_column,))))
    return index, read(index, text_column)


def rejects(block: pa.Table) -> list[tuple[int, int, str]]:
    return [
        (row["_sentiment_row"], row["_sentiment_row_end"], row["_sentiment_reason"])
        for row in block.drop_columns(
            [n for n in block.column_names if not n.startswith("_sentiment_")]
        ).to_pylist()
        if row["_sentiment_stage"] is not None
    ]


def column(block: pa.Table, name: str) -> list[Any]:
    return block.column(name).to_pylist()
