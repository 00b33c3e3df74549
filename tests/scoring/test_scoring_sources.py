"""What a user says of the sources reaches every reader, and `run.json` says how they were read."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
from in_process import InProcess, data_files, rejects_in

from sentiment.settings.jobs import VerifyConfig
from sentiment.verification.job import verify

SAID = (
    "--format", "csv", "--text-column", "column_2", "--csv-header", "no", "--csv-delimiter", "|",
    "--csv-quote", "'", "--csv-escape", "none", "--encoding", "cp1252", "--null-values", "NULL",
    "--ignore", "*.bak",
)  # fmt: skip


def test_every_flag_of_reading_has_its_effect(jobs: InProcess, tmp_path: Path, out: Path) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    lines = ["1|'sehr | schön'", "2|NULL", '3|a \\" b']
    (lake / "reviews.json").write_bytes("\n".join([*lines, ""]).encode("cp1252"))
    (lake / "reviews.bak").write_bytes(b"4|old\n")
    summary = jobs.run(lake, "--output", out, "--max-rejected", "1", *SAID)
    assert (summary.ledger.labelled, dict(summary.rejected)) == (2, {"null_text": 1})
    [path] = data_files(out)
    assert pq.read_table(path)["column_2"].to_pylist() == ["sehr | schön", 'a \\" b']
    [reject] = rejects_in(out)
    assert reject["source_row"] == 1
    [run] = (out / "_sentiment" / "runs").iterdir()
    told = json.loads((run / "run.json").read_text())
    assert told["no_shards"]["ignored"] == {"files": 1, "first": [str(lake / "reviews.bak")]}
    assert told["no_shards"]["skipped"]["files"] == 0
    layout = "csv, cp1252, delimiter '|', quote \"'\", no header"
    assert told["layouts"] == [
        {"layout": layout, "files": 1, "first": [str(lake / "reviews.json")]}
    ]
    assert jobs.run(lake, "--output", out, "--max-rejected", "1", *SAID).ledger.reused == 3
    verify(VerifyConfig.load([str(out), "--source", str(lake), "--deep", "--quiet", *SAID]))


def test_what_is_read_in_another_way_is_another_setting(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    """Rows of two ways to read a file would mix."""
    source = tmp_path / "a.csv"
    source.write_text("id,text\n1,'good, fine'\n")
    jobs.run(source, "--output", out, "--max-rejected", "1")
    error = jobs.failing(source, "--output", out, "--csv-quote", "'")
    assert error.exit_code == 2
    assert "--on-change" in str(error)
