"""Free generation in batches says what transformers says one row at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import tiny_models
import torch

from sentiment.engine.devices import device_faults
from sentiment.engine.generation import Generator
from sentiment.engine.labels import OUTSIDE_VOCABULARY
from sentiment.errors import DeviceError
from sentiment.model.load import load_network
from sentiment.model.tokenizer import Tokeniser
from sentiment.t5.linear import ResolvedPrecision

EOS = 1


def generator_of(
    network: Any,
    *,
    precision: ResolvedPrecision = "fp32",
    batch_tokens: int = 200,
    max_new_tokens: int = 5,
    num_beams: int = 1,
) -> Generator:
    return Generator(
        network,
        precision=precision,
        batch_tokens=batch_tokens,
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
    )


def said_by_transformers(network: Any, row: np.ndarray, num_beams: int) -> tuple[int, ...]:
    answer = network.generate(
        input_ids=torch.tensor(row[None].astype(np.int64)),
        max_new_tokens=5,
        num_beams=num_beams,
        do_sample=False,
    )
    return tuple(int(token) for token in answer[0, 1:] if token != 0)


@pytest.fixture(scope="module", params=["tiny_model", "tiny_flan"])
def network(request: pytest.FixtureRequest) -> Any:
    return load_network(request.getfixturevalue(request.param), device=reference.CPU)


@pytest.fixture(scope="module")
def plain(tiny_model: Path) -> Any:
    """A T5 v1.0, for what does not depend on the family. A test that changes it changes it back."""
    return load_network(tiny_model, device=reference.CPU)


@pytest.fixture(scope="module")
def ids(tiny_model: Path) -> list[np.ndarray]:
    """Reviews of very different lengths, down to a single token."""
    tokeniser = Tokeniser(tiny_model, "{text}", 96, "head")
    texts = [text[: 5 + 17 * (n % 13)] for n, text in enumerate(tiny_models.example_texts()[:24])]
    return [*(item.ids for item in tokeniser.encode(texts)), np.array([EOS], np.int32)]


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_generation_equals_transformers(
    network: Any, ids: list[np.ndarray], num_beams: int, precision: ResolvedPrecision
) -> None:
    generator = generator_of(network, precision=precision, num_beams=num_beams)
    answers, errors = generator.generate(ids)
    assert errors == {}
    expected = [said_by_transformers(network, row, num_beams) for row in ids]
    assert len(set(expected)) > 3, "rows must differ, or a mix-up passes"
    agreed = sum(ours == theirs for ours, theirs in zip(answers, expected, strict=True))
    # Rounding turns near ties of random weights; in fp32 there are none.
    assert agreed == len(ids) if precision == "fp32" else agreed > 0.6 * len(ids)


def test_int8_generates_in_bf16(plain: Any, ids: list[np.ndarray]) -> None:
    eight = generator_of(plain, precision="int8").generate(ids)
    assert eight == generator_of(plain, precision="bf16").generate(ids)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_products_are_in_the_precision_asked_for(
    plain: Any, ids: list[np.ndarray], precision: ResolvedPrecision
) -> None:
    seen: set[torch.dtype] = set()
    handle = (
        plain.encoder.block[0]
        .layer[0]
        .SelfAttention.q.register_forward_hook(lambda *passed: seen.add(passed[2].dtype))
    )
    generator_of(plain, precision=precision).generate(ids[:2])
    handle.remove()
    assert seen == {torch.bfloat16 if precision == "bf16" else torch.float32}


def test_an_answer_is_as_long_as_allowed(plain: Any, ids: list[np.ndarray]) -> None:
    answers, _ = generator_of(plain, max_new_tokens=2).generate(ids)
    assert {len(answer) for answer in answers} <= {1, 2}
    assert max(len(answer) for answer in answers) == 2


def test_no_rows_give_no_answers(plain: Any) -> None:
    assert generator_of(plain).generate([]) == ([], {})


@pytest.mark.parametrize("poison", [[600, 1], [-1, 1], []], ids=str)
def test_a_row_that_cannot_be_looked_up_fails_alone(
    plain: Any, ids: list[np.ndarray], poison: list[int]
) -> None:
    generator = generator_of(plain)
    expected, _ = generator.generate(ids[:6])
    answers, errors = generator.generate([*ids[:3], np.array(poison, np.int32), *ids[3:6]])
    assert errors == {3: OUTSIDE_VOCABULARY}
    assert answers == [*expected[:3], (), *expected[3:]]
    assert all(expected)


def test_a_row_that_breaks_the_model_fails_alone(
    plain: Any, ids: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = np.array([3, 3, 3, 3, EOS], np.int32)
    generator = generator_of(plain, batch_tokens=100_000)
    expected, _ = generator.generate(ids[:9])
    inner, sizes = plain.generate, []

    def generate(*, input_ids: torch.Tensor, **named: Any) -> Any:
        sizes.append(len(input_ids))
        if (input_ids[:, :4] == 3).all(dim=1).any():
            raise ValueError("no")
        return inner(input_ids=input_ids, **named)

    monkeypatch.setattr(plain, "generate", generate)
    answers, errors = generator.generate([*ids[:4], poison, *ids[4:9]])
    assert errors == {4: "ValueError"}
    assert answers == [*expected[:4], (), *expected[4:]]
    assert sizes[0] == 10
    assert len(sizes) <= 9  # halved, not tried one by one


@pytest.mark.skipif(not device_faults(), reason="torch names these faults since 2.8")
def test_a_broken_gpu_is_no_rows_fault(
    plain: Any, ids: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def generate(*, input_ids: torch.Tensor, **_: Any) -> Any:
        calls.append(len(input_ids))
        raise torch.AcceleratorError("CUDA error: an illegal memory access")

    monkeypatch.setattr(plain, "generate", generate)
    with pytest.raises(DeviceError, match=r"GPU failed \(AcceleratorError\)") as caught:
        generator_of(plain).generate(ids)
    assert isinstance(caught.value.__cause__, torch.AcceleratorError)
    assert len(calls) == 1
