"""Files are read by what they hold: formats, compressions, archives, whatever their names say."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from file_kinds import COMPRESSIONS, FORMATS, avro, delimited, lines, parquet, zipped
from source_reading import column, load, rejects, units_of

from sentiment.block import REASON, ROW
from sentiment.errors import SourceError
from sentiment.source import content
from sentiment.source.cut import cut_into_units, group_into_passes
from sentiment.source.formats import lines as lines_module
from sentiment.source.index import index_shard, index_shards
from sentiment.source.listing import list_shards
from sentiment.source.options import ReadOptions
from sentiment.source.read import ShardReader, read_unit
from sentiment.source.shards import Shard, ShardIndex, Unit

ROWS = [
    {
        "id": n,
        "text": f'the soup of day {n} was "good",\nand hot\t{{"text": "no row"}} {"ø" * (n % 9)}',
    }
    for n in range(400)
]
TEXTS = [row["text"] for row in ROWS]
KINDS = [(kind, packing) for kind in FORMATS for packing in COMPRESSIONS]


def found(folder: Path, options: ReadOptions | None = None) -> list[Shard]:
    return list(list_shards([str(folder)], options or ReadOptions()).shards)


def texts_in_passes(index: ShardIndex, unit_rows: int) -> dict[int, str | None]:
    """Texts by row, as the read stage gets them; None where a row is rejected."""
    seen: dict[int, str | None] = {}
    assert index.columns is not None
    for some in group_into_passes(index, cut_into_units(index, unit_rows)):
        with ShardReader(index.shard, index.columns) as reader:
            for unit in some:
                block = reader.read(unit)
                for row, text in zip(column(block, ROW), column(block, "text"), strict=True):
                    seen[row] = text
    return seen


@pytest.mark.parametrize(("kind", "packing"), KINDS)
@pytest.mark.parametrize("named", [True, False])
def test_every_format_and_compression_is_read_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, packing: str, named: bool
) -> None:
    monkeypatch.setattr("sentiment.source.cut._CUT_ROWS", 7)
    name = f"a.{kind}{packing}" if named else "000000_0"
    (tmp_path / name).write_bytes(COMPRESSIONS[packing](FORMATS[kind](ROWS)))
    [shard] = found(tmp_path)
    index = index_shard(shard)
    assert (index.rows, index.damage) == (len(ROWS), None)
    for unit_rows in (50, 1000):
        assert texts_in_passes(index, unit_rows) == dict(enumerate(TEXTS))
    alone = [read_unit(unit, index.columns) for unit in cut_into_units(index, 90)]
    assert [text for block in alone for text in column(block, "text")] == TEXTS


@pytest.mark.parametrize(("kind", "packing"), KINDS)
def test_damage_loses_rows_and_invents_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, packing: str
) -> None:
    """Bytes are overwritten, or the end is missing: what is read before is right."""
    monkeypatch.setattr("sentiment.source.cut._CUT_ROWS", 7)
    whole = COMPRESSIONS[packing](FORMATS[kind](ROWS))
    chance = random.Random(f"{kind}{packing}")
    for _ in range(6):
        data = bytearray(whole)
        at = chance.randrange(8, len(data))
        cut = chance.random() < 0.5
        if cut:
            del data[at:]
        else:
            data[at : at + 3] = chance.randbytes(3)
        (tmp_path / f"a.{kind}{packing}").write_bytes(bytes(data))
        [shard] = found(tmp_path)
        [index] = index_shards([shard], keep_going=True)
        if index.columns is None or "text" not in index.columns.names:
            assert index.damage is not None
            continue
        seen = texts_in_passes(index, 20)
        covered: set[int] = set()
        for unit in cut_into_units(index, 20):
            block = read_unit(unit, index.columns)
            for first, last in zip(
                column(block, ROW), column(block, "_sentiment_row_end"), strict=True
            ):
                covered.update(range(first, last + 1))
            for row, text in zip(column(block, ROW), column(block, "text"), strict=True):
                assert seen[row] == text
        assert covered == set(range(index.rows))
        # Without a checksum a changed byte may be a changed letter.
        if cut or packing in (".gz", ".bz2", ".xz"):
            read = [text for text in seen.values() if text]
            # In plain delimited text nothing tells that the last record is cut.
            assert set(read[:-1] if kind in ("csv", "tsv") and not packing else read) <= set(TEXTS)
        if kind == "jsonl" and not packing and not cut:
            assert len(seen) >= len(ROWS) - 3


def test_a_damaged_archive_keeps_what_comes_before(tmp_path: Path) -> None:
    for packing, pack in COMPRESSIONS.items():
        if not packing:
            continue
        noise = random.Random(1)
        rows = [{"text": noise.randbytes(200).hex()} for _ in range(6000)]
        data = pack(lines(rows))
        (tmp_path / "a.jsonl").write_bytes(data[: len(data) * 3 // 4])
        index, block = load(tmp_path / "a.jsonl")
        assert index.damage is not None
        assert index.damage.first_row == index.rows
        assert column(block, "text") == [row["text"] for row in rows[: index.rows]]
        assert index.rows > 1000


def test_it_may_be_compressed_twice_but_not_for_ever(tmp_path: Path) -> None:
    data = lines(ROWS)
    for packing in (".gz", ".zst"):
        data = COMPRESSIONS[packing](data)
    (tmp_path / "a.jsonl.gz").write_bytes(data)
    _, block = load(tmp_path / "a.jsonl.gz")
    assert column(block, "text") == TEXTS
    for _ in range(2):
        data = COMPRESSIONS[".gz"](data)
    (tmp_path / "a.jsonl.gz").write_bytes(data)
    assert index_shard(found(tmp_path)[0]).damage is not None


@pytest.mark.parametrize(
    ("name", "content_of_file"),
    [
        ("a.txt", delimited(ROWS, ",")),
        ("a.dat", delimited(ROWS, "\t")),
        ("a.log", lines(ROWS)),
        ("part-00000-c000", lines(ROWS)),
        ("a.csv", lines(ROWS)),
        ("a.jsonl", delimited(ROWS, ",")),
        ("a.parquet", avro(ROWS)),
        ("a.orc", parquet(ROWS)),
        ("a.txt.gz", COMPRESSIONS[".gz"](delimited(ROWS, ","))),
        ("a.csv.gzip", COMPRESSIONS[".gz"](delimited(ROWS, ","))),
        ("a.gz", COMPRESSIONS[".gz"](delimited(ROWS, ","))),
    ],
)
def test_content_goes_before_names(tmp_path: Path, name: str, content_of_file: bytes) -> None:
    (tmp_path / name).write_bytes(content_of_file)
    _, block = load(tmp_path / name)
    assert column(block, "text") == TEXTS


@pytest.mark.parametrize(
    ("name", "content_of_file"),
    [
        ("README", b"# Reviews\n"),
        ("LICENSE", b"Do what you like\n"),
        ("notes.md", b"id, text and more\n"),
        ("settings.yaml", b"text: a\n"),
        ("map.geojson", b'{"type": "Feature"}'),
        ("photo.png", b"\x89PNG\r\n"),
        ("part.crc", b"crc\0\1"),
        ("empty", b""),
        ("empty.txt", b""),
        ("notes.txt.gz", COMPRESSIONS[".gz"](b"notes")),
        ("letter.docx", zipped({"[Content_Types].xml": b"", "word/a.xml": b""})),
        ("notes.zip", zipped({"notes.md": b"notes", "__MACOSX/a.csv": b"text\na\n"})),
    ],
)
def test_what_holds_no_records_is_named_and_no_shard(
    tmp_path: Path, name: str, content_of_file: bytes
) -> None:
    (tmp_path / name).write_bytes(content_of_file)
    (tmp_path / "good.csv").write_bytes(delimited(ROWS, ","))
    listing = list_shards([str(tmp_path)])
    assert [shard.name for shard in listing.shards] == ["good.csv"]
    assert listing.skipped == (str(tmp_path / name),)
    assert listing.facts()["skipped"] == {"files": 1, "first": [str(tmp_path / name)]}
    with pytest.raises(SourceError, match="holds no shards"):
        list_shards([str(tmp_path / name)])


def test_a_format_that_is_named_counts_for_every_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"text\nfine\n")
    (tmp_path / "b").write_bytes(b"text\ngood\n")
    (tmp_path / "c.json").write_bytes(b"text\n[1]\n")
    options = ReadOptions(format="csv")
    indexes = index_shards(found(tmp_path, options), options)
    assert [index.rows for index in indexes] == [1, 1, 1]
    (tmp_path / "a.txt").write_bytes(b'[{"text": "fine"}, {"text": "good"}]')
    [shard] = list_shards([str(tmp_path / "a.txt")], ReadOptions(format="json")).shards
    assert index_shard(shard, ReadOptions(format="json")).rows == 2


def test_ignored_files_are_counted(tmp_path: Path) -> None:
    for name in ("a.csv", "a.bak.csv", "tmp/b.csv", "deep/tmp/c.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"text\nfine\n")
    listing = list_shards([str(tmp_path)], ReadOptions(ignore=("*.bak.csv", "tmp/*")))
    assert [shard.name for shard in listing.shards] == ["a.csv"]
    assert listing.facts()["ignored"]["files"] == 3
    with pytest.raises(SourceError, match="4 files are left out by --ignore"):
        list_shards([str(tmp_path / "*")], ReadOptions(ignore=("*.csv",)))


def test_members_of_an_archive_are_shards(tmp_path: Path) -> None:
    members = {
        "lake/a.csv": delimited(ROWS, ","),
        "lake/b.parquet": parquet(ROWS),
        "lake/c.jsonl.gz": COMPRESSIONS[".gz"](lines(ROWS)),
        "lake/README.md": b"notes",
        "lake/.hidden.csv": b"text\nno\n",
    }
    (tmp_path / "dt=1").mkdir()
    (tmp_path / "dt=1" / "all.zip").write_bytes(zipped(members))
    shards = found(tmp_path)
    assert [(one.folder, one.name) for one in shards] == [
        ("dt=1", "a.csv"),
        ("dt=1", "b.parquet"),
        ("dt=1", "c.jsonl.gz"),
    ]
    assert shards[0].uri == shards[0].identity == str(tmp_path / "dt=1/all.zip/lake/a.csv")
    for shard in shards:
        index = index_shard(shard)
        units = cut_into_units(index, 100)
        assert [Unit.from_json(unit.to_json()) for unit in units] == units
        copy = Unit.from_json(units[-1].to_json())
        assert copy.shard.layout == index.shard.layout
        assert column(read_unit(copy, index.columns), "text") == TEXTS[units[-1].first_row :]


def test_an_archive_that_cannot_be_opened_is_a_reject(tmp_path: Path) -> None:
    whole = zipped({"a.csv": b"text\n" + b"fine\n" * 1000})
    locked = bytearray(whole)
    for mark in (b"PK\x03\x04", b"PK\x01\x02"):
        locked[locked.index(mark) + (6 if mark[2] == 3 else 8)] |= 1
    for data in (whole[:-30], bytes(locked), whole[:40] + b"\xa5" * 4 + whole[44:]):
        (tmp_path / "a.zip").write_bytes(data)
        [shard] = found(tmp_path)
        index = index_shard(shard)
        assert index.damage is not None
        assert index.damage.reason in ("unreadable_file", "unreadable_rows")


def test_two_members_of_one_name_are_not_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.csv", "text\nfine\n")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.csv", "text\ngood\n")
    [shard] = found(tmp_path)
    assert index_shard(shard).damage is not None


def test_a_file_that_cannot_be_looked_at_is_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds notes. Tonight nobody can tell, and tomorrow it is skipped again."""
    (tmp_path / "notes.txt").write_bytes(b"notes")
    (tmp_path / "good.csv").write_bytes(b"text\nfine\n")
    real = content.open_filesystem

    class Down:
        def open_input_file(self, path: str) -> Any:
            raise OSError("connection refused")

    monkeypatch.setattr(content, "open_filesystem", lambda uri: (Down(), uri))
    shards = found(tmp_path)
    assert len(shards) == 2
    monkeypatch.setattr(content, "open_filesystem", real)
    _, notes = index_shards(shards, keep_going=True)
    assert notes.unavailable is not None
    assert "run the same command again" in notes.unavailable


def test_parquet_without_a_name_is_known_by_its_footer(tmp_path: Path) -> None:
    """Its fingerprint has the hash that finds a change within one tick of the clock."""
    (tmp_path / "000000_0").write_bytes(parquet(ROWS))
    (tmp_path / "b.parquet").write_bytes(parquet(ROWS))
    first, second = found(tmp_path)
    assert first.fingerprint.count("-") == second.fingerprint.count("-") == 2


def test_parquet_is_opened_once_to_be_indexed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.parquet").write_bytes(parquet(ROWS))
    [shard] = found(tmp_path)
    monkeypatch.setattr("sentiment.source.index.layout_of", None)
    assert index_shard(shard).rows == len(ROWS)


def test_delimited_text_is_opened_twice_to_be_indexed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once to see what it is, once to count its rows: on an object store each is a request."""
    (tmp_path / "a.csv").write_bytes(delimited(ROWS, ";"))
    [shard] = found(tmp_path)
    opened: list[str] = []
    for module in (content, lines_module):
        real = module.open_filesystem

        def counted(uri: str, real: Any = real) -> Any:
            opened.append(uri)
            return real(uri)

        monkeypatch.setattr(module, "open_filesystem", counted)
    assert index_shard(shard).rows == len(ROWS)
    assert len(opened) == 2


def test_rows_are_rejected_one_by_one_in_every_binary_format(tmp_path: Path) -> None:
    rows = [{"text": "fine"}, {"text": None}, {"text": "good"}]
    for kind in ("parquet", "orc", "avro"):
        data = avro([{"text": "fine"}, *rows[1:]]) if kind == "avro" else FORMATS[kind](rows)
        (tmp_path / f"a.{kind}").write_bytes(data)
        index, block = load(tmp_path / f"a.{kind}")
        assert column(block, "text") == ["fine", None, "good"]
        assert index.columns == pa.schema([("text", pa.string())])
        assert rejects(block) == []
        assert column(block, REASON) == [None] * 3
        assert len(units_of(index)) == 1
