"""Thousands of files of every format and dialect: no exception, no row invented, none changed."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from fuzzed_files import any_file

from sentiment.block import EXCLUDED
from sentiment.source.cut import cut_into_units, group_into_passes
from sentiment.source.index import index_shards
from sentiment.source.listing import list_shards
from sentiment.source.options import ReadOptions
from sentiment.source.read import ShardReader
from sentiment.source.selection.selection import EVERY_ROW, Selection
from sentiment.source.selection.sql import parse_condition

Row = tuple[str | None, str | None]


def read(path: Path, selection: Selection = EVERY_ROW) -> tuple[list[Row], bool]:
    """The rows of a file, rejects left out; and whether nothing was rejected.

    Every row of a unit is good, rejected or excluded, or `assemble` fails.
    """
    options = ReadOptions(selection=selection)
    rows: list[Row] = []
    is_whole = True
    shards = list_shards([str(path)]).shards
    for index in index_shards(shards, options, keep_going=True):
        is_whole &= index.damage is None
        if index.columns is None or "id" not in index.columns.names:
            is_whole = False
            continue
        for some in group_into_passes(index, cut_into_units(index, 20)):
            with ShardReader(index.shard, index.columns, options) as reader:
                for unit in some:
                    block = reader.read(unit)
                    good = block["_sentiment_reason"].is_null().to_pylist()
                    ids, texts = (block[name].to_pylist() for name in ("id", "text"))
                    rows += [
                        (number, text)
                        for number, text, keep in zip(ids, texts, good, strict=True)
                        if keep
                    ]
                    is_whole &= set(block["_sentiment_reason"].to_pylist()) <= {None, EXCLUDED}
    return rows, is_whole


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_fuzzed_files_give_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentiment.source.cut._CUT_ROWS", 3)
    first = int(os.environ.get("SENTIMENT_TEST_SEED", "1"))
    for seed in range(first, first + int(os.environ.get("SENTIMENT_TEST_FILES", "5000"))):
        chance = random.Random(seed)
        name, content, table = any_file(chance)
        written = [(number, text) for number, text in table]
        path = tmp_path / name
        path.write_bytes(content)
        rows, is_whole = read(path)
        assert is_whole, f"seed {seed}: {name} is not read as a whole"
        assert rows == written, f"seed {seed}: {name} has other rows"
        least = chance.randrange(30)
        where = parse_condition(f"length(text) > {least} or id in ('1', '3') or text is null")
        rows, is_whole = read(path, Selection(where))
        assert is_whole, f"seed {seed}: {name} is not read as a whole if rows are chosen"
        wanted = [
            (number, text)
            for number, text in written
            if text is None or len(text) > least or number in ("1", "3")
        ]
        assert rows == wanted, f"seed {seed}: {name} has other rows if they are chosen"
        path.write_bytes(content[: chance.randrange(len(content))])
        if path.stat().st_size == 0:
            continue
        rows, _ = read(path)
        # In plain text nothing tells that the last record is cut.
        assert set(rows[:-1]) <= set(written), f"seed {seed}: {name} cut off has other rows"
        assert len(rows) <= len(written), f"seed {seed}: {name} cut off has more rows"
        path.unlink()
