"""Which locations a source would hold, whether they exist or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentiment.source.coverage import Coverage


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    (folder / "dt=2026-11-20").mkdir(parents=True)
    (folder / "dt=2026-11-20" / "a.csv").write_text("text\nfine\n")
    return folder


def test_a_folder_holds_what_is_below_it(lake: Path) -> None:
    cover = Coverage.of(f"{lake}/")
    assert cover.folder == ""
    assert cover.holds(f"{lake}/dt=2026-11-19/gone.parquet")
    assert not cover.holds(f"{lake}-other/gone.parquet")
    assert not cover.holds(f"{lake.parent}/gone.parquet")


def test_a_partition_has_its_output_folder(lake: Path) -> None:
    cover = Coverage.of(str(lake / "dt=2026-11-20"))
    assert cover.folder == "dt=2026-11-20"
    assert cover.holds(f"{lake}/dt=2026-11-20/gone.csv")
    assert not cover.holds(f"{lake}/dt=2026-11-19/gone.csv")


def test_a_file_holds_itself(lake: Path) -> None:
    cover = Coverage.of(str(lake / "dt=2026-11-20" / "a.csv"))
    assert cover.holds(f"{lake}/dt=2026-11-20/a.csv")
    assert not cover.holds(f"{lake}/dt=2026-11-20/b.csv")


def test_a_glob_holds_what_it_matches(lake: Path) -> None:
    cover = Coverage.of(f"{lake}/dt=*/[ab].csv")
    assert cover.holds(f"{lake}/dt=2020-01-01/b.csv")
    assert not cover.holds(f"{lake}/dt=2020-01-01/c.csv")


def test_a_relative_path_is_the_same_place(lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lake.parent)
    assert Coverage.of("lake") == Coverage.of(str(lake))


def test_the_query_of_a_uri_names_no_place() -> None:
    cover = Coverage.of("s3://bucket/lake/dt=1?region=eu-west-1")
    assert cover.folder == "dt=1"
    assert cover.holds("s3://bucket/lake/dt=1/a%20b.csv?region=eu-west-1")
    assert not cover.holds("s3://bucket/lake/dt=2/a.csv?region=eu-west-1")
