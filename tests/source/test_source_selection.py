"""Which rows a condition or a sample chooses: as SQL says, in every format, and nothing else."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_reading import shard_of

from sentiment.block import EXCLUDED, REASON, ROW, ROW_END
from sentiment.errors import ConfigError, SourceError
from sentiment.source import globs
from sentiment.source.cut import cut_into_units
from sentiment.source.formats.parquet import ParquetFile
from sentiment.source.index import index_shard
from sentiment.source.listing import list_shards
from sentiment.source.options import ReadOptions
from sentiment.source.read import ShardReader
from sentiment.source.selection.compare import IncomparableError
from sentiment.source.selection.partitions import key_column, partition_of, with_partition
from sentiment.source.selection.selection import Selection, drawn
from sentiment.source.selection.sql import parse_condition

BIG = 2**53 + 1
TABLE = pa.table(
    {
        "text": pa.array(["a", "b", "c", "d", None, "e"]),
        "small": pa.array([1, -1, 127, -128, None, 0], pa.int8()),
        "big": pa.array([BIG, BIG - 1, 2**63 - 1, -(2**63), None, 0], pa.int64()),
        "unsigned": pa.array([2**64 - 1, 0, 1, 5, None, 7], pa.uint64()),
        "number": pa.array([0.1, -0.5, 1e300, 3.0, None, 0.0], pa.float64()),
        "price": pa.array([Decimal("9.99"), Decimal("10.00"), Decimal("-1.50"), None, None,
                           Decimal("0.00")], pa.decimal128(38, 2)),
        "flag": pa.array([True, False, None, True, False, True]),
        "day": pa.array([date(2026, 11, 1), date(1969, 12, 31), date(9999, 12, 31), None, None,
                         date(2026, 11, 20)]),
        "moment": pa.array([datetime(2026, 11, 1, 12), datetime(1969, 12, 31, 23, 59, 59, 999999),
                        datetime(9999, 12, 31), None, None, datetime(2026, 11, 20)],
                       pa.timestamp("us")),
        "country": pa.array(["de", "DE", "fr", "", None, "d'e"]).dictionary_encode(),
    }
)  # fmt: skip

CONDITIONS = [
    "small = 1", "small <> 1", "small < 0.5", "small <= -0.5", "small > -128", "small >= 127.0",
    "small = 0.5", "small <> 0.5", "small < 1000", "small > 1000", "small > -1000",
    f"big = {BIG}", f"big = {BIG - 1}", f"big > {BIG - 1}", "big < -9223372036854775807",
    "unsigned = 18446744073709551615", "unsigned > 1", "unsigned >= -3",
    "number > 0", "number = 0.1", "number <= -0.5", "number < 1e200",
    "price = 9.99", "price > 9.99", "price <= 0", "price < 9.995",
    "flag", "not flag", "flag = false", "flag <> true",
    "day >= '2026-11-01'", "day = date '2026-11-20'", "day < '1970-01-01'", "day > '2026-11-20'",
    "moment >= '2026-11-01'", "moment = '2026-11-01 12:00:00'", "moment < '1970-01-01'",
    "moment > timestamp '2026-11-01 12:00:00'", "moment between '2026-11-01' and '2026-11-20'",
    "country = 'de'", "country <> 'de'", "country < 'e'", "country in ('de', 'fr')",
    "country not in ('de', 'fr')", "country like 'd%'", "country not like '_e'",
    "country not ilike '_e'",
    "country ilike 'd%'", "lower(country) = 'de'", "upper(country) = 'DE'", "length(country) > 2",
    "country = 'd''e'", "country is null", "country is not null", "text > country",
    "small < big", "small = 1 or flag", "small = 1 and flag", "not (small = 1 or flag)",
    "(small > 0 or number < 0) and not country = 'fr'", "5 > small", "1 = small",
    "small between -1 and 1", "small not between -1 and 1", "small in (1, 2, 0)",
    "not (price > 5 and country = 'de')", '"small" = 1 and ("flag")',
]  # fmt: skip


def chosen(condition: str, table: pa.Table, **partition: str | None) -> list[int]:
    for name, value in partition.items():
        table = table.drop_columns([name] if name in table.column_names else [])
        table = table.append_column(name, key_column(value, table.num_rows))
    holds = parse_condition(condition).holds(table).to_pylist()
    return [row for row, found in enumerate(holds) if found]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_condition_holds_where_sql_says(condition: str) -> None:
    """DuckDB is asked the same."""
    numbered = TABLE.append_column("n", pa.array(range(TABLE.num_rows)))
    connection = duckdb.connect()
    connection.register("rows", numbered)
    told = connection.sql(f"select n from rows where {condition} order by n").fetchall()
    assert chosen(condition, TABLE) == [row for (row,) in told]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("v >= 4", [0, 1, 4]),
        ("v < 4", [2]),
        ("v = 5", [0, 4]),
        ("v = 9007199254740993", []),
        ("v = '5'", [0]),
        ("v is null", [5]),
        ("not v >= 4", [2]),
    ],
)
def test_text_is_compared_with_a_number_where_it_is_one(
    condition: str, expected: list[int]
) -> None:
    table = pa.table({"v": ["5", " 4.50", "-1e2", "five", "5.0", None, "", "nan"]})
    assert chosen(condition, table) == expected
    assert chosen(condition, pa.table({"v": table["v"].cast(pa.binary())})) == expected
    assert chosen("v = 9007199254740993", pa.table({"v": ["9007199254740992"]})) == []


def test_text_is_compared_with_times_and_words() -> None:
    table = pa.table({"v": ["2026-11-20", "2026-11-20T10:00:00Z", "TRUE", "false", "no day"]})
    assert chosen("v >= date '2026-11-20'", table) == [0, 1]
    assert chosen("v > timestamp '2026-11-20 09:00:00'", table) == [1]
    assert chosen("v = true", table) == [2]
    assert chosen("v", table) == [2]


def test_times_with_a_zone_are_compared_in_utc() -> None:
    times = [datetime(2026, 11, 1, 0, 30, tzinfo=UTC), datetime(2026, 10, 31, 23, 30, tzinfo=UTC)]
    for unit in ("s", "ms", "us", "ns"):
        table = pa.table({"v": pa.array(times, pa.timestamp(unit, "Europe/Berlin"))})
        assert chosen("v >= '2026-11-01'", table) == [0]
        assert chosen("v >= '2026-11-01T00:00:00+01:00'", table) == [0, 1]
        assert chosen("v < '9999-12-31'", table) == [0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "give one condition"),
        ("a =", "cannot be parsed"),
        ("`a` = 1", "cannot be parsed at character"),
        ("a = 1; drop table b", "give one condition"),
        ("a = 1 b", "ALIAS with alias is not known"),
        ("a = NULL", "write IS NULL"),
        ("1 = 1", "names no column"),
        ("'a'", "LITERAL is not known"),
        ("a in (select b from c)", "IN with query is not known"),
        ("rating + 1 > 2", "ADD is not known"),
        ("sleep(5) = 1", "the function sleep is not known"),
        ("d = date '1.11.2026'", "is written as"),
        ("a between symmetric 1 and 2", "BETWEEN with symmetric is not known"),
        ("a like any ('x')", "ANY is not known"),
        ("a::int = 1", "CAST is not known"),
        ("try_cast(a as int) = 1", "TRYCAST"),
        ("a rlike 'x'", "REGEXPLIKE is not known"),
    ],
)
def test_what_is_no_condition_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_condition(text)
    assert str(caught.value).startswith("--where: ")


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("tags = 'a'", "column 'tags' is list<.*>, which cannot be compared by = with this text"),
        ("n = 'many'", "column 'n' is int64, which cannot be compared"),
        ("flag > 1", "column 'flag' is bool"),
        ("at = 5", "column 'at' is timestamp"),
        ("n like '5%'", "column 'n' is int64, and LIKE takes text only"),
        ("lower(n) = 'a'", "column 'n' is int64, which lower does not take"),
        ("n = text", "column 'n' is int64, which cannot be compared by = with a column of string"),
    ],
)
def test_columns_that_cannot_be_compared_are_named(condition: str, message: str) -> None:
    table = pa.table(
        {
            "text": ["a"],
            "tags": pa.array([["a"]]),
            "n": [1],
            "flag": [True],
            "at": [datetime(2026, 1, 1)],
        }
    )
    with pytest.raises(IncomparableError, match=message):
        chosen(condition, table)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_text_of_a_condition_parses_to_the_same(condition: str) -> None:
    parsed = parse_condition(condition)
    assert str(parse_condition(str(parsed))) == str(parsed)
    assert chosen(str(parsed), TABLE) == chosen(condition, TABLE)


def test_a_condition_has_one_text_however_it_is_written() -> None:
    one = parse_condition("b = 'x' AND a>=4.0")
    assert str(one) == str(parse_condition("""(4.0 <= "a") and "b" = 'x'"""))
    assert str(one) != str(parse_condition("b = 'x' or a >= 4.0"))
    by_rows = Selection(parse_condition("dt >= '2026' and rating > 3"), 0.5).of_rows({"dt"})
    assert by_rows == ['"rating" > 3', "sample 0.5"]


def test_partitions_are_read_from_paths() -> None:
    folder = "lake/dt=2026-11-20/country=__HIVE_DEFAULT_PARTITION__/x=a%3Db%2Fc/plain"
    expected = {"dt": "2026-11-20", "country": None, "x": "a=b/c"}
    assert partition_of(folder) == expected
    table = with_partition(pa.table({"x": [1, 2], "y": [3, 4]}), folder, ["country", "x", "y"])
    assert table.to_pydict() == {"x": ["a=b/c"] * 2, "y": [3, 4], "country": [None] * 2}
    assert chosen("country is null and y = 4", table, **partition_of(folder)) == [1]


def lake(folder: Path) -> Path:
    for dt in ("2026-10-31", "2026-11-01", "2026-11-02"):
        for country in ("de", "fr"):
            place = folder / f"dt={dt}" / f"country={country}"
            place.mkdir(parents=True)
            pq.write_table(pa.table({"text": ["a"]}), place / "a.parquet")
    return folder


def test_partitions_are_left_out_before_they_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = lake(tmp_path / "lake")
    opened = []
    scan = globs.os.scandir
    monkeypatch.setattr(globs.os, "scandir", lambda path: opened.append(str(path)) or scan(path))
    where = parse_condition("dt >= '2026-11-01' and (country = 'de' or country = 'at')")
    options = ReadOptions(selection=Selection(where))
    listing = list_shards([str(source)], options)
    assert [shard.folder for shard in listing.shards] == [
        "dt=2026-11-01/country=de", "dt=2026-11-02/country=de",
    ]  # fmt: skip
    assert not any("10-31" in path or "country=fr" in path for path in opened)
    assert [path.removeprefix(str(source)) for path in listing.excluded] == [
        "/dt=2026-10-31", "/dt=2026-11-01/country=fr", "/dt=2026-11-02/country=fr",
    ]  # fmt: skip
    for pattern in ("*/country=*", "**/*.parquet", "dt=*/*/a.parquet"):
        assert list_shards([f"{source}/{pattern}"], options).shards == listing.shards
    named = [f"{source}/dt=2026-10-31", f"{source}/dt=2026-11-02/country=de/a.parquet"]
    assert len(list_shards(named, options).shards) == 1
    with pytest.raises(SourceError, match="partitions that --where wants; it excludes 1, first"):
        list_shards(named[:1], options)


def save_groups(path: Path, columns: dict[str, Any], rows: int) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=rows)
    return path


def rows_read(path: Path, selection: Selection) -> tuple[list[int], list[int]]:
    """Numbers of the rows that were read, and of those that were excluded."""
    options = ReadOptions(selection=selection)
    index = index_shard(shard_of(path), options)
    assert index.columns is not None
    good, excluded = [], []
    with ShardReader(index.shard, index.columns, options) as reader:
        for unit in cut_into_units(index, 7):
            block = reader.read(unit, 2**20)
            for first, last, reason in zip(
                *(block[name].to_pylist() for name in (ROW, ROW_END, REASON)), strict=True
            ):
                assert reason in (None, EXCLUDED)
                (good if reason is None else excluded).extend(range(first, last + 1))
    return good, sorted(excluded)


@pytest.mark.parametrize("seed", range(12))
def test_row_groups_are_passed_over_only_where_no_row_is_wanted(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(seed)
    days = [date(2026, 1, 1 + n // 5) for n in range(100)]
    columns = {
        "text": [dice.choice("abcde") for _ in range(100)],
        "day": days,
        "at": [datetime(2026, 1, 1 + n // 5, n % 5) for n in range(100)],
        "n": [None if dice.random() < 0.2 else n // 3 + dice.randrange(3) for n in range(100)],
        "x": [float("nan") if dice.random() < 0.1 else n / 7 for n in range(100)],
        "s": [f"{n // 10}{dice.choice('äz')}" for n in range(100)],
        "none": pa.array([n if n > 90 else None for n in range(100)], pa.int64()),
    }
    path = save_groups(tmp_path / "a.parquet", columns, 10)
    read = set()
    batches = ParquetFile.batches
    monkeypatch.setattr(
        ParquetFile,
        "batches",
        lambda self, group, rows: read.add(group) or batches(self, group, rows),
    )
    conditions = [
        f"day = '2026-01-{dice.randint(1, 20):02}'", f"n > {dice.randint(0, 35)}",
        f"n <= {dice.randint(0, 35)} and s >= '{dice.randint(0, 9)}'", "none is not null",
        f"x < {dice.randint(0, 14)}",
        f"at between '2026-01-05' and '2026-01-{dice.randint(10, 19)}'",
        f"n = {dice.randint(0, 35)} or s = '3ä'", "n is null", "none > 3", "not n > 5",
        f"s = '{dice.randint(0, 9)}z'", "n <> 5", "lower(s) > '5'", "n in (3, 4)",
    ]  # fmt: skip
    table = pa.table(columns)
    for condition in conditions:
        read.clear()
        good, excluded = rows_read(path, Selection(parse_condition(condition)))
        assert good == chosen(condition, table), condition
        assert sorted([*good, *excluded]) == list(range(100))
        if condition.startswith("day ="):
            assert len(read) == 1
        if condition.startswith("none is") or condition == "none > 3":
            assert read == {9}


def test_rows_of_text_files_are_excluded_too(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = [f'"text, {n}",{n}' for n in range(30)]
    path.write_text("text,n\n" + "\n".join(lines) + "\n")
    good, excluded = rows_read(path, Selection(parse_condition("n between 5 and 20 or n = 25")))
    assert good == [*range(5, 21), 25]
    assert excluded == [*range(5), *range(21, 25), *range(26, 30)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "a", "n": {n}}}\n' for n in range(30)))
    assert rows_read(path, Selection(parse_condition("n >= 29")))[0] == [29]


def test_a_sample_is_the_same_every_time_and_of_its_size() -> None:
    numbers = np.arange(200_000, dtype=np.uint64)
    for share in (0.001, 0.1, 0.5, 1.0):
        rows = drawn("/lake/a.parquet", numbers, share)
        assert abs(rows.mean() - share) < 4 * (share * (1 - share) / len(numbers)) ** 0.5 + 1e-9
        assert (rows == drawn("/lake/a.parquet", numbers, share)).all()
    half, tenth = (drawn("/lake/a", numbers, share) for share in (0.5, 0.1))
    assert not (tenth & ~half).any()  # a smaller sample is a part of a larger one
    other = drawn("/lake/b", numbers, 0.5)
    assert 0.49 < (half == other).mean() < 0.51
    # Neighbours are drawn independently of each other.
    assert abs((half[1:] & half[:-1]).mean() - 0.25) < 0.01


def test_columns_without_an_order_pass_beside_a_condition(tmp_path: Path) -> None:
    """Arrow filters not every type."""
    run_ends = pa.table(
        {
            "text": ["a", "b", "c"],
            "n": [1, 2, 3],
            "map": pa.array([[("a", 1)], [], None], pa.map_(pa.string(), pa.int64())),
            "list": pa.array([[1], None, [2]]),
        }
    )
    pq.write_table(run_ends, tmp_path / "a.parquet")
    assert rows_read(tmp_path / "a.parquet", Selection(parse_condition("n <> 2")))[0] == [0, 2]
