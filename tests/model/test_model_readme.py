"""The README of a model folder: what the hub reads of it, and the figures of an evaluation."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from made_up_report import REPORT

from sentiment.model.readme import front_matter, names_of, report_table, with_evaluation

BETTER = {**REPORT, "accuracy": 0.95}


def evaluated(text: str, report: dict[str, Any] = REPORT) -> str:
    return with_evaluation(
        text, name="mine", sources=["/some/where/test.parquet"], date="2026-11-22", report=report
    )


def accuracy_told(card: str) -> list[float]:
    results = ModelCard(card).data.eval_results
    return [result.metric_value for result in results if result.metric_type == "accuracy"]


def test_the_report_is_a_table() -> None:
    lines = report_table(REPORT).splitlines()
    assert lines[0] == "| | precision | recall | f1-score | support |"
    assert lines[2] == "| negative | 0.9123 | 0.5000 | 0.6400 | 1,200 |"
    assert lines[4] == "| accuracy | | | 0.8765 | 2,500 |"
    assert {line.count("|") for line in lines} == {6}


def test_sources_are_told_by_name() -> None:
    assert names_of(["/a/b/test.parquet", "s3://bucket/day/", "c.csv"]) == (
        "test.parquet, day, c.csv"
    )
    assert names_of([]) == ""


def test_the_front_matter_is_what_the_hub_reads() -> None:
    front = front_matter(
        "mine", base_model="google/flan-t5-base", license="mit", data="test.parquet", report=REPORT
    )
    found = yaml.safe_load(front.to_yaml())
    assert found["base_model"] == "google/flan-t5-base"
    assert found["license"] == "mit"
    assert found["pipeline_tag"] == "text-classification"
    [model] = found["model-index"]
    assert model["name"] == "mine"
    [result] = model["results"]
    assert result["dataset"]["name"] == "test.parquet"
    values = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert values == {"accuracy": 0.8765, "precision": 0.9123, "recall": 0.5, "f1": 0.64}
    unknown = front_matter("mine", base_model=None, license=None, data="x", report=REPORT)
    assert not {"license", "base_model"} & set(yaml.safe_load(unknown.to_yaml()))


def test_an_evaluation_takes_the_place_of_the_one_before() -> None:
    old = "---\nlicense: mit\ntags:\n- t5\n---\n\n# Theirs\n\nWritten by hand.\n"
    once = evaluated(old)
    twice = evaluated(once, BETTER)
    for card in (once, twice):
        assert card.count("## Evaluation on test.parquet") == 1
        assert "# Theirs\n\nWritten by hand.\n" in card
        assert ModelCard(card).data.license == "mit"
    assert report_table(REPORT) in once
    assert report_table(REPORT) not in twice
    assert report_table(BETTER) in twice
    assert (accuracy_told(once), accuracy_told(twice)) == ([0.8765], [0.95])
    assert evaluated(twice, BETTER) == twice
    assert "/some/where" not in twice


def test_what_comes_after_the_section_stays() -> None:
    text = evaluated("# Theirs\n") + "\n## Contact\n\nUs.\n"
    assert evaluated(text, BETTER).endswith("\n## Contact\n\nUs.\n")


@pytest.mark.parametrize("text", ["", "# Theirs\n"])
def test_a_card_without_front_matter_gets_one(text: str) -> None:
    card = evaluated(text)
    assert accuracy_told(card) == [0.8765]
    assert ("# Theirs" if text else "# mine") in card


def test_front_matter_that_is_no_mapping_is_an_error() -> None:
    with pytest.raises(ValueError, match="dict"):
        evaluated("---\n- a list\n---\n# Theirs\n")
