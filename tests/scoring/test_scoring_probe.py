"""Whether every node writes where the driver reads, without a cluster of several nodes.

A real one is in `tests/faults/test_two_writers.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayError

from sentiment.errors import OutputError
from sentiment.output.folder import Output
from sentiment.scoring import probe


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Output:
    """An output; answers of nodes are at hand as they are."""
    monkeypatch.setattr(probe.ray, "get", lambda answer: answer)
    return Output.open(str(tmp_path / "out"))


def check(output: Output, name: str, answer: Any) -> None:
    probe._check(output, name, answer)


def test_a_node_that_shares_the_disk_is_fine(output: Output) -> None:
    check(output, "probe/a", probe.write_probe(output.location, "probe/a"))


def test_a_node_that_writes_elsewhere_is_named(output: Output, tmp_path: Path) -> None:
    answer = probe.write_probe(str(tmp_path / "another disk"), "probe/a")
    with pytest.raises(OutputError, match=r"node \S+ writes to a disk of its own") as caught:
        check(output, "probe/a", answer)
    assert caught.value.exit_code == 2


def test_a_node_that_cannot_write_says_why(output: Output, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    answer = probe.write_probe(str(tmp_path / "file"), "probe/a")
    with pytest.raises(OutputError, match=r"node \S+: .*is a file, expected a folder"):
        check(output, "probe/a", answer)


def test_a_node_that_is_gone_is_passed_over(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: Any) -> Any:
        raise RayError("the node died")

    monkeypatch.setattr(probe.ray, "get", gone)
    check(output, "probe/a", None)
