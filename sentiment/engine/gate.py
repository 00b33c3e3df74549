"""The numerics gate: checks that a model gives its own answers in the precision of the run.

A small set of texts is scored in float32 and in that precision, and the probabilities are compared.
The result is cached for each model, label set, precision and kind of processor.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np

from sentiment.digest import SCORING_VERSION, digest
from sentiment.engine.devices import limit_threads, processor_name, resolve_precision, usable_device
from sentiment.engine.labels import Engine, Ids, LabelScores
from sentiment.engine.scorer import ScorerPlan
from sentiment.errors import ModelError
from sentiment.model.find import Model
from sentiment.model.load import load_t5
from sentiment.settings.choices import DeviceType
from sentiment.t5.linear import ResolvedPrecision

# Largest change of any label's probability. In bf16 it is the promise of the output contract; in
# int8, which is for those who ask for it, the built-in model changes by up to 0.03.
LIMITS: Final[dict[ResolvedPrecision, float]] = {"fp32": 0.0, "bf16": 0.01, "int8": 0.05}

_GOLDEN_FILE = Path(__file__).parent / "golden.txt"

# Golden texts are short; joined, they also fill a source limit of 512 tokens.
_JOINED = 16

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrecisionGap:
    """The difference between a precision and float32 on the golden set.

    Attributes:
        rows: Texts compared.
        worst: Largest change of any label's probability among the labels.
        flips: Texts whose label changed.
    """

    rows: int
    worst: float
    flips: int

    def passes(self, precision: ResolvedPrecision) -> bool:
        """Return whether the gap is within the limit. With two labels that also limits label
        changes.
        """
        return self.worst <= LIMITS[precision]


def measure_precision_gap(
    model: Model, precision: ResolvedPrecision, *, batch_tokens: int, device_type: DeviceType
) -> PrecisionGap:
    """Compare a precision with float32 on this machine, or return the cached result.

    Args:
        model: The model.
        precision: What is asked; float32 itself is scored once, to see that it gives numbers.
        batch_tokens: As in the run that follows, so that its batches are the ones tried.
        device_type: What the run will compute on.

    Raises:
        ModelError: The model cannot be loaded, cannot spell the labels, or gives no number.
        DeviceError: No GPU here, though the run wants one.
    """
    path = _cache_folder() / f"{_key(model, precision, batch_tokens, device_type)}.json"
    try:
        return PrecisionGap(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass
    gap = _measured(model, precision, batch_tokens, device_type)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(asdict(gap)), encoding="utf-8")
        unfinished.rename(path)
    except OSError as error:
        _log.debug("%s: cannot be written, the check will run again (%s)", path, error)
    return gap


def _measured(
    model: Model, precision: ResolvedPrecision, batch_tokens: int, device_type: DeviceType
) -> PrecisionGap:
    tokeniser = model.tokeniser()
    ids = [item.ids for item in tokeniser.encode(_golden_texts())]
    labels = [tokeniser.label_ids(label) for label in model.labels]

    def score(how: ResolvedPrecision) -> LabelScores:
        return _score(model, ids, labels, how, batch_tokens, device_type)

    exact = score("fp32")
    rounded = exact if precision == "fp32" else score(precision)
    gap_NK = np.abs(exact.probabilities_NK - rounded.probabilities_NK)
    return PrecisionGap(
        rows=len(ids),
        worst=float(gap_NK.max()),
        flips=int((exact.best_N != rounded.best_N).sum()),
    )


def _score(
    model: Model,
    ids: Sequence[Ids],
    labels: Sequence[tuple[int, ...]],
    precision: ResolvedPrecision,
    batch_tokens: int,
    device_type: DeviceType,
) -> LabelScores:
    network = load_t5(model.folder, device=usable_device(device_type), precision=precision)
    scores = Engine(network, labels, batch_tokens=batch_tokens).score(ids)
    if scores.errors:
        reason = next(iter(scores.errors.values()))
        raise ModelError(f"{model.folder}: the model fails in {precision}: {reason}")
    return scores


def _golden_texts() -> list[str]:
    short = _GOLDEN_FILE.read_text(encoding="utf-8").splitlines()
    return [*short, *(" ".join(short[n : n + _JOINED]) for n in range(0, len(short), _JOINED))]


def _key(
    model: Model, precision: ResolvedPrecision, batch_tokens: int, device_type: DeviceType
) -> str:
    return digest(
        [
            model.digest, model.labels, model.template, model.max_source_tokens, model.long_text,
            precision, batch_tokens, processor_name(usable_device(device_type)), version("torch"),
            SCORING_VERSION,
        ]
    )[:32]  # fmt: skip


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sentiment" / "numerics"


def check_model(plan: ScorerPlan) -> ResolvedPrecision:
    """Try the model on the golden set, so that a model that cannot work stops the run before it
    starts.

    Returns:
        The precision to run in: `auto` falls back to float32 where bf16 changes the answers.

    Raises:
        ModelError: The model cannot be loaded, cannot spell the labels, gives no number, or gives
            other answers in the precision that was asked for.
        DeviceError: No GPU here, though the plan wants one.
    """
    limit_threads(plan.threads)
    usable_device(plan.device_type)
    precision = resolve_precision(plan.precision, plan.device_type)
    gap = measure_precision_gap(
        plan.model, precision, batch_tokens=plan.batch_tokens, device_type=plan.device_type
    )
    if gap.passes(precision):
        return precision
    found = (
        f"{plan.model.folder}: in {precision} a label's probability is off by {gap.worst:.3f} "
        f"(limit {LIMITS[precision]:g}) and {gap.flips} of {gap.rows} labels change"
    )
    if plan.precision == "auto":
        _log.warning("%s; running in fp32 instead", found)
        return "fp32"
    raise ModelError(f"{found}; use --precision fp32")
