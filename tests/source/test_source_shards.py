"""Units name their output files, and travel as JSON."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.source.shards import Shard, Unit


def shard(uri: str = "/lake/dt=1/a.csv", folder: str = "dt=1", name: str = "a.csv") -> Shard:
    return Shard(uri, folder, name, "10-20", 10)


def test_a_unit_names_its_file() -> None:
    unit = Unit(shard(), 0, 4095, 17)
    assert unit.rows == 4096
    assert unit.file_name == f"{unit.shard.key}-0000000000-0000004095.parquet"
    assert unit.unit_id == f"dt=1/{unit.file_name}"
    assert unit.shard.key.startswith("a.csv-")
    assert Unit(shard(folder=""), 0, 1).unit_id == Unit(shard(), 0, 1).file_name


def test_a_unit_of_no_rows_has_a_name_of_its_own() -> None:
    assert Unit(shard(), 0, -1).file_name.endswith("-0000000000-none.parquet")
    assert Unit(shard(), 7, 6).file_name.endswith("-0000000007-none.parquet")


def test_shards_of_one_name_in_different_places_do_not_share_output_files() -> None:
    assert shard(uri="/a/x.csv").key != shard(uri="/b/x.csv").key


@given(st.text(max_size=20), st.text(max_size=20), st.integers(0, 2**40))
def test_a_unit_travels_as_json(uri: str, name: str, first: int) -> None:
    unit = Unit(shard(uri, "é=1", name), first, first + 3, first)
    assert Unit.from_json(unit.to_json()) == unit
    assert "\n" not in unit.to_json()


@pytest.mark.parametrize("name", ["n" * 255, "ö" * 127 + "x"])
def test_output_names_of_long_source_names_fit_and_differ(name: str) -> None:
    shards = [Shard(f"/lake/{name}{n}", "", f"{name}{n}", "f", 1) for n in range(2)]
    files = [Unit(shard, 0, 9_999_999_999).file_name for shard in shards]
    assert len(set(files)) == 2
    assert all(len(file.encode()) <= 255 for file in files)
