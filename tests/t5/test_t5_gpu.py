"""How a GPU's batch goes through the layers: kernels where they run, a warning elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import tiny_models
import torch

from sentiment.t5 import gpu as whole
from sentiment.t5.gpu_padded import PaddedOperations
from sentiment.t5.shape import T5Shape

TOLD = "Triton's kernels do not run here"


@pytest.fixture
def shape() -> T5Shape:
    return T5Shape.from_config(tiny_models.untied_of(40).config.to_dict())


@pytest.fixture(autouse=True)
def untold() -> Iterator[None]:
    """Every test starts as a process does: nothing has been told."""
    whole._tell.cache_clear()
    yield
    whole._tell.cache_clear()


class FakeFused:
    """Kernels of a node on which they run, or fail as they are told to."""

    failure: Exception | None = None

    def __init__(self, *_: object) -> None:
        self.tried = False

    def try_out(self) -> None:
        self.tried = True
        if self.failure:
            raise self.failure


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> type[FakeFused]:
    module = ModuleType("sentiment.t5.gpu_fused")
    module.FusedOperations = type("Fused", (FakeFused,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentiment.t5.gpu_fused", module)
    made: type[FakeFused] = module.FusedOperations
    return made


def operations(shape: T5Shape) -> whole.Operations:
    return whole.suited_operations(shape, torch.zeros(shape.buckets, shape.heads), "fp32")


def test_kernels_are_tried_and_taken(
    shape: T5Shape, fused: type[FakeFused], caplog: pytest.LogCaptureFixture
) -> None:
    found = operations(shape)
    assert isinstance(found, fused)
    assert found.tried
    assert TOLD not in caplog.text


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (RuntimeError("Failed to find C compiler.\nSpecify CC"), "RuntimeError: Failed to find C"),
        (ValueError(), "ValueError: "),
    ],
)
def test_without_kernels_pytorch_does_it_and_one_warning_says_why(
    shape: T5Shape,
    fused: type[FakeFused],
    failure: Exception,
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fused.failure = failure
    with caplog.at_level(logging.WARNING):
        assert isinstance(operations(shape), PaddedOperations)
        assert isinstance(operations(shape), PaddedOperations), "the gate loads a second network"
    [record] = [record for record in caplog.records if TOLD in record.getMessage()]
    assert record.levelno == logging.WARNING
    for words in (said, "more slowly", "install triton", "C compiler"):
        assert words in record.getMessage()
    assert "Specify CC" not in record.getMessage()


def test_a_missing_triton_is_no_error(
    shape: T5Shape, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "sentiment.t5.gpu_fused", None)
    assert isinstance(operations(shape), PaddedOperations)
    assert caplog.text.count(TOLD) == 1
