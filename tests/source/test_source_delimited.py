"""CSV and TSV: quoting, encodings, damage, cuts."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from source_reading import column, load, read, rejects, shard_of, units_of, write

from sentiment.errors import SourceError
from sentiment.source.blocks import RAW_BYTES
from sentiment.source.cut import cut_into_units
from sentiment.source.formats import clean_text, delimited_records, lines
from sentiment.source.formats.lines import BOM
from sentiment.source.index import index_shard
from sentiment.source.layout import Dialect
from sentiment.source.options import ReadOptions
from sentiment.source.read import read_unit
from sentiment.source.shards import Damage
from sentiment.texts import TextColumns


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "a.tsv.gz"])
def test_every_column_is_a_string(tmp_path: Path, name: str) -> None:
    content = 'id,text,n\n007,"good, ""very"" good",\n8,"two\nlines",1.50\n'
    if ".tsv" in name:
        content = content.replace("good, ", "good# ").replace(",", "\t").replace("#", ",")
    index, block = load(write(tmp_path / name, content.encode()))
    assert index.columns.equals(pa.schema([(c, pa.string()) for c in ("id", "text", "n")]))
    assert (index.rows, index.damage) == (2, None)
    assert column(block, "id") == ["007", "8"]
    assert column(block, "text") == ['good, "very" good', "two\nlines"]
    assert column(block, "n") == ["", "1.50"]
    assert rejects(block) == []


def test_bom_crlf_nul_blank_lines_and_no_last_newline(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf"text",id\r\n\r\n"a\r\nb",1\r\n\n\x00,2\r\n"","\x00"'
    _, block = load(write(tmp_path / "a.csv", content))
    assert column(block, "text") == ["a\r\nb", "\x00", ""]
    assert column(block, "id") == ["1", "2", "\x00"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_blank_line_of_one_column_is_a_row(tmp_path: Path, end: bytes) -> None:
    lines = [b"text", b"good", b"", b'""', b"", b"", b"  ", b"bad", b"", b""]
    index, block = load(write(tmp_path / "a.csv", end.join(lines) + end))
    assert column(block, "text") == ["good", "", "", "", "", "  ", "bad"], (
        "but for those at the end"
    )
    assert index.rows == 7


def test_units_of_one_column_start_behind_any_blank_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentiment.source.cut._CUT_ROWS", 2)
    path = write(tmp_path / "a.csv", b"text\n\n\na\n\n\n\nb\n\n")
    index = index_shard(shard_of(path))
    assert index.columns is not None
    found = [
        text
        for unit in cut_into_units(index, 2)
        for text in read_unit(unit, index.columns)["text"].to_pylist()
    ]
    assert found == ["", "", "a", "", "", "", "b"]


def test_wrong_field_counts_cost_one_row_each(tmp_path: Path) -> None:
    content = b"id,text\n1,good\n2\n3,bad,extra secret\n4,fine\n"
    index, block = load(write(tmp_path / "a.csv", content))
    assert index.rows == 4
    assert rejects(block) == [(1, 1, "malformed_record"), (2, 2, "malformed_record")]
    assert column(block, "text") == ["good", None, None, "fine"]
    assert column(block, "_sentiment_row") == [0, 1, 2, 3]
    assert column(block, "_sentiment_detail")[1:3] == [
        "1 fields where the header has 2",
        "3 fields where the header has 2",
    ]
    assert column(block, "_sentiment_raw")[1:3] == ["2\n", "3,bad,extra secret\n"]


def test_quoting_error_costs_one_record(tmp_path: Path) -> None:
    content = b'id,text\n1,"good" or not\n2,a\rb\n3,fine\n'
    _, block = load(write(tmp_path / "a.csv", content))
    assert rejects(block) == [(0, 0, "malformed_record"), (1, 1, "malformed_record")]
    assert column(block, "text")[2] == "fine"
    details = column(block, "_sentiment_detail")[:2]
    assert "newline=" not in details[1]
    assert not any("good" in detail for detail in details)


def test_open_quote_loses_the_rest(tmp_path: Path) -> None:
    content = b'id,text\n1,fine\n2,"never closed\n3,lost\n4,lost\n'
    index, block = load(write(tmp_path / "a.csv", content))
    assert index.rows == 1
    detail = "a quote is opened and never closed"
    assert index.damage == Damage(1, "unreadable_rows", detail)
    assert column(block, "text") == ["fine"]


def test_huge_open_quote_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited_records, "MAX_RECORD_BYTES", 50)
    monkeypatch.setattr(clean_text, "MAX_RECORD_BYTES", 50)
    content = b'text\nfine\n"open\n' + b"ten chars\n" * 9 + b'"\nlost\n'
    index, _ = load(write(tmp_path / "a.csv", content))
    assert index.rows == 1
    assert index.damage is not None
    assert index.damage.first_row == 1
    assert "not closed within 50 bytes" in index.damage.detail


def test_lines_of_an_open_quote_are_not_all_kept(tmp_path: Path) -> None:
    content = b'id,text\n1,"' + b"nine char\n" * 50_000 + b'" tail\n2,fine\n'
    shard = index_shard(shard_of(write(tmp_path / "a.csv", content))).shard
    with lines.Lines(shard) as opened:
        parsed = delimited_records.parse(opened, Dialect(","))
        sizes = [sum(map(len, record.raw)) for record in parsed]
    assert sizes[0] == 8
    assert RAW_BYTES < sizes[1] < RAW_BYTES + 20
    assert sizes[2] == 7


def test_huge_line_costs_one_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_RECORD_BYTES", 50)
    for name in ("a.csv", "a.csv.gz"):
        path = write(tmp_path / name, b"text\n" + b"x" * 200 + b"\n" + b"fine\n" * 3)
        _, block = load(path)
        assert rejects(block) == [(0, 0, "malformed_record")]
        assert column(block, "text")[1:] == ["fine"] * 3
        assert column(block, "_sentiment_raw")[0].startswith("xxxx")


def test_default_field_limit_of_the_csv_module_is_lifted(tmp_path: Path) -> None:
    text = "long " * 40_000
    _, block = load(write(tmp_path / "a.csv", f"text\n{text}\n".encode()))
    assert column(block, "text") == [text]


def test_bad_bytes_in_the_text_reject_the_row_elsewhere_not(tmp_path: Path) -> None:
    content = b"city,text\nM\xfcnchen,good\nOslo,sch\xf6n\nG\xc3\xb6teborg,bra\n"
    _, block = load(write(tmp_path / "a.csv", content))
    assert column(block, "city") == ["M\\xfcnchen", None, "Göteborg"]
    assert column(block, "text") == ["good", None, "bra"]
    assert rejects(block) == [(1, 1, "undecodable_text")]
    assert column(block, "_sentiment_raw")[1] == "Oslo,sch\\xf6n\n"
    assert "sch" not in column(block, "_sentiment_detail")[1]


def test_raw_is_capped_at_a_character(tmp_path: Path) -> None:
    record = b"a," + "ø".encode() * 40_000 + b",extra\n"
    _, block = load(write(tmp_path / "a.csv", b"id,text\n" + record))
    (raw,) = column(block, "_sentiment_raw")
    assert raw == "a," + "ø" * 32_767
    _, block = load(write(tmp_path / "b.csv", b"id,text\na," + b"\xff" * 70_000 + b"\n"))
    (raw,) = column(block, "_sentiment_raw")
    assert len(raw) == 65_536
    assert raw.startswith("a,\\xff\\xff")


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b'"id"x,text\n1,good\n', "the header row does not parse"),
        (b"id,text\r1,good\r", "end lines in LF or CRLF"),
        (b"\0" * 100, "zero bytes"),
        (b"id,te\0xt\n1,good\n", "zero bytes"),
        (b"PAR1\x15\x04 and so on", "Parquet magic bytes not found in footer"),
        (b"PK\x03\x04", "give it a name that ends in .zip"),
        (b'id,"text\n1,good\n', "never closed"),
    ],
)
def test_no_usable_header_is_an_unreadable_file(
    tmp_path: Path, content: bytes, detail: str
) -> None:
    index = index_shard(shard_of(write(tmp_path / "a.csv", content)))
    assert (index.rows, index.columns) == (0, None)
    assert index.damage is not None
    assert (index.damage.first_row, index.damage.reason) == (-1, "unreadable_file")
    assert detail in index.damage.detail


def test_a_file_without_records_is_a_good_empty_shard(tmp_path: Path) -> None:
    for content in (b"", b"\n\r\n", BOM):
        index = index_shard(
            shard_of(write(tmp_path / "a.csv", content)), ReadOptions(TextColumns(("review",)))
        )
        assert (index.rows, index.damage) == (0, None)
        assert index.columns == pa.schema([("review", pa.string())])


def test_header_alone_is_a_good_empty_shard(tmp_path: Path) -> None:
    for content in (b"id,text", b"id,text\n"):
        index = index_shard(shard_of(write(tmp_path / "a.csv", content)))
        assert (index.rows, index.damage) == (0, None)
        assert index.columns.names == ["id", "text"]
        assert index.cuts == ((0, len(content)),)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"id,review", "no column 'text' among 'id', 'review'.*--text-column"),
        (b"text,id,text", "two columns are named 'text'"),
        (b"text,_sentiment_row", "'_sentiment_row'.*reserved"),
    ],
)
def test_bad_columns_stop_the_run(tmp_path: Path, header: bytes, message: str) -> None:
    path = write(tmp_path / "a.csv", header + b"\n")
    with pytest.raises(SourceError, match=message) as caught:
        index_shard(shard_of(path))
    assert str(path) in str(caught.value)


def test_missing_header_does_not_print_a_review(tmp_path: Path) -> None:
    review = b"I would not watch this film again, " * 20
    path = write(tmp_path / "a.tsv", b"1\t" + review + b"\n")
    with pytest.raises(SourceError) as caught:
        index_shard(shard_of(path))
    assert "watch this film" not in str(caught.value)
    assert "'1', a name of 700 characters" in str(caught.value)


def test_cuts_start_records_and_each_unit_reads_alone(tmp_path: Path) -> None:
    records = [f'{i},"line\n""{i}"""\n' for i in range(2500)]
    for name in ("a.csv", "a.csv.gz"):
        index, block = load(write(tmp_path / name, ("id,text\n" + "".join(records)).encode()))
        assert [row for row, _ in index.cuts] == [0, 1024, 2048]
        sizes = list(itertools.accumulate([8, *map(len, records)]))
        assert [offset for _, offset in index.cuts] == [sizes[0], sizes[1024], sizes[2048]]
        assert column(block, "id") == [str(i) for i in range(2500)]
        assert len(units_of(index)) == 3


def test_truncated_gzip_keeps_what_comes_before_the_break(tmp_path: Path) -> None:
    body = b"id,text\n" + b"".join(b"%d,review %d\n" % (i, i * i) for i in range(5000))
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(body)[:-9000])
    index, block = load(path)
    assert 100 < index.rows < 5000
    assert index.damage is not None
    assert (index.damage.first_row, index.damage.reason) == (index.rows, "unreadable_rows")
    assert column(block, "id") == [str(i) for i in range(index.rows)]
    assert rejects(block) == []


def test_cut_gzip_reads_as_far_as_it_was_indexed(tmp_path: Path) -> None:
    body = b"id,text\n" + b"".join(b"%d,%d\n" % (i, i**5) for i in range(40_000))
    packed = bytearray(gzip.compress(body, 1))
    path = tmp_path / "a.csv.gz"
    path.write_bytes(packed[:-90_000])
    index = index_shard(shard_of(path))
    assert index.damage is not None
    assert 10_000 < index.damage.first_row == index.rows < 40_000
    block = read(index, starts=[len(index.cuts) // 2, len(index.cuts) - 1])
    assert rejects(block) == []
    assert column(block, "id") == [str(i) for i in range(index.rows)]


def test_of_a_corrupt_gzip_no_row_is_trusted(tmp_path: Path) -> None:
    """What deflate makes of the first bad bytes may still look like records."""
    body = b"id,text\n" + b"".join(b"%d,%d\n" % (i, i**5) for i in range(40_000))
    packed = bytearray(gzip.compress(body, 1))
    packed[-90_000:-89_000] = b"\xff" * 1000
    path = tmp_path / "a.csv.gz"
    path.write_bytes(packed)
    index = index_shard(shard_of(path))
    assert index.damage is not None
    assert (index.rows, index.damage.first_row) == (0, -1)
    assert "the archive is corrupt" in index.damage.detail


def test_gz_that_is_no_gzip_is_read_if_it_is_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(b"text\nplain\n")
    _, block = load(path)
    assert column(block, "text") == ["plain"]
    path.write_bytes(b"\xa5\x81" * 50)
    index = index_shard(shard_of(path))
    assert index.damage is not None
    assert (index.columns, index.damage.first_row) == (None, -1)
    assert "its name ends in .gz" in index.damage.detail


def test_offset_is_required(tmp_path: Path) -> None:
    index, _ = load(write(tmp_path / "a.csv", b"text\ngood\n"))
    (unit,) = units_of(index)
    with pytest.raises(AssertionError, match="no offset"):
        read_unit(type(unit)(unit.shard, 0, 0), index.columns)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ['"', '""', "\r\n", "\n", "\r", ",", "\ufeff", "\x00", '\n"', " "]
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(st.tuples(texts, texts), max_size=25),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    line_end=st.sampled_from(["\r\n", "\n"]),
    suffix=st.sampled_from([".csv", ".tsv", ".csv.gz"]),
    starts=st.sets(st.integers(0, 8)),
)
def test_what_the_csv_writer_writes_reads_back_in_any_split(
    monkeypatch: pytest.MonkeyPatch,
    rows: list[tuple[str, str]],
    quoting: int,
    line_end: str,
    suffix: str,
    starts: set[int],
) -> None:
    if quoting == csv.QUOTE_MINIMAL and line_end == "\n":
        # This writer leaves a lone carriage return unquoted, which RFC 4180 forbids.
        rows = [(a.replace("\r", "\n"), b.replace("\r", "\n")) for a, b in rows]
    monkeypatch.setattr("sentiment.source.cut._CUT_ROWS", 3)
    target = io.StringIO(newline="")
    delimiter = "\t" if suffix == ".tsv" else ","
    writer = csv.writer(target, delimiter=delimiter, quoting=quoting, lineterminator=line_end)
    writer.writerows([("text", "other"), *rows])
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / f"a{suffix}", target.getvalue().encode())
        index = index_shard(shard_of(path))
        assert (index.rows, index.damage) == (len(rows), None)
        if rows:
            block = read(index, starts=starts)
            assert rejects(block) == []
            read_back = zip(column(block, "text"), column(block, "other"), strict=True)
            assert list(read_back) == rows
