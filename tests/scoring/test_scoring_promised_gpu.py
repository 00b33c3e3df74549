"""A whole Ray with a GPU that is only promised: how jobs reach GPUs, on a machine that has none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

_SCRIPT = """
import json, sys
from functools import partial

import ray

ray.init(
    address="local", num_cpus=3, num_gpus=1, include_dashboard=False,
    _node_ip_address="127.0.0.1", log_to_driver=False,
)

from sentiment.scoring import job, night, setup, tasks
from sentiment.settings.jobs import ScoreConfig
from sentiment.errors import DeviceError
from dataclasses import replace

source, model, output = sys.argv[1:]
config = ScoreConfig(
    sources=[source], model=model, output=output, labels=["good", "bad"],
    batch_tokens=512, unit_rows=20, gpus_per_actor=0.5,
)
found = {"asked": tasks.probe_on_gpu(partial(max, 1, 2), 0.5, 60)}
try:
    job.score(config)
except DeviceError as error:
    found["refused"] = str(error)

# The same run with actors that ask Ray for a GPU and torch for none.
def on_cpus(probe, check, *rest):
    (scorer,) = check.args
    return probe(partial(check.func, replace(scorer, device_type="cpu")), *rest)

settle, ask = night.resolve_setup, setup.probe_on_gpu
setup.probe_on_gpu = partial(on_cpus, ask)

def settled(*given, **more):
    settled = settle(*given, **more)
    found["pool"] = [settled.pool.device_type, settled.pool.gpus, settled.pool.actors_max]
    return replace(settled, scorer=replace(settled.scorer, device_type="cpu"))

night.resolve_setup = settled
found["labelled"] = job.score(config).ledger.labelled
print(json.dumps(found))
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="it has a GPU")
@pytest.mark.ray
def test_a_run_on_a_promised_gpu(tiny_model: Path, tmp_path: Path) -> None:
    source = tmp_path / "reviews.csv"
    source.write_text("text\n" + "".join(f"Good soup number {n}\n" for n in range(50)))
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(source), str(tiny_model), str(tmp_path / "output")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["asked"] == 2
    assert "the cluster promises a GPU that torch" in found["refused"]
    assert "--gpus-per-actor 0" in found["refused"]
    assert found["pool"] == ["cuda", 0.5, 2]
    assert found["labelled"] == 50
    assert "num_gpus" not in done.stderr, "Ray warns of the share of CPUs beside a GPU"
