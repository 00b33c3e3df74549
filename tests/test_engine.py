"""The engine against transformers, one row at a time, and its own promises about batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import T5ForConditionalGeneration

from sentiment.engine import (
    Engine,
    LabelScores,
    batches_by_tokens,
    default_batch_tokens,
    default_device,
    label_sequences,
    limit_threads,
    resolve_precision,
)
from sentiment.errors import ModelError
from sentiment.tokenise import Tokeniser
from sentiment.weights import find_model, load_network

EOS = 1
# Token ids of labels: lengths alike and not, as FLAN's `0` = [3, 632] and `1` = [209]; a shared
# beginning; one label the beginning of another, which only `</s>` tells apart.
LABELS = {
    "one token each": [(223,), (185,)],
    "equal length": [(3, 419), (55, 19)],
    "unequal length": [(3, 419), (223,)],
    "three, shared beginning": [(3, 419), (3, 323, 31), (223,)],
    "shared beginning, last apart": [(3, 419), (3, 323)],
    "one begins another": [(3,), (3, 419), (223, 36)],
}
BF16_SCORE = 0.01  # bounds of the output contract
BF16_FLIP_MARGIN = 0.02
BF16_LOGITS = 0.03  # relative; three significant digits a few layers deep, only 32 wide


def network_of(folder: Path) -> T5ForConditionalGeneration:
    return load_network(folder, device=torch.device("cpu"))


def ids_of(folder: Path, rows: int = 24) -> list[np.ndarray]:
    """Reviews of very different lengths, down to a single token."""
    tokeniser = Tokeniser(folder, "{text}", 96, "head")
    texts = tiny_models.example_texts()[:rows]
    texts = [text[: 5 + 17 * (n % 13)] for n, text in enumerate(texts)]
    return [*(item.ids for item in tokeniser.encode(texts)), np.array([EOS], np.int32)]


def engine_of(
    network: T5ForConditionalGeneration,
    labels: Sequence[tuple[int, ...]],
    batch_tokens: int = 256,
    precision: str = "fp32",
) -> Engine:
    return Engine(network, labels, precision=precision, batch_tokens=batch_tokens)  # type: ignore[arg-type]


@torch.no_grad()
def reference(
    network: T5ForConditionalGeneration, ids: np.ndarray, labels: Sequence[tuple[int, ...]]
) -> list[float]:
    """Log-probability of each label of one text: no padding, no batch, one full pass per label."""
    values = []
    for label in labels:
        decoder_ids = torch.tensor([[0, *label]])
        logits = network(
            input_ids=torch.tensor(ids[None].astype(np.int64)), decoder_input_ids=decoder_ids
        ).logits[0]
        log_p = torch.log_softmax(logits.double(), dim=-1)
        values.append(float(sum(log_p[t, token] for t, token in enumerate(label))))
    return values


@pytest.fixture(scope="module", params=["tiny_model", "tiny_flan"])
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def network(folder: Path) -> T5ForConditionalGeneration:
    return network_of(folder)


@pytest.fixture(scope="module")
def ids(folder: Path) -> list[np.ndarray]:
    return ids_of(folder)


def test_the_tiny_models_are_what_they_claim(tiny_model: Path, tiny_flan: Path) -> None:
    old, new = network_of(tiny_model), network_of(tiny_flan)
    assert old.lm_head.weight is old.shared.weight
    assert old.config.scale_decoder_outputs
    assert new.lm_head.weight is not new.shared.weight
    assert not torch.equal(new.lm_head.weight, new.shared.weight)
    assert not new.config.scale_decoder_outputs
    assert (old.config.dense_act_fn, new.config.is_gated_act) == ("relu", True)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
def test_label_scores_equal_transformers(
    network: T5ForConditionalGeneration, ids: list[np.ndarray], labels: list[tuple[int, ...]]
) -> None:
    scores = engine_of(network, labels).score(ids)
    spelt = label_sequences(labels, EOS)
    expected = np.array([reference(network, row, spelt) for row in ids])
    assert scores.errors == {}
    np.testing.assert_allclose(scores.log_probs_NK, expected, atol=1e-5, rtol=1e-5)
    inside = np.exp(expected)
    np.testing.assert_allclose(
        scores.score_N, inside.max(axis=1) / inside.sum(axis=1), atol=1e-5, rtol=0
    )
    np.testing.assert_allclose(scores.off_label_N, 1 - inside.sum(axis=1), atol=1e-5, rtol=0)
    assert scores.best_N.tolist() == expected.argmax(axis=1).tolist()


def test_the_rows_of_the_parity_test_differ(
    network: T5ForConditionalGeneration, ids: list[np.ndarray]
) -> None:
    scores = engine_of(network, LABELS["one token each"]).score(ids)
    assert scores.score_N.std() > 0.01
    assert len({len(row) for row in ids}) > 5


def test_bf16_rounds_but_does_not_distort(
    network: T5ForConditionalGeneration, ids: list[np.ndarray]
) -> None:
    """Random weights know no margins between labels, so this compares logits."""
    labels = [(token,) for token in range(3, 103)]

    def logits(precision: str) -> np.ndarray:
        scores = engine_of(network, labels, precision=precision).score(ids)
        assert scores.errors == {}
        return scores.log_probs_NK - scores.log_probs_NK.mean(axis=1, keepdims=True)

    exact, rounded = logits("fp32"), logits("bf16")
    error = np.linalg.norm(exact - rounded) / np.linalg.norm(exact)
    assert 0 < error < BF16_LOGITS


def test_bf16_leaves_the_vocabulary_logits_in_float32(
    network: T5ForConditionalGeneration, ids: list[np.ndarray]
) -> None:
    """Three digits of a logit are too few for a score within 0.01."""
    seen: list[torch.dtype] = []
    handle = network.lm_head.register_forward_hook(lambda *passed: seen.append(passed[2].dtype))
    engine_of(network, LABELS["unequal length"], precision="bf16").score(ids)
    handle.remove()
    assert set(seen) == {torch.float32}


def test_bf16_stays_within_the_contract() -> None:
    card = find_model("builtin")
    tokeniser = Tokeniser(card.folder, card.template, card.max_source_tokens, card.long_text)
    ids = [item.ids for item in tokeniser.encode(tiny_models.example_texts())]
    labels = [tokeniser.label_ids(label) for label in card.labels]
    network = network_of(card.folder)
    exact = engine_of(network, labels, 4096).score(ids)
    rounded = engine_of(network, labels, 4096, precision="bf16").score(ids)
    flips = exact.best_N != rounded.best_N
    assert (2 * exact.score_N[flips] - 1 < BF16_FLIP_MARGIN).all()
    assert np.abs(exact.score_N - rounded.score_N)[~flips].max() < BF16_SCORE


def test_one_token_labels_agree_with_greedy_generation(
    network: T5ForConditionalGeneration, ids: list[np.ndarray]
) -> None:
    labels = [(token,) for token in range(3, 23)]
    best = engine_of(network, labels).score(ids).best_N
    allowed = [token for (token,) in labels]
    for row, k in zip(ids, best, strict=True):
        answer = network.generate(  # type: ignore[misc]
            input_ids=torch.tensor(row[None].astype(np.int64)),
            max_new_tokens=1,
            do_sample=False,
            num_beams=1,
            prefix_allowed_tokens_fn=lambda _batch, _so_far: allowed,
        )
        assert answer[0, 1:].tolist() == list(labels[k])


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_score_does_not_depend_on_batch_or_order(tiny_model: Path, data: st.DataObject) -> None:
    network, ids = network_of_cached(tiny_model), ids_of_cached(tiny_model)
    labels = LABELS["unequal length"]
    alone = np.stack([engine_of(network, labels).score([row]).log_probs_NK[0] for row in ids[:12]])
    picked = data.draw(st.lists(st.integers(0, 11), min_size=1, max_size=20))
    budget = data.draw(st.integers(1, 400))
    together = engine_of(network, labels, batch_tokens=budget).score([ids[i] for i in picked])
    np.testing.assert_allclose(together.log_probs_NK, alone[picked], atol=1e-4, rtol=0)


_CACHE: dict[Path, tuple[T5ForConditionalGeneration, list[np.ndarray]]] = {}


def network_of_cached(folder: Path) -> T5ForConditionalGeneration:
    return _cached(folder)[0]


def ids_of_cached(folder: Path) -> list[np.ndarray]:
    return _cached(folder)[1]


def _cached(folder: Path) -> tuple[T5ForConditionalGeneration, list[np.ndarray]]:
    if folder not in _CACHE:
        _CACHE[folder] = network_of(folder), ids_of(folder)
    return _CACHE[folder]


@given(
    lengths=st.lists(st.integers(1, 600), max_size=80),
    budget=st.integers(1, 2000),
)
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(batches_by_tokens(lengths, budget))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget
    longest = [max(lengths[row] for row in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_no_rows_give_no_scores(tiny_model: Path) -> None:
    engine = engine_of(network_of_cached(tiny_model), LABELS["unequal length"])
    scores = engine.score([])
    assert scores.log_probs_NK.shape == (0, 2)
    assert len(scores.best_N) == len(scores.score_N) == len(scores.off_label_N) == 0
    assert engine.generate([], max_new_tokens=2, num_beams=1) == ([], {})


@pytest.mark.parametrize("poison", [np.array([600, 1], np.int32), np.array([], np.int32)])
def test_a_row_that_cannot_be_looked_up_fails_alone(tiny_model: Path, poison: np.ndarray) -> None:
    engine = engine_of(network_of_cached(tiny_model), LABELS["unequal length"])
    good = ids_of_cached(tiny_model)[:6]
    scores = engine.score([*good[:3], poison, *good[3:]])
    assert list(scores.errors) == [3]
    assert np.isnan(scores.log_probs_NK[3]).all()
    np.testing.assert_allclose(
        np.delete(scores.log_probs_NK, 3, axis=0), engine.score(good).log_probs_NK, atol=1e-4
    )
    answers, errors = engine.generate([*good, poison], max_new_tokens=2, num_beams=1)
    assert list(errors) == [6]
    assert all(answers[:6])


@pytest.mark.parametrize("failure", [torch.OutOfMemoryError, RuntimeError, ValueError])
def test_a_failing_batch_is_halved_down_to_the_guilty_row(
    tiny_model: Path, failure: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, good = network_of_cached(tiny_model), ids_of_cached(tiny_model)[:9]
    poison = np.array([3, 3, 3, 3, EOS], np.int32)
    inner, sizes = network.encoder.forward, []

    def forward(input_ids: torch.Tensor, **named: object) -> object:
        sizes.append(len(input_ids))
        if (input_ids[:, :4] == 3).all(dim=1).any():
            raise failure("no")
        return inner(input_ids=input_ids, **named)

    engine = engine_of(network, LABELS["unequal length"], batch_tokens=100_000)
    expected = engine.score(good).log_probs_NK
    monkeypatch.setattr(network.encoder, "forward", forward)
    scores = engine.score([*good[:4], poison, *good[4:]])
    assert scores.errors == {4: failure.__name__}
    np.testing.assert_allclose(np.delete(scores.log_probs_NK, 4, axis=0), expected, atol=1e-4)
    assert sizes[0] == 10
    assert len(sizes) <= 9  # halved, not tried one by one


def test_a_model_that_gives_no_number_fails_its_rows(tiny_model: Path) -> None:
    network = network_of(tiny_model)
    with torch.no_grad():
        network.decoder.final_layer_norm.weight.fill_(float("nan"))
    scores = engine_of(network, LABELS["unequal length"]).score(ids_of_cached(tiny_model)[:3])
    assert set(scores.errors) == {0, 1, 2}
    assert set(scores.errors.values()) == {"non-finite probabilities"}


def test_score_and_off_label_by_hand() -> None:
    log_probs = np.log(np.array([[0.6, 0.2], [0.0001, 0.0003], [0.5, 0.5]], np.float32))
    scores = LabelScores(np.vstack([log_probs, [np.nan, np.nan]]).astype(np.float32), {3: "x"})
    assert scores.best_N.tolist() == [0, 1, 0, 0]
    np.testing.assert_allclose(scores.score_N[:3], [0.75, 0.75, 0.5], rtol=1e-6)
    np.testing.assert_allclose(scores.off_label_N[:3], [0.2, 0.9996, 0.0], atol=1e-6)
    assert np.isnan(scores.score_N[3])
    assert np.isnan(scores.off_label_N[3])
    assert (scores.score_N.dtype, scores.off_label_N.dtype) == (np.float32, np.float32)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_generation_equals_transformers(
    network: T5ForConditionalGeneration, ids: list[np.ndarray], num_beams: int, precision: str
) -> None:
    engine = engine_of(network, LABELS["unequal length"], batch_tokens=200, precision=precision)
    answers, errors = engine.generate(ids, max_new_tokens=5, num_beams=num_beams)
    assert errors == {}
    agreed = 0
    for row, answer in zip(ids, answers, strict=True):
        expected = network.generate(  # type: ignore[misc]
            input_ids=torch.tensor(row[None].astype(np.int64)),
            max_new_tokens=5,
            num_beams=num_beams,
            do_sample=False,
        )[0, 1:]
        agreed += answer == tuple(int(token) for token in expected if token != 0)
    # Rounding turns near ties of random weights; in fp32 there are none.
    assert agreed == len(ids) if precision == "fp32" else agreed > 0.6 * len(ids)


def test_labels_are_spelt_with_eos_only_where_it_decides() -> None:
    assert label_sequences([(3, 632), (209,)], EOS) == [(3, 632), (209,)]
    assert label_sequences([(3,), (3, 632), (9,)], EOS) == [(3, EOS), (3, 632, EOS), (9, EOS)]


@pytest.mark.parametrize(("labels", "says"), [([(), (3,)], "no tokens"), ([(3,), (3,)], "same")])
def test_labels_that_cannot_be_told_apart_are_an_error(
    labels: list[tuple[int, ...]], says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        label_sequences(labels, EOS)


@pytest.mark.parametrize(
    ("setting", "device", "native", "expected"),
    [
        ("fp32", "cuda", True, "fp32"),
        ("bf16", "cpu", False, "bf16"),
        ("auto", "cuda", True, "bf16"),
        ("auto", "cuda", False, "fp32"),
        ("auto", "cpu", True, "bf16"),
        ("auto", "cpu", False, "fp32"),
    ],
)
def test_auto_precision_is_what_the_processor_multiplies(
    setting: str, device: str, native: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: native and device == "cuda")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native and device == "cpu")
    assert resolve_precision(setting, device) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(("has_gpu", "kind"), [(True, "cuda"), (False, "cpu")])
def test_the_gpu_is_taken_where_there_is_one(
    has_gpu: bool, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert default_device().type == kind
    assert default_batch_tokens("cuda") > default_batch_tokens("cpu")


def test_threads_stay_within_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    for threads in (0, 3, 64):
        limit_threads(threads)
    assert asked == [1, 3, 4]
