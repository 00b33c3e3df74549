"""JSON Lines: types over the whole shard, bad lines, odd text."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from source_reading import column, load, read, rejects, shard_of, units_of, write

from sentiment.errors import SourceError
from sentiment.source.index import index_shard
from sentiment.source.options import ReadOptions
from sentiment.source.read import read_unit
from sentiment.source.shards import Damage
from sentiment.texts import TextColumns


def save(path: Path, *records: Any) -> Path:
    body = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records)
    return write(path, body.encode())


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([True, None, False], pa.bool_(), [True, None, False]),
        ([1, -(2**63), 2**63 - 1], pa.int64(), [1, -(2**63), 2**63 - 1]),
        ([1, 2.5, None], pa.float64(), [1.0, 2.5, None]),
        (["a", None, "1"], pa.string(), ["a", None, "1"]),
        ([None, None, None], pa.null(), [None, None, None]),
        ([1, "1", True], pa.string(), ["1", "1", "true"]),
        ([1, True, False], pa.string(), ["1", "true", "false"]),
        ([2**63, 1, 0.5], pa.string(), [str(2**63), "1", "0.5"]),
        ([[1, "ø"], {"k": None}, []], pa.string(), ['[1, "ø"]', '{"k": null}', "[]"]),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz"])
def test_types_are_decided_over_the_whole_shard(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    values: list[Any],
    kind: pa.DataType,
    expected: list[Any],
) -> None:
    monkeypatch.setattr("sentiment.source.cut._CUT_ROWS", 1)  # every unit is one row and must agree
    path = save(tmp_path / name, *({"text": "t", "v": value} for value in values))
    index, block = load(path)
    assert index.columns.equals(pa.schema([("text", pa.string()), ("v", kind)]))
    assert len(index.cuts) == 3
    assert column(block, "v") == expected
    assert rejects(block) == []


def test_missing_keys_order_and_repeated_keys(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", {"b": 1}, '{"text": "x", "text": "y"}', "", "  ", {"a": 2})
    index, block = load(path)
    assert index.columns.names == ["b", "text", "a"]
    assert index.rows == 3
    assert column(block, "b") == [1, None, None]
    assert column(block, "text") == [None, "y", None]
    assert column(block, "a") == [None, None, 2]


def test_bad_lines_cost_one_row_each(tmp_path: Path) -> None:
    content = b"\n".join(
        [
            b'\xef\xbb\xbf{"text": "good"}',
            b'["secret"]',
            b'{"text": secret}',
            b'{"text": "sch\xf6n"}',
            b'{"text": ' + b"[" * 100_000,
            b'{"text": "' + b"x" * 10 + b'", "n": ' + b"9" * 5000 + b"}",
            b'{"text": "fine"}',
            b'{"text": "torn secr',
        ]
    )
    index, block = load(write(tmp_path / "a.jsonl", content))
    assert (index.rows, index.damage) == (8, None)
    assert [(row, reason) for row, _, reason in rejects(block)] == [
        (1, "malformed_record"),
        (2, "malformed_record"),
        (3, "undecodable_text"),
        (4, "malformed_record"),
        (5, "malformed_record"),
        (7, "malformed_record"),
    ]
    assert column(block, "text") == ["good", *[None] * 5, "fine", None]
    assert column(block, "_sentiment_raw")[3] == '{"text": "sch\\xf6n"}\n'
    assert column(block, "_sentiment_raw")[7] == '{"text": "torn secr'
    assert not any("secr" in (detail or "") for detail in column(block, "_sentiment_detail"))


def test_text_of_another_type_rejects_the_row(tmp_path: Path) -> None:
    records = [{"text": value, "n": 1} for value in ("good", 5, True, None, ["a"], {"a": 1})]
    index, block = load(save(tmp_path / "a.jsonl", *records))
    assert index.columns.field("text").type == pa.string()
    reason = "text_not_string"
    assert rejects(block) == [(1, 1, reason), (2, 2, reason), (4, 4, reason), (5, 5, reason)]
    assert column(block, "text") == ["good", None, None, None, None, None]
    assert column(block, "n") == [1, None, None, 1, None, None]
    assert column(block, "_sentiment_raw")[1] == '{"text": 5, "n": 1}\n'


def test_all_text_of_another_type_is_still_string(tmp_path: Path) -> None:
    index, block = load(save(tmp_path / "a.jsonl", {"text": 1}, {"text": 2}))
    assert index.columns.field("text").type == pa.string()
    assert len(rejects(block)) == 2


def test_lone_surrogates(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.jsonl",
        '{"text": "half \\ud83d", "o": "x"}',
        '{"text": "whole \\ud83d\\ude00", "o": "\\uDE00", "\\ud800": ["\\ud800"]}',
    )
    index, block = load(path)
    assert index.columns.names == ["text", "o", "\\ud800"]
    assert rejects(block) == [(0, 0, "undecodable_text")]
    assert column(block, "text") == [None, "whole 😀"]
    assert column(block, "o") == [None, "\\ude00"]
    assert column(block, "\\ud800") == [None, '["\\ud800"]']


def test_nan_is_a_float(tmp_path: Path) -> None:
    _, block = load(save(tmp_path / "a.jsonl", '{"text": "a", "v": NaN}', '{"v": 1}'))
    assert str(column(block, "v")) == "[nan, 1.0]"


def test_cuts_are_offsets_of_lines(tmp_path: Path) -> None:
    records = [{"text": f"é{i}", "i": i} for i in range(2100)]
    for name in ("a.jsonl", "a.jsonl.gz"):
        index, block = load(save(tmp_path / name, *records))
        body = [json.dumps(record) + "\n" for record in records]
        assert index.cuts == (
            (0, 0),
            (1024, len("".join(body[:1024]))),
            (2048, len("".join(body[:2048]))),
        )
        assert column(block, "i") == list(range(2100))


def test_empty_file_and_only_bad_lines(tmp_path: Path) -> None:
    index = index_shard(
        shard_of(write(tmp_path / "a.jsonl", b"")), ReadOptions(TextColumns(("review",)))
    )
    assert (index.rows, index.columns.names, index.damage) == (0, ["review"], None)
    index, block = load(write(tmp_path / "b.jsonl", b"oops\n17\n"), "review")
    assert (index.rows, index.columns.names) == (2, ["review"])
    assert len(rejects(block)) == 2


def test_absent_text_and_reserved_name_stop_the_run(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", {"body": "x", "n": 1}, "torn")
    with pytest.raises(SourceError, match=r"'text' among 'body', 'n'.*--text-column"):
        index_shard(shard_of(path))
    path = save(tmp_path / "b.jsonl", {"text": "x"}, {"_sentiment_unit": "x"})
    with pytest.raises(SourceError, match="_sentiment_unit"):
        index_shard(shard_of(path))


def test_truncated_gzip(tmp_path: Path) -> None:
    body = b"".join(b'{"text": "%d"}\n' % i**3 for i in range(4000))
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(body)[:-5000])
    index, block = load(path)
    assert 100 < index.rows < 4000
    assert index.damage is not None
    assert (index.damage.first_row, index.damage.reason) == (index.rows, "unreadable_rows")
    assert column(block, "text") == [str(i**3) for i in range(index.rows)]
    path.write_bytes(b"\x1f\x8b")
    index = index_shard(shard_of(path))
    assert isinstance(index.damage, Damage)
    assert index.damage.first_row == -1
    assert read(load(save(tmp_path / "b.jsonl", {"text": "x"}))[0]).num_rows == 1


@pytest.mark.parametrize("opening", ["[", '{"k":'])
def test_depth_is_limited_the_same_everywhere(tmp_path: Path, opening: str) -> None:
    closing = "]" if opening == "[" else "}"

    def nested(levels: int) -> str:
        return f'{{"text": "a", "v": {opening * levels}1{closing * levels}}}'

    path = save(tmp_path / "a.jsonl", *(nested(levels) for levels in (1, 255, 256, 900, 5000)))
    index, block = load(path)
    assert [row for row, _, _ in rejects(block)] == [2, 3, 4]

    def deeper(levels: int) -> pa.Table:
        return read(index) if levels == 0 else deeper(levels - 1)

    # A worker may stand deeper in its stack than the driver did.
    assert column(deeper(500), "v") == column(block, "v")


def test_many_brackets_are_not_depth(tmp_path: Path) -> None:
    _, block = load(save(tmp_path / "a.jsonl", {"text": "[{" * 500, "v": [[]] * 500}))
    assert rejects(block) == []


def test_keys_that_are_data_stop_the_run(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", *({"text": "a", f"id{n}": n} for n in range(4096)))
    with pytest.raises(SourceError, match="more than 4096 different keys") as caught:
        index_shard(shard_of(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "good"), [(pa.int64(), 7), (pa.float64(), 7), (pa.bool_(), True), (pa.string(), "x")]
)
def test_values_that_contradict_the_index_reject_their_row(
    tmp_path: Path, kind: pa.DataType, good: Any
) -> None:
    """As after a writer that changed the file between listing and reading, within a clock tick."""
    odd = [1.5, "1", [1], {"a": 1}, 2**70, True]
    index = index_shard(
        shard_of(save(tmp_path / "a.jsonl", *({"text": "t", "v": v} for v in [good, *odd])))
    )
    expected = pa.schema([("text", pa.string()), ("v", kind)])
    block = read_unit(units_of(index)[0], expected)
    block.validate(full=True)
    assert block.schema.field("v").type == kind
    lost = {row for row, _, reason in rejects(block) if reason == "malformed_record"}
    fits = {pa.int64(): set(), pa.float64(): {1}, pa.bool_(): {6}, pa.string(): set(range(1, 7))}
    assert lost == set(range(1, 7)) - fits[kind]


def test_foreign_files_are_unreadable(tmp_path: Path) -> None:
    for content in (b"7z\xbc\xaf\x27\x1c", b"PAR1\x15\x04", b"ARROW1\0\0"):
        index = index_shard(shard_of(write(tmp_path / "a.jsonl", content)))
        assert index.damage is not None
        assert (index.columns, index.damage.first_row) == (None, -1)
