"""Windows cover a text, and its answer is the mean of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import reference
import tiny_models
from hypothesis import given
from hypothesis import strategies as st

from sentiment.block import DETAIL, LABEL, OFF_LABEL, REASON, SCORE, SPLIT, STAGE, TRUNCATED
from sentiment.engine.labels import Ids, LabelScores
from sentiment.engine.scorer import ScorerPlan
from sentiment.engine.windows import cut, score_windows
from sentiment.errors import ModelError
from sentiment.model.find import find_model
from sentiment.scoring.actor import Scorer
from sentiment.scoring.stages import tokenise_block

END = 1


def text(tokens: int) -> Ids:
    """Ids that tell their place, ended by `</s>`."""
    return np.array([*range(100, 100 + tokens), END], np.int32)


@given(st.integers(1, 3000), st.integers(4, 600))
def test_windows_cover_the_text_in_order(tokens: int, limit: int) -> None:
    windows = cut(text(tokens), limit)
    assert all(len(window) <= limit for window in windows)
    assert all(window[-1] == END for window in windows)
    bodies = [window[:-1].tolist() for window in windows]
    assert bodies[0][0] == 100
    assert bodies[-1][-1] == 99 + tokens
    assert {token for body in bodies for token in body} == set(range(100, 100 + tokens))
    assert all(body == list(range(body[0], body[0] + len(body))) for body in bodies)
    if len(windows) > 1:
        assert {len(window) for window in windows} == {limit}, "no window is short of context"
        shared = [one[-1] - other[0] + 1 for one, other in pairwise(bodies)]
        assert min(shared) >= int(0.25 * (limit - 1)) - 1
    else:
        assert tokens + 1 <= limit


def scores_of(windows: Sequence[Ids]) -> LabelScores:
    """The first label is the likelier the further back a window starts."""
    first = np.array([window[0] for window in windows], np.float64)
    one = np.clip((first - 100) / 100, 0.05, 0.95)
    errors = {n: "RuntimeError" for n, value in enumerate(first) if value == 7}
    log_probs = np.log(np.stack([0.9 * one, 0.9 * (1 - one)], axis=1)).astype(np.float32)
    log_probs[list(errors)] = np.nan
    return reference.label_scores(log_probs, errors)


def test_the_answer_is_the_mean_of_the_windows() -> None:
    long, short = text(160), text(5)
    windows = cut(long, 81)
    found = score_windows(scores_of, [short, long], 81)
    alone = np.exp(scores_of(windows).log_probs_NK)
    assert len(windows) == 3
    np.testing.assert_allclose(np.exp(found.scores.log_probs_NK[1]), alone.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        found.scores.log_probs_NK[0], scores_of([short]).log_probs_NK[0], rtol=1e-6
    )
    np.testing.assert_allclose(found.scores.off_label_N, [0.1, 0.1], atol=1e-6)
    assert set(alone.argmax(axis=1)) == {0, 1}
    assert found.split_N.tolist() == [False, True]


def test_a_text_fails_with_any_of_its_windows() -> None:
    bad = np.array([*range(100, 180), *[7] * 80, END], np.int32)
    found = score_windows(scores_of, [text(5), bad], 81)
    assert found.scores.errors == {1: "RuntimeError"}
    assert np.isnan(found.scores.log_probs_NK[1]).all()
    assert not found.split_N.any()


def test_nothing_is_scored_as_nothing() -> None:
    none = score_windows(lambda _: reference.label_scores(np.zeros((0, 2), np.float32), {}), [], 16)
    assert none.scores.log_probs_NK.shape == (0, 2)


def scored(model: Path, texts: list[str | None], **changes: Any) -> pa.Table:
    card = find_model(str(model), max_source_tokens=16, **changes)
    tokeniser = card.tokeniser()
    nothing = pa.nulls(len(texts), pa.string())
    block = pa.table({"text": texts, STAGE: nothing, REASON: nothing, DETAIL: nothing})
    plan = ScorerPlan(card, tokeniser, precision="fp32", batch_tokens=256, threads=1)
    return Scorer(plan)(tokenise_block(block, tokeniser))


def test_short_texts_are_as_without_windows_and_long_ones_are_read_whole(tiny_model: Path) -> None:
    short = tiny_models.example_texts()[0][:12]
    long = " ".join(tiny_models.example_texts()[:5])
    texts = [short, None, long, long + " at the very end, another word"]
    head, windows = (scored(tiny_model, texts, long_text=way) for way in ("head", "windows"))
    assert head.column(TRUNCATED).to_pylist() == [False, None, True, True]
    assert windows.column(TRUNCATED).to_pylist() == [False, None, False, False]
    assert SPLIT not in head.column_names
    assert windows.column(SPLIT).to_pylist()[:2] == [False, None]
    for name in (LABEL, SCORE, OFF_LABEL):
        assert windows.column(name)[0] == head.column(name)[0]
    assert head.column(SCORE)[2] == head.column(SCORE)[3], "the head of both is the same"
    assert windows.column(SCORE)[2] != windows.column(SCORE)[3]


def test_a_book_in_a_row_is_cut_at_some_point(tiny_model: Path) -> None:
    table = scored(tiny_model, ["dull film " * 2000], long_text="windows")
    assert table.column(TRUNCATED).to_pylist() == [True]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": "review: {text}"}, "only the first window would have the prompt"),
        ({"decode": "generate"}, "needs --decode labels"),
    ],
)
def test_what_windows_cannot_do_is_refused(
    tiny_model: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        find_model(str(tiny_model), long_text="windows", **changes)
