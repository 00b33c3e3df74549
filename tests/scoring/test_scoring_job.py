"""Whole runs on a local Ray: the output contract, resuming, damage, and what is told about it."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import ray
import tiny_models

from sentiment.errors import OutputError, RejectedRowsError
from sentiment.ledger.summary import RunSummary
from sentiment.output.folder import Output
from sentiment.output.layout import REJECT_SCHEMA, added_columns
from sentiment.output.lease import hold
from sentiment.output.receipt import Footer
from sentiment.scoring.job import score
from sentiment.settings.jobs import ScoreConfig

pytestmark = pytest.mark.ray

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "reviews"
DAYS = ["dt=2026-11-18", "dt=2026-11-19", "dt=2026-11-20"]
PARTS = ["part-0.parquet", "part-0.parquet", "part-0.csv"]


def run(sources: Path, output: Path, model: Path, **settings: Any) -> RunSummary:
    return score(
        ScoreConfig(
            sources=[str(sources)], output=str(output), model=str(model), precision="fp32",
            quiet=True, **settings,
        )
    )  # fmt: skip


def read(path: Path) -> pa.Table:
    return pq.read_table(path, partitioning=None)


def data_files(output: Path) -> list[Path]:
    private = output / "_sentiment"
    return sorted(path for path in output.rglob("*.parquet") if private not in path.parents)


def reject_files(output: Path) -> list[Path]:
    return sorted((output / "_sentiment" / "rejected").rglob("*.pq"))


def footer_of(path: Path) -> Footer:
    footer = Footer.from_metadata(pq.read_metadata(path).metadata)
    assert footer is not None
    return footer


def results(paths: list[Path]) -> dict[str, tuple[str, float]]:
    """Label and score by review id."""
    rows = [row for path in paths for row in read(path).to_pylist()]
    return {str(row["review_id"]): (row["sentiment"], row["sentiment_score"]) for row in rows}


class Run:
    """The examples, scored once for all tests that only look."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.lake, self.output, self.model = folder / "lake", folder / "out", model
        shutil.copytree(EXAMPLES, self.lake)
        self.summary = self.again()

    def again(self, **settings: Any) -> RunSummary:
        return run(
            self.lake, self.output, self.model,
            label_column="label", max_rejected=0.05, **settings,
        )  # fmt: skip


@pytest.fixture(scope="module")
def scored(local_ray: None, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("scored"), tiny_model)


def test_the_ledger_of_the_examples(scored: Run) -> None:
    ledger = scored.summary.ledger
    assert (ledger.expected, ledger.labelled, ledger.rejected, ledger.reused) == (326, 320, 6, 0)
    assert ledger.balanced
    assert sum(scored.summary.labelled.values()) == 320
    assert scored.summary.rejected == {
        "empty_text": 3,
        "malformed_record": 1,
        "null_text": 1,
        "undecodable_text": 1,
    }


def test_each_partition_has_its_file_and_its_success(scored: Run) -> None:
    files = data_files(scored.output)
    assert [path.parent.name for path in files] == DAYS
    for path, part, last in zip(files, PARTS, [131, 130, 62], strict=True):
        assert path.name.startswith(f"{part}-")
        assert path.name.endswith(f"-0000000000-{last:010d}.parquet")
    assert sorted(path.parent.name for path in scored.output.rglob("_SUCCESS")) == DAYS
    assert not [path for path in scored.output.rglob(".*") if path.is_file()]


def test_source_columns_come_first_and_unchanged(scored: Run) -> None:
    """One shard is CSV, which knows text only, so all columns are text."""
    for path, day in zip(data_files(scored.output)[:2], DAYS, strict=False):
        source, data = read(scored.lake / day / "part-0.parquet"), read(path)
        source = source.cast(pa.schema([(name, pa.string()) for name in source.column_names]))
        assert data.schema == pa.schema([*source.schema, *added_columns("sentiment")])
        rows = data["sentiment_source_row"]
        assert data.select(source.column_names).equals(source.take(rows))
        assert set(data["sentiment_source_file"].to_pylist()) == {
            str(scored.lake / day / "part-0.parquet")
        }


def test_csv_columns_are_text(scored: Run) -> None:
    data = read(data_files(scored.output)[2])
    known = {row["review_id"]: row for row in tiny_models.example_reviews()}
    source = data.column_names[: -len(added_columns("sentiment"))]
    assert set(data.schema.types[: len(source)]) == {pa.string()}
    assert data.num_rows == 60
    for row in data.select(source).to_pylist():
        assert row == {name: str(known[row["review_id"]][name]) for name in source}


def test_answers_are_in_range(scored: Run) -> None:
    for path in data_files(scored.output):
        for row in read(path).to_pylist():
            assert row["sentiment"] in ("negative", "positive")
            assert 0.5 <= row["sentiment_score"] <= 1
            assert 0 <= row["sentiment_off_label"] <= 1
            assert row["sentiment_truncated"] == (row["sentiment_tokens"] > 64)


def test_rejects_are_the_bad_rows(scored: Run) -> None:
    tables = [read(path) for path in reject_files(scored.output)]
    assert all(table.schema.equals(REJECT_SCHEMA) for table in tables)
    found = {
        (row["source_file"].rpartition("lake/")[2], row["source_row"]): row["reason"]
        for table in tables
        for row in table.to_pylist()
    }
    assert found == {
        (f"{DAYS[0]}/{PARTS[0]}", 41): "null_text",
        (f"{DAYS[0]}/{PARTS[0]}", 97): "empty_text",
        (f"{DAYS[1]}/{PARTS[1]}", 73): "empty_text",
        (f"{DAYS[2]}/{PARTS[2]}", 12): "malformed_record",
        (f"{DAYS[2]}/{PARTS[2]}", 33): "undecodable_text",
        (f"{DAYS[2]}/{PARTS[2]}", 50): "empty_text",
    }
    named = [footer_of(path).reject_file for path in data_files(scored.output)]
    assert [str(path.relative_to(scored.output)) for path in reject_files(scored.output)] == named


def test_the_run_is_told_in_files(scored: Run) -> None:
    folder = scored.output / "_sentiment" / "runs" / scored.summary.run_id
    told = json.loads((folder / "run.json").read_text())
    ledger = {"expected": 326, "labelled": 320, "rejected": 6, "reused": 0, "excluded": 0}
    assert told["ledger"] == ledger
    assert told["quality"]["weighted avg"]["support"] == 320
    assert told["config"]["label_column"] == "label"
    assert (told["precision"], told["model"]["labels"]) == ("fp32", ["negative", "positive"])
    table = read(folder / "metrics.pq").to_pandas()
    assert table[table["reason"].isna()].groupby("partition")["rows"].sum().to_dict() == dict(
        zip(DAYS, [130, 130, 60], strict=True)
    )


def test_the_run_tells_where_its_time_went(scored: Run) -> None:
    told = scored.summary.run
    time = told["time"]
    assert list(time["phases"]) == [
        "find model", "list and index", "try model", "start cluster", "plan", "start actors",
        "score", "finish",
    ]  # fmt: skip
    assert sum(time["phases"].values()) == pytest.approx(scored.summary.wall_sec, rel=0.1)
    assert told["started_at"] <= told["finished_at"]
    assert {stage: one["rows"] for stage, one in time["stages"].items()} == dict.fromkeys(
        ("read", "tokenise", "score", "write"), 326
    )
    assert all(one["sec"] > 0 for one in time["stages"].values())
    # The footer is inside of the file, and so knows only what came before the writing.
    assert time["stages"]["write"]["sec"] > scored.summary.counts["stage_sec"]["write"]
    # Ray Data still shows its actors: without them these are null.
    assert time["model_load_sec"] > 0
    assert time["actor_sec"] > time["model_load_sec"]
    assert 0 <= time["wait_sec"] < time["actor_sec"]
    first, last = time["timeline"][0], time["timeline"][-1]
    assert (first["rows"], last["rows"], last["rejected"]) == (0, 326, 6)
    assert last["sec"] <= scored.summary.wall_sec
    tokens = sum(one["tokens"] for one in scored.summary.counts["labels"].values())
    assert last["tokens"] == tokens


def test_footers_agree_with_the_summary(scored: Run) -> None:
    footers = [footer_of(path) for path in data_files(scored.output)]
    assert sum(one.labelled for one in footers) == 320
    assert {one.model_digest for one in footers} == {
        json.loads(scored.summary.to_json())["model"]["digest"]
    }


def test_the_same_command_again_scores_nothing(
    scored: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object) -> None:
        raise AssertionError("the pipeline was started")

    monkeypatch.setattr("sentiment.scoring.execution.run_pipeline", started)
    times = {path: path.stat().st_mtime_ns for path in data_files(scored.output)}
    summary = scored.again()
    assert (summary.ledger.labelled, summary.ledger.rejected) == (0, 0)
    assert summary.ledger.reused == summary.ledger.expected == 326
    assert summary.labelled == scored.summary.labelled
    assert summary.quality == scored.summary.quality
    assert {path: path.stat().st_mtime_ns for path in data_files(scored.output)} == times


def test_only_what_is_missing_or_changed_is_scored(scored: Run) -> None:
    """Runs after the tests that only look: the order in this file is the order of a lake's life."""
    first, second, third = data_files(scored.output)
    before = results([first, second, third])
    kept = second.stat().st_mtime_ns
    first.unlink()
    csv = scored.lake / DAYS[2] / PARTS[2]
    with csv.open("ab") as file:
        file.write(b'r9999,film,5,positive,"Came back for more."\r\n')
    summary = scored.again()
    ledger = summary.ledger
    assert (ledger.expected, ledger.labelled, ledger.rejected) == (327, 130 + 61, 2 + 3)
    assert ledger.reused == 131
    assert second.stat().st_mtime_ns == kept
    assert not third.exists(), "the file of the shorter shard is gone"
    files = data_files(scored.output)
    assert [path.parent.name for path in files] == DAYS
    assert files[2].name.endswith("-0000000063.parquet")
    assert len(reject_files(scored.output)) == 3
    assert sorted(path.parent.name for path in scored.output.rglob("_SUCCESS")) == DAYS
    after = results(files)
    assert after.pop("r9999")[0] in ("negative", "positive")
    assert {key: label for key, (label, _) in after.items()} == {
        key: label for key, (label, _) in before.items()
    }
    for key, (_, value) in after.items():
        assert value == pytest.approx(before[key][1], abs=1e-4)


def test_every_format_and_unit_size_gives_the_same_answers(
    local_ray: None, tiny_model: Path, tmp_path: Path
) -> None:
    reviews = tiny_models.example_reviews()[:30]
    rows = [{"review_id": review["review_id"], "text": review["text"]} for review in reviews]
    table = pa.Table.from_pylist(rows)
    for name in ("parquet", "csv", "jsonl", "shuffled"):
        (tmp_path / name).mkdir()
    pq.write_table(table, tmp_path / "parquet" / "a.parquet")
    pq.write_table(table.take(list(range(29, -1, -1))), tmp_path / "shuffled" / "a.parquet")
    pyarrow.csv.write_csv(table, tmp_path / "csv" / "a.csv")
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "jsonl" / "a.jsonl").write_text(lines)
    sources = [str(tmp_path / name) for name in ("parquet", "csv", "jsonl", "shuffled")]
    outputs = [tmp_path / "whole", tmp_path / "pieces"]
    plans = PlanLog()
    logging.getLogger("ray.data").addHandler(plans)
    try:
        for output, settings in zip(
            outputs, [{}, {"unit_rows": 15, "batch_tokens": 64}], strict=True
        ):
            config = {"sources": sources, "output": str(output), "model": str(tiny_model)}
            score(ScoreConfig(**config, precision="fp32", quiet=True, **settings))
    finally:
        logging.getLogger("ray.data").removeHandler(plans)
    whole, pieces = (data_files(output) for output in outputs)
    # A unit is a file, so whole blocks came through. Text is cut only where its index allows.
    assert len(whole) == 4
    assert sum(path.name.startswith("a.parquet") for path in pieces) == 4
    expected = results(whole[:1])
    assert len(expected) == 30
    shards = {footer_of(path).source_file for path in pieces}
    assert len(shards) == 4
    groups = [[path] for path in whole]
    groups += [[path for path in pieces if footer_of(path).source_file == one] for one in shards]
    for group in groups:
        found = results(group)
        assert {key: label for key, (label, _) in found.items()} == {
            key: label for key, (label, _) in expected.items()
        }
        for key, (_, value) in found.items():
            assert value == pytest.approx(expected[key][1], abs=1e-4)
    for plan in plans.found:
        read, tokenise, actors, commit = plan.split(" -> ")[-4:]
        assert "ReadReviewShards" in read
        assert "Tokenise" in tokenise
        assert actors.startswith("ActorPoolMapOperator[MapBatches(PackedScorer)]")
        assert "Commit" in commit
    assert len(plans.found) == 2


class PlanLog(logging.Handler):
    """Ray Data's own description of what it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith("Execution plan"):
            self.found.append(message)


def test_free_generation_rejects_what_is_no_label(
    local_ray: None, tiny_model: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in.csv"
    source.write_text("review_id,text\n1,Good soup\n2,Bad soup\n3,\n")
    output = tmp_path / "out"
    summary = run(source, output, tiny_model, decode="generate", max_new_tokens=2, max_rejected=1.0)
    assert summary.ledger.balanced
    assert summary.rejected["empty_text"] == 1
    # Random weights do not spell a label.
    assert summary.rejected["off_label_text"] == 2
    [path] = data_files(output)
    assert read(path).num_rows == 0
    details = [row["detail"] for row in read(reject_files(output)[0]).to_pylist()]
    assert not [detail for detail in details if detail and "soup" in detail]


def test_damaged_files_do_not_stop_the_good_ones(
    local_ray: None, tiny_model: Path, tmp_path: Path
) -> None:
    lake, output = tmp_path / "lake", tmp_path / "out"
    lake.mkdir()
    (lake / "a_torn.parquet").write_bytes(b"PAR1 torn")
    (lake / "b_empty.csv").write_text("text\n")
    (lake / "c_void.csv").write_bytes(b"")
    (lake / "d_good.csv").write_text("text\nGood soup\nBad soup\n")
    with pytest.raises(RejectedRowsError, match=r"--max-rejected is 1.00%") as caught:
        run(lake, output, tiny_model)
    assert str(output / "_sentiment" / "rejected") in str(caught.value)
    by_shard = {path.name.split("-")[0]: footer_of(path) for path in data_files(output)}
    assert {name: (one.labelled, one.rejected) for name, one in by_shard.items()} == {
        "a_torn.parquet": (0, 1),
        "b_empty.csv": (0, 0),
        "c_void.csv": (0, 0),
        "d_good.csv": (2, 0),
    }
    assert (output / "_SUCCESS").exists()
    summary = run(lake, output, tiny_model, max_rejected=1.0)
    assert summary.ledger.reused == summary.ledger.expected
    assert len(list((output / "_sentiment" / "runs").iterdir())) == 2


def test_a_failure_on_a_worker_is_told_in_one_line(
    local_ray: None, tiny_model: Path, tmp_path: Path
) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out"
    source.write_text('text\nGood soup\n""\n')
    (output / "_sentiment").mkdir(parents=True)
    (output / "_sentiment" / "rejected").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written") as caught:
        run(source, output, tiny_model)
    assert type(caught.value) is OutputError
    assert "\n" not in str(caught.value)
    assert data_files(output) == []


def test_a_second_run_on_the_output_is_refused(
    scored: Run, tiny_model: Path, tmp_path: Path
) -> None:
    before = sorted(scored.output.rglob("*"))
    with (
        hold(Output.open(str(scored.output)), "20261120T010203-abcdef"),
        pytest.raises(OutputError, match=r"run 20261120T010203-abcdef .* is writing to it"),
    ):
        scored.again()
    assert sorted(scored.output.rglob("*")) == before


def test_sources_that_are_gone_are_told_and_retired_on_request(
    local_ray: None, tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lake, output = tmp_path / "lake", tmp_path / "out"
    lake.mkdir()
    for name in ("a", "b"):
        pq.write_table(pa.table({"text": [f"{name} {n}" for n in range(5)]}), lake / f"{name}.pq")
    run(lake, output, tiny_model)
    (lake / "a.pq").unlink()
    kept = run(lake, output, tiny_model)
    assert "sources that are gone: 1; their 5 rows stay in the output" in caplog.text
    assert kept.run["gone"] == {"sources": 1, "files": 1, "rows": 5, "retired": False}
    assert len(data_files(output)) == 2
    retired = run(lake, output, tiny_model, on_deleted="retire")
    assert retired.run["gone"]["retired"] is True
    assert [path.name[:4] for path in data_files(output)] == ["b.pq"]
    assert (output / "_SUCCESS").exists()


def test_an_attached_ray_is_left_running(scored: Run) -> None:
    assert ray.is_initialized()
