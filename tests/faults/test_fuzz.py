"""Thousands of damaged files: each costs itself at most, and none the process or the memory.

A case follows from the seed and its number. To see one again:

    FUZZ_SEED=… FUZZ_CASE=… pytest tests/faults/test_fuzz.py -k one_case -s
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fuzz_reading
import pytest
from fuzz_reading import Case, case, run

SEED = os.environ.get("FUZZ_SEED", "2026-11-22")
CASES = 2500
SLICE = 200
# A case takes about 50 ms; this is for machines that do other things as well.
CASE_SEC = 30.0
WORKER = Path(fuzz_reading.__file__)


class Worker:
    """A process that reads cases and may die of them."""

    def __init__(self) -> None:
        environment = {
            **os.environ,
            "MALLOC_ARENA_MAX": "2",  # each further one reserves 64 MiB of the limited addresses
            "PYTHONFAULTHANDLER": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), SEED],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=environment,
        )
        assert self._answer(10 * CASE_SEC) == {"ready": True}

    def read(self, number: int) -> dict[str, Any]:
        """What became of a case; `died` or `hung` where the process did not answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        return self._answer(CASE_SEC)

    def _answer(self, seconds: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        if not ready:
            return {"hung": f"no answer within {seconds:g} seconds"}
        line = self.process.stdout.readline()
        if not line:
            return {"died": f"exit code {self.process.wait()}"}
        return dict(json.loads(line))

    def stop(self) -> None:
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        self.process.wait()


def read_cases(numbers: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each case with what became of it; a process that dies or hangs is replaced."""
    worker = Worker()
    try:
        for number in numbers:
            result = worker.read(number)
            yield number, result
            if result.keys() & {"died", "hung"}:
                worker.stop()
                worker = Worker()
    finally:
        worker.stop()


def check(numbers: Sequence[int]) -> Counter[str]:
    """Read cases, print what became of them, and fail with those that broke a promise."""
    counts: Counter[str] = Counter()
    broken = []
    for number, result in read_cases(numbers):
        (kind,) = result.keys() & {"labelled", "refused", "error", "died", "hung"}
        counts[kind] += 1
        if kind in ("error", "died", "hung"):
            one = case(SEED, number)
            how = f"FUZZ_SEED={SEED} FUZZ_CASE={number} ({one.name}: {', '.join(one.damage)})"
            broken.append(f"{how} {kind}:\n{result[kind]}")
    print(f"seed {SEED}, cases {numbers[0]} to {numbers[-1]}: {dict(counts)}")
    assert not broken, f"{len(broken)} of {len(numbers)} cases\n" + "\n".join(broken)
    return counts


def test_two_hundred_damaged_files_cost_themselves_at_most() -> None:
    counts = check(range(SLICE))
    # Most damage leaves something to reject or to label; else the cases would prove little.
    assert counts["labelled"] > SLICE / 2


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_thousands_of_damaged_files_cost_themselves_at_most() -> None:
    check(range(SLICE, CASES))


def test_a_process_that_hangs_or_dies_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker()
    try:
        worker.process.send_signal(signal.SIGSTOP)
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules[__name__], "CASE_SEC", 0.2)
            assert worker.read(0) == {"hung": "no answer within 0.2 seconds"}
        worker.process.kill()
        assert worker._answer(CASE_SEC) == {"died": "exit code -9"}
    finally:
        worker.stop()


def test_one_case() -> None:
    """The case of FUZZ_CASE, in this process so that a debugger can follow it."""
    number = int(os.environ.get("FUZZ_CASE", "0"))
    one = case(SEED, number)
    assert one == case(SEED, number)
    result = run(one)
    print(SEED, number, one.name, one.damage, result)
    assert "error" not in result, result["error"]


@pytest.mark.parametrize("name", sorted(fuzz_reading._originals()))
def test_undamaged_files_are_labelled_whole(name: str) -> None:
    one = Case(name, fuzz_reading._originals()[name], (), 7)
    assert run(one) == {"labelled": 60, "rejects": 0, "details": []}
