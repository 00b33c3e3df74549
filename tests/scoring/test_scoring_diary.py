"""A run that dies leaves a word of itself, which the next run passes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from in_process import GOOD, InProcess, Kill, write_parquet

from sentiment.ledger import diary
from sentiment.ledger.diary import find_unfinished
from sentiment.ledger.record import parse_run
from sentiment.output.folder import Output
from sentiment.report.verdict import judge
from sentiment.source.shards import Unit


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(diary, "_EVERY_SEC", 0.0)
    return write_parquet(tmp_path / "r.parquet", [GOOD[n % 3] for n in range(40)])


def end_at(jobs: InProcess, number: int, error: BaseException) -> None:
    def end(unit_number: int, unit: Unit) -> None:
        if unit_number == number:
            raise error

    jobs.before_unit = end


def diaries(out: Path) -> list[Path]:
    return sorted((out / "_sentiment" / "runs").glob("*/diary.json"))


def last_run(out: Path) -> dict[str, Any]:
    [path] = (out / "_sentiment" / "runs").glob("*/run.json")
    return dict(json.loads(path.read_text()))


@pytest.mark.parametrize(
    ("error", "told"),
    [(Kill(), "Kill"), (RuntimeError("A wonderful film"), "RuntimeError")],
    ids=["killed", "failed"],
)
def test_the_next_run_tells_of_one_that_died(
    jobs: InProcess,
    source: Path,
    out: Path,
    error: BaseException,
    told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    command = (source, "--output", out, "--unit-rows", "10")
    end_at(jobs, 2, error)
    with pytest.raises(type(error)):
        jobs.run(*command)
    [entry] = find_unfinished(Output.open(str(out)))
    assert (entry.units, entry.total_units, entry.total_rows) == (2, 4, 40)
    assert entry.rows == 20
    assert entry.error == told, "the message of a foreign error may show a review"
    jobs.before_unit = None
    jobs.run(*command)
    assert "ended without an account" in caplog.text
    assert "2 of 4 units and 20 of 40 rows were committed" in caplog.text
    assert diaries(out) == []
    record = last_run(out)
    assert [one["run_id"] for one in record["unfinished"]] == [entry.run_id]
    run = parse_run("x", json.dumps(record))
    findings = [one.text for one in judge(run).findings if one.name == "earlier run"]
    assert findings == [
        f"run {entry.run_id} ended without an account after 2 of 4 units; this run went on from "
        "there"
    ]
    assert judge(run).word == "Usable"


def test_it_is_told_once(jobs: InProcess, source: Path, out: Path) -> None:
    end_at(jobs, 1, Kill())
    with pytest.raises(Kill):
        jobs.run(source, "--output", out, "--unit-rows", "10")
    jobs.before_unit = None
    jobs.run(source, "--output", out, "--unit-rows", "10")
    assert jobs.run(source, "--output", out).run["unfinished"] == []


def test_a_run_that_ends_leaves_no_diary(jobs: InProcess, source: Path, out: Path) -> None:
    jobs.run(source, "--output", out)
    jobs.run(source, "--output", out)
    assert diaries(out) == []


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"run_id": 1}', b"\xff"])
def test_a_damaged_diary_costs_nothing(
    jobs: InProcess, source: Path, out: Path, data: bytes
) -> None:
    path = out / "_sentiment" / "runs" / "20261101T000000-abc" / "diary.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    assert jobs.run(source, "--output", out).run["unfinished"] == []
