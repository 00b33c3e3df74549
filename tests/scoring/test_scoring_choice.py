"""Rows that the user does not want are excluded: counted, never lost, and never scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from in_process import (
    GOOD,
    InProcess,
    Kill,
    data_files,
    is_complete,
    labels_in,
    rejects_in,
    write_csv,
)

from sentiment.errors import ConfigError, OutputError, RejectedRowsError, SourceError
from sentiment.scoring.replay import replay
from sentiment.settings.jobs import ReplayConfig, VerifyConfig
from sentiment.verification.job import Verification, verify


def lake_of_days(folder: Path, days: tuple[str, ...] = ("1", "2", "3")) -> Path:
    """Twelve rows a day, of which half have `n` odd."""
    for day in days:
        rows = [(GOOD[n % 3], str(n)) for n in range(12)]
        write_csv(folder / f"dt={day}" / "a.csv", rows, "text,n")
    return folder


def last_run(out: Path) -> dict[str, Any]:
    paths = sorted(
        (out / "_sentiment" / "runs").glob("*/run.json"), key=lambda path: path.stat().st_mtime_ns
    )
    found: dict[str, Any] = json.loads(paths[-1].read_text())
    return found


def verified(out: Path, lake: Path, *words: str) -> Verification:
    return verify(VerifyConfig.load([str(out), "--deep", "--quiet", "--source", str(lake), *words]))


def rows_of(out: Path) -> list[tuple[str, int]]:
    return sorted((file.split("/")[-2], row) for file, row, _ in labels_in(out))


def test_excluded_rows_are_counted_and_the_rest_is_scored(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    lake = lake_of_days(tmp_path / "lake")
    where = ("--where", "dt >= '2' and n in ('1', '4', '5')")
    summary = jobs.run(lake, "--output", out, "--unit-rows", "5", *where)
    assert summary.ledger.told() == "6 labelled + 0 rejected + 0 reused + 18 excluded"
    assert summary.ledger.expected == 24
    assert summary.ledger.balanced
    assert rows_of(out) == [(f"dt={day}", row) for day in (2, 3) for row in (1, 4, 5)]
    assert is_complete(out, "dt=2")
    assert last_run(out)["no_shards"]["excluded"] == {"files": 1, "first": [f"{lake}/dt=1"]}
    result = verified(out, lake, *where)
    assert (result.rows, result.labelled, result.excluded) == (24, 6, 18)
    again = jobs.run(lake, "--output", out, *where)
    assert again.ledger.told() == "0 labelled + 0 rejected + 24 reused"
    assert again.labelled == summary.labelled


def test_partitions_may_be_others_every_night_and_conditions_on_rows_may_not(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    lake = lake_of_days(tmp_path / "lake")
    jobs.run(lake, "--output", out, "--where", "dt = '1' and n < 6")
    second = jobs.run(lake, "--output", out, "--where", "n<6.0 AND dt > '1'", "--on-deleted",
                      "retire")  # fmt: skip
    assert second.ledger.told() == "12 labelled + 0 rejected + 0 reused + 12 excluded"
    assert len(rows_of(out)) == 18, "what is not wanted tonight is not gone"
    problem = jobs.failing(lake, "--output", out, "--where", "n < 7")
    assert isinstance(problem, OutputError)
    assert jobs.run(lake, "--output", out, "--where", "n < 7", "--on-change", "rescore")
    assert len(rows_of(out)) == 21
    assert isinstance(jobs.failing(lake, "--output", out), OutputError)


def test_a_run_that_dies_goes_on_with_the_same_choice(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    lake = lake_of_days(tmp_path / "lake")
    words = (lake, "--output", out, "--unit-rows", "4", "--sample", "0.5")

    def die(number: int, unit: object) -> None:
        if number == 2:
            raise Kill

    jobs.before_unit = die
    with pytest.raises(Kill):
        jobs.run(*words)
    jobs.before_unit = None
    summary = jobs.run(*words)
    rows = rows_of(out)
    assert 5 < len(rows) < 31
    ledger = summary.ledger
    assert ledger.balanced
    assert ledger.expected == 36
    assert verified(out, lake, "--sample", "0.5").excluded == 36 - len(rows)
    other = tmp_path / "other"
    jobs.run(lake, "--output", other, "--sample", "0.5")
    assert rows_of(other) == rows


def test_rejects_of_rows_that_are_not_wanted_count_for_nothing(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    rows = [(GOOD[0], "1"), ("", "2"), (GOOD[1], "2"), ("", "1")]
    source = write_csv(tmp_path / "a.csv", [*rows, (GOOD[2], "1", "malformed")], "text,n")
    summary = jobs.run(source, "--output", out, "--where", "n = 1", "--max-rejected", "1")
    assert summary.ledger.told() == "1 labelled + 2 rejected + 0 reused + 2 excluded"
    # What cannot be read cannot be compared: nobody knows whether it is wanted.
    found = {one["source_row"]: one["reason"] for one in rejects_in(out)}
    assert found == {3: "empty_text", 4: "malformed_record"}
    nothing = tmp_path / "nothing"
    summary = jobs.run(source, "--output", nothing, "--where", "n = 7", "--max-rejected", "1")
    assert summary.ledger.told() == "0 labelled + 1 rejected + 0 reused + 4 excluded"
    assert verified(nothing, source, "--where", "n = 7").excluded == 4


def test_an_excluded_row_that_is_taken_for_a_lost_one_shows(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    source = write_csv(tmp_path / "a.csv", [(GOOD[n % 3], str(n)) for n in range(9)], "text,n")
    jobs.run(source, "--output", out, "--where", "n > 3")
    [path] = data_files(out)
    file = pq.ParquetFile(path)
    table, metadata = file.read(), file.schema_arrow.metadata or file.metadata.metadata
    pq.write_table(table.slice(1).replace_schema_metadata(metadata), path)
    with pytest.raises(Exception, match="holds 4 rows, its footer"):
        verified(out, source, "--where", "n > 3")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("rating > 3", "no source has a column 'rating'; texts stand in single quotes"),
        ('n = "five"', "no source has a column 'five'"),
        ("N = 5", "did you mean 'n'?"),
        ("DT = '1'", "did you mean 'dt'?"),
        ("dt = '9'", "partitions that --where wants"),
    ],
)
def test_a_choice_of_nothing_known_is_refused(
    jobs: InProcess, tmp_path: Path, out: Path, where: str, message: str
) -> None:
    lake = lake_of_days(tmp_path / "lake")
    problem = jobs.failing(lake, "--output", out, "--where", where)
    assert isinstance(problem, SourceError)
    assert message in str(problem)
    assert not data_files(out)


def test_a_condition_that_cannot_be_parsed_is_refused_at_once(jobs: InProcess, out: Path) -> None:
    problem = jobs.failing("nowhere", "--output", out, "--where", "n = = 5")
    assert isinstance(problem, ConfigError)
    assert "cannot be parsed at character" in str(problem)


def test_a_file_whose_column_cannot_be_compared_is_a_reject(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    pq.write_table(pa.table({"text": [GOOD[0]], "n": [5]}), lake / "a.parquet")
    pq.write_table(pa.table({"text": [GOOD[1]], "n": [[5]]}), lake / "b.parquet")
    jobs.run(lake, "--output", out, "--where", "n = 5", "--max-rejected", "1")
    [reject] = rejects_in(out)
    assert reject["reason"] == "unusable_columns"
    assert "column 'n' is list" in reject["detail"]
    assert len(labels_in(out)) == 1


def test_a_limit_is_a_trial_that_the_next_run_goes_on_from(
    jobs: InProcess, tmp_path: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lake = lake_of_days(tmp_path / "lake")
    summary = jobs.run(lake, "--output", out, "--limit", "17")
    assert summary.outcome == "success"
    assert summary.ledger.told() == "17 labelled + 0 rejected + 0 reused + 19 excluded"
    assert summary.ledger.balanced
    assert (is_complete(out, "dt=1"), is_complete(out, "dt=2")) == (True, False)
    assert "--limit left 7 of its rows to another run" in caplog.text
    assert rows_of(out) == [*(("dt=1", row) for row in range(12)), *(("dt=2", n) for n in range(5))]
    more = jobs.run(lake, "--output", out, "--limit", "20")
    assert more.ledger.balanced
    whole = jobs.run(lake, "--output", out)
    assert whole.ledger.balanced
    assert whole.ledger.excluded == 0
    assert len(rows_of(out)) == 36
    assert is_complete(out, "dt=3")
    assert verified(out, lake).rows == 36


def test_a_replay_knows_no_limit(jobs: InProcess, tmp_path: Path, out: Path) -> None:
    lake = lake_of_days(tmp_path / "lake")
    jobs.run(lake, "--output", out, "--limit", "1")
    assert replay(ReplayConfig(output=str(out), quiet=True)).ledger.labelled >= 35


def test_a_replay_takes_the_partitions_of_all_nights_and_no_others(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    lake = lake_of_days(tmp_path / "lake", ("1", "2", "3", "4"))
    words = ("--output", out, "--max-rejected", "1", "--unit-rows", "4")
    for day in ("1", "2", "4"):
        damaged = (lake / f"dt={day}" / "a.csv").read_text().replace(GOOD[0], "", 2)
        (lake / f"dt={day}" / "a.csv").write_text(damaged)
        jobs.run(lake, *words, "--where", f"dt = '{day}' and (n < 5 or n = 7) and n <> 1")
    rows = rows_of(out)
    assert len(rows) == 3 * 3
    summary = replay(ReplayConfig(output=str(out), quiet=True, max_rejected=1))
    assert summary.rejected == {"empty_text": 6}
    assert rows_of(out) == rows
    where = last_run(out)["config"]["where"]
    assert "\"dt\" = '2'" in where
    assert "'3'" not in where


def test_the_share_of_rejects_is_that_of_the_wanted_rows(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    rows = [("", "1"), (GOOD[0], "1"), *((GOOD[1], "2") for _ in range(500))]
    source = write_csv(tmp_path / "a.csv", rows, "text,n")
    problem = jobs.failing(source, "--output", out, "--where", "n = 1")
    assert isinstance(problem, RejectedRowsError)
    assert "1 of 2 rows were rejected (50.00%" in str(problem)


def test_labels_and_groups_may_be_keys_of_partitions(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    lake = tmp_path / "lake"
    for label in ("pos", "neg", "__HIVE_DEFAULT_PARTITION__"):
        write_csv(lake / f"label={label}" / "a.csv", [(GOOD[0], "x"), (GOOD[1], "y")], "text,label")
    words = (lake, "--output", out, "--label-column", "label", "--group-by", "label")
    summary = jobs.run(*words)
    confusion = summary.counts["confusion"]
    assert sum(sum(row.values()) for row in confusion.values()) == 4
    assert set(confusion) == {"positive", "negative"}
    assert set(summary.counts["groups"]) == {"label=pos", "label=neg", "label=None"}
    plain = tmp_path / "plain"
    jobs.run(lake, "--output", plain)
    recounted = jobs.run(lake, "--output", plain, *words[3:])
    assert recounted.counts["confusion"] == confusion
    assert recounted.counts["groups"].keys() == summary.counts["groups"].keys()
    assert jobs.run(lake, "--output", tmp_path / "columns", "--columns", "text,label")


def test_the_text_column_has_one_of_several_names(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    lake = tmp_path / "lake"
    write_csv(lake / "a.csv", [(GOOD[0], "old")], "review_text,text")
    write_csv(lake / "b.csv", [(GOOD[1], "1")], "text,id")
    write_csv(lake / "c.csv", [("1", "2")], "title,id")
    (lake / "d.jsonl").write_text(json.dumps({"review_text": GOOD[2], "text": 17}) + "\n")
    words = ("--text-column", "review_text, text", "--max-rejected", "1")
    summary = jobs.run(lake, "--output", out, *words)
    assert (summary.ledger.labelled, dict(summary.rejected)) == (3, {"unusable_columns": 1})
    assert "no column 'review_text' or 'text' among 'title', 'id'" in rejects_in(out)[0]["detail"]
    alone = tmp_path / "alone"
    plain = write_csv(tmp_path / "plain.csv", GOOD)
    jobs.run(plain, "--output", alone)
    expected = [label for _, _, label in sorted(labels_in(alone))]
    assert [label for _, _, label in sorted(labels_in(out))] == expected
    assert verified(out, lake, *words[:2]).labelled == 3
    assert jobs.run(lake, "--output", out, *words).ledger.reused == 4


def test_columns_are_joined_by_a_template(jobs: InProcess, tmp_path: Path, out: Path) -> None:
    joined = ["Great: I loved it. {x}", "Awful: a waste.", ": Fine.", "Only: "]
    plain = write_csv(tmp_path / "plain.csv", joined)
    jobs.run(plain, "--output", tmp_path / "plain")
    expected = [label for _, _, label in sorted(labels_in(tmp_path / "plain"))]
    rows = [
        {"title": "Great", "body": "I loved it. {x}"},
        {"title": "Awful", "body": "a waste."},
        {"title": None, "body": "Fine."},
        {"title": "Only"},
        {"title": None, "body": None},
        {"title": "", "body": " "},
        {"title": 17, "body": "number"},
    ]
    source = tmp_path / "a.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("--text-column", "title,body", "--template", "{title}: {body}", "--max-rejected", "1")
    summary = jobs.run(source, "--output", out, *words)
    assert [label for _, _, label in sorted(labels_in(out))] == expected
    found = {one["source_row"]: one["reason"] for one in rejects_in(out)}
    assert found == {4: "null_text", 5: "empty_text", 6: "text_not_string"}
    assert pq.read_table(data_files(out)[0])["title"].to_pylist() == [
        "Great", "Awful", None, "Only",
    ]  # fmt: skip
    assert verified(out, source, *words[:2]).labelled == 4
    assert last_run(out)["config"]["template"] == "{title}: {body}"
    assert summary.ledger.balanced
    other = jobs.failing(source, "--output", out, *words[:3], "{title} {body}", *words[4:])
    assert isinstance(other, OutputError)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--text-column", "a,b", "--template", "{a}."), "leaves out 'b' of --text-column"),
        (("--template", "{title}. {body}"), "--text-column title,body"),
        (("--text-column", "a,,b"), "a name is empty"),
        (("--text-column", "a,a"), "a name is there twice"),
        (("--text-column", "a,b", "--label-column", "b"), "'b' is the --text-column"),
        (("--sample", "0"), "--sample"),
        (("--limit", "0"), "--limit"),
    ],
)
def test_what_contradicts_itself_is_refused(
    jobs: InProcess, out: Path, words: tuple[str, ...], message: str
) -> None:
    problem = jobs.failing("nowhere", "--output", out, *words)
    assert isinstance(problem, ConfigError)
    assert message in str(problem)


def test_a_name_with_a_comma_stands_in_quotes(jobs: InProcess, tmp_path: Path, out: Path) -> None:
    source = write_csv(tmp_path / "a.csv", GOOD, "text")
    source.write_text(source.read_text().replace("text", '"my, text"', 1))
    assert jobs.run(source, "--output", out, "--text-column", '"my, text"').ledger.labelled == 3
    assert verified(out, source, "--text-column", '"my, text"').labelled == 3
