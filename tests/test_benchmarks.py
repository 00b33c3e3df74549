"""The engine benchmark: it runs, its last line is JSON, and its arithmetic holds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from benchmark_scripts import ROOT, lines_of
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="module", autouse=True)
def benchmarks_on_the_path() -> Iterator[None]:
    """A script finds its neighbours because its folder comes first on the path."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def engine() -> ModuleType:
    import engine

    return engine


@pytest.fixture(scope="module")
def batching() -> ModuleType:
    from peers import batching

    return batching


@pytest.fixture(scope="module")
def workload() -> ModuleType:
    from peers import workload

    return workload


def test_engine_benchmark_prints_a_table_and_ends_with_json() -> None:
    names = ["engine-fp32", "transformers-fp32-padded"]
    words = ["--variants", ",".join(names), "--reviews", "4", "--rounds", "1"]
    lines = lines_of("engine.py", *words)
    rows = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")]
    assert rows == ["variant", *names]
    report = json.loads(lines[-1])
    assert list(report["variants"]) == names
    assert all(found["reviews_per_sec"] > 0 for found in report["variants"].values())
    engine = report["variants"]["engine-fp32"]
    assert engine["label_agreement"] == 1.0
    assert engine["logits_rel_error"] <= 1e-4
    assert report["machine"]["threads"] == 1
    assert report["machine"]["versions"]["torch"] == version("torch")


def test_unknown_variant_is_refused(
    engine: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["engine.py", "--variants", "engine-fp32,engine-fp64"])
    with pytest.raises(SystemExit):
        engine.parse()
    assert "unknown engine-fp64" in capsys.readouterr().err


@given(st.lists(st.integers(1, 600), max_size=60), st.integers(1, 4096))
def test_cut_by_tokens_holds_every_row_once_within_the_budget(
    batching: ModuleType, lengths: list[int], batch_tokens: int
) -> None:
    batches = batching.cut_by_tokens(lengths, batch_tokens)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[row] for row in batch)
        assert len(batch) == 1 or longest * len(batch) <= batch_tokens


def test_batches_in_order_take_the_rest_as_a_smaller_one(batching: ModuleType) -> None:
    assert batching.in_order(2).cut([9, 1, 5]) == [[0, 1], [2]]


def test_padding_is_masked_by_length_not_by_value(batching: ModuleType) -> None:
    ids_BS, mask_BS = batching.padded([np.array([7, 0, 1], np.int32), np.array([1], np.int32)])
    assert ids_BS.tolist() == [[7, 0, 1], [1, 0, 0]]
    assert mask_BS.tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize(("cut", "size"), [("in_order", 3), ("by_tokens", 4)])
def test_batched_peer_answers_in_the_order_of_its_rows(
    batching: ModuleType, cut: str, size: int
) -> None:
    def forward(ids_BS: torch.Tensor, mask_BS: torch.Tensor) -> torch.Tensor:
        sums_B = (ids_BS * mask_BS).sum(dim=1)
        return torch.stack([sums_B, torch.full_like(sums_B, 10), sums_B], dim=1).float()

    ids = [np.array(row, np.int32) for row in ([3], [8, 8], [1, 1, 1], [20])]
    peer = batching.BatchedPeer(forward, getattr(batching, cut)(size), [1, 2])
    assert peer.labels(ids) == [0, 1, 0, 1]
    assert peer.logits(ids)[:, 0].tolist() == [3, 16, 3, 20]


@given(st.integers(1, 300), st.integers(1, 300))
def test_calibration_reviews_are_not_those_that_are_scored(
    workload: ModuleType, rows: int, wanted: int
) -> None:
    chosen, others = workload.spread(rows, wanted)
    assert len(chosen) == len(set(chosen)) == min(rows, wanted)
    assert not set(chosen) & set(others)
    assert all(0 <= row < rows for row in chosen + others)


def test_ratio_says_how_many_times_as_fast_round_by_round(engine: ModuleType) -> None:
    results: dict[str, dict[str, Any]] = {
        "fast": {"round_sec": [1.0, 2.0, 1.0]},
        "slow": {"round_sec": [4.0, 8.0, 2.0]},
    }
    assert engine.speed_ratio(results, "fast", "slow") == 4.0
    assert engine.speed_ratio(results, "fast", "absent") is None


def test_cpuinfo_gives_the_model_and_what_it_multiplies_natively() -> None:
    from peers.machine import read_cpuinfo

    text = "processor\t: 0\nmodel name\t: A: B\nflags\t\t: fpu amx_bf16 avx512f\n\nflags\t: x\n"
    assert read_cpuinfo(text) == ("A: B", ["avx512f", "amx_bf16"])
    assert read_cpuinfo("") == ("", [])
