"""Units cover every row once, keep to the limit, and start where reading can start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from sentiment.source.cut import cut_into_units
from sentiment.source.layout import Layout
from sentiment.source.shards import Shard, ShardIndex, Unit

COLUMNS = pa.schema([("text", pa.string())])
PARQUET = Shard("/lake/a.parquet", "", "a.parquet", "fp", 1000, layout=Layout("parquet"))
CSV = Shard("/lake/a.csv", "", "a.csv", "fp", 1000, layout=Layout("csv"))


def text(rows: int, cuts: Sequence[int]) -> ShardIndex:
    # 100 bytes of header, 10 bytes a record.
    return ShardIndex(CSV, rows, COLUMNS, tuple((cut, 100 + 10 * cut) for cut in cuts))


@st.composite
def indexes(draw: st.DrawFn) -> ShardIndex:
    rows = draw(st.integers(1, 200))
    if draw(st.booleans()):
        return ShardIndex(PARQUET, rows, COLUMNS)
    return text(rows, sorted({0, *draw(st.sets(st.integers(0, rows - 1), max_size=12))}))


def ranges_of(units: Sequence[Unit]) -> list[tuple[int, int]]:
    return [(unit.first_row, unit.last_row) for unit in units]


@given(indexes(), st.integers(1, 250))
def test_units_cover_every_row_once(index: ShardIndex, unit_rows: int) -> None:
    units = cut_into_units(index, unit_rows)
    covered = [row for unit in units for row in range(unit.first_row, unit.last_row + 1)]
    assert covered == list(range(index.rows))
    for unit in units:
        if index.shard is PARQUET:
            assert unit.rows <= unit_rows
            assert unit.offset_bytes is None
        else:
            assert unit.offset_bytes == dict(index.cuts)[unit.first_row]
            inside = [cut for cut, _ in index.cuts if unit.first_row < cut <= unit.last_row]
            assert unit.rows <= unit_rows or not inside, "a cut was passed over"


def test_only_the_given_ranges_are_cut() -> None:
    units = cut_into_units(ShardIndex(PARQUET, 100, COLUMNS), 10, [(5, 17), (90, 99)])
    assert ranges_of(units) == [(5, 14), (15, 17), (90, 99)]
    units = cut_into_units(text(100, [0, 20, 30, 60]), 15, [(0, 29), (60, 99)])
    assert ranges_of(units) == [(0, 19), (20, 29), (60, 99)]
    assert [unit.offset_bytes for unit in units] == [100, 300, 700]


def test_a_shard_without_rows_has_no_units() -> None:
    assert cut_into_units(ShardIndex(PARQUET, 0, COLUMNS), 10) == []
    assert cut_into_units(text(0, [0]), 10) == []


def test_long_rows_make_units_shorter() -> None:
    wide = replace(PARQUET, size_bytes=2**30)  # 10 MiB a row
    assert {unit.rows for unit in cut_into_units(ShardIndex(wide, 100, COLUMNS), 10)} == {3, 1}
