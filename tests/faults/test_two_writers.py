"""Two runs on one output, of which one was suspended; and a node that does not share its disk."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import pytest
from harness import Cluster, Contents, Job

from sentiment.output.folder import Output
from sentiment.output.holder import Holder
from sentiment.output.layout import LEASE_FILE

pytestmark = [pytest.mark.ray, pytest.mark.faults]


def signal_all(job: Job, what: signal.Signals) -> None:
    for pid in harness.processes(job.mark):
        os.kill(pid, what)


def until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "never happened"
        time.sleep(0.1)


def same_rows(found: Contents, undisturbed: Contents) -> bool:
    """Whether every row is there as often, with the same label or reject."""
    return found.keys == undisturbed.keys and all(
        found.times(key) == undisturbed.times(key) for key in undisturbed.keys
    )


@pytest.mark.timeout(900)  # two minutes of them pass until a lease of this machine is stale
def test_a_suspended_run_doubles_no_row_when_it_wakes(
    lake: Path, tiny_model: Path, scratch: Path, tmp_path: Path, undisturbed: Contents
) -> None:
    first = Job(lake, tmp_path / "out", tiny_model, scratch, unit_rows=40)
    second = Job(lake, tmp_path / "out", tiny_model, scratch, unit_rows=70)
    process = first.start()
    try:
        # Files without rows come before Ray is up, and its start would not survive the pause.
        until(lambda: first.committed() >= 4, 120)
        signal_all(first, signal.SIGSTOP)
        before = first.committed()
        until(lambda: second.start().wait(harness.RUN_SEC) == 0, 400)
        assert same_rows(harness.read_output(tmp_path / "out"), undisturbed)
        signal_all(first, signal.SIGCONT)
        assert process.wait(harness.RUN_SEC) == 3, first.log()[-3000:]
    finally:
        harness.reap(first.mark, patience_sec=0)
        harness.reap(second.mark, patience_sec=0)
    assert "took over while run" in first.log()
    assert before >= 4
    found = harness.read_output(tmp_path / "out")
    assert same_rows(found, undisturbed)
    assert found.success == undisturbed.success
    holder = Holder.from_bytes(Output.open(str(tmp_path / "out")).read(LEASE_FILE))
    assert holder is not None
    assert holder.released


# A node whose --output is a disk of its own.


@pytest.fixture
def split_cluster(scratch: Path, tmp_path: Path) -> Iterator[Cluster]:
    """Two nodes, the second with another disk where the output is."""
    place = tmp_path / "out"
    place.mkdir()
    apart = ["unshare", "--mount", "--propagation", "private"]
    mount = ["sh", "-c", f'mount -t tmpfs none {place} && exec "$@"', "sh"]
    tried = subprocess.run([*apart, *mount, "true"], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip("no right to mount a disk for one process only")
    nodes = Cluster(scratch, node_command=[*apart, *mount])
    yield nodes
    nodes.stop()


@pytest.mark.timeout(600)
def test_a_node_with_a_disk_of_its_own_is_refused_at_the_start(
    lake: Path, tiny_model: Path, scratch: Path, tmp_path: Path, split_cluster: Cluster
) -> None:
    job = Job(lake, tmp_path / "out", tiny_model, scratch, cluster=split_cluster)
    started = time.monotonic()
    assert job.start().wait(harness.RUN_SEC) == 2
    assert "writes to a disk of its own there; use a folder that every node shares" in job.log()
    # The driver itself commits files without rows, of empty and damaged shards, and only those.
    assert not harness.read_output(job.output).labelled
    assert time.monotonic() - started < 120
