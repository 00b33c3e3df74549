"""Tables of a lakehouse are refused as sources, from wherever they are named."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from sentiment.errors import SourceError
from sentiment.source import listing
from sentiment.source.listing import list_shards

LOGS = {
    "Delta": "_delta_log/00000000000000000000.json",
    "Iceberg": "metadata/00001-6a1e3c.metadata.json",
    "Hudi": ".hoodie/hoodie.properties",
}


@pytest.fixture(params=LOGS, ids=str)
def table(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """A kind of table, and its folder in a lake."""
    folder = tmp_path / "lake" / "reviews"
    log = folder / LOGS[request.param]
    log.parent.mkdir(parents=True)
    log.write_text("{}")
    (folder / "data" / "dt=1").mkdir(parents=True)
    pq.write_table(pa.table({"text": ["Fine."]}), folder / "data" / "dt=1" / "a.parquet")
    return request.param, folder


@pytest.mark.parametrize(
    "source", ["", "reviews", "reviews/data/dt=1", "reviews/data/dt=1/a.parquet", "*/data/*/*"]
)
def test_a_table_is_no_folder_of_files(table: tuple[str, Path], source: str) -> None:
    kind, folder = table
    with pytest.raises(SourceError, match=f"reviews: is a table of {kind} .* deleted or replaced"):
        list_shards([str(folder.parent / source)])


def test_a_table_in_a_store_is_found_in_its_one_listing(
    table: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, folder = table
    store = fs.SubTreeFileSystem(str(folder.parents[1]), fs.LocalFileSystem())
    monkeypatch.setattr(listing, "open_filesystem", lambda uri: (store, uri.split("//")[1]))
    with pytest.raises(SourceError, match=f"lake/reviews: is a table of {kind}"):
        list_shards(["store://lake"])


def test_a_folder_beside_a_table_is_fine(table: tuple[str, Path]) -> None:
    _, folder = table
    beside = folder.with_name("other") / "metadata"
    beside.mkdir(parents=True)
    (beside / "a.csv").write_text("text\nFine.\n")
    assert len(list_shards([str(beside)]).shards) == 1
