"""Rows of different settings never mix in one output, and the same command always goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from in_process import GOOD, InProcess, assert_every_row_once, data_files, is_complete, write_csv

from sentiment.block import REASONS, TRANSIENT_REASONS
from sentiment.engine import gate
from sentiment.errors import ModelError, OutputError
from sentiment.model.find import find_model
from sentiment.model.locate import BUILTIN_FOLDER
from sentiment.model.tokenizer import Tokeniser, tokenizer_digest
from sentiment.output.folder import Output
from sentiment.output.settings import read_settings
from sentiment.scoring.replay import replay
from sentiment.scoring.setup import find_calibration, model_anywhere
from sentiment.settings.jobs import ReplayConfig


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    for day in (1, 2):
        write_csv(tmp_path / "lake" / f"dt={day}" / "r.csv", GOOD)
    return tmp_path / "lake"


def test_new_sources_with_other_settings_are_refused(
    jobs: InProcess, lake: Path, out: Path
) -> None:
    jobs.run(lake / "dt=1", "--output", out)
    before = data_files(out)
    error = jobs.failing(lake / "dt=2", "--output", out, "--max-source-tokens", "8")
    assert isinstance(error, OutputError)
    assert "rows of two settings would mix" in str(error)
    assert data_files(out) == before
    assert is_complete(out, "dt=1")


def test_so_they_are_in_an_output_without_a_record(jobs: InProcess, lake: Path, out: Path) -> None:
    """Earlier versions kept none."""
    jobs.run(lake / "dt=1", "--output", out)
    (out / "_sentiment" / "settings.json").unlink()
    jobs.failing(lake / "dt=2", "--output", out, "--max-source-tokens", "8")
    jobs.run(lake / "dt=2", "--output", out)
    assert read_settings(Output.open(str(out))) is not None


def test_a_part_is_not_scored_anew_with_other_settings(
    jobs: InProcess, lake: Path, out: Path
) -> None:
    jobs.run(lake, "--output", out)
    other = ("--max-source-tokens", "8", "--on-change", "rescore")
    error = jobs.failing(lake / "dt=2", "--output", out, *other)
    assert "with all of its sources" in str(error)
    jobs.run(lake, "--output", out, *other)
    assert_every_row_once(out, 6)
    jobs.run(lake / "dt=2", "--output", out, "--max-source-tokens", "8")


def test_sources_that_are_gone_need_to_go_before_others_are_scored_anew(
    jobs: InProcess, lake: Path, out: Path
) -> None:
    jobs.run(lake, "--output", out)
    shutil.rmtree(lake / "dt=1")
    other = ("--max-source-tokens", "8", "--on-change", "rescore")
    assert "--on-deleted retire" in str(jobs.failing(lake, "--output", out, *other))
    jobs.run(lake, "--output", out, *other, "--on-deleted", "retire")
    assert_every_row_once(out, 3)


def test_the_precision_of_the_output_stays(
    jobs: InProcess, lake: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` is another one on another processor, or where no GPU came up."""

    def on(precision: str) -> None:
        monkeypatch.setattr(
            gate, "resolve_precision", lambda asked, _: precision if asked == "auto" else asked
        )

    on("bf16")
    jobs.run(lake / "dt=1", "--output", out, "--precision", "auto")
    on("fp32")
    summary = jobs.run(lake, "--output", out, "--precision", "auto")
    assert (summary.run["precision"], summary.ledger.reused) == ("bf16", 3)
    error = jobs.failing(lake, "--output", out, "--precision", "fp32")
    assert "other settings" in str(error)


def test_the_precision_of_another_model_is_not_adopted(
    jobs: InProcess, lake: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.run(lake, "--output", out, "--precision", "bf16")
    monkeypatch.setattr(
        gate, "resolve_precision", lambda asked, _: "fp32" if asked == "auto" else asked
    )
    other = ("--max-source-tokens", "8", "--on-change", "rescore", "--precision", "auto")
    assert jobs.run(lake, "--output", out, *other).run["precision"] == "fp32"


def test_a_damaged_record_costs_nothing(jobs: InProcess, lake: Path, out: Path) -> None:
    jobs.run(lake, "--output", out)
    for damage in (b"", b"[]", b'{"config_digest": 1}', b"\xff"):
        (out / "_sentiment" / "settings.json").write_bytes(damage)
        assert jobs.run(lake, "--output", out).ledger.reused == 6


# What decides ids is part of the digest.


@pytest.mark.parametrize("name", ["vocab.txt", "vocab.json", "merges.txt", "tokenizer.model"])
def test_every_file_of_a_tokenizer_is_digested(tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(BUILTIN_FOLDER, tmp_path / "model"))
    before = find_model(str(folder)).digest
    (folder / name).write_text("one")
    after = find_model(str(folder)).digest
    (folder / name).write_text("two")
    assert len({before, after, find_model(str(folder)).digest}) == 3


def test_the_tokenizer_counts_as_it_works() -> None:
    tokeniser = Tokeniser(BUILTIN_FOLDER, "{text}", 64, "head")
    described = json.loads(tokeniser._vocabulary_json)

    def changed(**changes: Any) -> str:
        return tokenizer_digest(json.dumps({**described, **changes}))

    same = tokeniser.digest
    assert changed(version="9.0", truncation={"max_length": 3}, padding={}) == same
    assert changed(something_new=None) == same
    assert changed(normalizer=None) != same
    vocabulary = described["model"]["vocab"]
    swapped = {**described["model"], "vocab": [*vocabulary[:-2], vocabulary[-1], vocabulary[-2]]}
    assert changed(model=swapped) != same


# A calibration is for the scores it was fitted on.


@pytest.mark.parametrize(
    "asked",
    [
        {"labels": ["bad", "good"]},
        {"template": "review: {text}"},
        {"max_source_tokens": 8},
        {"long_text": "windows"},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_a_calibration_that_was_fitted_for_others_is_not_used(
    asked: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    model = find_model("builtin", **asked)
    assert find_calibration(None, model) is None
    assert "scores of this run are not calibrated" in caplog.text
    with pytest.raises(ModelError, match=r"fitted with another --.*--calibration none"):
        find_calibration(str(BUILTIN_FOLDER / "calibration.json"), model)


def test_a_calibration_is_used_for_what_it_was_fitted_for() -> None:
    assert find_calibration(None, find_model("builtin")) is not None
    assert find_calibration("none", find_model("builtin")) is None


# Paths that are remembered.


def test_relative_paths_are_found_from_any_directory(
    jobs: InProcess, lake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(BUILTIN_FOLDER, tmp_path / "my-model")
    shutil.copy(BUILTIN_FOLDER / "calibration.json", tmp_path / "mine.json")
    monkeypatch.chdir(tmp_path)
    jobs.run("lake", "--output", "out", "--model", "my-model", "--calibration", "mine.json")
    monkeypatch.chdir("/")
    again = replay(ReplayConfig(output=str(tmp_path / "out"), quiet=True))
    assert again.ledger.reused == 6
    config = again.run["config"]
    assert config["model"] == str(tmp_path / "my-model")
    assert config["calibration"] == str(tmp_path / "mine.json")


@pytest.mark.parametrize("name", ["builtin", "t5-base-imdb", "someone/a-model", "none"])
def test_names_that_are_no_paths_stay(name: str) -> None:
    assert model_anywhere(name) == name


# Columns by which rows are counted.


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    rows = [(GOOD[n], ("pos", "neg", "pos")[n], ("neg", "pos", "neg")[n], n % 2) for n in range(3)]
    return write_csv(
        tmp_path / "lake" / "r.csv", [[*map(str, row)] for row in [*rows, ("", "pos", "neg", 1)]],
        "text,first,second,shop",
    )  # fmt: skip


def test_another_label_column_counts_for_reused_rows(
    jobs: InProcess, labelled: Path, out: Path
) -> None:
    few = ("--max-rejected", "1")
    plain = jobs.run(labelled, "--output", out, *few)
    assert plain.quality is None
    first = jobs.run(labelled, "--output", out, *few, "--label-column", "first")
    second = jobs.run(labelled, "--output", out, *few, "--label-column", "second")
    assert first.quality is not None
    assert second.quality is not None
    assert first.ledger.reused == second.ledger.reused == 4
    assert first.quality["accuracy"] == pytest.approx(1 - second.quality["accuracy"])
    assert jobs.run(labelled, "--output", out, *few).quality is None
    wrong = ("--label-map", "pos=negative", "--label-map", "neg=positive")
    swapped = jobs.run(labelled, "--output", out, *few, "--label-column", "first", *wrong)
    assert swapped.quality is not None
    assert swapped.quality["accuracy"] == second.quality["accuracy"]


def test_other_groups_count_for_reused_rows(jobs: InProcess, labelled: Path, out: Path) -> None:
    few = ("--max-rejected", "1")
    jobs.run(labelled, "--output", out, *few)
    again = jobs.run(labelled, "--output", out, *few, "--group-by", "shop")
    fresh = jobs.run(labelled, "--output", f"{out}-2", *few, "--group-by", "shop")
    assert again.ledger.reused == 4
    assert again.counts["groups"] == fresh.counts["groups"]
    assert again.counts["groups"]["shop=1"]["rejected"] == {"empty_text": 1}
    by_two = ("--group-by", "shop", "--group-by", "first")
    groups = jobs.run(labelled, "--output", f"{out}-2", *few, *by_two).counts["groups"]
    assert "shop=0, first=pos" in groups
    assert "groups" not in jobs.run(labelled, "--output", f"{out}-2", *few).counts


def test_unknown_tokens_are_counted_in_files_and_runs(
    jobs: InProcess, tmp_path: Path, out: Path
) -> None:
    source = write_csv(tmp_path / "r.csv", [GOOD[0], f"{GOOD[1]} 好 好"])
    summary = jobs.run(source, "--output", out)
    found = summary.counts["unknown_tokens"]
    plain = write_csv(tmp_path / "plain.csv", GOOD[:2])
    assert found == jobs.run(plain, "--output", f"{out}-2").counts["unknown_tokens"] + 2
    [path] = (out / "_sentiment" / "runs").glob("*/run.json")
    assert json.loads(path.read_text())["counts"]["unknown_tokens"] == found


@pytest.mark.parametrize(
    ("transient", "reasons"), [(True, TRANSIENT_REASONS), (False, set(REASONS))]
)
def test_a_replay_scores_again_what_it_is_asked_for(
    jobs: InProcess, lake: Path, out: Path, transient: bool, reasons: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    jobs.run(lake, "--output", out)
    asked: list[Any] = []
    monkeypatch.setattr(
        "sentiment.scoring.replay.score", lambda config, *, again: asked.append(set(again))
    )
    replay(ReplayConfig(output=str(out), transient=transient))
    assert asked == [reasons]
