"""The job scripts under `ray job submit`, on a real head node on this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.ray


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A home of its own, so that this cluster's access token is nobody else's."""
    home = tmp_path_factory.mktemp("home")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {
        **kept,
        "HOME": str(home),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


@pytest.fixture(scope="module")
def dashboard(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A head node in a child process; `ray stop` would stop everybody's."""
    port, dashboard_port = free_port(), free_port()
    log = (tmp_path_factory.mktemp("ray") / "head.log").open("w")
    head = subprocess.Popen(
        [
            "ray", "start", "--head", "--block", "--num-cpus=2",
            "--node-ip-address=127.0.0.1", f"--port={port}",
            "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard_port}",
            # The agent that takes jobs has a fixed port, which another test's Ray may hold.
            f"--dashboard-agent-listen-port={free_port()}",
        ],
        env=environment,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{dashboard_port}"
        wait_for(dashboard_port, head)
        yield address
    finally:
        head.terminate()
        try:
            head.wait(3)  # `ray start --block` waits for what it has started
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()
        log.close()


def wait_for(port: int, head: subprocess.Popen[bytes], timeout_sec: float = 120) -> None:
    deadline = time.monotonic() + timeout_sec
    while time.monotonic() < deadline:
        assert head.poll() is None, "the head node stopped"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise AssertionError("the dashboard did not come up")


def submit(
    dashboard: str, environment: dict[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Submit and follow a job; a head that has just come up may not take jobs yet."""
    command = ["ray", "job", "submit", "--address", dashboard, "--working-dir", "."]
    deadline = time.monotonic() + 90
    while True:
        job = subprocess.run(
            [*command, "--", sys.executable, "jobs/score.py", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        if "No available agent" not in job.stderr or time.monotonic() > deadline:
            return job
        time.sleep(2)


def test_a_submitted_job_succeeds_and_its_log_has_the_summary(
    dashboard: str, environment: dict[str, str], tmp_path: Path
) -> None:
    source = str(ROOT / "examples" / "reviews")
    job = submit(
        dashboard, environment, source, "--output", str(tmp_path / "out"), "--max-rejected", "0.05"
    )
    assert job.returncode == 0, job.stdout + job.stderr
    assert "succeeded" in job.stdout
    assert "326 rows = 320 labelled + 6 rejected + 0 reused" in job.stdout
    assert (tmp_path / "out" / "dt=2026-11-20" / "_SUCCESS").exists()


def test_a_wrong_column_fails_the_job_with_one_clear_line(
    dashboard: str, environment: dict[str, str], tmp_path: Path
) -> None:
    source = str(ROOT / "examples" / "reviews")
    job = submit(
        dashboard, environment, source, "--output", str(tmp_path / "out"), "--text-column", "body"
    )
    assert job.returncode != 0
    assert "failed" in job.stdout.lower()
    assert "sentiment score: " in job.stdout
    assert "there is no column 'body'" in job.stdout
    assert "Traceback (most recent call last)" not in job.stdout
