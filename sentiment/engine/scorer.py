"""Scoring of one block: token ids in, the same rows out, labelled or rejected.

`BlockScorer` is a plain class. A Ray actor holds one; tests and notebooks call it directly.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentiment.block import (
    IDS,
    LABEL,
    OFF_LABEL,
    SCORE,
    SCORE_SEC,
    SPLIT,
    STAGE_SCORE,
    reject_rows,
)
from sentiment.engine.batching import Fill
from sentiment.engine.devices import limit_threads, resolve_precision, usable_device
from sentiment.engine.generation import Generator
from sentiment.engine.labels import Engine, Ids, LabelScores
from sentiment.engine.windows import score_windows
from sentiment.errors import ModelError
from sentiment.metrics.calibration import Calibration
from sentiment.model.find import Model, folder_digest
from sentiment.model.load import load_network, load_t5
from sentiment.model.tokenizer import Tokeniser
from sentiment.settings.choices import DeviceType, Precision

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScorerPlan:
    """What a scorer needs to know. It is small enough to be sent to every actor.

    Attributes:
        model: The model; its folder must exist on the actor's machine.
        tokeniser: The model's. It travels so that actors need not import transformers to have one.
        precision: `auto` is settled where the plan is used; the driver settles it for a run.
        batch_tokens: Tokens per batch.
        threads: CPU threads of the actor.
        device_type: What the pool's actors compute on.
        calibration: What to make of the scores, if anything.
    """

    model: Model
    tokeniser: Tokeniser
    precision: Precision
    batch_tokens: int
    threads: int
    device_type: DeviceType = "cpu"
    calibration: Calibration | None = None


class BlockScorer:
    """Holds the model and scores blocks. It must be made and called in one thread.

    Raises:
        ModelError: The model cannot be loaded here, or differs from what the driver read.
        DeviceError: No GPU here, though the plan wants one.
    """

    def __init__(self, plan: ScorerPlan) -> None:
        limit_threads(plan.threads)
        model = plan.model
        if folder_digest(model.folder) != model.digest:
            raise ModelError(f"{model.folder}: differs on this machine from what the driver read")
        self._plan = plan
        self._tokeniser = plan.tokeniser
        self._label_ids = [self._tokeniser.label_ids(label) for label in model.labels]
        device = usable_device(plan.device_type)
        precision = resolve_precision(plan.precision, device.type)
        self._engine = Engine(
            load_t5(model.folder, device=device, precision=precision),
            self._label_ids,
            batch_tokens=plan.batch_tokens,
        )
        self._generator: Generator | None = None
        if model.decode == "generate":
            self._generator = Generator(
                load_network(model.folder, device=device),
                precision=precision,
                batch_tokens=plan.batch_tokens,
                max_new_tokens=model.max_new_tokens,
                num_beams=model.num_beams,
            )

    @property
    def fill(self) -> Fill:
        """Batches so far: how many, their tokens, and the tokens that they had room for."""
        return self._engine.fill

    def score(self, block: pa.Table) -> pa.Table:
        """Score one block.

        Args:
            block: Rows with the IDS carrier, which is null where an earlier stage rejected the row.

        Returns:
            The same rows in the same order, with LABEL, SCORE, OFF_LABEL and SCORE_SEC.
        """
        started = time.perf_counter()
        chunk = block.column(IDS).combine_chunks()
        good = np.flatnonzero(chunk.is_valid().to_numpy(zero_copy_only=False))
        answers = self._answer(_rows_of(chunk, good))
        seconds = (time.perf_counter() - started) / max(1, block.num_rows)
        return _with_answers(block.drop_columns([IDS]), good, answers, seconds)

    def _answer(self, ids: list[Ids]) -> Answers:
        """Score each distinct sequence once: lakes hold many repeated texts."""
        first_of: dict[bytes, int] = {}
        back = np.array([first_of.setdefault(row.tobytes(), len(first_of)) for row in ids], np.intp)
        distinct = [np.frombuffer(key, dtype=np.int32) for key in first_of]
        if self._generator is None:
            once = self._label(distinct)
        else:
            once = self._generate(distinct, self._generator)
        if self._plan.calibration is not None:
            once = replace(once, score=self._plan.calibration.apply(once.score))
        return once.take(back)

    def _label(self, ids: list[Ids]) -> Answers:
        model = self._plan.model
        if model.long_text != "windows":
            return self._best_labels(self._engine.score(ids))
        pooled = score_windows(self._engine.score, ids, model.max_source_tokens)
        return replace(self._best_labels(pooled.scores), split=pooled.split_N)

    def _best_labels(self, scores: LabelScores) -> Answers:
        rows = len(scores.log_probs_NK)
        meanings = np.array(self._plan.model.meanings, dtype=object)
        answers = Answers(
            label=meanings[scores.best_N],
            score=scores.score_N,
            off_label=scores.off_label_N,
            reason=np.full(rows, None, dtype=object),
            detail=np.full(rows, None, dtype=object),
        )
        answers.reject(scores.errors, "scoring_error")
        return answers

    def _generate(self, ids: list[Ids], generator: Generator) -> Answers:
        """Label with freely generated text; the score is still the probability of that label."""
        scores = self._engine.score(ids)
        answers = self._best_labels(scores)
        generated, errors = generator.generate(ids)
        answers.reject(errors, "scoring_error")
        labels = self._tokeniser.labels_of(generated, self._label_ids)
        for row, k in enumerate(labels):
            if answers.reason[row] is not None:
                continue
            if k is None:
                known = len(self._label_ids)
                detail = f"answer of {len(generated[row])} tokens is none of the {known} labels"
                answers.reject({row: detail}, "off_label_text")
                continue
            answers.label[row] = self._plan.model.meanings[k]
            answers.score[row] = np.exp(scores.among_NK[row, k])
        return answers


@dataclass(frozen=True)
class Answers:
    """Labels and rejects of N rows, as parallel arrays."""

    label: NDArray[np.object_]
    score: NDArray[np.float32]
    off_label: NDArray[np.float32]
    reason: NDArray[np.object_]
    detail: NDArray[np.object_]
    split: NDArray[np.bool_] | None = None  # windows disagree

    def reject(self, details: dict[int, str], reason: str) -> None:
        """Mark rows as rejected."""
        for row, detail in details.items():
            self.reason[row], self.detail[row] = reason, detail

    def take(self, rows: NDArray[np.intp]) -> Answers:
        """Return the answers of these rows; a row may be asked for more than once."""
        return Answers(
            label=self.label[rows],
            score=self.score[rows],
            off_label=self.off_label[rows],
            reason=self.reason[rows],
            detail=self.detail[rows],
            split=None if self.split is None else self.split[rows],
        )


def _rows_of(chunk: pa.ListArray, good: NDArray[np.intp]) -> list[Ids]:
    values = chunk.values.to_numpy()
    offsets = chunk.offsets.to_numpy()
    return [values[offsets[row] : offsets[row + 1]] for row in good]


def _with_answers(
    block: pa.Table, good: NDArray[np.intp], answers: Answers, seconds: float
) -> pa.Table:
    """Add the answers to the good rows, and reject the rows on which the model failed."""
    rows = block.num_rows
    failed = np.array([reason is not None for reason in answers.reason], dtype=bool)
    labelled, rejected = good[~failed], good[failed]

    def spread(values: NDArray[np.generic], kind: pa.DataType) -> pa.Array:
        full = np.full(rows, None, dtype=object)
        full[labelled] = values[~failed]
        return pa.array(full, type=kind, from_pandas=True)

    block = block.append_column(LABEL, spread(answers.label, pa.string()))
    block = block.append_column(SCORE, spread(answers.score, pa.float32()))
    block = block.append_column(OFF_LABEL, spread(answers.off_label, pa.float32()))
    if answers.split is not None:
        block = block.append_column(SPLIT, spread(answers.split, pa.bool_()))
    block = block.append_column(SCORE_SEC, pa.array(np.full(rows, seconds, dtype=np.float32)))
    return reject_rows(
        block,
        rejected,
        stage=STAGE_SCORE,
        reasons=answers.reason[failed].tolist(),
        details=answers.detail[failed].tolist(),
    )
