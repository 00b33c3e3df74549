"""Sources to shards: extensions, hidden names, globs, hive folders, links, fingerprints."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from sentiment import storage
from sentiment.errors import SourceError
from sentiment.source import listing, state
from sentiment.source.index import index_shard
from sentiment.source.listing import list_shards
from sentiment.source.options import ReadOptions
from sentiment.source.selection.selection import Selection
from sentiment.source.selection.sql import parse_condition
from sentiment.storage import open_filesystem


def touch(path: Path, content: bytes = b"text\ngood\n") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def folders(*sources: object) -> dict[str, str]:
    return {s.name: s.folder for s in list_shards([str(source) for source in sources]).shards}


def test_files_of_known_extensions_are_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"a.{kind}" for kind in ("parquet", "pq", "orc", "avro", "csv", "tsv", "json", "CSV")]
    names += ["a.jsonl", "a.ndjson", "a.csv.gz", "a.tsv.bz2", "a.json.xz", "a.jsonl.zst"]
    for name in names:
        touch(tmp_path / name)
    monkeypatch.setattr(listing, "layout_of", None)
    assert [shard.name for shard in list_shards([str(tmp_path)]).shards] == sorted(names)


def test_folder_skips_hidden_names_and_returns_unknown_ones(tmp_path: Path) -> None:
    good = touch(tmp_path / "deep/er/a.csv")
    for name in ("_SUCCESS", "_old/b.csv", ".git/c.csv", ".d.csv", "deep/_e.csv"):
        touch(tmp_path / name)
    notes = [touch(tmp_path / "notes.txt"), touch(tmp_path / "x.jpg", b"\xff\xd8\xff\xe0")]
    listing_ = list_shards([str(tmp_path)])
    assert [s.uri for s in listing_.shards] == [good]
    assert listing_.skipped == tuple(notes)


def test_a_partition_may_start_with_an_underscore(tmp_path: Path) -> None:
    """Spark reads it, too. Readers of the output do not, unless it is encoded."""
    path = touch(tmp_path / "_date=2026-11-20/_hour=7/a.csv")
    touch(tmp_path / ".date=2026-11-20/b.csv")
    for source in (tmp_path, tmp_path / "*", tmp_path / "**/*.csv", tmp_path / "_date=2026-11-20"):
        [shard] = list_shards([str(source)]).shards
        assert shard.uri == path
        assert shard.folder == "%5Fdate=2026-11-20/%5Fhour=7"


def test_relative_source_gives_absolute_uri(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = touch(tmp_path / "a.csv")
    monkeypatch.chdir(tmp_path)
    for source in ("a.csv", ".", "*.csv", "x/../a.csv", f"file://{path}"):
        assert [s.uri for s in list_shards([source]).shards] == [path]


def test_sorted_and_once_when_sources_overlap_in_any_order(tmp_path: Path) -> None:
    a, b = touch(tmp_path / "dt=1/raw/a.csv"), touch(tmp_path / "dt=2/b.csv")
    sources = [str(tmp_path), a, str(tmp_path / "dt=1/raw"), str(tmp_path / "*/*.csv")]
    for order in itertools.permutations(sources):
        shards = list_shards(order).shards
        assert [s.uri for s in shards] == [a, b]
        assert [s.folder for s in shards] == ["dt=1/raw", "dt=2"]


def test_lake_and_partition_agree_on_the_folder(tmp_path: Path) -> None:
    path = touch(tmp_path / "lake/dt=1/country=NO/a.csv")
    lake = tmp_path / "lake"
    for source in (
        lake,
        f"{lake}/",
        lake / "dt=1",
        lake / "dt=1/country=NO",
        path,
        lake / "*",
        lake / "dt=*/**",
        lake / "**/*.csv",
        lake / "dt=1/*/a.csv",
    ):
        assert folders(source) == {"a.csv": "dt=1/country=NO"}, source


def test_plain_folders_above_the_root_do_not_count(tmp_path: Path) -> None:
    touch(tmp_path / "lake/raw/a.csv")
    assert folders(tmp_path / "lake") == {"a.csv": "raw"}
    assert folders(tmp_path / "lake/raw") == {"a.csv": ""}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.csv", {"a.csv"}),
        ("?.csv", {"a.csv"}),
        ("dt=*", {"b.csv", "c.csv", "d.jsonl"}),
        ("dt=*/*.csv", {"b.csv", "c.csv"}),
        ("dt=[2-9]/*", {"c.csv", "d.jsonl"}),
        ("**/*.csv", {"a.csv", "b.csv", "c.csv"}),
        ("**/dt=2", {"c.csv", "d.jsonl"}),
        ("**", {"a.csv", "b.csv", "c.csv", "d.jsonl"}),
        ("_old/*", {"e.csv"}),
        ("_*/*", {"e.csv"}),
    ],
)
def test_globs(tmp_path: Path, pattern: str, names: set[str]) -> None:
    for name in ("a.csv", "dt=1/b.csv", "dt=2/c.csv", "dt=2/d.jsonl", "_old/e.csv"):
        touch(tmp_path / name)
    assert set(folders(tmp_path / pattern)) == names


def test_existing_name_with_brackets_is_no_glob(tmp_path: Path) -> None:
    touch(tmp_path / "a[1].csv")
    touch(tmp_path / "a1.csv")
    assert set(folders(tmp_path / "a[1].csv")) == {"a[1].csv"}


def test_odd_names_survive(tmp_path: Path) -> None:
    path = touch(tmp_path / "my lake/città=São Paulo/ré view=%20.csv")
    (shard,) = list_shards([str(tmp_path)]).shards
    assert shard.uri == path
    assert shard.folder == "my lake/città=São Paulo"
    filesystem, inside = open_filesystem(shard.uri)
    assert filesystem.get_file_info(inside).type == fs.FileType.File


def test_link_loop_ends_and_files_count_once(tmp_path: Path) -> None:
    path = touch(tmp_path / "lake/dt=2/a.csv")
    os.symlink(tmp_path / "lake", tmp_path / "lake/dt=2/up")
    os.symlink("dt=2", tmp_path / "lake/current")
    os.symlink("self", tmp_path / "lake/self")
    lake = tmp_path / "lake"
    for sources in ([lake], [lake / "*"], [lake / "current", lake], [lake / "**/*.csv"]):
        listed = list_shards([str(source) for source in sources])
        assert [(s.uri, s.folder) for s in listed.shards] == [(path, "dt=2")]
    (alone,) = list_shards([str(lake / "current")]).shards
    assert alone.uri == str(lake / "current/a.csv")


@pytest.mark.parametrize("target", ["nowhere", "broken.csv"])
@pytest.mark.parametrize("pattern", ["", "*.csv", "**/*.csv"])
def test_a_link_that_leads_nowhere_is_a_shard_that_cannot_be_opened(
    tmp_path: Path, target: str, pattern: str
) -> None:
    good = touch(tmp_path / "a.csv")
    os.symlink(target, tmp_path / "broken.csv")
    os.symlink(target, tmp_path / "broken.txt")
    listed = list_shards([str(tmp_path / pattern)])
    assert [s.uri for s in listed.shards] == [good, str(tmp_path / "broken.csv")]
    index = index_shard(listed.shards[1])
    assert index.damage is not None
    assert (index.damage.first_row, index.damage.reason) == (-1, "unreadable_file")


def test_a_file_name_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    good = touch(tmp_path / "a.csv")
    with open(os.fsencode(tmp_path) + b"/notes\xff.txt", "wb"):
        pass
    listed = list_shards([str(tmp_path)])
    assert [s.uri for s in listed.shards] == [good]
    assert listed.skipped == (f"{tmp_path}/notes\\xff.txt",)
    os.mkdir(os.fsencode(tmp_path) + b"/dt=\xff")
    with pytest.raises(SourceError, match=r"/dt=\\xff: the name is not UTF-8"):
        list_shards([str(tmp_path)])


def test_keys_of_objects_do_not_lead_out_of_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """On an object store `..` is a name like any other; on a disk the output would be elsewhere."""

    class Store:
        def get_file_info(self, asked: object) -> object:
            if isinstance(asked, str):
                return fs.FileInfo(asked, fs.FileType.Directory)
            keys = ["../../etc/a.csv", "./b.csv", "c/../d.csv", "e../..f/g.csv", "h..=../i..csv"]
            return [fs.FileInfo(f"bucket/lake/{k}", fs.FileType.File, size=5) for k in keys]

    monkeypatch.setattr(listing, "open_filesystem", lambda uri: (Store(), "bucket/lake"))
    assert [shard.folder for shard in list_shards(["s3://bucket/lake"]).shards] == ["h..=.."]


def test_fifo_is_not_opened(tmp_path: Path) -> None:
    touch(tmp_path / "a.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    listed = list_shards([str(tmp_path)])
    assert [s.name for s in listed.shards] == ["a.csv"]
    assert listed.skipped == (str(tmp_path / "pipe.csv"),)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing", "does not exist"),
        ("missing/*.csv", "does not exist"),
        ("notes.txt", "holds no shards"),
        ("empty", "holds no shards"),
        ("*.parquet", "holds no shards"),
        ("nope://bucket/x", "cannot open"),
    ],
)
def test_bad_sources_name_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    touch(tmp_path / "notes.txt")
    touch(tmp_path / "good.csv")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=message) as caught:
        list_shards(["good.csv", source])
    assert source.partition("/*")[0] in str(caught.value)


def test_no_source_at_all() -> None:
    with pytest.raises(SourceError, match="no source"):
        list_shards([])


def test_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "good.csv")
    with open(os.fsencode(tmp_path) + b"/bad\xff.csv", "wb") as file:
        file.write(b"text\n")
    with pytest.raises(SourceError, match="not UTF-8"):
        list_shards([str(tmp_path)])


def test_fingerprint_is_size_mtime_and_footer(tmp_path: Path) -> None:
    csv = touch(tmp_path / "a.csv")
    os.utime(csv, ns=(0, 1_700_000_000_123_456_789))
    parquet = tmp_path / "b.parquet"
    pq.write_table(pa.table({"text": ["one"]}), parquet)
    short, magic = touch(tmp_path / "c.parquet", b"PAR1"), touch(tmp_path / "d.pq", b"x" * 99)
    liar = touch(tmp_path / "e.pq", b"x" * 90 + b"\xff\xff\xff\x7fPAR1")
    marks = {s.name: s.fingerprint for s in list_shards([str(tmp_path)]).shards}
    assert marks["a.csv"] == "10-1700000000123456789"
    status = os.stat(parquet)
    stem, _, footer = marks["b.parquet"].rpartition("-")
    assert stem == f"{status.st_size}-{status.st_mtime_ns}"
    assert len(footer) == 16
    assert int(footer, 16) >= 0
    for path in (short, magic, liar):
        assert marks[os.path.basename(path)].count("-") == 1


def test_footer_hash_changes_when_size_and_mtime_do_not(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    marks = []
    for value in (1, 2):
        pq.write_table(pa.table({"n": [value]}), path, compression="none")
        os.utime(path, ns=(0, 5))
        marks.append(list_shards([str(path)]).shards[0].fingerprint)
    assert marks[0].rpartition("-")[0] == marks[1].rpartition("-")[0]
    assert marks[0] != marks[1]


def test_footer_longer_than_the_first_guess(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["one"]}), path)
    (whole,) = list_shards([str(path)]).shards
    monkeypatch.setattr(state, "_FOOTER_GUESS_BYTES", 16)
    (pieced,) = list_shards([str(path)]).shards
    assert whole == pieced
    monkeypatch.setattr(state, "_FOOTER_MOST_BYTES", 32)
    (cut,) = list_shards([str(path)]).shards
    assert cut.fingerprint.rpartition("-")[0] == whole.fingerprint.rpartition("-")[0]
    assert cut != whole


def test_remote_uris_round_trip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A store that is not local: listed flat, globbed level by level, URIs encoded, query kept."""
    path = touch(tmp_path / "bucket/lake/dt=1/é 1%.csv")
    touch(tmp_path / "bucket/lake/dt=2/_tmp/x.csv")
    touch(tmp_path / "bucket/lake/dt=2/b.csv")
    asked = []

    class Store:
        @staticmethod
        def from_uri(uri: str) -> tuple[fs.FileSystem, str]:
            _, inside = fs.FileSystem.from_uri(uri)
            asked.append(uri)
            return fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), inside

    class Module:
        FileSystem = Store
        LocalFileSystem = fs.LocalFileSystem
        S3FileSystem = fs.S3FileSystem
        FileInfo = fs.FileInfo

    monkeypatch.setattr(storage, "fs", Module)
    query = "?region=eu-north-1&endpoint_override=localhost:9"
    odd = f"s3://bucket/lake/dt=1/%C3%A9%201%25.csv{query}"
    both = {odd: "dt=1", f"s3://bucket/lake/dt=2/b.csv{query}": "dt=2"}
    for source in ("lake", "lake/", "lake/dt=*/*.csv", "lake/*", "l*"):
        shards = list_shards([f"s3://bucket/{source}{query}"]).shards
        assert {s.uri: s.folder.removeprefix("lake/") for s in shards} == both, source
    for source in ("lake/dt=1", "lake/dt=1/é 1%25.csv", "lake/dt=1/%C3%A9 1%25.csv"):
        (shard,) = list_shards([f"s3://bucket/{source}{query}"]).shards
        assert (shard.uri, shard.folder, shard.name) == (odd, "dt=1", os.path.basename(path))
    filesystem, inside = open_filesystem(odd)
    with filesystem.open_input_stream(inside, compression=None) as file:
        assert file.read() == b"text\ngood\n"
    assert all(uri.startswith("s3://") for uri in asked)


@pytest.mark.parametrize("source", ["lake", "lake/*", "lake/**/*.csv", "lake/dt=*/country=*"])
def test_partitions_of_a_store_that_nobody_wants_are_not_listed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str
) -> None:
    for dt in ("2026-11-01", "2026-11-02"):
        for country in ("de", "fr"):
            touch(tmp_path / f"bucket/lake/dt={dt}/country={country}/deep/a.csv")
    listed: list[str] = []

    class CountingStore(fs.SubTreeFileSystem):
        def get_file_info(self, what: Any) -> Any:
            if isinstance(what, fs.FileSelector):
                listed.append(what.base_dir)
            return super().get_file_info(what)

    store = CountingStore(str(tmp_path), fs.LocalFileSystem())

    def open_store(uri: str) -> tuple[fs.FileSystem, str]:
        return store, open_filesystem(uri)[1].removeprefix(str(tmp_path)).strip("/")

    monkeypatch.setattr(listing, "open_filesystem", open_store)
    where = parse_condition("dt > '2026-11-01' and country = 'de'")
    options = ReadOptions(selection=Selection(where))
    found = list_shards([f"{tmp_path}/bucket/{source}"], options)
    assert [shard.folder for shard in found.shards] == ["dt=2026-11-02/country=de/deep"]
    assert not any("11-01" in path or "country=fr" in path for path in listed)
    assert len(found.excluded) == 2
    listed.clear()
    assert len(list_shards([f"{tmp_path}/bucket/lake"]).shards) == 4
    assert listed == ["bucket/lake"], "without a condition one listing tells all"
