"""The engine against transformers, one row at a time, and its own promises about batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import tiny_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.engine.devices import (
    default_batch_tokens,
    default_device,
    device_faults,
    limit_threads,
    resolve_precision,
)
from sentiment.engine.labels import OUTSIDE_VOCABULARY, Engine, label_sequences
from sentiment.errors import DeviceError, ModelError
from sentiment.model.find import find_model
from sentiment.model.load import load_t5
from sentiment.model.tokenizer import Tokeniser
from sentiment.t5.linear import ResolvedPrecision
from sentiment.t5.network import T5

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
UNEQUAL = LABELS["unequal length"]
FAMILIES = ("tiny_v1_0", "tiny_v1_1", "tiny_mt5")
FOLDERS = {"tiny_v1_0": "tiny_model", "tiny_v1_1": "tiny_flan", "tiny_mt5": "tiny_mt5"}
BF16_SCORE = 0.01  # bounds of the output contract
BF16_FLIP_MARGIN = 0.02


def t5_of(folder: Path, precision: ResolvedPrecision = "fp32") -> T5:
    return load_t5(folder, device=reference.CPU, precision=precision)


def ids_of(folder: Path, rows: int = 24) -> list[np.ndarray]:
    """Reviews of very different lengths, down to a single token."""
    tokeniser = Tokeniser(folder, "{text}", 96, "head")
    texts = tiny_models.example_texts()[:rows]
    texts = [text[: 5 + 17 * (n % 13)] for n, text in enumerate(texts)]
    return [*(item.ids for item in tokeniser.encode(texts)), np.array([EOS], np.int32)]


def engine_of(network: T5, labels: Sequence[tuple[int, ...]], batch_tokens: int = 256) -> Engine:
    return Engine(network, labels, batch_tokens=batch_tokens)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: str, request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(FOLDERS[family])
    return found


@pytest.fixture(scope="module")
def published(family: str, vocabulary: Path) -> Any:
    """The model that the folder was saved from, as transformers has it."""
    return getattr(tiny_models, family)(vocabulary)


@pytest.fixture(scope="module")
def network(folder: Path) -> T5:
    return t5_of(folder)


@pytest.fixture(scope="module")
def ids(folder: Path) -> list[np.ndarray]:
    return ids_of(folder)


@pytest.fixture(scope="module")
def plain(tiny_model: Path) -> T5:
    """A T5 v1.0, for what does not depend on the family. A test that changes it changes it back."""
    return t5_of(tiny_model)


@pytest.fixture(scope="module")
def plain_ids(tiny_model: Path) -> list[np.ndarray]:
    return ids_of(tiny_model)


def test_the_tiny_models_are_what_they_claim(vocabulary: Path) -> None:
    old, new, multilingual = (getattr(tiny_models, name)(vocabulary) for name in FAMILIES)
    assert old.lm_head.weight is old.shared.weight
    assert old.config.scale_decoder_outputs
    assert not new.config.scale_decoder_outputs
    for untied in (new, multilingual):
        assert untied.lm_head.weight is not untied.shared.weight
        assert not torch.equal(untied.lm_head.weight, untied.shared.weight)
        assert untied.config.is_gated_act
    assert old.config.dense_act_fn == "relu"
    assert (old.config.model_type, multilingual.config.model_type) == ("t5", "mt5")
    sizes = multilingual.config
    assert sizes.num_heads * sizes.d_kv != sizes.d_model


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS.keys())
def test_label_scores_equal_transformers(
    network: T5, published: Any, ids: list[np.ndarray], labels: list[tuple[int, ...]]
) -> None:
    scores = engine_of(network, labels).score(ids)
    expected = reference.label_log_probs(published, ids, label_sequences(labels, EOS))
    assert scores.errors == {}
    assert scores.log_probs_NK.dtype == np.float32
    np.testing.assert_allclose(scores.log_probs_NK, expected, atol=1e-5, rtol=1e-5)
    among = reference.among_labels(published, ids, label_sequences(labels, EOS))
    np.testing.assert_allclose(scores.among_NK, among, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(scores.probabilities_NK, np.exp(among), atol=1e-5, rtol=0)
    np.testing.assert_allclose(scores.score_N, np.exp(among).max(axis=1), atol=1e-5, rtol=0)
    np.testing.assert_allclose(scores.probabilities_NK.sum(axis=1), 1, atol=1e-6)
    off_label = 1 - np.exp(expected).sum(axis=1)
    np.testing.assert_allclose(scores.off_label_N, off_label, atol=1e-5, rtol=0)
    assert scores.best_N.tolist() == among.argmax(axis=1).tolist()


def test_a_label_loses_nothing_for_having_more_tokens(
    plain: T5, plain_ids: list[np.ndarray]
) -> None:
    """Two labels that part at their first token, one of them three longer: that token decides."""
    short, long = (223,), (185, 419, 40, 7)
    scores = engine_of(plain, [short, long]).score(plain_ids)
    first = engine_of(plain, [short, long[:1]]).score(plain_ids)
    np.testing.assert_allclose(scores.probabilities_NK, first.probabilities_NK, atol=1e-5)
    over_vocabulary = scores.log_probs_NK.argmax(axis=1)
    assert (over_vocabulary == 0).all(), "these would all go to the shorter label"
    assert set(first.best_N.tolist()) == {0, 1}


def test_the_rows_of_the_parity_test_differ(network: T5, ids: list[np.ndarray]) -> None:
    scores = engine_of(network, LABELS["one token each"]).score(ids)
    assert scores.score_N.std() > 0.01
    assert len({len(row) for row in ids}) > 5


def test_bf16_rounds_no_more_than_transformers_does(
    folder: Path, published: Any, ids: list[np.ndarray]
) -> None:
    """Random weights know no margins between labels, so this compares logits."""
    tokens = range(3, 103)
    scores = engine_of(t5_of(folder, "bf16"), [(token,) for token in tokens]).score(ids)
    assert scores.errors == {}

    def centred(logits_NK: np.ndarray) -> np.ndarray:
        return logits_NK - logits_NK.mean(axis=1, keepdims=True)

    def transformers() -> np.ndarray:
        return centred(reference.first_logits(published, ids)[:, tokens].float().numpy())

    exact = transformers()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs = transformers()
    error = np.linalg.norm(centred(scores.log_probs_NK) - exact)
    assert 1e-4 * np.linalg.norm(exact) < error < 1.5 * np.linalg.norm(theirs - exact)


def test_bf16_stays_within_the_contract() -> None:
    model = find_model("builtin")
    tokeniser = model.tokeniser()
    ids = [item.ids for item in tokeniser.encode(tiny_models.example_texts())]
    labels = [tokeniser.label_ids(label) for label in model.labels]
    exact = engine_of(t5_of(model.folder), labels, 4096).score(ids)
    rounded = engine_of(t5_of(model.folder, "bf16"), labels, 4096).score(ids)
    assert exact.errors == rounded.errors == {}
    assert not np.array_equal(exact.score_N, rounded.score_N)
    flips = exact.best_N != rounded.best_N
    assert (2 * exact.score_N[flips] - 1 < BF16_FLIP_MARGIN).all()
    assert np.abs(exact.score_N - rounded.score_N)[~flips].max() < BF16_SCORE


def test_one_token_labels_agree_with_greedy_generation(
    network: T5, published: Any, ids: list[np.ndarray]
) -> None:
    labels = [(token,) for token in range(3, 600)]
    best = engine_of(network, labels).score(ids).best_N
    assert len(set(best)) > 2
    allowed = [token for (token,) in labels]
    for row, k in zip(ids, best, strict=True):
        answer = published.generate(
            input_ids=torch.tensor(row[None].astype(np.int64)),
            max_new_tokens=1,
            do_sample=False,
            num_beams=1,
            prefix_allowed_tokens_fn=lambda _batch, _so_far: allowed,
        )
        assert answer[0, 1:].tolist() == list(labels[k])


@settings(max_examples=25, deadline=None)
@given(picked=st.lists(st.integers(0, 11), min_size=1, max_size=20), budget=st.integers(1, 400))
def test_a_score_does_not_depend_on_batch_or_order(
    plain: T5, plain_ids: list[np.ndarray], picked: list[int], budget: int
) -> None:
    alone = np.stack([engine_of(plain, UNEQUAL).score([plain_ids[i]]).log_probs_NK[0]
                      for i in picked])  # fmt: skip
    engine = engine_of(plain, UNEQUAL, batch_tokens=budget)
    together = engine.score([plain_ids[i] for i in picked])
    np.testing.assert_allclose(together.log_probs_NK, alone, atol=1e-4, rtol=0)


def test_the_token_budget_is_that_of_a_batch(
    plain: T5, plain_ids: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    inner = plain.label_log_probs

    def counted(batch: Any, decoder: Any) -> Any:
        sizes.append(sum(map(len, batch)))
        return inner(batch, decoder)

    monkeypatch.setattr(plain, "label_log_probs", counted)
    engine_of(plain, UNEQUAL, batch_tokens=200).score(plain_ids)
    assert sum(sizes) == sum(map(len, plain_ids))
    assert len(sizes) > 1
    assert max(sizes) <= 200


def test_no_rows_give_no_scores(plain: T5) -> None:
    scores = engine_of(plain, UNEQUAL).score([])
    assert scores.log_probs_NK.shape == (0, 2)
    assert scores.errors == {}
    assert len(scores.best_N) == len(scores.score_N) == len(scores.off_label_N) == 0


@pytest.mark.parametrize("poison", [[600, 1], [-1, 1], []], ids=str)
def test_a_row_that_cannot_be_looked_up_fails_alone(
    plain: T5, plain_ids: list[np.ndarray], poison: list[int]
) -> None:
    engine = engine_of(plain, UNEQUAL)
    good = plain_ids[:6]
    scores = engine.score([*good[:3], np.array(poison, np.int32), *good[3:]])
    assert scores.errors == {3: OUTSIDE_VOCABULARY}
    assert np.isnan(scores.log_probs_NK[3]).all()
    np.testing.assert_allclose(
        np.delete(scores.log_probs_NK, 3, axis=0), engine.score(good).log_probs_NK, atol=1e-4
    )


def test_the_last_embedding_can_be_looked_up(plain: T5) -> None:
    assert engine_of(plain, UNEQUAL).score([np.array([599, 1], np.int32)]).errors == {}


@pytest.mark.parametrize("failure", [torch.OutOfMemoryError, RuntimeError, ValueError])
def test_a_failing_batch_is_halved_down_to_the_guilty_row(
    plain: T5,
    plain_ids: list[np.ndarray],
    failure: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good, poison = plain_ids[:9], np.array([3, 3, 3, 3, EOS], np.int32)
    inner, sizes = plain.label_log_probs, []

    def answer(batch: Any, decoder: Any) -> Any:
        sizes.append(len(batch))
        if any(np.array_equal(row, poison) for row in batch):
            raise failure("no")
        return inner(batch, decoder)

    engine = engine_of(plain, UNEQUAL, batch_tokens=100_000)
    expected = engine.score(good).log_probs_NK
    monkeypatch.setattr(plain, "label_log_probs", answer)
    scores = engine.score([*good[:4], poison, *good[4:]])
    assert scores.errors == {4: failure.__name__}
    assert np.isnan(scores.log_probs_NK[4]).all()
    np.testing.assert_allclose(np.delete(scores.log_probs_NK, 4, axis=0), expected, atol=1e-4)
    assert sizes[0] == 10
    # Halved, not tried one by one; out of memory means smaller batches for all that follow.
    assert len(sizes) <= (16 if failure is torch.OutOfMemoryError else 9)


def test_rows_are_named_by_their_place_among_all_rows(
    plain: T5, plain_ids: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that cannot be looked up are out of the count while batches are cut."""
    poison, outside = np.array([3, 3, 3, EOS], np.int32), np.array([600], np.int32)
    inner = plain.label_log_probs

    def answer(batch: Any, decoder: Any) -> Any:
        if any(np.array_equal(row, poison) for row in batch):
            raise ValueError("no")
        return inner(batch, decoder)

    monkeypatch.setattr(plain, "label_log_probs", answer)
    scores = engine_of(plain, UNEQUAL).score([outside, *plain_ids[:3], outside, poison])
    assert scores.errors == {0: OUTSIDE_VOCABULARY, 4: OUTSIDE_VOCABULARY, 5: "ValueError"}
    assert np.isnan(scores.log_probs_NK).all(axis=1).tolist() == [True, *[False] * 3, True, True]


def test_a_budget_that_was_too_large_stays_smaller(
    plain: T5, plain_ids: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, sizes = plain.label_log_probs, []

    def answer(batch: Any, decoder: Any) -> Any:
        sizes.append(sum(map(len, batch)))
        if sizes[-1] > 250:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(batch, decoder)

    engine = engine_of(plain, UNEQUAL, batch_tokens=100_000)
    expected = engine.score(plain_ids).log_probs_NK
    monkeypatch.setattr(plain, "label_log_probs", answer)
    scores = engine.score(plain_ids)
    assert scores.errors == {}
    np.testing.assert_allclose(scores.log_probs_NK, expected, atol=1e-4)
    assert sizes[0] > 250
    sizes.clear()
    engine.score(plain_ids)
    assert max(sizes) <= 250


def a_device_fault() -> Exception:
    """As torch raises it since 2.8; older ones have no name for it."""
    return getattr(torch, "AcceleratorError", RuntimeError)("CUDA error: an illegal memory access")


@pytest.mark.skipif(not device_faults(), reason="torch names these faults since 2.8")
def test_a_broken_gpu_is_no_rows_fault(
    plain: T5, plain_ids: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every later batch would fail with it: the run must stop instead of rejecting all rows."""
    calls: list[int] = []

    def answer(batch: Any, _decoder: Any) -> Any:
        calls.append(len(batch))
        raise a_device_fault()

    monkeypatch.setattr(plain, "label_log_probs", answer)
    with pytest.raises(DeviceError, match=r"GPU failed \(AcceleratorError\)") as caught:
        engine_of(plain, UNEQUAL).score(plain_ids)
    assert isinstance(caught.value.__cause__, torch.AcceleratorError)
    assert len(calls) == 1


def test_a_torch_that_does_not_name_gpu_faults_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "AcceleratorError", raising=False)
    assert device_faults() == ()


def test_a_model_that_gives_no_number_fails_its_rows(
    vocabulary: Path, plain_ids: list[np.ndarray]
) -> None:
    broken = tiny_models.tiny_v1_0(vocabulary)
    broken.decoder.final_layer_norm.weight.data.fill_(float("nan"))
    scores = engine_of(reference.our_t5(broken), UNEQUAL).score(plain_ids[:3])
    assert scores.errors == dict.fromkeys(range(3), "non-finite probabilities")
    assert np.isnan(scores.log_probs_NK).all()


def test_a_row_without_numbers_fails_alone(vocabulary: Path, plain_ids: list[np.ndarray]) -> None:
    broken = tiny_models.tiny_v1_0(vocabulary)
    broken.lm_head.weight = torch.nn.Parameter(broken.lm_head.weight.detach().clone())
    broken.shared.weight.data[577] = float("nan")
    good = [row for row in plain_ids if 577 not in row][:6]
    rows = [*good[:2], np.array([7, 577, EOS], np.int32), *good[2:]]
    engine = engine_of(reference.our_t5(broken), UNEQUAL)
    scores = engine.score(rows)
    assert scores.errors == {2: "non-finite probabilities"}
    np.testing.assert_allclose(
        np.delete(scores.log_probs_NK, 2, axis=0), engine.score(good).log_probs_NK, atol=1e-4
    )


@pytest.mark.parametrize("kind", [0, 1])
def test_a_row_that_lacks_one_number_has_none(
    kind: int, plain: T5, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(batch: Any, _decoder: Any) -> Any:
        values = np.full((len(batch), 2, 2), -1.0, np.float32)
        values[[len(row) == 1 for row in batch], kind, 1] = -np.inf
        return values

    monkeypatch.setattr(plain, "label_log_probs", answer)
    one, several = np.array([EOS], np.int32), np.array([5, EOS], np.int32)
    scores = engine_of(plain, UNEQUAL).score([several, one])
    assert scores.errors == {1: "non-finite probabilities"}
    assert np.isnan(scores.log_probs_NK).tolist() == [[False, False], [True, True]]


def test_score_and_off_label_by_hand() -> None:
    log_probs = np.log(np.array([[0.6, 0.2], [0.0001, 0.0003], [0.5, 0.5]], np.float32))
    scores = reference.label_scores(
        np.vstack([log_probs, [np.nan, np.nan]]).astype(np.float32), {3: "x"}
    )
    assert scores.best_N.tolist() == [0, 1, 0, 0]
    np.testing.assert_allclose(scores.score_N[:3], [0.75, 0.75, 0.5], rtol=1e-6)
    np.testing.assert_allclose(scores.off_label_N[:3], [0.2, 0.9996, 0.0], atol=1e-6)
    np.testing.assert_allclose(
        scores.probabilities_NK[:3], [[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]], rtol=1e-6
    )
    assert np.isnan(scores.probabilities_NK[3]).all()
    assert np.isnan(scores.score_N[3])
    assert np.isnan(scores.off_label_N[3])
    assert (scores.score_N.dtype, scores.off_label_N.dtype) == (np.float32, np.float32)


def test_labels_are_spelt_with_eos_only_where_it_decides() -> None:
    assert label_sequences([(3, 632), (209,)], EOS) == [(3, 632), (209,)]
    assert label_sequences([(3,), (3, 632), (9,)], EOS) == [(3, EOS), (3, 632, EOS), (9, EOS)]


@pytest.mark.parametrize(("labels", "says"), [([(), (3,)], "no tokens"), ([(3,), (3,)], "same")])
def test_labels_that_cannot_be_told_apart_are_an_error(
    labels: list[tuple[int, ...]], says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        label_sequences(labels, EOS)


@pytest.mark.parametrize("label", [(600,), (3, 600, 4)], ids=str)
def test_a_label_outside_the_vocabulary_is_an_error(plain: T5, label: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="outside the model's vocabulary"):
        engine_of(plain, [(3, 419), label])


def test_an_engine_refuses_labels_that_cannot_be_told_apart(plain: T5) -> None:
    with pytest.raises(ModelError, match="same tokens"):
        engine_of(plain, [(3, 419), (3, 419)])


@pytest.mark.parametrize(
    ("setting", "device", "native", "expected"),
    [
        ("fp32", "cuda", True, "fp32"),
        ("bf16", "cpu", False, "bf16"),
        ("int8", "cpu", True, "int8"),
        ("int8", "cuda", True, "int8"),  # refused by the network, with a remedy
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
