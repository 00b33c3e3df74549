"""Output of sources that are gone is found, and retired only where that is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentiment.output.commit import Stamp, commit_rowless
from sentiment.output.committed import read_committed
from sentiment.output.folder import Output
from sentiment.output.gone import find_gone, gone_facts, retire
from sentiment.output.layout import REJECTED_FOLDER, SUCCESS_FILE
from sentiment.output.receipt import Footer
from sentiment.source.listing import list_shards
from sentiment.source.shards import Damage, Shard, ShardIndex

STAMP = Stamp("model", "config", "0", "sentiment")


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    for day in ("dt=1", "dt=2"):
        (tmp_path / "lake" / day).mkdir(parents=True)
        for name in ("a.csv", "b.csv"):
            (tmp_path / "lake" / day / name).write_text("text\nfine\n")
    return tmp_path / "lake"


@pytest.fixture
def output(tmp_path: Path, lake: Path) -> Output:
    """An output with a file, rejects and success for every shard of the lake."""
    out = Output.open(str(tmp_path / "out"))
    for shard in list_shards([str(lake)]).shards:
        damage = Damage(-1, "unreadable_file", "why")
        commit_rowless(out, STAMP, ShardIndex(shard, 0, None, damage=damage))
        out.write(f"{shard.folder}/{SUCCESS_FILE}", b"")
    return out


def found_gone(output: Output, *sources: Path) -> list[Footer]:
    names = [str(source) for source in sources]
    shards = list_shards(names).shards
    return find_gone(output, read_committed(output, shards), names, shards)


def gone_of(output: Output, *sources: Path) -> list[str]:
    return sorted(footer.source_file for footer in found_gone(output, *sources))


def test_nothing_is_gone_while_all_is_there(output: Output, lake: Path) -> None:
    assert gone_of(output, lake) == []


def test_a_deleted_and_a_renamed_source_are_found(output: Output, lake: Path) -> None:
    (lake / "dt=1" / "a.csv").unlink()
    (lake / "dt=2" / "b.csv").rename(lake / "dt=2" / "c.csv")
    assert gone_of(output, lake) == [str(lake / "dt=1" / "a.csv"), str(lake / "dt=2" / "b.csv")]


def test_what_this_run_does_not_read_is_not_its_business(output: Output, lake: Path) -> None:
    (lake / "dt=1" / "a.csv").unlink()
    assert gone_of(output, lake / "dt=2") == []
    assert gone_of(output, lake / "dt=1" / "b.csv") == []


def test_files_of_others_in_the_output_are_passed_over(output: Output, lake: Path) -> None:
    output.write("dt=1/theirs-0-1.parquet", b"not even Parquet")
    assert gone_of(output, lake) == []


def files_of(output: Output, shard: Shard) -> list[str]:
    return [path for path in output.list_tree("") if f"{shard.folder}/{shard.key}" in path]


def test_retiring_takes_the_files_of_the_gone_only(output: Output, lake: Path) -> None:
    by_uri = {shard.uri: shard for shard in list_shards([str(lake)]).shards}
    (lake / "dt=1" / "a.csv").unlink()
    retire(output, found_gone(output, lake))
    for uri, shard in by_uri.items():
        expected = 0 if uri == str(lake / "dt=1" / "a.csv") else 2
        assert len(files_of(output, shard)) == expected
    assert output.exists(f"dt=1/{SUCCESS_FILE}")


def test_a_folder_without_data_is_not_complete_any_more(output: Output, lake: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (lake / "dt=1" / name).unlink()
    retire(output, found_gone(output, lake))
    assert output.list_tree("dt=1") == []
    assert output.list_tree(f"{REJECTED_FOLDER}/dt=1") == []
    assert output.exists(f"dt=2/{SUCCESS_FILE}")


def test_a_run_tells_of_them(output: Output, lake: Path) -> None:
    (lake / "dt=1" / "a.csv").unlink()
    gone = found_gone(output, lake)
    assert gone_facts(gone, "keep") == {"sources": 1, "files": 1, "rows": 1, "retired": False}
    assert gone_facts(gone, "retire")["retired"] is True
    assert gone_facts([], "retire")["retired"] is False
