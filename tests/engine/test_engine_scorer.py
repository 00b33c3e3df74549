"""A block in, the same rows out: labelled, rejected, or left as an earlier stage rejected them."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tiny_models
import torch
from transformers import T5ForConditionalGeneration

from sentiment.block import (
    DETAIL,
    IDS,
    LABEL,
    OFF_LABEL,
    REASON,
    SCORE,
    SCORE_SEC,
    SCORER,
    STAGE,
    TOKENS,
)
from sentiment.engine.gate import check_model
from sentiment.engine.generation import Generator
from sentiment.engine.labels import Engine, LabelScores
from sentiment.engine.scorer import ScorerPlan
from sentiment.errors import DeviceError, ModelError
from sentiment.model.find import find_model
from sentiment.model.load import load_t5
from sentiment.model.tokenizer import Tokeniser
from sentiment.output.receipt import ActorNote
from sentiment.scoring.actor import Scorer
from sentiment.scoring.stages import tokenise_block
from sentiment.settings.choices import Decode
from sentiment.training.network import new_network
from sentiment.training.vocabulary import train_vocabulary

ANSWERS = (LABEL, SCORE, OFF_LABEL)


def plan_of(
    folder: Path,
    labels: list[str] | None = None,
    *,
    decode: Decode = "labels",
    num_beams: int | None = None,
    max_new_tokens: int | None = None,
    **changes: Any,
) -> ScorerPlan:
    model = find_model(
        str(folder),
        labels=labels,
        decode=decode,
        num_beams=num_beams,
        max_new_tokens=max_new_tokens,
    )
    return ScorerPlan(
        model, model.tokeniser(), precision="fp32", batch_tokens=512, threads=1, **changes
    )


def block_of(folder: Path, texts: list[str | None], rejected: int | None = None) -> pa.Table:
    """A tokenised block; `rejected` is a row that the reader already set aside."""
    reasons = ["malformed_record" if row == rejected else None for row in range(len(texts))]
    block = pa.table(
        {
            "n": pa.array(range(len(texts)), pa.int64()),
            "text": pa.array(texts, pa.string()),
            STAGE: pa.array([reason and "read" for reason in reasons], pa.string()),
            REASON: pa.array(reasons, pa.string()),
            DETAIL: pa.array([reason and "3 fields" for reason in reasons], pa.string()),
        }
    )
    return tokenise_block(block, Tokeniser(folder, "{text}", 64, "head"))


@pytest.fixture(scope="module")
def texts() -> list[str | None]:
    return list(tiny_models.example_texts()[:30])


@pytest.fixture(scope="module")
def scorer(tiny_model: Path) -> Scorer:
    return Scorer(plan_of(tiny_model))


def test_a_block_comes_back_labelled(tiny_model: Path, texts: list[str | None]) -> None:
    labels = ["bad", "book"]  # between which random weights waver
    block = block_of(tiny_model, texts)
    out = Scorer(plan_of(tiny_model, labels))(block)
    assert out.drop_columns([*ANSWERS, SCORE_SEC, SCORER]).equals(block.drop_columns([IDS]))
    ids = [np.array(row, np.int32) for row in block.column(IDS).to_pylist()]
    tokeniser = Tokeniser(tiny_model, "{text}", 64, "head")
    expected = Engine(
        load_t5(tiny_model, device=torch.device("cpu"), precision="fp32"),
        [tokeniser.label_ids(label) for label in labels],
        batch_tokens=100,
    ).score(ids)
    names = np.array(labels)[expected.best_N]
    assert out.column(LABEL).to_pylist() == names.tolist()
    assert len(set(names)) == 2
    np.testing.assert_allclose(out.column(SCORE).to_numpy(), expected.score_N, atol=1e-4)
    np.testing.assert_allclose(out.column(OFF_LABEL).to_numpy(), expected.off_label_N, atol=1e-4)
    assert [str(out.schema.field(name).type) for name in ANSWERS] == ["string", "float", "float"]
    assert all(second > 0 for second in out.column(SCORE_SEC).to_pylist())


def test_a_scorer_tells_of_itself_with_every_block(
    scorer: Scorer, tiny_model: Path, texts: list[str | None]
) -> None:
    block = block_of(tiny_model, texts)
    blocks = [scorer(block), scorer(block), Scorer(plan_of(tiny_model))(block)]
    notes = []
    for out in blocks:
        [note] = out.column(SCORER).unique().to_pylist()
        notes.append(ActorNote.from_json(note))
    first, again, other = notes
    assert again == first, "counts of a block, not of all so far"
    assert other.actor != first.actor
    assert 0 < first.load_sec < 60
    distinct = {tuple(row) for row in block.column(IDS).to_pylist()}
    assert first.batch_tokens == sum(map(len, distinct)) <= first.room_tokens


def test_rejected_rows_pass_untouched(
    scorer: Scorer, tiny_model: Path, texts: list[str | None]
) -> None:
    mixed = [*texts[:4], None, *texts[4:8], " "]
    block = block_of(tiny_model, mixed, rejected=2)
    out = scorer(block)
    for name in ("n", "text", STAGE, REASON, DETAIL):
        assert out.column(name).equals(block.column(name))
    rejected = [reason is not None for reason in out.column(REASON).to_pylist()]
    assert rejected == [row in (2, 4, 9) for row in range(10)]
    for name in ANSWERS:
        assert [value is None for value in out.column(name).to_pylist()] == rejected


def test_a_row_scores_the_same_in_any_block(
    scorer: Scorer, tiny_model: Path, texts: list[str | None]
) -> None:
    block = block_of(tiny_model, [*texts, None])
    whole = scorer(block)
    for start, rows in ((0, 1), (7, 5), (28, 3), (30, 1)):
        part = scorer(block.slice(start, rows))
        same = whole.slice(start, rows)
        assert part.column(LABEL).to_pylist() == same.column(LABEL).to_pylist()
        for ours, theirs in zip(
            part.column(SCORE).to_pylist(), same.column(SCORE).to_pylist(), strict=True
        ):
            assert ours == theirs or abs(ours - theirs) < 1e-4


def test_a_block_in_several_chunks_is_one_block(
    scorer: Scorer, tiny_model: Path, texts: list[str | None]
) -> None:
    block = block_of(tiny_model, [*texts, None])
    chunked = pa.concat_tables([block.slice(20), block.slice(3, 9), block.slice(30, 1)])
    assert chunked.column(IDS).num_chunks == 3
    assert scorer(chunked).column(LABEL).equals(scorer(chunked.combine_chunks()).column(LABEL))
    order = [*range(20, 31), *range(3, 12), 30]
    expected = scorer(block).column(LABEL).take(order)
    assert scorer(chunked).column(LABEL).to_pylist() == expected.to_pylist()


@pytest.mark.parametrize("decode", ["labels", "generate"])
@pytest.mark.parametrize("texts_", [[], [None, ""]], ids=["no rows", "no good rows"])
def test_a_block_with_nothing_to_score_gains_the_columns(
    tiny_model: Path, decode: Any, texts_: list[str | None]
) -> None:
    out = Scorer(plan_of(tiny_model, decode=decode))(block_of(tiny_model, texts_))
    assert out.num_rows == len(texts_)
    assert IDS not in out.column_names
    assert [str(out.schema.field(name).type) for name in ANSWERS] == ["string", "float", "float"]
    assert set(out.column(LABEL).to_pylist()) <= {None}


def test_duplicates_are_scored_once(
    scorer: Scorer, tiny_model: Path, texts: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    repeated = [texts[0], texts[1], texts[0], None, texts[0], texts[1]]
    seen: list[int] = []
    score = Engine.score

    def counted(self: Engine, ids: list[Any]) -> LabelScores:
        seen.append(len(ids))
        return score(self, ids)

    monkeypatch.setattr(Engine, "score", counted)
    out = scorer(block_of(tiny_model, repeated))
    assert seen == [2]
    found = out.column(SCORE).to_pylist()
    assert found[0] == found[2] == found[4] is not None
    assert found[1] == found[5] is not None
    assert found[3] is None


def test_a_row_the_model_fails_on_is_rejected_with_its_twins(
    scorer: Scorer, tiny_model: Path, texts: list[str | None]
) -> None:
    block = block_of(tiny_model, texts[:5], rejected=1)
    ids = block.column(IDS).to_pylist()
    ids[2] = ids[4] = [5, 6000, 1]
    block = block.set_column(
        block.schema.get_field_index(IDS), IDS, pa.array(ids, pa.list_(pa.int32()))
    )
    out = scorer(block)
    assert out.column(REASON).to_pylist() == [
        None, "malformed_record", "scoring_error", None, "scoring_error",
    ]  # fmt: skip
    assert out.column(STAGE).to_pylist() == [None, "read", "score", None, "score"]
    details = out.column(DETAIL).to_pylist()
    assert details[0] is None
    assert details[1] == "3 fields"
    assert "vocabulary" in details[2]
    for name in ANSWERS:
        found = [value is not None for value in out.column(name).to_pylist()]
        assert found == [True, False, False, True, False]
    assert out.column(TOKENS).equals(block.column(TOKENS))


def test_generation_labels_what_was_said_and_rejects_the_rest(
    tiny_model: Path, texts: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = Scorer(plan_of(tiny_model, decode="generate", max_new_tokens=9))
    tokeniser = Tokeniser(tiny_model, "{text}", 64, "head")
    said = [(*tokeniser.label_ids(text), 1) for text in ("positive", "negative", "good", "")]
    said[0] = (*said[0], 44, 1)  # what follows `</s>` was not said
    monkeypatch.setattr(
        Generator, "generate", lambda *_, **__: ([*said, (), said[0]], {4: "RuntimeError"})
    )
    out = scorer(block_of(tiny_model, texts[:6]))
    assert out.column(LABEL).to_pylist() == ["positive", "negative", None, None, None, "positive"]
    assert out.column(REASON).to_pylist() == [
        None, None, "off_label_text", "off_label_text", "scoring_error", None,
    ]  # fmt: skip
    by_label = Scorer(plan_of(tiny_model))(block_of(tiny_model, texts[:6]))
    for said_label, score, label, best in zip(
        *(t.column(c).to_pylist() for t in (out, by_label) for c in (LABEL, SCORE)), strict=True
    ):
        if said_label is not None:
            assert abs(score - (best if label == said_label else 1 - best)) < 1e-5
    assert not any("good" in (detail or "") for detail in out.column(DETAIL).to_pylist())


def test_free_generation_of_random_weights_is_off_label(
    tiny_model: Path, texts: list[str | None]
) -> None:
    out = Scorer(plan_of(tiny_model, decode="generate", num_beams=2))(
        block_of(tiny_model, texts[:5])
    )
    assert out.column(REASON).to_pylist() == ["off_label_text"] * 5
    assert out.column(STAGE).to_pylist() == ["score"] * 5
    assert out.column(LABEL).null_count == 5


def test_a_label_is_recognised_as_the_model_spells_it(
    tiny_model: Path, texts: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokenizer folds white space, so what the model says can differ from the label text."""
    plan = plan_of(tiny_model, labels=["very  good", "bad"], decode="generate")
    tokens = Tokeniser(tiny_model, "{text}", 64, "head").label_ids("very good")
    monkeypatch.setattr(Generator, "generate", lambda *_, **__: ([tokens], {}))
    out = Scorer(plan)(block_of(tiny_model, texts[:1]))
    assert out.column(LABEL).to_pylist() == ["very  good"]


def test_a_model_that_changed_since_planning_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    plan = plan_of(folder)
    Scorer(plan)
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    with pytest.raises(ModelError, match="differs on this machine"):
        Scorer(plan)


def test_scoring_labels_builds_no_model_of_transformers(
    tiny_model: Path, texts: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model of transformers was built")

    monkeypatch.setattr(T5ForConditionalGeneration, "__init__", refuse)
    out = Scorer(plan_of(tiny_model))(block_of(tiny_model, texts[:3]))
    assert out.column(LABEL).null_count == 0


def test_one_thread_computes_whatever_thread_calls(
    tiny_model: Path, texts: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two computing threads are two teams of OpenMP threads, more than there are cores."""
    threads: set[int] = set()

    def noting(function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **options: Any) -> Any:
            threads.add(threading.get_ident())
            return function(*args, **options)

        return noted

    monkeypatch.setattr("sentiment.engine.scorer.load_t5", noting(load_t5))
    monkeypatch.setattr(Engine, "score", noting(Engine.score))
    scorer, block = Scorer(plan_of(tiny_model)), block_of(tiny_model, texts)
    here = scorer(block)
    with ThreadPoolExecutor(max_workers=1) as other:
        there = other.submit(scorer, block).result()
    assert there.select(ANSWERS).equals(here.select(ANSWERS))
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_the_precision_of_the_plan_is_the_one_multiplied_in(
    scorer: Scorer, tiny_model: Path, texts: list[str | None]
) -> None:
    block = block_of(tiny_model, texts)
    rounded = Scorer(dataclasses.replace(plan_of(tiny_model), precision="bf16"))(block)
    drift = np.abs(rounded.column(SCORE).to_numpy() - scorer(block).column(SCORE).to_numpy())
    assert 1e-5 < drift.max() < 0.1


@pytest.mark.parametrize("decode", ["labels", "generate"])
def test_a_broken_gpu_stops_the_block(
    tiny_model: Path, texts: list[str | None], decode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row is to blame, so none is rejected."""

    def broken(*_: Any) -> None:
        raise DeviceError("the GPU failed")

    scorer = Scorer(plan_of(tiny_model, decode=decode))
    where, name = (Engine, "score") if decode == "labels" else (Generator, "generate")
    monkeypatch.setattr(where, name, broken)
    with pytest.raises(DeviceError):
        scorer(block_of(tiny_model, texts[:3]))


def test_a_good_model_passes_the_check(tiny_model: Path) -> None:
    assert check_model(plan_of(tiny_model)) == "fp32"
    auto = dataclasses.replace(plan_of(tiny_model), precision="auto")
    assert check_model(auto) in ("fp32", "bf16")


def test_labels_the_vocabulary_cannot_tell_apart_fail_the_check(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="same tokens"):
        check_model(plan_of(tiny_model, labels=["very good", "very  good"]))


def test_a_model_of_no_numbers_fails_the_check(vocabulary: Path, tmp_path: Path) -> None:
    network = tiny_models.tiny_v1_0(vocabulary)
    network.decoder.final_layer_norm.weight.data.fill_(float("nan"))
    folder = tiny_models.save_model(network, vocabulary, tmp_path)
    with pytest.raises(ModelError, match="non-finite"):
        check_model(plan_of(folder))


def test_a_vocabulary_larger_than_the_model_fails_the_check(
    tiny_model: Path, tmp_path: Path, vocabulary: Path
) -> None:
    shape = tiny_models.SHAPE.model_copy(update={"vocab_size": 100})
    small = train_vocabulary(
        tiny_models.example_texts(), tmp_path / "small", vocab_size=shape.vocab_size
    )
    folder = tmp_path / "model"
    folder.mkdir()
    tiny_models.save_model(new_network(shape, small, 0.0), vocabulary, folder)
    with pytest.raises(ModelError, match="vocabulary"):
        check_model(plan_of(folder, labels=["good", "very"]))
