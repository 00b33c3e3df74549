"""The status read from Ray Data's executor; with a real one in test_monitor_prometheus.py."""

from __future__ import annotations

import copy
import logging
import pickle
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from sentiment.monitor import executor as callback
from sentiment.monitor.account import PipelineStatus
from sentiment.monitor.executor import StatusCallback


def operator(name: str, rows: int, actors: tuple[int, int, int] = (0, 0, 0)) -> Any:
    """The fields of Ray Data's operator that the callback reads."""
    info = SimpleNamespace(running=actors[0], pending=actors[1], restarting=actors[2])
    return SimpleNamespace(
        name=name,
        metrics=SimpleNamespace(rows_task_outputs_generated=rows),
        get_actor_info=lambda: info,
    )


def executor(*operators: Any) -> Any:
    return SimpleNamespace(_topology=dict.fromkeys(map(Hashable, operators)))


class Hashable:
    """Operators are keys of the topology."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


PIPELINE = executor(
    operator("Input", 7),
    operator("ReadReviewShards", 4),
    operator("MapBatches(PackedTokenise)", 3),
    operator("MapBatches(PackedScorer)", 2, actors=(3, 1, 1)),
    operator("MapBatches(Commit)", 2),
)


def test_rows_are_reported_by_our_names_of_stages() -> None:
    seen: list[PipelineStatus] = []
    one = StatusCallback(seen.append)
    one.expect(units=4, rows=1000, rows_before=50)
    one.after_execution_succeeds(PIPELINE)
    rows = {"read": 1050, "tokenise": 800, "score": 550}
    assert seen == [PipelineStatus(rows, actors=3, starting=2)]


def test_statuses_are_reported_ten_times_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [10.0]
    monkeypatch.setattr(callback.time, "monotonic", lambda: clock[0])
    seen: list[PipelineStatus] = []
    one = StatusCallback(seen.append)
    for now in (10.0, 10.01, 10.05, 10.2, 10.21):
        clock[0] = now
        one.on_execution_step(PIPELINE)
    assert len(seen) == 2


def test_a_changed_ray_data_ends_the_reports_and_not_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "sentiment.monitor.executor")
    seen: list[PipelineStatus] = []
    one = StatusCallback(seen.append)
    one.on_execution_step(object())
    one.after_execution_succeeds(PIPELINE)
    assert seen == []
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


def test_a_copied_context_keeps_the_callback_and_a_pickled_one_is_silent() -> None:
    seen: list[PipelineStatus] = []
    one = StatusCallback(seen.append)
    assert copy.deepcopy({"callbacks": [one]})["callbacks"][0]() is one
    there = pickle.loads(pickle.dumps(one))
    there.after_execution_succeeds(PIPELINE)
    assert seen == []


def test_workers_import_it_cheaply() -> None:
    heavy = "{'torch', 'transformers', 'ray'} & set(sys.modules)"
    code = f"import sentiment.monitor.executor, sys; print({heavy})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "set()\n"
