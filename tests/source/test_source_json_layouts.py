"""JSON records are found however they are laid out, and none is invented."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from source_reading import column, load, rejects, shard_of, write

from sentiment.source.cut import cut_into_units
from sentiment.source.formats import json_records
from sentiment.source.index import index_shard, index_shards
from sentiment.source.layout import Layout
from sentiment.source.listing import list_shards
from sentiment.source.options import ReadOptions
from sentiment.source.read import read_unit

# Texts that look like what stands around them.
TEXTS = st.sampled_from(
    ["fine", '{"text": "no"}', "},{", '"}\n{"text": "no"}', "[", "]", "\\", '\\"', "ø😀", "", "\n"]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
RECORDS = st.lists(
    st.fixed_dictionaries({"text": TEXTS}, optional={"a": st.integers() | TEXTS | st.lists(TEXTS)}),
    min_size=1,
    max_size=12,
)
LAYOUTS = ("lines", "lines with commas", "crlf", "firehose", "array", "indented", "one by one",
           "array over lines", "arrays one by one", "spaced")  # fmt: skip


def laid_out(records: list[dict[str, Any]], layout: str, ascii_only: bool) -> bytes:
    one_by_one = [json.dumps(record, ensure_ascii=ascii_only) for record in records]
    text = {
        "lines": "\n".join(one_by_one) + "\n",
        "lines with commas": ",\n".join(one_by_one),
        "crlf": "\r\n".join(one_by_one),
        "firehose": "".join(one_by_one),
        "array": "[" + ",".join(one_by_one) + "]",
        "indented": json.dumps(records, indent=2, ensure_ascii=ascii_only),
        "one by one": "".join(json.dumps(record, indent=1) for record in records),
        "array over lines": "[\n" + "\n,".join(one_by_one) + "\n]\n",
        "arrays one by one": "\n".join(f"[{one}]" for one in one_by_one),
        "spaced": "\n \n" + " \t".join(one_by_one) + "  \n\n",
    }[layout]
    return text.encode()


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(RECORDS, st.booleans(), st.sampled_from([1, 7, 1000]))
def test_every_layout_gives_the_same_rows(
    tmp_path: Path, layout: str, records: list[dict[str, Any]], ascii_only: bool, piece: int
) -> None:
    path = write(tmp_path / "a.json", laid_out(records, layout, ascii_only))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_records, "_PIECE_BYTES", piece)
        patch.setattr("sentiment.source.cut._CUT_ROWS", 2)
        index, block = load(path)
        assert (index.rows, index.damage) == (len(records), None)
        assert column(block, "text") == [record["text"] for record in records]
        assert rejects(block) == []


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(RECORDS, st.integers(0, 10_000), st.sampled_from([b"", b"{", b'"', b"x", b"}", b"\xff"]))
@example([{"text": "a"}, {"text": '{"text": "no"}'}], 16, b'"')
def test_damage_invents_no_row(
    tmp_path: Path, layout: str, records: list[dict[str, Any]], at: int, odd: bytes
) -> None:
    """The end is cut off, or a byte is put in: every text that is read is one that was written."""
    content = laid_out(records, layout, True)
    at %= len(content)
    path = write(tmp_path / "a.json", content[:at] + odd + (content[at:] if odd else b""))
    shards = list_shards([str(path)], ReadOptions(format="json")).shards
    [index] = index_shards(shards, keep_going=True)
    if index.columns is None:
        assert index.damage is not None
        return
    texts: list[str] = []
    for unit in cut_into_units(index, 3):
        block = read_unit(unit, index.columns)
        texts += [one for one in column(block, "text") if one is not None]
    written = [record["text"] for record in records]
    # A byte in a text makes another text of it, and nothing tells. All others stay.
    assert len([text for text in texts if text not in written]) <= 1
    assert len(texts) <= len(records)


@pytest.mark.parametrize(
    ("content", "texts", "bad"),
    [
        # Whatever is torn in a line costs what cannot be told apart, and no other line.
        (b'{"text":"a"}{"text":"b"}{"text":\n{"text":"d"}\n', ["a", "b", None, "d"], [2]),
        (b'{"text":"a"}{"text":"b"} x\n{"text":"d"}\n', ["a", None, "d"], [1]),
        (b'{"text":"a"} 5\n{"text":"d"}\n', [None, "d"], [0]),
        (b'{"text":"a"}{"text":"b\xff"}{"text":"c"}\n', ["a", None, "c"], [1]),
        (b'{"text":"a"}{"text":7}{"text":"c"}\n', ["a", None, "c"], [1]),
        (b'[{"text":"a"}, 5, {"text":"b"}, null]', ["a", None, "b", None], [1, 3]),
        (b'[{"text":"a"}, {"text":"b\xff"}, {"text":"c"}]', ["a", None, "c"], [1]),
        (b'[]\n[{"text":"a"}]\n', ["a"], []),
    ],
)
def test_bad_records_cost_themselves(
    tmp_path: Path, content: bytes, texts: list[str | None], bad: list[int]
) -> None:
    _, block = load(write(tmp_path / "a.json", content))
    assert column(block, "text") == texts
    assert [first for first, _, _ in rejects(block)] == bad


@pytest.mark.parametrize(
    "content",
    [
        b'[{"text":"a"}, {"text":"b"}',
        b'[{"text":"a"}, {"text":"b"}, {"text":"c',
        b'[{"text":"a"}, {"text":"b"}, {"te"xt":"c"}, {"text":"d"}]',
        b'[\n{"text":"a"},\n{"text":"b"},\n{"text":c},\n{"text":"d"}]',
        b'[{"text":"a"}, {"text":"b"}x, {"text":"d"}]',
    ],
)
def test_where_records_cannot_be_told_apart_the_rest_is_rejected(
    tmp_path: Path, content: bytes
) -> None:
    index, block = load(write(tmp_path / "a.json", content))
    assert index.damage is not None
    assert (index.damage.first_row, index.damage.reason) == (index.rows, "unreadable_rows")
    assert column(block, "text") in (["a", "b"], ["a"])


def test_a_line_longer_than_memory_may_hold_is_read_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("json_records", "lines"):
        monkeypatch.setattr(f"sentiment.source.formats.{module}.MAX_RECORD_BYTES", 100)
    records = [{"text": "x" * (n % 50)} for n in range(500)]
    start = b'{"text": "one a line"}\n'
    for name in ("a.jsonl", "a.jsonl.gz"):
        path = write(tmp_path / name, start + laid_out(records, "firehose", True) + b"\n" + start)
        index, block = load(path)
        assert (index.rows, index.damage) == (502, None)
        expected = ["one a line", *(record["text"] for record in records), "one a line"]
        assert column(block, "text") == expected
    long = b'{"text": "' + b"y" * 200 + b'"}'
    index, block = load(write(tmp_path / "b.jsonl", start + long + start.strip() + b"\n" + start))
    assert rejects(block) == [(1, 1, "malformed_record")]
    index, block = load(write(tmp_path / "b.json", b'[{"text": "a"},' + long + b"]"))
    assert index.damage is not None
    assert "longer than 100 bytes" in index.damage.detail


REVIEWS = [{"id": n, "text": f"review ] }} {n}", "tags": [n]} for n in range(500)]
WRAPPED = [
    {"reviews": REVIEWS},
    {"count": 500, "next": None, "data": REVIEWS, "errors": [{"text": "no review"}]},
    {
        "meta": {"page": [1, 2], "of": []},
        "response": {"took": 3, "hits": REVIEWS, "more": {"a": 1}},
    },
]


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl.gz", "export", "utf16.json"])
def test_records_may_lie_in_an_array_within_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrapped: Any, indent: int | None, name: str
) -> None:
    """As APIs return them. Read as one object, all would be one row."""
    monkeypatch.setattr("sentiment.source.cut._CUT_ROWS", 7)
    text = json.dumps(wrapped, indent=indent)
    path = write(tmp_path / name, text.encode("utf-16" if name.startswith("utf16") else "utf-8"))
    index, block = load(path)
    assert (index.rows, index.damage) == (500, None)
    assert column(block, "text") == [review["text"] for review in REVIEWS]
    assert rejects(block) == []
    path = write(tmp_path / name, text[:-300].encode())
    index = index_shard(shard_of(path))
    assert index.rows < 500 or "errors" in wrapped or "response" in wrapped
    assert index.damage is not None or index.rows == 500


def test_an_object_with_the_text_is_a_record_whatever_else_it_holds(tmp_path: Path) -> None:
    record = {"id": 1, "text": "fine", "answers": [{"text": "no review"}]}
    for content in (json.dumps(record), json.dumps(record, indent=1)):
        _, block = load(write(tmp_path / "a.json", content.encode()))
        assert column(block, "text") == ["fine"]


def test_the_layout_is_decided_by_the_first_value(tmp_path: Path) -> None:
    for content, layout in (
        (b'{"text": "a"}\n', "jsonl"),
        (b'{"text": "a"}', "jsonl"),
        (b'{"text": "a"}{"text": "b"}', "jsonl"),
        (b'{"text": "a"\n{"text": "b"}\n', "jsonl"),
        (b'{\n"text": "a"}\n', "json"),
        (b'\n\n  [ {"text": "a"}]', "json"),
        (b'{\n"text": "' + b"a" * 600_000 + b'"}', "json"),
        (b'{"text": "' + b"a" * 600_000 + b'"}\n{"text": "b"}', "jsonl"),
    ):
        for name in ("a.json", "a.jsonl", "data"):
            index = index_shard(shard_of(write(tmp_path / name, content)))
            assert index.shard.layout == Layout(layout)  # type: ignore[arg-type]
