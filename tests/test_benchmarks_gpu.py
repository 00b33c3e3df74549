"""The GPU benchmark: without a GPU it says so, and its arithmetic holds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
import tiny_models
import torch
from benchmark_scripts import ROOT, lines_of


@pytest.fixture(scope="module")
def gpu() -> Iterator[ModuleType]:
    """A script finds its neighbours because its folder comes first on the path."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import gpu

    yield gpu
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to measure")
def test_without_a_gpu_it_is_left_out() -> None:
    [line] = lines_of("gpu.py")
    assert "no CUDA device" in line


def test_lengths_are_those_asked_for(gpu: ModuleType) -> None:
    lengths = [len(row) for row in gpu.random_ids("100:0.5:300", 2000)]
    assert abs(np.median(lengths) - 100) < 5
    assert max(lengths) == 300
    assert min(lengths) >= 2


def test_a_batch_is_as_large_as_the_engine_makes_it(gpu: ModuleType) -> None:
    lengths = list(range(1, 101))
    batch = gpu.first_batch(lengths, 500)
    assert batch == [75, 74, 73, 72, 71, 70]
    assert gpu.first_batch([9], 5) == [9]


def test_operations_are_those_of_real_tokens(gpu: ModuleType) -> None:
    """Two for each multiplication: 4 and 3 matrices a token, and two products of attention."""
    config = tiny_models.untied_of(40).config  # gated, 2 layers, 32 wide, 64 within, 4 heads of 8
    per_token = 2 * (4 * 32 * 32 + 3 * 32 * 64)
    assert gpu.encoder_flop(config, [5, 7]) == 2 * (12 * per_token + 4 * 32 * (25 + 49))
