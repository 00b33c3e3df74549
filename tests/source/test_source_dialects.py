"""Dialects of delimited text: what is found out, what is said, and that no row is invented."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fuzzed_files import delimited_file
from source_reading import column, read, rejects, shard_of, write

from sentiment.source.index import index_shard
from sentiment.source.layout import Dialect
from sentiment.source.options import ReadOptions
from sentiment.source.shards import ShardIndex
from sentiment.texts import TextColumns

PLAIN = Dialect(",")


def indexed(path: Path, **said: Any) -> ShardIndex:
    options = replace(ReadOptions(), **said)
    index = index_shard(shard_of(path), options)
    assert index.shard.layout is not None
    assert index.shard.layout.dialect is not None
    return index


def rows(index: ShardIndex) -> list[tuple[Any, ...]]:
    """The values of every row; None in each for a reject."""
    if not index.rows:
        return []
    block = read(index)
    return list(zip(*(column(block, name) for name in index.columns.names), strict=True))


def dialect_of(index: ShardIndex) -> Dialect:
    assert index.shard.layout is not None
    assert index.shard.layout.dialect is not None
    return index.shard.layout.dialect


def plain(text: str) -> bytes:
    return text.encode()


# What is written, what becomes of it, and the dialect that was found.
CASES: dict[str, tuple[str, bytes, list[tuple[str | None, ...]], Dialect]] = {
    "semicolons": ("a.csv", b"id;text\n1;good, fine\n", [("1", "good, fine")], Dialect(";")),
    "pipes": ("a.csv", b"id|text\n1|good, fine\n", [("1", "good, fine")], Dialect("|")),
    "tabs under csv": ("a.csv", b"id\ttext\n1\tgood, fine\n", [("1", "good, fine")], Dialect("\t")),
    "commas under tsv": ("a.tsv", b"id,text\n1,good\tfine\n", [("1", "good\tfine")], PLAIN),
    "quoted header": ("a.csv", b'"id";"text"\n"1";"a;b"\n', [("1", "a;b")], Dialect(";")),
    "sep": (
        "a.csv",
        b"sep=;\r\nid;text\r\n1;good\r\n",
        [("1", "good")],
        Dialect(";", has_separator_line=True),
    ),
    "sep of a tab": (
        "a.csv",
        b"sep=\t\nid\ttext\n1\tgood\n",
        [("1", "good")],
        Dialect("\t", has_separator_line=True),
    ),
    "tsv that quotes nothing": (
        "a.tsv",
        b'id\ttext\n1\tgood\n3\t"Loved it\n'
        + b"".join(b"%d\tfine\n" % n for n in range(4, 500))
        + b'500\tThe "best" film\n',
        [
            ("1", "good"),
            ("3", '"Loved it'),
            *((str(n), "fine") for n in range(4, 500)),
            ("500", 'The "best" film'),
        ],
        Dialect("\t", quote=""),
    ),
    "tsv with one quote and another 500 lines on": (
        "a.tsv",
        b'id\ttext\n3\t"Loved it\n' + b"4\tfine\n" * 500 + b'5\tgreat"\n',
        [("3", '"Loved it'), *[("4", "fine")] * 500, ("5", 'great"')],
        Dialect("\t", quote=""),
    ),
    "tsv with quotes": (
        "a.tsv",
        b'id\ttext\n1\t"say ""no"",\nor yes"\n2\t"fine"\n',
        [("1", 'say "no",\nor yes'), ("2", "fine")],
        Dialect("\t"),
    ),
    "spark": (
        "a.csv",
        rb"""id,text
1,"He said \"hi, you\", and left"
2,"a \\ path C:\new, C:\\"
3,C:\dir\n
4,"two
lines \"and\" more"
5,""
""",
        [
            ("1", 'He said "hi, you", and left'),
            ("2", "a \\ path C:\\new, C:\\"),
            ("3", "C:\\dir\\n"),
            ("4", 'two\nlines "and" more'),
            ("5", ""),
        ],
        Dialect(",", escape="\\"),
    ),
    "a backslash before the closing quote": (
        "a.csv",
        b'id,text\n1,"C:\\"\n2,"a ""b"""\n',
        [("1", "C:\\"), ("2", 'a "b"')],
        PLAIN,
    ),
    "excel": (
        "a.csv",
        b"id,text,,,\r\n1,good,,,\r\n,,,,\r\n2,fine,,,\r\n,,,,\r\n,,,,\r\n",
        [("1", "good"), ("", ""), ("2", "fine")],
        Dialect(",", blank_columns=3),
    ),
    "empty rows that a writer has written": (
        "a.csv",
        b"id,text\n1,good\n,\n,\n\n",
        [("1", "good"), ("", ""), ("", "")],
        PLAIN,
    ),
    "headers and marks between": (
        "a.csv",
        b"\xef\xbb\xbfid,text\n1,good\n\xef\xbb\xbfid,text\n2,fine\nid,text\n3,id\n",
        [("1", "good"), ("2", "fine"), ("3", "id")],
        PLAIN,
    ),
    "a text that is called as its column": ("a.csv", b"text\ntext\n", [("text",)], PLAIN),
    "a column without a name that is used": (
        "a.csv",
        b"id,text,\n1,good,\n2,fine,more\n",
        [("1", "good", ""), ("2", "fine", "more")],
        PLAIN,
    ),
    "words for nothing": ("a.csv", b"id,text\nNULL,NaN\n", [("NULL", "NaN")], PLAIN),
    "a header alone": ("a.csv", b"id;text\n", [], Dialect(";")),
}


@pytest.mark.parametrize("case", CASES)
def test_dialects_are_found_out(tmp_path: Path, case: str) -> None:
    name, content, expected, dialect = CASES[case]
    index = indexed(write(tmp_path / name, content))
    assert dialect_of(index) == dialect
    assert index.damage is None
    assert rows(index) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # The issue is always the same: the line after a broken one may be a part of it.
        (
            b'3,"a "bad" film,\nthat I saw,\nand left, very sad"\n4,fine\n',
            [(None, None), ("4", "fine")],
        ),
        (b'3,"a "bad" film\nand, left\nquite sad"\n4,"fine"\n', [(None, None), ("4", "fine")]),
        (b'3,"a" b\n4,fine\n5,"good"\n', [(None, None), ("4", "fine"), ("5", "good")]),
        (b'3,"a" b\n4,"x" y\n5,good\n', [(None, None), (None, None), ("5", "good")]),
        (b'3,"a" b\n4,fine\n5,good\n', [(None, None), ("4", "fine"), ("5", "good")]),
        (b'3,"a" b\n4,the 5" disk\n5,good\n', [(None, None), ("5", "good")]),
        (b'3,the 5" disk\n4,good\n', [("3", 'the 5" disk'), ("4", "good")]),
    ],
)
def test_after_a_broken_record_only_whole_records_count(
    tmp_path: Path, content: bytes, expected: list[tuple[str | None, ...]]
) -> None:
    index = indexed(write(tmp_path / "a.csv", b"id,text\n" + content))
    assert rows(index) == expected
    assert {reason for _, _, reason in rejects(read(index))} <= {"malformed_record"}


def test_many_broken_records_cost_one_row_each(tmp_path: Path) -> None:
    content = b"id,text\n" + b'1,"a" b\n2,good\n' * 3000
    index = indexed(write(tmp_path / "a.csv", content))
    assert index.rows == 6000
    assert rows(index) == [(None, None), ("2", "good")] * 3000


def test_an_open_quote_behind_a_broken_record_takes_what_is_between(tmp_path: Path) -> None:
    content = b'id,text\n1,good\n2,"a "b" c\n3,maybe, inside\n4,"open\n5,x\n'
    index = indexed(write(tmp_path / "a.csv", content))
    assert rows(index) == [("1", "good")]
    assert index.damage is not None
    assert index.damage.first_row == 1


WORDS = "La crème brûlée était très bonne – “vraiment” 5 €"


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "reviews"])
@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("cp1252", "cp1252"),
        ("utf-16", "utf-16-le"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32-le"),
    ],
)
def test_encodings_are_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, written: str, found: str
) -> None:
    monkeypatch.setattr("sentiment.source.cut._CUT_ROWS", 2)
    delimiter = "\t" if name == "a.tsv" else ","
    lines = [f"{n}{delimiter}{WORDS if n > 3 else 'fine'}" for n in range(9)]
    text = "\n".join([f"id{delimiter}text", *lines, ""])
    index = indexed(write(tmp_path / name, text.encode(written)))
    assert index.shard.layout is not None
    assert index.shard.layout.encoding == found
    assert [text for _, text in rows(index)] == ["fine"] * 4 + [WORDS] * 5


def test_an_encoding_that_is_said_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,text\n1,Отлично; да\n".encode("cp1251"))
    assert rows(indexed(path, encoding="cp1251")) == [("1", "Отлично; да")]
    path = write(tmp_path / "a.jsonl", '{"text": "schön"}\n'.encode("latin-1"))
    index = index_shard(shard_of(path), ReadOptions(encoding="iso8859-1"))
    assert rows(index) == [("schön",)]
    path = write(tmp_path / "a.csv", "id,text\n1,表\n2,ソ\n".encode("shift_jis"))
    assert rows(indexed(path, encoding="shift_jis")) == [("1", "表"), ("2", "ソ")]


def test_bytes_of_no_encoding_cost_their_row(tmp_path: Path) -> None:
    """Not every file that is no UTF-8 is in Windows-1252."""
    for odd in (b"\xff\xff\xff\xff", b"a\x81b", b"sch\xf6n\x9d"):
        index = indexed(write(tmp_path / "a.csv", b"id,text\n1,fine\n2," + odd + b"\n3,good\n"))
        assert rejects(read(index)) == [(1, 1, "undecodable_text")]
    mixed = "id,text\n1,schön\n".encode() + "2,schön\n".encode("latin-1")
    assert rejects(read(indexed(write(tmp_path / "a.csv", mixed)))) == [(1, 1, "undecodable_text")]


def test_utf16_that_ends_within_a_letter_is_damage(tmp_path: Path) -> None:
    index = indexed(write(tmp_path / "a.csv", "text\nfine\ngood\n".encode("utf-16")[:-1]))
    assert index.damage is not None
    assert rows(index)[0] == ("fine",)


@pytest.mark.parametrize(
    ("content", "said", "expected"),
    [
        (b"1,good\n2,fine\n", {"has_header": False}, [("1", "good"), ("2", "fine")]),
        (b"\n1;good\n", {"has_header": False, "delimiter": ";"}, [("1", "good")]),
        (b"1\x01good\n", {"has_header": False, "delimiter": "\x01"}, [("1", "good")]),
        (b"id,text\n1,'a, b'\n", {"quote": "'"}, [("1", "a, b")]),
        (b'id,text\n1,"a\n', {"quote": ""}, [("1", '"a')]),
        (b'id,text\n1,"a \\" b"\n', {"escape": "\\"}, [("1", 'a " b')]),
        (b'id,text\n1,"a" b\n2,"a \\" b"\n', {"escape": ""}, [(None, None)]),
        (b"id,text\nNULL,\\N\n,NaN\n", {"null_values": ("NULL", "\\N", "")},
         [(None, None), (None, "NaN")]),
    ],
)  # fmt: skip
def test_what_is_said_counts(
    tmp_path: Path, content: bytes, said: dict[str, Any], expected: list[tuple[Any, ...]]
) -> None:
    text_column = "column_2" if "has_header" in said else "text"
    texts = TextColumns((text_column,))
    index = indexed(write(tmp_path / "a.csv", content), texts=texts, **said)
    block = read(index, text_column)
    names = index.columns.names
    assert list(zip(*(column(block, name) for name in names), strict=True)) == expected


@pytest.mark.parametrize("seed", range(8))
def test_fuzzed_files_give_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """No row is invented and none is changed. A row may be rejected, where a dialect is guessed."""
    monkeypatch.setattr("sentiment.source.cut._CUT_ROWS", 3)
    chance = random.Random(seed)
    for number in range(60):
        name, content, table = delimited_file(chance)
        index = indexed(write(tmp_path / name, content))
        found = [row for row in rows(index) if row != (None, None)]
        written = [tuple(row) for row in table]
        assert all(row in written for row in found), (seed, number, name, content)
        assert index.damage is None, (seed, number)
        assert found == written, (seed, number, dialect_of(index), content)
