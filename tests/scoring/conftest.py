"""The fixture of tests that run `score` without Ray."""

from __future__ import annotations

from pathlib import Path

import pytest
from in_process import InProcess

from sentiment.cluster import Cluster, LazyCluster
from sentiment.scoring import execution


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where the output of a test goes; nothing is there yet."""
    return tmp_path / "out"


@pytest.fixture
def jobs(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """`score` in this process, with a model that loads fast."""
    runs = InProcess(tiny_model)
    monkeypatch.setattr(execution, "run_pipeline", runs.pipeline)
    monkeypatch.setattr(execution, "probe_nodes", lambda output: None)
    here = Cluster("local", (1.0,), 0.0, can_grow=False)
    monkeypatch.setattr(LazyCluster, "get", lambda self: here)
    return runs
