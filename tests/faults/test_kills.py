"""Whole runs of the command whose processes are killed, compared with one that nobody disturbed.

Every row is there once, with the same answer, whatever died. `SENTIMENT_TEST_SEED` picks other
moments and victims; each kill is printed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random

import harness
import pytest
from harness import TALLIES, Cluster, Contents, Job, Killer, Kind, Tally

pytestmark = [pytest.mark.ray, pytest.mark.faults]

DAYS = {"dt=2026-11-19", "dt=2026-11-20"}


def disturb(
    job: Job, undisturbed: Contents, kind: Kind, kills: int, each: int, folder: Path
) -> None:
    """Kill so often, `each` times per output, and compare every output."""
    tally = TALLIES[kind] = Tally(kind)
    random = Random(f"{harness.SEED} {kind}")
    started = time.monotonic()
    while tally.kills < kills:
        assert tally.outputs < kills, f"too few kills find a victim: {tally}"
        job.output = folder / f"out-{tally.outputs}"
        due = [kind] * min(each, kills - tally.kills)
        killer = Killer(job, due, random, partial(check_success, job, undisturbed))
        try:
            killer.run()
        finally:
            harness.reap(job.mark, patience_sec=0)
        tally.outputs += 1
        tally.kills += len(killer.done)
        tally.reruns += killer.reruns
        tally.orphans += killer.orphans
        tally.seconds = time.monotonic() - started
        compare(job.output, undisturbed, tally, killer.done)


def compare(output: Path, undisturbed: Contents, tally: Tally, done: Sequence[str]) -> None:
    """The output holds what the undisturbed one holds."""
    found = harness.read_output(output)
    keys = undisturbed.keys
    tally.lost += len(keys - found.keys)
    tally.doubled += sum(found.times(key) != undisturbed.times(key) for key in found.keys & keys)
    assert (tally.lost, tally.doubled) == (0, 0), done
    assert found.keys == keys, done
    assert found.success == DAYS, done
    for key, [expected] in undisturbed.labelled.items():
        [row] = found.labelled[key]
        for name in ("sentiment_score", "sentiment_off_label"):
            # Units of another size make other batches, which round in another way.
            assert row.pop(name) == pytest.approx(expected[name], abs=1e-5), (key, done)
        assert row == {name: expected[name] for name in row}, (key, done)
    assert found.rejected == undisturbed.rejected, done


def check_success(job: Job, undisturbed: Contents) -> None:
    """A folder that says it is complete is."""
    found = harness.read_output(job.output)
    for key in undisturbed.keys:
        if Path(key[0]).parent.name in found.success:
            assert found.times(key) == undisturbed.times(key), key


@pytest.fixture
def job(lake: Path, tiny_model: Path, scratch: Path, tmp_path: Path) -> Job:
    """The command on the corpus."""
    return Job(lake, tmp_path / "out", tiny_model, scratch)


@pytest.fixture
def cluster(scratch: Path) -> Iterator[Cluster]:
    """Two nodes on this machine."""
    nodes = Cluster(scratch)
    yield nodes
    nodes.stop()


@pytest.mark.timeout(900)  # about 50 seconds on two idle cores
def test_a_killed_driver_and_a_killed_actor_cost_no_row(job: Job, undisturbed: Contents) -> None:
    job.unit_rows = harness.UNDISTURBED_UNIT_ROWS  # a few units are enough for two kills
    tally = TALLIES["both"] = Tally("both", outputs=1)
    started = time.monotonic()
    check = partial(check_success, job, undisturbed)
    killer = Killer(job, ["driver", "actor"], Random(harness.SEED), check)
    killer.run()
    tally.kills, tally.reruns, tally.orphans = len(killer.done), killer.reruns, killer.orphans
    tally.seconds = time.monotonic() - started
    assert tally.kills == 2, killer.done
    compare(job.output, undisturbed, tally, killer.done)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("kind", "kills", "each"), [("driver", 6, 3), ("actor", 28, 14), ("worker", 20, 10)]
)
def test_no_row_is_lost_or_doubled_by_kills(
    job: Job, undisturbed: Contents, tmp_path: Path, kind: Kind, kills: int, each: int
) -> None:
    disturb(job, undisturbed, kind, kills, each, tmp_path)


@pytest.mark.timeout(1800)
def test_no_row_is_lost_or_doubled_when_nodes_die(
    job: Job, cluster: Cluster, undisturbed: Contents, tmp_path: Path
) -> None:
    job.cluster = cluster
    disturb(job, undisturbed, "raylet", kills=6, each=3, folder=tmp_path)
