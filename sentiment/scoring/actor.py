"""The Ray actor that holds the model and scores blocks, all of them in one thread."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from uuid import uuid4

import numpy as np
import pyarrow as pa

from sentiment.block import SCORER, STAGE_SCORE
from sentiment.engine.scorer import BlockScorer, ScorerPlan
from sentiment.output.apart import call_apart
from sentiment.output.attempts import Attempts
from sentiment.output.folder import Output
from sentiment.output.receipt import ActorNote
from sentiment.scoring.packed import pack, unpack


def score_once(plan: ScorerPlan, block: pa.Table) -> pa.Table:
    """Load the model and score one block: the last try of rows over which an actor died."""
    return BlockScorer(plan).score(block)


class Scorer:
    """The callable class that Ray runs in each scoring actor: it loads the model once.

    Args:
        plan: What to score with.
        location: The output, where markers of crashes are kept. If None, a row that crashes the
            process does so on every attempt.
        run_token: Token of the run, which the markers carry.

    Raises:
        ModelError: The model cannot be loaded here, or differs from what the driver read.
        DeviceError: No GPU here, though the plan wants one.
    """

    def __init__(self, plan: ScorerPlan, location: str | None = None, run_token: str = "") -> None:
        # OpenMP keeps a team of threads for every thread that computes. Ray makes an actor in one
        # thread and calls it from another, and with two teams GNU's sees more threads than cores
        # and puts them to sleep after every product instead of spinning: a third of the speed.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scorer")
        started = time.perf_counter()
        self._model = self._thread.submit(BlockScorer, plan).result()
        self._load_sec = time.perf_counter() - started
        self._name = uuid4().hex
        self._plan = plan
        self._attempts = None
        if location is not None:
            self._attempts = Attempts(Output.open(location), run_token, STAGE_SCORE)

    def __call__(self, block: pa.Table) -> pa.Table:
        """Score one block.

        Args:
            block: Rows with the IDS carrier; null where an earlier stage rejected the row.

        Returns:
            The same rows in the same order without IDS, with LABEL, SCORE, OFF_LABEL, SCORE_SEC and
            SCORER.
        """
        return self._thread.submit(self._score, block).result()

    def _score(self, block: pa.Table) -> pa.Table:
        before = replace(self._model.fill)
        if self._attempts is None:
            scored = self._model.score(block)
        else:
            scored = self._attempts.run_on_rows(
                block,
                self._model.score,
                partial(call_apart, score_once, self._plan),
                "scoring_error",
            )
        fill = self._model.fill
        note = ActorNote(
            actor=self._name,
            load_sec=self._load_sec,
            batches=fill.batches - before.batches,
            batch_tokens=fill.tokens - before.tokens,
            room_tokens=fill.room_tokens - before.room_tokens,
        )
        notes = pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(scored.num_rows, np.int32)), pa.array([note.to_json()])
        )
        return scored.append_column(SCORER, notes)


class PackedScorer(Scorer):
    """The scoring actor on packed blocks."""

    def __call__(self, block: pa.Table) -> pa.Table:
        return pack(super().__call__(unpack(block)))
