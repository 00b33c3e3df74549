"""Indexing many shards: their order, and storage that stops answering."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentiment.errors import SourceError
from sentiment.source import indexing
from sentiment.source.index import index_shard
from sentiment.source.indexing import index_shards
from sentiment.source.listing import list_shards
from sentiment.source.shards import Shard, ShardIndex


@pytest.fixture
def shards(tmp_path: Path) -> tuple[Shard, ...]:
    for number in range(40):
        rows = "".join(f"{row},good\n" for row in range(number))
        (tmp_path / f"{number:02d}.csv").write_text(f"id,text\n{rows}")
    return list_shards([str(tmp_path)]).shards


def test_indexes_come_in_the_order_of_the_shards(shards: tuple[Shard, ...]) -> None:
    assert [index.rows for index in index_shards(shards, "text")] == list(range(40))


def test_storage_that_stops_answering_is_an_error_and_no_damage(
    shards: tuple[Shard, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_at_the_tenth(shard: Shard, text_column: str) -> ShardIndex:
        if shard.name == "10.csv":
            raise OSError(f"{shard.uri}: connection reset")
        return index_shard(shard, text_column)

    monkeypatch.setattr(indexing, "index_shard", fails_at_the_tenth)
    indexes = index_shards(shards, "text")
    assert [next(indexes).rows for _ in range(10)] == list(range(10))
    with pytest.raises(SourceError, match=r"stopped answering.*10\.csv: connection reset; run"):
        list(indexes)


def test_a_shard_that_cannot_be_planned_is_named(shards: tuple[Shard, ...]) -> None:
    with pytest.raises(SourceError, match=r"00\.csv: .*'review'"):
        list(index_shards(shards, "review"))
