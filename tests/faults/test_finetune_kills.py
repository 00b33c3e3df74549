"""Training that is killed and started again ends with the weights of training left alone."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from uuid import uuid4

import harness
import pandas as pd
import pytest
import tiny_models

pytestmark = [pytest.mark.ray, pytest.mark.faults]

SETTINGS = """
architecture:
  {vocab_size: 400, d_model: 32, d_kv: 8, d_ff: 32, encoder_layers: 1, pooling_epochs: 1}
label_texts: {negative: bad, positive: good}
max_source_tokens: 48
epochs: 2
learning_rate: 0.01
precision: fp32
cpus_per_worker: 1
checkpoint_steps: 25
"""
PATIENCE_SEC = 120


class Training:
    """The fine-tune command as a process of its own, on the same data every time."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        self.mark = uuid4().hex
        self._environment = harness.environment(self.mark, scratch)
        self._train, self._settings = folder / "train.parquet", folder / "settings.yaml"
        frame = pd.DataFrame(tiny_models.example_reviews())[["text", "label"]].dropna()
        frame[frame["label"].isin(["negative", "positive"])].to_parquet(self._train)
        self._settings.write_text(SETTINGS)
        self._log = folder / "log.txt"

    def start(self, output: Path) -> subprocess.Popen[bytes]:
        words = ["--config", self._settings, "--train", self._train, "--output", output]
        with self._log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "sentiment", "finetune", *map(str, words)],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def finish(self, output: Path) -> str:
        """Run to the end; the digest of the weights."""
        process = self.start(output)
        assert process.wait(harness.RUN_SEC) == 0, self._log.read_text()[-2000:]
        return digest(output)

    def wait_for_validations(
        self, output: Path, count: int, process: subprocess.Popen[bytes]
    ) -> None:
        history, deadline = output / "_training" / "history.json", time.monotonic() + PATIENCE_SEC
        while not history.exists() or len(json.loads(history.read_text())) < count:
            assert process.poll() is None, self._log.read_text()[-2000:]
            assert time.monotonic() < deadline, "training does not move"
            time.sleep(0.02)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Training]:
    with harness.scratch_folder() as scratch:
        job = Training(tmp_path_factory.mktemp("training"), scratch)
        yield job
        harness.reap(job.mark, patience_sec=10)


@pytest.fixture(scope="module")
def undisturbed(training: Training, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "model"
    training.finish(output)
    return output


def digest(output: Path) -> str:
    return hashlib.sha256((output / "model.safetensors").read_bytes()).hexdigest()


def history(output: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((output / "training.json").read_text())["history"]
    return found


def test_killed_training_goes_on_to_the_same_weights(
    training: Training, undisturbed: Path, tmp_path: Path
) -> None:
    """The worker dies first, and Ray Train replaces it; then the whole job, which starts again."""
    output, random = tmp_path / "model", Random(harness.SEED)
    process = training.start(output)
    seen = random.randint(1, 2)
    training.wait_for_validations(output, seen, process)
    workers = [
        pid for pid, title in harness.processes(training.mark).items() if "RayTrainWorker" in title
    ]
    assert workers
    for pid in workers:
        harness.kill(pid)
    training.wait_for_validations(output, seen + 1, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    harness.reap(training.mark, patience_sec=0)

    assert training.finish(output) == digest(undisturbed)
    assert history(output) == history(undisturbed)
