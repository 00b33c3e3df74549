"""What was rejected is scored again with the settings it was scored with, ledger intact."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment.errors import OutputError, SourceError
from sentiment.output.commit import serialise
from sentiment.output.layout import REJECT_SCHEMA, REJECTED_FOLDER
from sentiment.output.receipt import Footer
from sentiment.scoring.job import score
from sentiment.scoring.replay import replay
from sentiment.settings.jobs import ReplayConfig, ScoreConfig

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def made(local_ray: None, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards, one of them with a null, in `lake`, scored into `out`."""
    folder = tmp_path_factory.mktemp("replay")
    lake = folder / "lake"
    lake.mkdir()
    pq.write_table(pa.table({"text": [f"fine {n}" for n in range(6)]}), lake / "a.parquet")
    pq.write_table(pa.table({"text": ["good", None, "bad"]}), lake / "b.parquet")
    score(
        ScoreConfig(
            sources=[str(lake)], output=str(folder / "out"), model=str(tiny_model),
            precision="fp32", unit_rows=3, max_rejected=0.5, quiet=True,
        )
    )  # fmt: skip
    return folder


@pytest.fixture
def output(made: Path, tmp_path: Path) -> Path:
    """A copy to replay in."""
    shutil.copytree(made / "out", tmp_path / "out")
    return tmp_path / "out"


def rows_of(output: Path) -> list[dict[str, object]]:
    files = sorted(path for path in output.glob("*.parquet"))
    return [row for path in files for row in pq.read_table(path).to_pylist()]


def reject_first_row(output: Path) -> None:
    """Make the first unit what it were had its first row been rejected."""
    path = min(output.glob("a.parquet-*.parquet"))
    table = pq.read_table(path)
    footer = Footer.from_metadata(pq.read_metadata(path).metadata)
    assert footer is not None
    metrics = {**footer.metrics, "rejected": {"scoring_error": 1}}
    footer = dataclasses.replace(footer, labelled=2, rejected=1, metrics=metrics)
    record = {
        "source_file": footer.source_file, "source_row": 0, "source_row_end": 0, "stage": "score",
        "reason": "scoring_error", "detail": None, "attempts": 1, "row_json": "{}",
    }  # fmt: skip
    rejects = output / REJECTED_FOLDER / path.name
    rejects.parent.mkdir(parents=True, exist_ok=True)
    rejects.write_bytes(serialise(pa.Table.from_pylist([record], REJECT_SCHEMA)))
    path.write_bytes(serialise(table.slice(1), footer))


def test_what_can_be_scored_now_moves_over(output: Path) -> None:
    before = rows_of(output)
    reject_first_row(output)
    assert len(rows_of(output)) == len(before) - 1
    summary = replay(ReplayConfig(output=str(output), max_rejected=0.5, quiet=True))
    ledger = summary.ledger
    # The units with rejects are scored anew, one of them in vain; the third is reused.
    assert (ledger.expected, ledger.labelled, ledger.rejected, ledger.reused) == (9, 5, 1, 3)
    assert rows_of(output) == before
    rejected = sorted(path.name for path in (output / REJECTED_FOLDER).iterdir())
    assert [name[:9] for name in rejected] == ["b.parquet"]
    assert (output / "_SUCCESS").exists()


def test_a_replay_goes_by_the_settings_of_the_run(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    summary = replay(ReplayConfig(output="out", max_rejected=0.5, quiet=True))
    assert summary.run["config"]["unit_rows"] == 3
    assert summary.ledger.balanced


def test_an_output_without_runs_has_nothing_to_replay(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no run has been here"):
        replay(ReplayConfig(output=str(tmp_path)))


def test_sources_that_are_gone_cannot_be_replayed(made: Path, output: Path) -> None:
    [path] = output.glob("_sentiment/runs/*/run.json")
    path.write_text(path.read_text().replace(f"{made}/lake", f"{made}/elsewhere"))
    with pytest.raises(SourceError, match="none of its 1 sources"):
        replay(ReplayConfig(output=str(output)))


def test_settings_that_cannot_be_read_are_named(output: Path) -> None:
    [path] = output.glob("_sentiment/runs/*/run.json")
    path.write_text("{}")
    with pytest.raises(OutputError, match=r"run\.json: its settings cannot be read"):
        replay(ReplayConfig(output=str(output)))


@pytest.mark.parametrize("content", ["{", '{"config": {"sources": 7}}'])
def test_a_damaged_run_costs_no_replay_of_the_others(
    output: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    reject_first_row(output)
    damaged = output / "_sentiment" / "runs" / "99991231T000000-ffffff" / "run.json"
    damaged.parent.mkdir()
    damaged.write_text(content)
    with caplog.at_level("WARNING", logger="sentiment"):
        summary = replay(ReplayConfig(output=str(output), max_rejected=0.5, quiet=True))
    assert (summary.ledger.labelled, summary.ledger.reused) == (5, 3)
    assert f"{damaged}: left out (" in caplog.text
