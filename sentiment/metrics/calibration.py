"""Scores that mean what they say: a temperature on the odds of the chosen label.

Takes scores and whether they were right, gives a `Calibration`; applies it to scores. Never changes
a label. Knows no model.

A score s becomes 1 / (1 + exp(-logit(s) / T)). With two labels that is temperature scaling of the
label probabilities; with more, of the chosen label against all others together.

Source:
    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sentiment.digest import digest
from sentiment.errors import ModelError
from sentiment.metrics.counts import bins_of

# File of a model folder that holds the model's own calibration.
CALIBRATION_FILE: Final = "calibration.json"

# Scores are float32: closer to 0 or 1 they are not told apart.
_NEAREST = 2.0**-25

# No model is off by more.
_LOG_T_MOST = math.log(20.0)

RELIABILITY_BINS: Final = 15  # of the expected calibration error, as in the paper


@dataclass(frozen=True)
class Calibration:
    """A temperature and where it comes from.

    Attributes:
        temperature: Above 1 it takes confidence away, below it adds some.
        model_digest: The model it was fitted for.
        fitted_rows: Rows it was fitted on.
        held_out_rows: Other rows, which the two errors below were measured on.
        ece_before: Expected calibration error of those without it, 15 equal bins.
        ece_after: And with it.
    """

    temperature: float
    model_digest: str
    fitted_rows: int
    held_out_rows: int
    ece_before: float
    ece_after: float

    @property
    def digest(self) -> str:
        """SHA-256 of what decides scores."""
        return digest({"temperature": self.temperature})

    def apply(self, score_N: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Calibrated scores, in the order of the raw ones."""
        return np.asarray(_sigmoid(_logit(score_N) / self.temperature), dtype=np.float32)

    def facts(self) -> dict[str, Any]:
        """What `run.json` tells of it."""
        return {**asdict(self), "digest": self.digest}

    def to_json(self) -> str:
        """The content of a calibration file."""
        return json.dumps(asdict(self), indent=1) + "\n"


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file.

    Raises:
        ModelError: There is none, or it is not one.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = Calibration(**values)
        if not 0 < float(found.temperature) < float("inf"):
            raise ValueError("its temperature must be above 0")
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"--calibration {path}: cannot be used ({error}); make one with "
            "`sentiment evaluate … --fit-calibration FILE`"
        ) from error
    return found


def fit_calibration(
    score_N: NDArray[np.floating[Any]],
    right_N: NDArray[np.bool_],
    *,
    model_digest: str,
    seed: int,
) -> Calibration:
    """Find the temperature that makes being right most likely.

    It is fitted on a random half of the rows and judged on the other, so that both errors are of
    rows it has not seen.

    Args:
        score_N: Probability of the chosen label, [0, 1].
        right_N: Whether that label is the true one.

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
    fitted = Calibration(temperature, model_digest, len(fit), len(held_out), 0.0, 0.0)
    raw, right = np.asarray(score_N)[held_out], right_N[held_out]
    return Calibration(
        temperature=temperature,
        model_digest=model_digest,
        fitted_rows=len(fit),
        held_out_rows=len(held_out),
        ece_before=calibration_error(raw, right),
        ece_after=calibration_error(fitted.apply(raw), right),
    )


def calibration_error(score_N: NDArray[np.floating[Any]], right_N: NDArray[np.bool_]) -> float:
    """Expected calibration error: how far scores are from the share of right labels, on average.

    Source:
        Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015;
        15 bins of equal width, as Guo et al. use it.
    """
    score_N = np.asarray(score_N, dtype=np.float64)
    gap_B = np.bincount(bins_of(score_N, RELIABILITY_BINS), score_N - right_N)
    return float(np.abs(gap_B).sum() / max(1, len(score_N)))


def _best_temperature(logit_N: NDArray[np.float64], right_N: NDArray[np.bool_]) -> float:
    # Imported here: only fitting needs it, not the actors that apply a temperature.
    from scipy.optimize import minimize_scalar

    signed_N = np.where(right_N, -logit_N, logit_N)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0.0, signed_N / math.exp(log_temperature)).mean())

    # The likelihood has one peak in 1/T, so it has one in log T.
    found = minimize_scalar(loss, bounds=(-_LOG_T_MOST, _LOG_T_MOST), method="bounded")
    return round(math.exp(found.x), 6)


def _logit(score_N: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    inside_N = np.clip(np.asarray(score_N, dtype=np.float64), _NEAREST, 1 - _NEAREST)
    return np.log(inside_N) - np.log1p(-inside_N)


def _sigmoid(x_N: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-x_N))
