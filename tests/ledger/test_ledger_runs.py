"""The one reader of `run.json` and of the partition table: order, damage, what it leaves out."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment.errors import OutputError
from sentiment.ledger.runs import (
    Partition,
    newest_first,
    read_partitions,
    read_run,
    read_runs,
    run_ids,
)
from sentiment.output.folder import Output


def runs_folder(output: Path) -> Path:
    return output / "_sentiment" / "runs"


def save_run(output: Path, run_id: str, **changes: Any) -> Path:
    values = {
        "run_id": "another name",
        "finished_at": "2026-11-01T02:00:00+00:00",
        "ledger": {"expected": 3, "labelled": 2, "rejected": 1, "reused": 0},
        "counts": {"labels": {"yes": {"rows": 2}}, "rejected": {"null_text": 1}},
    }
    path = runs_folder(output) / run_id / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**values, **changes}), encoding="utf-8")
    return path


def save_table(output: Path, run_id: str, records: list[dict[str, Any]]) -> None:
    path = runs_folder(output) / run_id / "metrics.pq"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(records), path)


def opened(output: Path) -> Output:
    return Output.open(str(output))


def test_ids_are_listed_the_oldest_first_and_only_of_runs_that_finished(tmp_path: Path) -> None:
    for run_id in ("20261102T", "20261101T"):
        save_run(tmp_path, run_id)
    (runs_folder(tmp_path) / "20261103T").mkdir()
    assert run_ids(opened(tmp_path)) == ["20261101T", "20261102T"]


def test_the_id_of_a_run_is_the_name_of_its_folder(tmp_path: Path) -> None:
    save_run(tmp_path, "20261101T")
    run = read_run(opened(tmp_path), "20261101T")
    assert (run.run_id, run.ledger.balanced, run.counts.labelled) == ("20261101T", True, {"yes": 2})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"finished_at": None}, "finished_at: "),
        ({"counts": {"labels": {"Secret review": {"rows": -1}}}}, "counts.labels.Secret review.ro"),
        ({"ledger": {"expected": "Secret review"}}, "ledger.expected: "),
    ],
)
def test_the_reason_names_the_key_and_no_value(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    save_run(tmp_path, "20261101T", **changes)
    with pytest.raises(ValueError, match=reason) as raised:
        read_run(opened(tmp_path), "20261101T")
    assert "\n" not in str(raised.value)
    assert "Secret" not in str(raised.value).removeprefix(reason)


def test_a_run_without_its_file_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"run\.json cannot be read: FileNotFoundError"):
        read_run(opened(tmp_path), "20261101T")


def test_runs_come_newest_first_and_damaged_ones_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for run_id in ("20261101T", "20261102T", "20261103T"):
        save_run(tmp_path, run_id)
    damaged = runs_folder(tmp_path) / "20261102T" / "run.json"
    damaged.write_text("{")
    with caplog.at_level(logging.WARNING, logger="sentiment"):
        runs = list(newest_first(opened(tmp_path)))
    assert [run.run_id for run in runs] == ["20261103T", "20261101T"]
    assert caplog.messages == [f"{damaged}: left out (run.json cannot be read: JSONDecodeError)"]


def test_the_page_reads_older_runs_instead_of_damaged_ones(tmp_path: Path) -> None:
    for day in range(1, 5):
        save_run(tmp_path, f"2026110{day}T", finished_at=f"2026-11-0{day}T02:00:00+00:00")
    (runs_folder(tmp_path) / "20261104T" / "run.json").write_text("[]")
    runs = read_runs(opened(tmp_path), 2)
    assert [run.run_id for run in runs.runs][-2:] == ["20261102T", "20261103T"]
    assert (runs.total, list(runs.damaged)) == (4, ["20261104T"])
    named = read_runs(opened(tmp_path), 1, "20261101T")
    assert [run.run_id for run in named.runs] == ["20261101T"]


def test_a_run_that_does_not_exist_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="has no run 'x'; score into it first"):
        read_runs(opened(tmp_path), 1, "x")
    save_run(tmp_path, "20261101T")
    with pytest.raises(OutputError, match="--run takes one of its 1, the last is 20261101T"):
        read_runs(opened(tmp_path), 1, "x")


def test_partitions_are_summed_by_label_without_groups(tmp_path: Path) -> None:
    record = {"partition": "dt=1", "label": "yes", "rows": 3, "group": None}
    records = [
        record,
        {**record, "label": None, "rows": 2},
        {**record, "group": "country=de"},
        {**record, "partition": ""},
        {**record, "partition": "", "rows": 4},
    ]
    save_table(tmp_path, "20261101T", records)
    assert read_partitions(opened(tmp_path), "20261101T") == [
        Partition("", {"yes": 7}, 0),
        Partition("dt=1", {"yes": 3}, 2),
    ]


def test_a_table_with_other_columns_cannot_be_read(tmp_path: Path) -> None:
    save_table(tmp_path, "20261101T", [{"partition": "dt=1", "lines": 3}])
    with pytest.raises(ValueError, match="label"):
        read_partitions(opened(tmp_path), "20261101T")
