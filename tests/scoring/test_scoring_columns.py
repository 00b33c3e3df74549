"""An output is one table, whatever columns the files of its sources have."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from in_process import GOOD, InProcess, data_files, rejects_in, write_csv

from sentiment.output.folder import Output
from sentiment.output.layout import added_columns
from sentiment.output.widening import widened
from sentiment.source.options import ReadOptions
from sentiment.verification.job import check

BIG = 2**53 + 1


def column(values: list[Any], kind: pa.DataType | None = None) -> pa.Table:
    rows = [GOOD[n % 3] for n in range(len(values))]
    return pa.table({"text": rows, "v": pa.array(values, kind)})


def save(lake: Path, **tables: pa.Table) -> Path:
    lake.mkdir(exist_ok=True)
    for name, table in tables.items():
        pq.write_table(table, lake / f"{name}.parquet")
    return lake


def read_as_one(out: Path, name: str = "v") -> tuple[pa.DataType, list[Any]]:
    """What a reader sees that takes the first file for all, in the order of sources and rows."""
    files = [str(path) for path in data_files(out)]
    schemas = {str(pq.read_schema(path)) for path in files}
    assert len(schemas) == 1, "files differ"
    table = ds.dataset(files).to_table()
    keys = list(zip(table["sentiment_source_file"].to_pylist(),
                    table["sentiment_source_row"].to_pylist(), strict=True))  # fmt: skip
    order = sorted(range(len(keys)), key=keys.__getitem__)
    values = table[name].to_pylist()
    return table.schema.field(name).type, [values[n] for n in order]


WIDENED: dict[str, tuple[pa.Table, pa.Table, pa.DataType, list[Any]]] = {
    "null first": (column([None], pa.null()), column(["a"]), pa.string(), [None, "a"]),
    "int, then null": (column([1]), column([None], pa.null()), pa.int64(), [1, None]),
    "int, then text": (column([7, 10]), column(["x"]), pa.string(), ["7", "10", "x"]),
    "int32 and int64": (column([1], pa.int32()), column([2**40]), pa.int64(), [1, 2**40]),
    "uint64 and int64": (column([2**64 - 1], pa.uint64()), column([-1]), pa.string(),
                         [str(2**64 - 1), "-1"]),
    "small int and float": (column([4]), column([4.5]), pa.float64(), [4.0, 4.5]),
    "large int and float": (column([BIG]), column([0.5]), pa.string(), [str(BIG), "0.5"]),
    "float32 and float64": (column([0.5], pa.float32()), column([0.1]), pa.float64(), [0.5, 0.1]),
    "bool and int": (column([True]), column([2]), pa.string(), ["true", "2"]),
    "dictionary and string": (column(["a"], pa.dictionary(pa.int8(), pa.string())), column(["b"]),
                              pa.string(), ["a", "b"]),
    "large string and string": (column(["a"], pa.large_string()), column(["b"]), pa.string(),
                                ["a", "b"]),
    "bytes and string": (column([b"a", b"\xff"]), column(["b"]), pa.string(), ["a", "\\xff", "b"]),
    "units of time": (column([datetime(2026, 1, 2)], pa.timestamp("ms")),
                      column([datetime(9999, 12, 31)], pa.timestamp("us")),
                      pa.timestamp("us"), [datetime(2026, 1, 2), datetime(9999, 12, 31)]),
    "date and time": (column([date(2026, 1, 2)]), column([datetime(2026, 1, 2, 3)]),
                      pa.timestamp("us"), [datetime(2026, 1, 2), datetime(2026, 1, 2, 3)]),
    "decimals": (column([Decimal("1.25")], pa.decimal128(5, 2)),
                 column([Decimal("12345.5")], pa.decimal128(9, 1)),
                 pa.decimal128(10, 2), [Decimal("1.25"), Decimal("12345.50")]),
    "lists": (column([[1]]), column([["a"]]), pa.list_(pa.string()), [["1"], ["a"]]),
    "structs": (column([{"a": 1}]), column([{"b": "x"}]),
                pa.struct([("a", pa.int64()), ("b", pa.string())]),
                [{"a": 1, "b": None}, {"a": None, "b": "x"}]),
    "list and int": (column([[1, None]]), column([2]), pa.string(), ["[1, null]", "2"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WIDENED)
def test_types_are_widened_or_text(jobs: InProcess, tmp_path: Path, out: Path, case: str) -> None:
    first, second, kind, values = WIDENED[case]
    lake = save(tmp_path / "lake", a=first, b=second)
    jobs.run(lake, "--output", out)
    assert read_as_one(out) == (kind, values)
    problems = check(Output.open(str(out)), deep=True, sources=[str(lake)], options=ReadOptions())
    assert problems.problems == ()


@pytest.mark.parametrize("case", WIDENED)
def test_widening_is_the_same_in_any_order(case: str) -> None:
    first, second, kind, _ = WIDENED[case]
    kinds = first.schema.field("v").type, second.schema.field("v").type
    wide = case == "large int and float"
    there = widened(*kinds, has_wide=wide)
    back = widened(*reversed(kinds), has_wide=wide)
    if pa.types.is_struct(kind):
        assert {*there} == {*back}
    else:
        assert there == back == kind


def test_csv_beside_parquet_is_text(jobs: InProcess, tmp_path: Path, out: Path) -> None:
    lake = save(tmp_path / "lake", a=column([7]))
    write_csv(lake / "b.csv", [["good", "007"], ["bad", ""]], header="text,v")
    jobs.run(lake, "--output", out)
    assert read_as_one(out) == (pa.string(), ["7", "007", ""])


def test_files_without_rows_have_the_columns_of_the_others(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    """They sort first, and readers take the columns of the first file."""
    lake = save(tmp_path / "lake", m=pa.table({"text": GOOD, "id": [1, 2, 3]}))
    (lake / "a_damaged.parquet").write_bytes(b"PAR1 torn")
    (lake / "b_empty.csv").write_bytes(b"")
    (lake / "c_header.csv").write_bytes(b"text\n")
    jobs.run(lake, "--output", out, "--max-rejected", "1")
    assert len(data_files(out)) == 4
    assert read_as_one(out, "id") == (pa.int64(), [1, 2, 3])


def test_added_and_missing_columns(jobs: InProcess, tmp_path: Path, out: Path) -> None:
    lake = save(
        tmp_path / "lake",
        a=pa.table({"text": GOOD, "id": [1, 2, 3]}),
        b=pa.table({"more": ["x", "y", "z"], "text": GOOD}),
    )
    jobs.run(lake, "--output", out)
    assert read_as_one(out, "id") == (pa.int64(), [1, 2, 3, None, None, None])
    assert read_as_one(out, "more") == (pa.string(), [None, None, None, "x", "y", "z"])
    names = pq.read_schema(data_files(out)[0]).names
    assert names == ["text", "id", "more", *added_columns("sentiment").names]


def test_tonight_fits_last_month(jobs: InProcess, tmp_path: Path, out: Path) -> None:
    """What the output has counts, also where tonight's files are of another type."""
    lake = save(tmp_path / "lake", a=column([1, 2], pa.int64()))
    jobs.run(lake, "--output", out)
    save(lake, b=column([3], pa.int8()), c=column([None], pa.null()))
    write_csv(lake / "d.csv", [["good", "4"], ["bad", ""], ["poor", "007"]], header="text,v")
    jobs.run(lake, "--output", out, "--max-rejected", "1")
    assert read_as_one(out) == (pa.int64(), [1, 2, 3, None, 4, None])
    [reject] = rejects_in(out)
    assert (reject["source_row"], reject["reason"]) == (2, "malformed_record")
    assert (
        reject["detail"] == "column 'v' holds a value that is no int64, which it is in the output"
    )
    assert jobs.run(lake, "--output", out, "--max-rejected", "1").ledger.reused == 7


def test_an_output_of_an_earlier_version_has_columns_too(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    lake = save(tmp_path / "lake", a=column([1, 2], pa.int32()))
    jobs.run(lake, "--output", out)
    (out / "_sentiment" / "columns.json").unlink()
    save(lake, b=column([3], pa.int64()))
    jobs.run(lake, "--output", out)
    assert read_as_one(out) == (pa.int32(), [1, 2, 3])


@pytest.mark.parametrize("policy", ["refuse", "text"])
def test_what_is_said_of_drift_counts(
    jobs: InProcess, tmp_path: Path, out: Path, policy: str
) -> None:
    lake = save(tmp_path / "lake", a=column([1], pa.int32()), b=column([2], pa.int64()))
    words = (lake, "--output", out, "--schema-drift", policy)
    if policy == "text":
        jobs.run(*words)
        assert read_as_one(out) == (pa.string(), ["1", "2"])
        return
    error = jobs.failing(*words)
    assert error.exit_code == 2
    assert "column 'v' is int32 and int64 in the sources" in str(error)
    assert str(lake / "b.parquet") in str(error)
    assert not data_files(out)


def test_drift_is_told(
    jobs: InProcess, tmp_path: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lake = save(tmp_path / "lake", a=column([1]), b=column(["x"]))
    jobs.run(lake, "--output", out)
    assert "column 'v' is int64 and string in the sources" in caplog.text
    record = json.loads((out / "_sentiment" / "columns.json").read_text())
    assert record["columns"] == {"text": "string", "v": "string"}


def test_ids_keep_their_digits_beside_a_float_in_one_file(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    (tmp_path / "lake").mkdir()
    rows = [{"text": "good", "v": BIG}, {"text": "bad", "v": 0.5}, {"text": "poor", "v": 1}]
    (tmp_path / "lake" / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    jobs.run(tmp_path / "lake", "--output", out)
    assert read_as_one(out) == (pa.string(), [str(BIG), "0.5", "1"])


def test_text_of_another_type_is_rejected_and_not_made_text(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    lake = save(
        tmp_path / "lake",
        a=pa.table({"text": GOOD}),
        b=pa.table({"text": [1, 2]}),
        c=pa.table({"text": pa.array(["fine"], pa.large_string())}),
    )
    summary = jobs.run(lake, "--output", out, "--max-rejected", "1")
    assert dict(summary.rejected) == {"text_not_string": 2}
    assert read_as_one(out, "text") == (pa.string(), [*GOOD, "fine"])


def test_only_the_columns_that_are_named_pass_through(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    table = pa.table({"id": [1, 2, 3], "text": GOOD, "secret": ["a", "b", "c"]})
    lake = save(tmp_path / "lake", a=table)
    jobs.run(lake, "--output", out, "--columns", "id", "--group-by", "secret")
    [path] = data_files(out)
    assert pq.read_schema(path).names == ["id", *added_columns("sentiment").names]
    result = check(Output.open(str(out)), deep=True, sources=None, options=ReadOptions())
    assert result.problems == ()
    save(lake, b=table.set_column(0, "id", pa.array([4, 5, 6], pa.int32())))
    jobs.run(lake, "--output", out, "--columns", "id", "--group-by", "secret")
    assert read_as_one(out, "id") == (pa.int64(), [1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize("flag", ["--columns", "--group-by", "--label-column"])
def test_a_column_that_no_source_has_is_refused(
    jobs: InProcess, tmp_path: Path, out: Path, flag: str
) -> None:
    lake = save(tmp_path / "lake", a=pa.table({"text": GOOD}))
    error = jobs.failing(lake, "--output", out, flag, "nothing")
    assert error.exit_code == 2
    assert f"{flag} nothing: no source has such a column" in str(error)


def test_json_without_the_text_has_null_text_where_others_have_it(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    """Spark writes no nulls to JSON. A file of another kind is unusable without the column."""
    lake = tmp_path / "lake"
    lake.mkdir()
    (lake / "a.json").write_text('{"id": 1, "text": "good"}\n')
    (lake / "b.json").write_text('{"id": 2}\n{"id": 3}\n')
    pq.write_table(pa.table({"id": [4]}), lake / "c.parquet")
    summary = jobs.run(lake, "--output", out, "--max-rejected", "1")
    assert dict(summary.rejected) == {"null_text": 2, "unusable_columns": 1}
    (lake / "a.json").unlink()
    (lake / "d.json").write_text('{"id": 5}\n')
    summary = jobs.run(lake, "--output", out, "--max-rejected", "1")
    assert dict(summary.rejected) == {"null_text": 3, "unusable_columns": 1}
    error = jobs.failing(lake / "b.json", "--output", tmp_path / "other")
    assert "no column 'text' among 'id'" in str(error)


UNSCORED = {
    "time of day": pa.array([90_000_000, -5], pa.int32()).view(pa.time32("ms")),
    "time of day in microseconds": pa.array([9 * 10**14, -5], pa.int64()).view(pa.time64("us")),
    "far time": pa.array([2**62, -(2**62)], pa.int64()).view(pa.timestamp("us")),
    "far date": pa.array([2**31 - 1, -(2**31)], pa.int32()).view(pa.date32()),
    "zone": pa.array([1, 2], pa.int64()).view(pa.timestamp("us", "Mars/Olympus")),
    "list of far times": pa.ListArray.from_arrays(
        [0, 1, 2], pa.array([2**62, 1], pa.int64()).view(pa.timestamp("us"))
    ),
}


@pytest.mark.parametrize("kind", UNSCORED)
@pytest.mark.parametrize("texts", [GOOD[:2], (GOOD[0], "")], ids=["good", "a reject"])
def test_values_that_nobody_scores_cost_nothing(
    jobs: InProcess, tmp_path: Path, out: Path, kind: str, texts: tuple[str, ...]
) -> None:
    values = UNSCORED[kind]
    lake = save(tmp_path / "lake", a=pa.table({"text": texts, "v": values}))
    summary = jobs.run(lake, "--output", out, "--max-rejected", "1")
    assert summary.ledger.labelled == sum(map(bool, texts))
    [path] = data_files(out)
    kept = pq.read_table(path)["v"].combine_chunks()
    assert kept.equals(values.slice(0, len(kept)))


def test_int96_does_not_wrap_and_is_microseconds(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    """As Spark writes it, and as Spark reads it."""
    times = [datetime(9999, 12, 31), datetime(1, 1, 1), None]
    (tmp_path / "lake").mkdir()
    table = pa.table({"text": GOOD, "v": pa.array(times, pa.timestamp("us"))})
    pq.write_table(
        table, tmp_path / "lake" / "a.parquet", use_deprecated_int96_timestamps=True,
        store_schema=False,
    )  # fmt: skip
    jobs.run(tmp_path / "lake", "--output", out)
    assert read_as_one(out) == (pa.timestamp("us"), times)
