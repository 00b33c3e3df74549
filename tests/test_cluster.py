"""The local Ray cluster that a run starts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# In a process of its own: the tests share one Ray cluster, and `connect` would use that one.
PROGRAM = """
import os
import time

import ray

from sentiment.cluster import connect
from sentiment.scoring.pool import TASK_CPUS


@ray.remote(num_cpus=os.cpu_count() - 0.5)
class Actor:
    def ready(self):
        return True


@ray.remote(num_cpus=TASK_CPUS)
def process():
    return os.getpid()


with connect(None):
    actor = Actor.remote()
    ray.get(actor.ready.remote())
    processes = [ray.get(process.remote())]
    time.sleep(3)  # Ray looks for idle processes every second or so
    processes.append(ray.get(process.remote()))
print(len(set(processes)))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_tasks_beside_the_actors_keep_their_process() -> None:
    """A process takes seconds of CPU to start, which scoring would miss, unit after unit."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1"]
