"""Phases of a run: their names, and that they leave no gap."""

from __future__ import annotations

import pytest

from sentiment.monitor.phases import PHASES, Phases


class Clock:
    """A clock that a test advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def wait(self, sec: float) -> None:
        self.now += sec


def test_the_names_are_those_that_run_json_has() -> None:
    assert PHASES == (
        "find model", "list and index", "start cluster", "try model", "plan", "start actors",
        "score", "finish",
    )  # fmt: skip


def test_phases_add_up_to_the_run_in_the_order_they_were_entered() -> None:
    clock = Clock()
    phases = Phases(clock)
    phases.enter("find model")
    clock.wait(2)
    phases.enter("plan")
    clock.wait(1)
    with phases.within("start cluster"):
        clock.wait(5)
    clock.wait(3)
    assert phases.seconds() == {"find model": 2, "plan": 4, "start cluster": 5}
    clock.wait(1)
    assert phases.seconds()["plan"] == 5


def test_a_phase_that_fails_still_counts() -> None:
    clock = Clock()
    phases = Phases(clock)
    phases.enter("plan")

    def fail() -> None:
        clock.wait(5)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"), phases.within("start cluster"):
        fail()
    clock.wait(1)
    assert phases.seconds() == {"plan": 1, "start cluster": 5}
