"""A running job: footers pass through, units are logged and counted, times reach `run.json`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from sentiment.monitor import run as live
from sentiment.monitor.account import PipelineStatus
from sentiment.monitor.run import LiveRun
from sentiment.output.receipt import Footer, Receipt
from sentiment.settings.jobs import ScoreConfig


def receipt(first: int, rejected: dict[str, int], *, rowless: bool = False) -> Receipt:
    last = first - 1 if rowless else first + 9
    lost = sum(rejected.values())
    counts = {"labels": {}, "rejected": rejected, "stage_sec": {"score": 1.0}}
    labelled = 0 if rowless else 10 - lost
    return Receipt(
        Footer(f"u{first}", "/lake/a", "fp", first, last, labelled, lost, "m", "c", "v", counts)
    )


def run(**settings: Any) -> LiveRun:
    return LiveRun("run-1", ScoreConfig(sources=["in"], output="out", **settings))


def test_footers_pass_through_and_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sentiment.monitor.run")
    one = run(quiet=True)
    receipts = [receipt(0, {"null_text": 2}), receipt(10, {})]
    assert list(one.follow(receipts, 20)) == [each.footer for each in receipts]
    assert one.facts()["time"]["timeline"][-1]["rows"] == 20
    assert [record.message for record in caplog.records] == [
        "/lake/a rows 0-9: 8 labelled, 2 rejected (2 null_text)",
        "/lake/a rows 10-19: 10 labelled, 0 rejected",
    ]
    assert caplog.records[0].fields == {
        "unit": "u0", "source_file": "/lake/a", "first_row": 0, "last_row": 9,
        "labelled": 8, "rejected": 2, "excluded": 0,
    }  # fmt: skip


def test_a_part_that_cannot_be_read_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    one = run()
    one.count_unit(receipt(5, {"unreadable_rows": 1}, rowless=True))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert list(one.follow([], 10)) == []
    assert one.account.progress().total_rows == 11


def test_started_at_is_when_the_run_began() -> None:
    started = datetime.fromisoformat(run().facts()["started_at"])
    assert started.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("settings", "mode"),
    [
        ({}, "auto"),
        ({"log_format": "json"}, "log"),
        ({"log_format": "json", "quiet": True}, "quiet"),
    ],
)
def test_json_logs_have_no_drawing_and_quiet_shows_nothing(
    settings: dict[str, Any], mode: str
) -> None:
    assert live._display_mode(ScoreConfig(sources=["in"], output="out", **settings)) == mode


def test_actors_stop_counting_when_the_run_fails() -> None:
    one = run(quiet=True)

    def failing() -> Iterator[Receipt]:
        one.update_status(PipelineStatus({}, 1, 0))
        yield receipt(0, {})
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(one.follow(failing(), 10))
    before = one.facts()["time"]["actor_sec"]
    one.account.stop_scoring()
    assert one.facts()["time"]["actor_sec"] == before
