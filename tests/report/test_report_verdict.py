"""The verdict on a run: it follows the ledger, the rejects, the drift and the outcome."""

from __future__ import annotations

import json
from typing import Any

import made_up_runs
import pytest

from sentiment.ledger.record import parse_run
from sentiment.report.verdict import Verdict, judge

DRIFTED = {"name": "share of positive", "value": 0.3, "limit": 0.05, "drifted": True}


def verdict(**changes: Any) -> Verdict:
    return judge(parse_run("one", json.dumps(made_up_runs.run(**changes))))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "every row is accounted for and rejects are within their limit"),
        ({"outcome": "success"}, "every row is accounted for"),
        ({"drift": {"verdict": "not compared", "why": "the first run"}}, "every row"),
        ({"drift": {"verdict": "steady"}}, "the labels are like those of earlier nights"),
    ],
)
def test_usable(changes: dict[str, Any], reason: str) -> None:
    judged = verdict(**changes)
    assert (judged.level, judged.word) == ("good", "Usable")
    assert reason in judged.headline


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"config": {"max_rejected": 0.001}}, "rows were rejected, the limit is 0.10 %"),
        ({"outcome": "rejected"}, "0.18 % of the rows were rejected"),
        ({"config": None, "outcome": "rejected"}, "0.18 % of the rows were rejected"),
        ({"outcome": "drift"}, "the labels drifted"),
        ({"outcome": "eaten"}, "the run ended as “eaten”"),
        ({"drift": {"verdict": "drift", "checks": [DRIFTED]}}, "nights (share of positive)"),
        ({"drift": {"verdict": "drift", "checks": [DRIFTED] * 5}}, "and 2 more"),
        (
            {"ledger": made_up_runs.ledger(0, 0, 0), "counts": {"labels": {}}},
            "the sources held no rows",
        ),
    ],
)
def test_look_before_use(changes: dict[str, Any], reason: str) -> None:
    judged = verdict(**changes)
    assert (judged.level, judged.word) == ("look", "Look before use")
    assert reason in judged.headline.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"outcome": "unbalanced"}, "folders are incomplete"),
        ({"ledger": made_up_runs.ledger(30_000, 25_000, 45)}, "4,955 rows are missing"),
        ({"ledger": made_up_runs.ledger(25_000, 25_000, 45)}, "45 rows are there too often"),
        (
            {
                "ledger": made_up_runs.ledger(2, 0, 2),
                "counts": {"labels": {}, "rejected": {"null_text": 2}},
            },
            "every row was rejected",
        ),
    ],
)
def test_not_to_be_used(changes: dict[str, Any], reason: str) -> None:
    judged = verdict(**changes)
    assert (judged.level, judged.word) == ("bad", "Do not use yet")
    assert reason in judged.headline


def test_accuracy_is_shown_but_not_judged() -> None:
    quality = {"accuracy": 0.25, "labels": ["a", "b"], "confusion_matrix": [[1, 3], [0, 0]]}
    judged = verdict(quality=quality)
    assert judged.level == "good"
    assert judged.headline.endswith("; 25.0\N{NO-BREAK SPACE}% of known labels are right")
    assert judged.findings[-1].level == "open"


def test_all_reasons_to_look_are_in_the_headline() -> None:
    drift = {"verdict": "drift", "checks": [DRIFTED]}
    headline = verdict(config={"max_rejected": 0.0}, drift=drift).headline
    assert "were rejected" in headline
    assert "unlike those of earlier nights" in headline


def test_an_unknown_limit_is_an_open_finding() -> None:
    judged = verdict(config=None)
    assert {one.name: one.level for one in judged.findings}["rejects"] == "open"
    assert "limit" not in judged.headline
