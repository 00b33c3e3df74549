"""`sentiment evaluate` over files: labels that are there, labels that are made, calibration."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import tiny_models

from sentiment.cli import main
from sentiment.errors import ConfigError, ModelError, SourceError
from sentiment.evaluation.job import Evaluation, evaluate
from sentiment.metrics.calibration import Calibration
from sentiment.model.find import find_model
from sentiment.model.readme import report_table
from sentiment.scoring.job import score
from sentiment.scoring.setup import find_calibration
from sentiment.settings.evaluate import EvaluateConfig
from sentiment.settings.jobs import ScoreConfig

GIVEN = pa.table(
    {
        "stars": [1, 2, 3, 4, 5, None, 5],
        "said": ["negative", "positive", "negative", "positive", "positive", "negative", None],
        "sure": [0.9, 0.6, 0.7, 0.8, 0.95, 0.5, None],
    }
)
STARS = {"1": "negative", "2": "negative", "4": "positive", "5": "positive"}


def given(source: Path, output: Path, **settings: Any) -> Evaluation:
    values = {"label_column": "stars", "prediction_column": "said", "score_column": "sure"}
    return evaluate(
        EvaluateConfig(
            sources=[str(source)], output=str(output), quiet=True, **{**values, **settings}
        )
    )


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.jsonl"])
def test_labels_that_are_there_need_no_model(tmp_path: Path, name: str) -> None:
    path = tmp_path / "lake" / "dt=1" / name
    path.parent.mkdir(parents=True)
    if name.endswith("parquet"):
        pq.write_table(GIVEN, path)
    elif name.endswith("csv"):
        pyarrow.csv.write_csv(GIVEN.slice(0, 5), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in GIVEN.to_pylist()))
    found = given(tmp_path / "lake", tmp_path / "out", label_map=STARS)
    assert found.model is found.page is None
    assert found.figures["rows_with_truth"] == 4
    assert found.accuracy == 0.75
    assert found.figures["ranking"]["roc_auc"] == 1.0
    assert found.figures["by_partition"] == [{"slice": "dt=1", "rows": 4, "accuracy": 0.75}]
    [mistake] = found.mistakes
    assert (mistake["file"], mistake["row"], mistake["score"]) == (str(path), 1, 0.6)
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert told["figures"] == found.figures
    assert "weighted avg" in (tmp_path / "out" / "evaluation.txt").read_text()


def test_labels_of_two_spellings_meet(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"label": ["positive", "neg", "positive"], "said": [1, 0, 0]}),
        tmp_path / "a.parquet",
    )
    found = given(tmp_path / "a.parquet", tmp_path / "out", label_column="label", score_column=None)
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.figures["report"]["labels"] == ["0", "1"]


def test_text_and_the_ranked_label_are_settings(tmp_path: Path) -> None:
    texts = pa.array([f"review {n}" for n in range(len(GIVEN))])
    pq.write_table(GIVEN.append_column("text", texts), tmp_path / "a.parquet")
    found = given(
        tmp_path / "a.parquet", tmp_path / "out",
        label_map=STARS, show_text=True, positive_label="negative", mistakes=5,
    )  # fmt: skip
    assert [one["text"] for one in found.mistakes] == ["review 1"]
    assert found.figures["ranking"]["positive"] == "negative"
    none = given(tmp_path / "a.parquet", tmp_path / "out", label_map=STARS, mistakes=0)
    assert none.mistakes == []
    assert none.figures["ranking"]["positive"] == "positive"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_column": "rating"}, "has no column 'rating'"),
        ({"score_column": "stars"}, "row 1: 'stars' is no probability"),
        ({"label_map": {"7": "positive"}}, "no labelled row has a true label"),
    ],
)
def test_what_cannot_be_evaluated_is_named(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    pq.write_table(GIVEN, tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=message):
        given(tmp_path / "a.parquet", tmp_path / "out", **settings)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--score-column", "s"], "--score-column needs --prediction-column"),
        (
            ["--prediction-column", "p", "--fit-calibration", "c"],
            "--fit-calibration needs the model",
        ),
        (["--prediction-column", "p", "--update-card"], "--update-card needs the model"),
        (["--prediction-column", "p", "--parity-rows", "3"], "--parity-rows needs the model"),
    ],
)
def test_settings_that_contradict(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EvaluateConfig.load(["reviews", "--output", "out", *words])


def test_a_card_needs_a_folder_before_anything_is_scored(tmp_path: Path) -> None:
    config = EvaluateConfig(sources=["a"], output=str(tmp_path / "out"), update_card=True)
    with pytest.raises(ConfigError, match="--update-card: needs a model in a folder; 'builtin'"):
        evaluate(config)
    assert not (tmp_path / "out").exists()


# --- with a model ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reviews whose labels the tiny model gets right half of the time, and one without text."""
    folder = tmp_path_factory.mktemp("reviews")
    texts = [*tiny_models.example_texts()[:64], None]
    labels = ["pos" if n % 2 else "neg" for n in range(65)]
    pq.write_table(pa.table({"text": texts, "label": labels}), folder / "a.parquet")
    return folder


@pytest.mark.ray
def test_a_source_is_scored_fitted_and_scored_again_with_the_fit(
    local_ray: None, reviews: Path, tiny_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "my-model"
    shutil.copytree(tiny_model, model)
    values = {
        "sources": [str(reviews)], "output": str(tmp_path / "out"), "model": str(model),
        "precision": "fp32", "max_rejected": 0.05, "bootstrap": 20, "parity_rows": 4,
        "update_card": True, "fit_calibration": str(tmp_path / "c.json"), "quiet": True,
    }  # fmt: skip
    fitted = evaluate(EvaluateConfig(**values))
    card = (model / "README.md").read_text()
    assert card.count("# my-model") == 1
    brought = {path.name for path in tiny_model.iterdir()}
    assert {path.name for path in model.iterdir()} == brought | {"README.md"}
    assert f"## Evaluation on {reviews.name}" in card
    assert report_table(fitted.figures["report"]) in card
    assert fitted.figures["rows_with_truth"] == 64
    assert fitted.figures["report"]["weighted avg"]["support"] == 64
    assert fitted.page is not None
    assert Path(fitted.page).read_text().startswith("<!DOCTYPE html>")
    assert fitted.model is not None
    assert fitted.calibration is not None
    assert fitted.model["digest"] == fitted.calibration.model_digest
    assert sum(one["rows"] for one in fitted.figures["by_length"]) == 64
    assert fitted.parity is not None
    assert fitted.parity["rows"] == 4
    assert not any("text" in one for one in fitted.mistakes)

    words = ["evaluate", str(reviews), "--output", str(tmp_path / "out"), "--model"]
    words += [str(model), "--precision", "fp32", "--bootstrap", "0", "--quiet"]
    words += ["--calibration", str(tmp_path / "c.json")]
    assert main(words) == 4, "1 of 65 has no text; that is told after the figures are written"
    again = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    before, after = fitted.figures, again["figures"]
    assert after["report"] == before["report"], "a calibration changes no label"
    assert after["calibration"] != before["calibration"]
    [run] = [
        json.loads(path.read_text())
        for path in (tmp_path / "out" / "scored").glob("_sentiment/runs/*/run.json")
        if json.loads(path.read_text())["calibration"] is not None
    ]
    assert run["calibration"]["temperature"] == fitted.calibration.temperature


def test_a_model_brings_its_own_calibration_unless_told_otherwise(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = find_model("builtin")
    own = find_calibration(None, model)
    assert own is not None
    assert own.model_digest == model.digest
    assert find_calibration("none", model) is None
    other = find_model(str(tiny_model))
    assert find_calibration(None, other) is None
    (tmp_path / "c.json").write_text(Calibration(2.0, other.digest, 1, 1, 0.0, 0.0).to_json())
    assert find_calibration(str(tmp_path / "c.json"), other) is not None
    with pytest.raises(ModelError, match="was fitted for the model with digest"):
        find_calibration(str(tmp_path / "c.json"), model)
    with pytest.raises(ModelError, match="cannot be used"):
        find_calibration(str(tmp_path / "absent.json"), model)


@pytest.mark.ray
def test_a_night_unlike_the_others_ends_in_exit_code_5(
    local_ray: None, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["score", str(tmp_path / "lake"), "--output", str(tmp_path / "out"), "--quiet"]
    words += ["--model", str(tiny_model), "--precision", "fp32"]
    ended = []
    for day, times in ((1, 1), (2, 6)):
        folder = tmp_path / "lake" / f"dt={day}"
        folder.mkdir(parents=True)
        texts = [" ".join([text] * times) for text in tiny_models.example_texts()]
        pq.write_table(pa.table({"text": texts}), folder / "a.parquet")
        ended.append(main(words))
    ended.append(main(words))
    ended.append(main([*words, "--accept-drift"]))
    ended.append(main(words))
    assert ended == [0, 5, 5, 0, 0], "a retry is the same alarm, until it is accepted"
    assert (
        "tonight is unlike earlier runs (1 compared): lengths moved by" in capsys.readouterr().err
    )
    # Two of these runs may start in one second, so their ids do not tell which was first.
    paths = (tmp_path / "out").glob("_sentiment/runs/*/run.json")
    runs = sorted(paths, key=lambda path: path.stat().st_mtime_ns)
    told = [json.loads(path.read_text()) for path in runs]
    assert [run["outcome"] for run in told] == ["success", "drift", "drift", "success", "success"]
    assert [run["drift"]["verdict"] for run in told] == [
        "not compared", "drift", "drift", "drift", "not compared",
    ]  # fmt: skip
    assert told[1]["drift"]["against"] == [told[0]["run_id"]]
    rows = [sum(one["rows"] for one in run["scored"]["labels"].values()) for run in told]
    assert rows == [len(texts), len(texts), 0, 0, 0]
    rows = [sum(one["rows"] for one in run["tonight"]["labels"].values()) for run in told]
    assert rows == [len(texts), len(texts), len(texts), len(texts), 0]


@pytest.mark.ray
def test_groups_have_rows_of_their_own_in_the_metrics(
    local_ray: None, tiny_model: Path, tmp_path: Path
) -> None:
    texts = [*tiny_models.example_texts()[:9], ""]
    table = pa.table({"text": texts, "lang": ["en"] * 6 + ["de"] * 4, "label": [1] * 10})
    pq.write_table(table, tmp_path / "a.parquet")
    summary = score(
        ScoreConfig(
            sources=[str(tmp_path / "a.parquet")], output=str(tmp_path / "out"),
            model=str(tiny_model), group_by=["lang"], long_text="windows", max_source_tokens=16,
            label_column="label", precision="fp32",
            max_rejected=0.2, quiet=True,
        )
    )  # fmt: skip
    assert 0 <= summary.counts["split_rows"] <= 9
    assert sum(one["truncated"] for one in summary.counts["labels"].values()) == 0
    [path] = (tmp_path / "out").glob("_sentiment/runs/*/metrics.pq")
    rows = pq.read_table(path).to_pylist()
    by_group: dict[Any, int] = {}
    for row in rows:
        by_group[row["group"]] = by_group.get(row["group"], 0) + row["rows"]
    assert by_group == {None: 10, "lang=en": 6, "lang=de": 4}
    [reject] = [row for row in rows if row["group"] == "lang=de" and row["reason"]]
    assert (reject["reason"], reject["rows"]) == ("empty_text", 1)
    assert sum(row["with_truth"] or 0 for row in rows if row["group"] is None) == 9
