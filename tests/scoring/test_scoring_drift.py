"""A night is judged whole, and an alarm stays until somebody accepts it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from in_process import InProcess, Kill, data_files, write_parquet

from sentiment.block import REASONS
from sentiment.errors import DriftError
from sentiment.model.locate import BUILTIN_FOLDER
from sentiment.output.folder import Output
from sentiment.output.unjudged import add_unjudged, read_unjudged, settle_unjudged
from sentiment.source.shards import Unit

POSITIVE = [f"A wonderful film number {n}, I loved it, great and moving." for n in range(400)]
NEGATIVE = [f"Terrible film number {n}, awful, a waste of time, I hated it." for n in range(400)]
USUAL = [text for pair in zip(POSITIVE, NEGATIVE, strict=True) for text in pair]
COMPARING = ("--drift-runs", "7", "--drift-psi", "0.9")


@pytest.fixture
def lake(jobs: InProcess, tmp_path: Path) -> Path:
    """A lake whose usual nights are scored, by a model that tells good from bad."""
    jobs.model = BUILTIN_FOLDER
    for day in range(2):
        write_parquet(tmp_path / "lake" / f"dt={day}" / "r.parquet", USUAL[:300])
        jobs.run(tmp_path / "lake", "--output", tmp_path / "out", *COMPARING)
    return tmp_path / "lake"


def last_run(out: Path) -> dict[str, Any]:
    paths = (out / "_sentiment" / "runs").glob("*/run.json")
    newest = max(paths, key=lambda path: path.stat().st_mtime_ns)
    return dict(json.loads(newest.read_text()))


def test_an_alarm_stays_until_it_is_accepted(jobs: InProcess, lake: Path, out: Path) -> None:
    write_parquet(lake / "dt=2" / "r.parquet", NEGATIVE[:300])
    command = (lake, "--output", out, *COMPARING)
    for _ in range(3):
        error = jobs.failing(*command)
        assert isinstance(error, DriftError)
        assert error.exit_code == 5
        assert "--accept-drift" in str(error)
        assert last_run(out)["drift"]["rows"] == 300
    accepted = jobs.run(*command, "--accept-drift")
    assert (accepted.drift.verdict, accepted.drift.accepted) == ("drift", True)
    assert last_run(out)["outcome"] == "success"
    assert last_run(out)["drift"]["accepted"] is True
    assert jobs.run(*command).drift.verdict == "not compared", "nothing is left to judge"
    # From now on this is usual.
    write_parquet(lake / "dt=3" / "r.parquet", NEGATIVE[50:350])
    assert jobs.run(*command).drift.verdict == "steady"
    write_parquet(lake / "dt=4" / "r.parquet", USUAL[:300])
    assert isinstance(jobs.failing(*command), DriftError)


def test_an_alarm_goes_with_its_rows(jobs: InProcess, lake: Path, out: Path) -> None:
    write_parquet(lake / "dt=2" / "r.parquet", NEGATIVE[:300])
    command = (lake, "--output", out, *COMPARING, "--on-deleted", "retire")
    jobs.failing(*command)
    shutil.rmtree(lake / "dt=2")
    assert jobs.run(*command).outcome == "success"


def test_accepting_what_is_usual_changes_nothing(jobs: InProcess, lake: Path, out: Path) -> None:
    write_parquet(lake / "dt=2" / "r.parquet", USUAL[100:400])
    summary = jobs.run(lake, "--output", out, *COMPARING, "--accept-drift")
    assert (summary.drift.verdict, summary.drift.accepted) == ("steady", False)


@pytest.mark.parametrize("killed_after", [1, 5])
def test_a_night_that_was_killed_is_compared_whole(
    jobs: InProcess, lake: Path, out: Path, killed_after: int
) -> None:
    """The last rows alone would look as usual."""
    write_parquet(lake / "dt=2" / "r.parquet", [*NEGATIVE[:300], *USUAL[:100]])
    command = (lake, "--output", out, *COMPARING, "--unit-rows", "50")

    def kill(number: int, unit: Unit) -> None:
        if number == killed_after:
            raise Kill

    jobs.before_unit = kill
    with pytest.raises(Kill):
        jobs.run(*command)
    jobs.before_unit = None
    error = jobs.failing(*command)
    assert isinstance(error, DriftError)
    record = last_run(out)
    assert record["drift"]["rows"] == 400
    tonight = record["tonight"]["labels"].values()
    assert sum(one["rows"] for one in tonight) == 400
    scored = record["scored"]["labels"].values()
    assert sum(one["rows"] for one in scored) == 400 - 50 * killed_after


def test_an_alarm_of_one_lake_is_not_settled_by_another(
    jobs: InProcess, lake: Path, out: Path, tmp_path: Path
) -> None:
    write_parquet(lake / "dt=2" / "r.parquet", NEGATIVE[:300])
    jobs.failing(lake, "--output", out, *COMPARING)
    write_parquet(tmp_path / "other" / "r.parquet", USUAL[:300])
    jobs.run(tmp_path / "other", "--output", out, *COMPARING)
    assert isinstance(jobs.failing(lake, "--output", out, *COMPARING), DriftError)


def test_a_replay_settles_no_alarm(jobs: InProcess, lake: Path, out: Path) -> None:
    write_parquet(lake / "dt=2" / "r.parquet", NEGATIVE[:300])
    jobs.failing(lake, "--output", out, *COMPARING)
    jobs.run(lake, "--output", out, again=REASONS)
    assert isinstance(jobs.failing(lake, "--output", out, *COMPARING), DriftError)


def test_a_run_that_fails_before_it_commits_leaves_nothing_to_judge(
    jobs: InProcess, lake: Path, out: Path
) -> None:
    assert read_unjudged(Output.open(str(out))) == frozenset()
    write_parquet(lake / "dt=2" / "r.parquet", USUAL[:300])
    jobs.failing(lake, "--output", out, *COMPARING, "--max-source-tokens", "8")
    assert read_unjudged(Output.open(str(out))) == frozenset()
    assert len(data_files(out)) == 2


def test_the_record_survives_damage(tmp_path: Path) -> None:
    output = Output.open(str(tmp_path))
    for epoch in (5, 3, 5):
        add_unjudged(output, epoch)
    assert read_unjudged(output) == {3, 5}
    settle_unjudged(output, [3, 9])
    assert read_unjudged(output) == {5}
    for damage in (b"", b"{", b'["x"]', b"7", b"null"):
        (tmp_path / "_sentiment" / "unjudged.json").write_bytes(damage)
        assert read_unjudged(output) == frozenset()
