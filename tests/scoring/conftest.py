"""The fixture of tests that run `score` without Ray."""

from __future__ import annotations

import pytest
from in_process import InProcess

from sentiment.cluster import Cluster, LazyCluster
from sentiment.model.locate import BUILTIN_FOLDER
from sentiment.scoring import job


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """`score` in this process, with the model that the project ships."""
    runs = InProcess(BUILTIN_FOLDER)
    monkeypatch.setattr(job, "run_pipeline", runs.pipeline)
    monkeypatch.setattr(job, "probe_nodes", lambda output: None)
    here = Cluster("local", (1.0,), 0.0, can_grow=False)
    monkeypatch.setattr(LazyCluster, "get", lambda self: here)
    return runs
