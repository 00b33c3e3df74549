"""The commit: what a scored block becomes on disk, and in which order."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from sentiment.block import (
    CARRIER_FIELDS,
    DETAIL,
    LABEL,
    OFF_LABEL,
    RAW,
    READ_SEC,
    REASON,
    ROW,
    ROW_END,
    SCORE,
    SCORE_SEC,
    STAGE,
    TOKENISE_SEC,
    TOKENS,
    TRUNCATED,
    UNIT,
)
from sentiment.errors import LedgerError, OutputError
from sentiment.output.commit import Stamp, commit_block, commit_rowless, commit_unit
from sentiment.output.folder import Output
from sentiment.output.layout import (
    REJECT_SCHEMA,
    REJECTED_FOLDER,
    added_columns,
    unit_of_reject_file,
)
from sentiment.output.receipt import Footer
from sentiment.source.shards import Damage, Shard, ShardIndex, Unit

SHARD = Shard("/lake/dt=1/a.parquet", "dt=1", "a.parquet", "fp", 100)
STAMP = Stamp("model", "config", "0.1.0", "sentiment")
Reject = tuple[str, str]


def source(texts: list[str | None]) -> pa.Table:
    return pa.table({"id": pa.array(range(len(texts)), pa.int16()), "text": texts})


def scored(
    unit: Unit,
    rows: pa.Table,
    rejects: dict[int, Reject] | None = None,
    spans: dict[int, int] | None = None,
    raw: dict[int, str] | None = None,
    numbers: list[int] | None = None,
) -> pa.Table:
    """A block as the scorer leaves it; `rejects` and the others are by position in the block."""
    bad, ends = rejects or {}, spans or {}
    count = rows.num_rows
    first = numbers or list(range(unit.first_row, unit.first_row + count))

    def good(value: Any) -> list[Any]:
        return [None if n in bad else value for n in range(count)]

    carriers = {
        UNIT: pa.DictionaryArray.from_arrays(
            pa.array([0] * count, pa.int32()), pa.array([unit.to_json()])
        ),
        ROW: pa.array(first, pa.int64()),
        ROW_END: pa.array([ends.get(n, row) for n, row in enumerate(first)], pa.int64()),
        STAGE: pa.array([bad[n][0] if n in bad else None for n in range(count)], pa.string()),
        REASON: pa.array([bad[n][1] if n in bad else None for n in range(count)], pa.string()),
        DETAIL: pa.array([None] * count, pa.string()),
        RAW: pa.array([(raw or {}).get(n) for n in range(count)], pa.string()),
        READ_SEC: pa.array([0.5] * count, pa.float32()),
        TOKENS: pa.array(good(7), pa.int32()),
        TRUNCATED: pa.array(good(True), pa.bool_()),
        TOKENISE_SEC: pa.array([0.25] * count, pa.float32()),
        LABEL: pa.array(good("positive"), pa.string()),
        SCORE: pa.array(good(0.75), pa.float32()),
        OFF_LABEL: pa.array(good(0.125), pa.float32()),
        SCORE_SEC: pa.array([1.0] * count, pa.float32()),
    }
    assert set(CARRIER_FIELDS.names) <= set(carriers)
    for name, values in carriers.items():
        rows = rows.append_column(name, values)
    return rows


def read(path: Path) -> pa.Table:
    return pq.read_table(path, partitioning=None)


def footer_of(path: Path) -> Footer:
    footer = Footer.from_metadata(pq.read_metadata(path).metadata)
    assert footer is not None
    return footer


def rejects_named_by(output: Output, unit_id: str) -> pa.Table:
    """The rejects of a committed unit, by the name in its footer."""
    name = footer_of(Path(output.path(unit_id))).reject_file
    assert name is not None
    assert unit_of_reject_file(name) == unit_id
    return read(Path(output.path(name)))


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output.open(str(tmp_path / "out"))


def files(output: Output) -> list[str]:
    root = Path(output.location)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_labelled_rows_keep_their_columns_and_gain_ours(output: Output) -> None:
    unit = Unit(SHARD, 5, 6)
    commit_unit(output, STAMP, unit, scored(unit, source(["good", "fine"])))
    data = read(Path(output.path(unit.unit_id)))
    assert data.schema == pa.schema(
        [("id", pa.int16()), ("text", pa.string()), *added_columns("sentiment")]
    )
    assert data.to_pylist()[1] == {
        "id": 1,
        "text": "fine",
        "sentiment": "positive",
        "sentiment_score": 0.75,
        "sentiment_off_label": 0.125,
        "sentiment_tokens": 7,
        "sentiment_truncated": True,
        "sentiment_source_file": SHARD.uri,
        "sentiment_source_row": 6,
    }
    assert files(output) == [unit.unit_id]
    assert pq.read_metadata(output.path(unit.unit_id)).row_group(0).column(0).compression == "ZSTD"


def test_the_prefix_names_the_added_columns(output: Output) -> None:
    unit = Unit(SHARD, 0, 0)
    stamp = Stamp("model", "config", "0.1.0", "mood")
    commit_unit(output, stamp, unit, scored(unit, source(["good"])))
    assert read(Path(output.path(unit.unit_id))).column_names[2:] == added_columns("mood").names


def test_source_columns_of_any_type_pass_unchanged(output: Output) -> None:
    unit = Unit(SHARD, 0, 1)
    rows = pa.table(
        {
            "text": ["good", "fine"],
            "nested": pa.array([{"a": [1, None], "b": "x"}, None]),
            "shop": pa.array(["x", "y"]).dictionary_encode(),
            "at": pa.array([1, None], pa.timestamp("ns", "UTC")),
            "price": pa.array([None, "1.50"]).cast(pa.decimal128(9, 2)),
            "tags": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int8())),
            "raw": pa.array([b"\xff", b""], pa.large_binary()),
            "nothing": pa.nulls(2),
        }
    )
    commit_unit(output, STAMP, unit, scored(unit, rows))
    assert read(Path(output.path(unit.unit_id))).select(rows.column_names).equals(rows)


def test_rejected_rows_go_to_their_own_file(output: Output) -> None:
    unit = Unit(SHARD, 5, 7)
    block = scored(
        unit,
        source(["good", None, "x"]),
        {1: ("tokenise", "null_text"), 2: ("read", "malformed_record")},
        raw={2: "a,b,\\xe9"},
    )
    footer = commit_unit(output, STAMP, unit, block)
    rejects = rejects_named_by(output, unit.unit_id)
    assert rejects.schema.equals(REJECT_SCHEMA)
    assert rejects.to_pylist() == [
        {
            "source_file": SHARD.uri,
            "source_row": 6,
            "source_row_end": 6,
            "stage": "tokenise",
            "reason": "null_text",
            "detail": None,
            "attempts": 1,
            "row_json": '{"id": 1, "text": null}',
        },
        {
            "source_file": SHARD.uri,
            "source_row": 7,
            "source_row_end": 7,
            "stage": "read",
            "reason": "malformed_record",
            "detail": None,
            "attempts": 1,
            "row_json": '"a,b,\\\\xe9"',
        },
    ]
    assert (footer.labelled, footer.rejected) == (1, 2)
    assert footer.metrics["rejected"] == {"null_text": 1, "malformed_record": 1}


def test_rejected_rows_are_json_whatever_their_columns_hold(output: Output) -> None:
    unit = Unit(SHARD, 0, 0)
    rows = pa.table(
        {
            "text": pa.nulls(1, pa.string()),
            "far": pa.array([2**62], pa.timestamp("us")),
            "bad": pa.Array.from_buffers(
                pa.string(),
                1,
                [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")],
            ),
            "raw": [b"b\xfe"],
            "ratio": [float("nan")],
            "nested": [{"at": None, "values": [float("inf")]}],
        }
    )
    commit_unit(output, STAMP, unit, scored(unit, rows, {0: ("tokenise", "null_text")}))
    rejects = rejects_named_by(output, unit.unit_id)
    assert json.loads(rejects["row_json"][0].as_py()) == {
        "text": None,
        "far": "a timestamp[us] that cannot be shown",
        "bad": "a\\xff",
        "raw": "b\\xfe",
        "ratio": "nan",
        "nested": {"at": None, "values": ["inf"]},
    }


def test_the_reject_file_comes_before_the_data_file(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = Output.write

    def noted(self: Output, path: str, data: bytes) -> None:
        written.append(path)
        write(self, path, data)

    monkeypatch.setattr(Output, "write", noted)
    unit = Unit(SHARD, 0, 0)
    block = scored(unit, source([None]), {0: ("tokenise", "null_text")})
    footer = commit_unit(output, STAMP, unit, block)
    assert written == [footer.reject_file, unit.unit_id]


def test_a_unit_of_rejects_still_commits_a_file_without_rows(output: Output) -> None:
    unit = Unit(SHARD, 0, 1)
    bad = {0: ("tokenise", "null_text"), 1: ("tokenise", "empty_text")}
    commit_unit(output, STAMP, unit, scored(unit, source([None, ""]), bad))
    data = read(Path(output.path(unit.unit_id)))
    assert data.num_rows == 0
    assert data.schema.names == ["id", "text", *added_columns("sentiment").names]
    assert footer_of(Path(output.path(unit.unit_id))).rows == 2


def test_the_footer_tells_what_was_returned(output: Output) -> None:
    unit = Unit(SHARD, 5, 7)
    block = scored(unit, source(["a", "b", None]), {2: ("tokenise", "null_text")})
    footer = commit_unit(output, STAMP, unit, block)
    assert footer_of(Path(output.path(unit.unit_id))) == footer
    assert footer.unit_id == unit.unit_id
    assert (footer.source_file, footer.fingerprint) == (SHARD.uri, "fp")
    assert (footer.first_row, footer.last_row) == (5, 7)
    assert (footer.model_digest, footer.config_digest, footer.code_version) == (
        "model",
        "config",
        "0.1.0",
    )
    seconds = footer.metrics["stage_sec"]
    assert (seconds["read"], seconds["tokenise"], seconds["score"]) == (1.5, 0.75, 3.0)
    assert "truth" not in footer.metrics


def test_the_same_unit_twice_is_the_same_file(output: Output, tmp_path: Path) -> None:
    unit = Unit(SHARD, 0, 2)
    other = Output.open(str(tmp_path / "other"))
    block = scored(unit, source(["a", "b", None]), {2: ("tokenise", "null_text")})
    footers = [commit_unit(one, STAMP, unit, block) for one in (output, output, other)]
    assert files(output) == files(other)
    for name in files(other):
        first, second = Path(output.path(name)), Path(other.path(name))
        assert read(first).equals(read(second))
        assert (
            pq.read_schema(first).remove_metadata().equals(pq.read_schema(second).remove_metadata())
        )
    rejected = footers[0].reject_file
    assert rejected is not None
    assert Path(output.path(rejected)).read_bytes() == Path(other.path(rejected)).read_bytes()
    counts = [{**footer.metrics, "stage_sec": {}} for footer in footers]  # the time alone differs
    first, second, third = (
        replace(footer, metrics=one) for footer, one in zip(footers, counts, strict=True)
    )
    assert first == second == third


def test_a_second_attempt_with_fewer_rejects_takes_the_old_ones_away(output: Output) -> None:
    unit = Unit(SHARD, 0, 0)
    rows = source(["a"])
    commit_unit(output, STAMP, unit, scored(unit, rows, {0: ("score", "scoring_error")}))
    commit_unit(output, STAMP, unit, scored(unit, rows))
    assert files(output) == [unit.unit_id]


def test_a_commit_never_replaces_rows_of_another_source(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sources whose names and hashes are equal cannot be told apart by their files' names."""
    monkeypatch.setattr("sentiment.source.shards.hash_of", lambda identity: "0" * 16)
    other = replace(SHARD, uri="/lake2/dt=1/a.parquet", identity="/lake2/dt=1/a.parquet")
    first, second = Unit(SHARD, 0, 0), Unit(other, 0, 0)
    assert first.unit_id == second.unit_id
    commit_unit(output, STAMP, first, scored(first, source(["a"])))
    before = Path(output.path(first.unit_id)).read_bytes()
    with pytest.raises(OutputError, match="holds rows of another source, /lake/dt=1/a"):
        commit_unit(output, STAMP, second, scored(second, source(["b"])))
    assert Path(output.path(first.unit_id)).read_bytes() == before


class Crash(BaseException):
    """The process is gone."""


class Fragile(Output):
    """An output whose process dies before its n-th change."""

    def _change(self) -> None:
        _left[0] -= 1
        if _left[0] < 0:
            raise Crash

    def write(self, relative: str, data: bytes | memoryview) -> None:
        self._change()
        super().write(relative, data)

    def delete(self, relative: str) -> None:
        self._change()
        super().delete(relative)


_left = [0]


@pytest.mark.parametrize("survives", range(4))
@pytest.mark.parametrize("rejected", [{}, {1: ("score", "scoring_error")}], ids=["none", "fewer"])
def test_a_crash_in_a_second_commit_leaves_the_first_or_the_second(
    output: Output, survives: int, rejected: dict[int, Reject]
) -> None:
    """At no time is a unit that was committed not committed, or beside the rejects of another."""
    unit, rows = Unit(SHARD, 0, 2), source(["a", "b", "c"])
    rejects = dict.fromkeys((0, 1), ("score", "scoring_error"))
    commit_unit(output, STAMP, unit, scored(unit, rows, rejects))
    _left[0] = survives
    fragile = Fragile(output.location, output.filesystem, output.root)
    try:
        commit_unit(fragile, STAMP, unit, scored(unit, rows, rejected))
    except Crash:
        pass
    else:
        assert survives == 3 or not rejected
    footer = footer_of(Path(output.path(unit.unit_id)))
    kept = []
    if footer.rejected:
        kept = rejects_named_by(output, unit.unit_id)["source_row"].to_pylist()
    labelled = read(Path(output.path(unit.unit_id)))["sentiment_source_row"].to_pylist()
    assert sorted(kept + labelled) == [0, 1, 2]
    assert len(kept) == footer.rejected


@pytest.mark.parametrize(
    "numbers",
    [[0, 1], [0, 1, 1], [0, 1, 3], [1, 2, 3]],
    ids=["missing", "doubled", "foreign", "shifted"],
)
def test_an_incomplete_unit_is_not_written(output: Output, numbers: list[int]) -> None:
    unit = Unit(SHARD, 0, 2)
    block = scored(unit, source(["text"] * len(numbers)), numbers=numbers)
    with pytest.raises(LedgerError, match=r"/lake/dt=1/a.parquet: rows 0 to 2 reached the commit"):
        commit_unit(output, STAMP, unit, block)
    assert files(output) == []


def test_rows_lost_together_count_one_by_one(output: Output) -> None:
    unit = Unit(SHARD, 10, 19)
    block = scored(
        unit,
        source(["a", None, "b"]),
        {1: ("read", "unreadable_rows")},
        spans={1: 18},
        numbers=[10, 11, 19],
    )
    footer = commit_unit(output, STAMP, unit, block)
    assert (footer.labelled, footer.rejected) == (2, 8)
    assert footer.metrics["rejected"] == {"unreadable_rows": 8}
    rejects = rejects_named_by(output, unit.unit_id)
    assert rejects.select(["source_row", "source_row_end"]).to_pylist() == [
        {"source_row": 11, "source_row_end": 18}
    ]


def test_a_block_of_several_units_is_several_commits(output: Output) -> None:
    units = [Unit(SHARD, 0, 1), Unit(SHARD, 2, 2)]
    blocks = [scored(units[0], source(["a", "b"])), scored(units[1], source(["c"]))]
    footers = commit_block(output, STAMP, pa.concat_tables(blocks))
    assert [footer.unit_id for footer in footers] == [unit.unit_id for unit in units]
    assert files(output) == sorted(unit.unit_id for unit in units)
    assert read(Path(output.path(units[1].unit_id)))["text"].to_pylist() == ["c"]


def test_true_labels_are_compared_where_there_are_any(output: Output) -> None:
    unit = Unit(SHARD, 0, 3)
    rows = source(["a", "b", "c", None]).append_column(
        "label", pa.array(["positive", "negative", None, "positive"]).dictionary_encode()
    )
    stamp = Stamp("model", "config", "0.1.0", "sentiment", label_column="label")
    footer = commit_unit(output, stamp, unit, scored(unit, rows, {3: ("tokenise", "null_text")}))
    truth = footer.metrics["truth"]
    assert {value: list(by_label) for value, by_label in truth.items()} == {
        "negative": ["positive"],
        "positive": ["positive"],
    }


def test_an_empty_shard_commits_a_file_without_rows(output: Output) -> None:
    columns = pa.schema([("text", pa.string())])
    footer = commit_rowless(output, STAMP, ShardIndex(SHARD, 0, columns))
    assert (footer.rows, footer.first_row, footer.last_row) == (0, 0, -1)
    assert files(output) == [f"dt=1/{SHARD.key}-0000000000-none.parquet"]
    data = read(Path(output.path(footer.unit_id)))
    assert data.schema == pa.schema([*columns, *added_columns("sentiment")])


@pytest.mark.parametrize(
    ("damage", "columns", "name"),
    [
        (Damage(-1, "unreadable_file", "no footer"), None, "0000000000-none"),
        (
            Damage(42, "unreadable_rows", "broken gzip"),
            pa.schema([("text", pa.string())]),
            "0000000042-none",
        ),
    ],
)
def test_damage_is_one_reject_with_an_open_end(
    output: Output, damage: Damage, columns: pa.Schema | None, name: str
) -> None:
    footer = commit_rowless(output, STAMP, ShardIndex(SHARD, 0, columns, damage=damage))
    assert (footer.labelled, footer.rejected, footer.metrics["rejected"]) == (
        0,
        1,
        {damage.reason: 1},
    )
    assert footer.unit_id == f"dt=1/{SHARD.key}-{name}.parquet"
    assert footer_of(Path(output.path(footer.unit_id))) == footer
    [reject] = rejects_named_by(output, footer.unit_id).to_pylist()
    assert reject == {
        "source_file": SHARD.uri,
        "source_row": damage.first_row,
        "source_row_end": None,
        "stage": "read",
        "reason": damage.reason,
        "detail": damage.detail,
        "attempts": 1,
        "row_json": None,
    }


def test_a_full_disk_commits_nothing(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    move = os.replace

    def full(temporary: str, target: str) -> None:
        if REJECTED_FOLDER not in target:
            raise OSError(errno.ENOSPC, "No space left on device")
        move(temporary, target)

    monkeypatch.setattr(os, "replace", full)
    unit = Unit(SHARD, 0, 0)
    block = scored(unit, source([None]), {0: ("tokenise", "null_text")})
    with pytest.raises(OutputError, match="No space left on device"):
        commit_unit(output, STAMP, unit, block)
    # A reject file without its data file is not a commit; the next attempt writes it again.
    [left] = files(output)
    assert unit_of_reject_file(left) == unit.unit_id


def test_no_carrier_reaches_the_output(output: Output) -> None:
    unit = Unit(SHARD, 0, 0)
    commit_unit(output, STAMP, unit, scored(unit, source(["a"])))
    names = read(Path(output.path(unit.unit_id))).column_names
    assert not [name for name in names if name.startswith("_")]
    assert pc.all(pc.is_valid(read(Path(output.path(unit.unit_id)))["sentiment"])).as_py()
