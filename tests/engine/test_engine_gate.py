"""The gate in front of a run: what it measures, what it refuses, what it remembers."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference

from sentiment.engine import gate
from sentiment.engine.gate import LIMITS, PrecisionGap, check_model, measure_precision_gap
from sentiment.engine.labels import Engine, LabelScores
from sentiment.engine.scorer import ScorerPlan
from sentiment.errors import ModelError
from sentiment.model.find import Model, find_model


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "sentiment" / "numerics"


@pytest.fixture
def model(tiny_model: Path) -> Model:
    return find_model(str(tiny_model))


def gap_of(model: Model, precision: Any = "bf16", **changes: Any) -> PrecisionGap:
    return measure_precision_gap(
        model, precision, **{"batch_tokens": 512, "device_type": "cpu", **changes}
    )


def shift_rounded_answers(monkeypatch: pytest.MonkeyPatch, by: float) -> list[str]:
    """Make every precision but fp32 answer differently; returns the precisions asked."""
    score, asked = Engine.score, []

    def shifted(self: Engine, ids: Sequence[Any]) -> LabelScores:
        asked.append(self.network.precision)
        scores = score(self, ids)
        if self.network.precision == "fp32":
            return scores
        return reference.label_scores(scores.log_probs_NK + np.array([by, 0], np.float32), {})

    monkeypatch.setattr(Engine, "score", shifted)
    return asked


def test_float32_is_what_the_others_are_measured_by(model: Model) -> None:
    assert gap_of(model, "fp32") == PrecisionGap(rows=34, worst=0.0, flips=0)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_the_built_in_model_passes_in_every_precision(precision: Any) -> None:
    gap = gap_of(find_model("builtin"), precision, batch_tokens=4096)
    assert 0 < gap.worst <= LIMITS[precision]
    assert gap.passes(precision)


def test_golden_texts_reach_every_length(model: Model) -> None:
    texts = gate._golden_texts()
    assert len(set(texts)) == len(texts)
    lengths = [len(text.split()) for text in texts]
    assert min(lengths) < 15
    assert max(lengths) > 300


def test_what_was_measured_is_remembered(
    model: Model, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = gap_of(model)
    [file] = cache.iterdir()
    assert json.loads(file.read_text()) == dataclasses.asdict(first)
    monkeypatch.setattr(Engine, "score", lambda *_: pytest.fail("scored again"))
    assert gap_of(model) == first


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "int8"},
        {"batch_tokens": 256},
        {"card": {"digest": "another"}},
        {"card": {"labels": ("bad", "good")}},
        {"card": {"max_source_tokens": 32}},
    ],
    ids=str,
)
def test_what_differs_is_measured_anew(model: Model, cache: Path, changes: dict[str, Any]) -> None:
    gap_of(model)
    other = dataclasses.replace(model, **changes.pop("card", {}))
    gap_of(other, **changes)
    assert len(list(cache.iterdir())) == 2


def test_another_processor_is_measured_anew(
    model: Model, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gap_of(model)
    monkeypatch.setattr(
        "sentiment.engine.gate.processor_name", lambda device: f"another {device.type}"
    )
    gap_of(model)
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"rows": 1}', '{"a": 1}'])
def test_a_torn_memory_is_no_memory(model: Model, cache: Path, content: str) -> None:
    expected = gap_of(model)
    [file] = cache.iterdir()
    file.write_text(content)
    assert gap_of(model) == expected
    assert json.loads(file.read_text())["rows"] == 34


def test_a_place_that_cannot_be_written_is_no_error(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert gap_of(model).rows == 34


def test_a_precision_that_changes_answers_is_refused(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    shift_rounded_answers(monkeypatch, by=0.5)
    plan = ScorerPlan(model, model.tokeniser(), precision="bf16", batch_tokens=512, threads=1)
    with pytest.raises(ModelError, match=r"in bf16 .* off by 0\.\d+ \(limit 0\.01\).*fp32"):
        check_model(plan)


def test_auto_goes_on_in_float32_and_says_so(
    model: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sentiment.engine.gate.resolve_precision", lambda *_: "bf16")
    plan = ScorerPlan(model, model.tokeniser(), precision="auto", batch_tokens=512, threads=1)
    assert check_model(plan) == "bf16"
    shift_rounded_answers(monkeypatch, by=0.5)
    other = dataclasses.replace(plan, batch_tokens=500)
    with caplog.at_level(logging.WARNING):
        assert check_model(other) == "fp32"
    assert "running in fp32 instead" in caplog.text


def test_a_model_that_gives_no_number_in_a_precision_is_an_error(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Engine,
        "score",
        lambda self, ids: reference.label_scores(
            np.zeros((len(ids), 2), np.float32),
            {} if self.network.precision == "fp32" else {3: "non-finite probabilities"},
        ),
    )
    with pytest.raises(ModelError, match="fails in bf16: non-finite"):
        gap_of(model)
