"""Calibration: how a temperature changes scores, how it is fitted, which input is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sentiment.errors import ModelError
from sentiment.metrics.calibration import (
    Calibration,
    calibration_error,
    fit_calibration,
    read_calibration,
)


def of(temperature: float) -> Calibration:
    return Calibration(temperature, "digest", 10, 10, 0.2, 0.1)


def overconfident(rows: int, temperature: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return scores whose best temperature is the given one, and whether they are right."""
    random = np.random.default_rng(7)
    logit = np.abs(random.normal(0, 3, rows))
    right = random.random(rows) < 1 / (1 + np.exp(-logit / temperature))
    return 1 / (1 + np.exp(-logit)), right


@given(
    st.lists(st.floats(0.5, 1.0, width=32), min_size=2, max_size=50),
    st.floats(0.05, 20.0),
)
def test_scores_keep_their_order_and_their_side(scores: list[float], temperature: float) -> None:
    """So no label changes: the likelier of two labels stays the likelier one."""
    raw = np.sort(np.array(scores, np.float32))
    made = of(temperature).apply(raw)
    assert made.dtype == np.float32
    assert ((made >= 0.5) & (made <= 1)).all()
    assert (np.diff(made) >= -1e-6).all()


def test_two_labels_get_the_softmax_at_that_temperature() -> None:
    log_probs = np.log([[0.9, 0.1], [0.02, 0.08]])
    scaled = np.exp(log_probs / 2.5)
    expected = (scaled / scaled.sum(axis=1, keepdims=True)).max(axis=1)
    plain = np.exp(log_probs)
    score = (plain / plain.sum(axis=1, keepdims=True)).max(axis=1)
    np.testing.assert_allclose(of(2.5).apply(score), expected, rtol=1e-6)


def test_a_score_of_one_stays_a_number() -> None:
    assert 0.99 < of(2.0).apply(np.array([1.0], np.float32))[0] < 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_behind_the_scores_is_found(temperature: float) -> None:
    score, right = overconfident(40_000, temperature)
    fitted = fit_calibration(score, right, model_digest="m", seed=1)
    assert fitted.temperature == pytest.approx(temperature, rel=0.06)
    assert (fitted.fitted_rows, fitted.held_out_rows) == (20_000, 20_000)
    assert fitted.ece_after < 0.012
    if temperature != 1.0:
        assert fitted.ece_before > 3 * fitted.ece_after


def test_it_is_judged_on_rows_it_was_not_fitted_on() -> None:
    score, right = overconfident(2000, 2.0)
    fitted = fit_calibration(score, right, model_digest="m", seed=3)
    held_out = np.array_split(np.random.default_rng(3).permutation(2000), 2)[1]
    assert fitted.ece_before == calibration_error(score[held_out], right[held_out])


def test_the_calibration_error_is_the_mean_gap_of_score_and_accuracy() -> None:
    score = np.array([0.9] * 10 + [0.6] * 10)
    right = np.array([True] * 7 + [False] * 3 + [True] * 6 + [False] * 4)
    assert calibration_error(score, right) == pytest.approx(0.1)
    assert calibration_error(np.zeros(0), np.zeros(0, bool)) == 0.0


@pytest.mark.parametrize("share_right", [0.0, 1.0])
def test_rows_that_are_all_right_or_all_wrong_are_refused(share_right: float) -> None:
    right = np.full(100, bool(share_right))
    with pytest.raises(ModelError, match="--fit-calibration: 100 rows with"):
        fit_calibration(np.full(100, 0.8), right, model_digest="m", seed=1)


def test_a_calibration_is_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(of(1.7).to_json())
    assert read_calibration(tmp_path / "c.json") == of(1.7)
    assert of(1.7).digest != of(1.8).digest


@pytest.mark.parametrize("text", [None, "", "[]", '{"temperature": 2}', of(0.0).to_json(), "{"])
def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "c.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ModelError, match=r"c\.json: cannot be used .*--fit-calibration"):
        read_calibration(path)
