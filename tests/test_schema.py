"""Names and shapes that rooms share."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.block import CARRIER_FIELDS, CARRIER_PREFIX
from sentiment.digest import digest
from sentiment.output.layout import REJECT_SCHEMA, added_columns
from sentiment.output.receipt import Footer
from sentiment.source.shards import Shard, Unit


def shard(uri: str = "/lake/dt=1/a.csv", folder: str = "dt=1", name: str = "a.csv") -> Shard:
    return Shard(uri, folder, name, "csv", "10-20", 10)


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


def test_a_footer_survives_parquet_metadata() -> None:
    footer = Footer("u", "f", "fp", 0, 9, 8, 2, "m", "c", "v", {"labels": {"ä": {"rows": 8}}})
    assert Footer.from_metadata(footer.to_metadata()) == footer
    assert footer.rows == 10
    assert Footer.from_metadata(None) is None
    assert Footer.from_metadata({b"pandas": b"{}"}) is None


def test_a_digest_depends_on_values_not_on_key_order() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_added_columns_are_the_contract() -> None:
    assert added_columns("sentiment") == pa.schema(
        [
            ("sentiment", pa.string()),
            ("sentiment_score", pa.float32()),
            ("sentiment_off_label", pa.float32()),
            ("sentiment_tokens", pa.int32()),
            ("sentiment_truncated", pa.bool_()),
            ("sentiment_source_file", pa.string()),
            ("sentiment_source_row", pa.int64()),
        ]
    )


def test_carriers_cannot_meet_added_or_reject_columns() -> None:
    assert all(name.startswith(CARRIER_PREFIX) for name in CARRIER_FIELDS.names)
    assert not set(CARRIER_FIELDS.names) & {*added_columns("sentiment").names, *REJECT_SCHEMA.names}


@pytest.mark.parametrize("name", ["n" * 255, "ö" * 127 + "x"])
def test_output_names_of_long_source_names_fit_and_differ(name: str) -> None:
    shards = [Shard(f"/lake/{name}{n}", "", f"{name}{n}", "csv", "f", 1) for n in range(2)]
    files = [Unit(shard, 0, 9_999_999_999).file_name for shard in shards]
    assert len(set(files)) == 2
    assert all(len(file.encode()) <= 255 for file in files)
