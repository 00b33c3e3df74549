"""Calibrate scores by a temperature, so that a score of 0.9 is right in 90 % of the rows.

A score s becomes 1 / (1 + exp(-logit(s) / T)), where T is the temperature. With two labels this is
temperature scaling of the label probabilities. With more labels, it scales the chosen label against
all others together. Calibration never changes a label.

Source:
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sentiment.digest import digest
from sentiment.errors import ModelError
from sentiment.metrics.counts import bins_of

# Name of the file in a model folder that holds the model's own calibration.
CALIBRATION_FILE: Final = "calibration.json"

# Scores are clipped to this distance from 0 and 1, where the logit is infinite. They are float32,
# in which values closer to 1 than this are equal to 1.
_CLIP = 2.0**-25

# Temperatures from 1/20 to 20 are tried; those of real models are far from both ends.
_LOG_T_LIMIT = math.log(20.0)

# What decides the scores that a calibration is fitted on, beside the model; as `run.json` names it.
SCORE_SETTINGS: Final = ("labels", "template", "max_source_tokens", "long_text", "decode")

RELIABILITY_BINS: Final = 15  # number of bins of the expected calibration error, as in the paper


@dataclass(frozen=True)
class Calibration:
    """A temperature, and how it was fitted.

    Attributes:
        temperature: Above 1 it lowers the confidence of scores, below 1 it raises it.
        model_digest: Digest of the model it was fitted for.
        fitted_rows: Number of rows it was fitted on.
        held_out_rows: Number of other rows, on which the two errors were measured.
        ece_before: Expected calibration error without it, 15 equal bins.
        ece_after: Expected calibration error with it.
        fitted_for: What else decided the scores it was fitted on: values of SCORE_SETTINGS. None in
            files of earlier versions.
    """

    temperature: float
    model_digest: str
    fitted_rows: int
    held_out_rows: int
    ece_before: float
    ece_after: float
    fitted_for: dict[str, Any] | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of what changes scores, which is the temperature alone."""
        return digest({"temperature": self.temperature})

    def apply(self, score_N: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return the calibrated scores, in the same order.

        Args:
            score_N: Probability of the chosen label, [0, 1].
        """
        return np.asarray(_sigmoid(_logit(score_N) / self.temperature), dtype=np.float32)

    def facts(self) -> dict[str, Any]:
        """Return what `run.json` has about it."""
        return {**asdict(self), "digest": self.digest}

    def to_json(self) -> str:
        """Return the content of a calibration file."""
        return json.dumps(asdict(self), indent=1) + "\n"


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file.

    Raises:
        ModelError: The file does not exist, or it is no calibration file.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        calibration = Calibration(**values)
        if not 0 < float(calibration.temperature) < float("inf"):
            raise ValueError("its temperature must be above 0")
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"--calibration {path}: cannot be used ({error}); make one with "
            "`sentiment evaluate … --fit-calibration FILE`"
        ) from error
    return calibration


def fit_calibration(
    score_N: NDArray[np.floating[Any]],
    right_N: NDArray[np.bool_],
    *,
    model_digest: str,
    seed: int,
    fitted_for: dict[str, Any] | None = None,
) -> Calibration:
    """Fit the temperature under which the right and wrong labels are most likely.

    It is fitted on a random half of the rows. Both errors are measured on the other half, because
    the error after fitting would be too low on the rows of the fit.

    Args:
        score_N: Probability of the chosen label, [0, 1].
        right_N: Whether that label is the true one.
        model_digest: Digest of the model whose scores these are.
        seed: Seed of the random split.
        fitted_for: What else decided the scores.

    Raises:
        ModelError: Too few rows, or rows that are all right or all wrong.
    """
    order = np.random.default_rng(seed).permutation(len(score_N))
    fit, held_out = np.array_split(order, 2)
    if len(score_N) < 2 * RELIABILITY_BINS or right_N[fit].all() or not right_N[fit].any():
        raise ModelError(
            f"--fit-calibration: {len(score_N)} rows with {int(right_N.sum())} right labels do not "
            "tell how sure to be; give more labelled rows"
        )
    temperature = _best_temperature(_logit(score_N[fit]), right_N[fit])
    fitted = Calibration(temperature, model_digest, len(fit), len(held_out), 0.0, 0.0, fitted_for)
    raw, right = np.asarray(score_N)[held_out], right_N[held_out]
    return replace(
        fitted,
        ece_before=calibration_error(raw, right),
        ece_after=calibration_error(fitted.apply(raw), right),
    )


def calibration_error(score_N: NDArray[np.floating[Any]], right_N: NDArray[np.bool_]) -> float:
    """Return the expected calibration error.

    Rows are put into bins by their score. The error is the mean distance between the scores of a
    bin and its share of right labels, weighted by the rows of the bin.

    Args:
        score_N: Probability of the chosen label, [0, 1].
        right_N: Whether that label is the true one.

    Source:
        Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015;
        15 bins of equal width, as Guo et al. use it.
    """
    score_N = np.asarray(score_N, dtype=np.float64)
    # |sum(score) - sum(right)| of a bin is its distance of means times its rows.
    gap_B = np.bincount(bins_of(score_N, RELIABILITY_BINS), score_N - right_N)
    return float(np.abs(gap_B).sum() / max(1, len(score_N)))


def _best_temperature(logit_N: NDArray[np.float64], right_N: NDArray[np.bool_]) -> float:
    # Imported here: only fitting needs it, not the actors that apply a temperature.
    from scipy.optimize import minimize_scalar

    # -log(sigmoid(x)) = log(1 + exp(-x)) for a right label, and the same with -x for a wrong one.
    signed_N = np.where(right_N, -logit_N, logit_N)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, signed_N / math.exp(log_temperature)).mean())

    # The loss is convex in 1/T, so it has one minimum, in log T as well. In log T, halving and
    # doubling a temperature are steps of the same size.
    minimum = minimize_scalar(loss, bounds=(-_LOG_T_LIMIT, _LOG_T_LIMIT), method="bounded")
    return round(math.exp(minimum.x), 6)


def _logit(score_N: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    inside_N = np.clip(np.asarray(score_N, dtype=np.float64), _CLIP, 1 - _CLIP)
    return np.log(inside_N) - np.log1p(-inside_N)


def _sigmoid(x_N: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x_N))
