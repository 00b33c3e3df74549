"""Values of a label column translated into labels of the model."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from sentiment.errors import ConfigError
from sentiment.metrics.truth import MAX_VALUES, OTHER, classes_of, truth_map

WORDS = ("negative", "positive")
DIGITS = ("0", "1")


@pytest.mark.parametrize(
    ("labels", "value", "expected"),
    [
        (WORDS, "positive", "positive"),
        (WORDS, 1, "positive"),
        (WORDS, 0, "negative"),
        (WORDS, 1.0, "positive"),  # an integer column that met a null
        (WORDS, "neg", "negative"),
        (WORDS, " POS ", "positive"),
        (WORDS, True, "positive"),
        (WORDS, None, None),
        (DIGITS, "positive", "1"),
        (DIGITS, 0, "0"),
        (("Negative", "Positive"), "1", "Positive"),
        (("1", "2", "3", "4", "5"), 4, "4"),
        # What stands for no label stays, and counts as a class that is never hit.
        (WORDS, "neutral", "neutral"),
        (("good", "bad"), 1, "1"),
        (("pos", "positive"), "1", "1"),
    ],
)
def test_common_spellings_are_recognised(
    labels: tuple[str, ...], value: Any, expected: str
) -> None:
    assert truth_map(labels, {})(value) == expected


def test_with_a_map_only_its_values_have_a_label() -> None:
    stars = truth_map(WORDS, {"1": "negative", "2": "negative", "4": "positive", "5": "positive"})
    assert [stars(value) for value in (1, 2.0, 3, "4", "5", None, "positive")] == [
        "negative", "negative", None, "positive", "positive", None, None,
    ]  # fmt: skip


def test_a_map_to_a_label_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match="--label-map 5=great: the model answers with negative"):
        truth_map(WORDS, {"5": "great"})


NOTHING = [None, float("nan"), "", "   ", "nan", "NaN", "null", "<NA>", b"", Decimal("NaN")]


@pytest.mark.parametrize("value", NOTHING, ids=repr)
@pytest.mark.parametrize("given", [{}, {"1": "negative", "5": "positive"}], ids=["words", "map"])
def test_a_missing_label_is_no_label(value: Any, given: dict[str, str]) -> None:
    assert truth_map(WORDS, given)(value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"pos", "positive"), ("1.0", "positive"), ("0.0", "negative"), (Decimal(1), "positive"),
        (np.float32(0.0), "negative"), (np.int8(1), "positive"), (np.bool_(False), "negative"),
        ("True", "positive"), ("false", "negative"), (0.5, "0.5"),
    ],
    ids=repr,
)  # fmt: skip
def test_values_of_any_type_are_understood(value: Any, expected: str) -> None:
    assert truth_map(WORDS, {})(value) == expected


@pytest.mark.parametrize("value", [True, "True", "true"])
def test_a_map_finds_booleans(value: Any) -> None:
    assert truth_map(WORDS, {"True": "negative"})(value) == "negative"
    assert truth_map(WORDS, {"true": "negative"})(value) == "negative"


def test_a_word_for_nothing_may_be_a_label() -> None:
    assert truth_map(("null", "positive"), {})("null") == "null"
    assert truth_map(WORDS, {"nan": "negative"})("nan") == "negative"


@pytest.mark.parametrize(
    ("values", "one"),
    [
        ([0, 1], "positive"),
        ([0, 1, None, float("nan"), ""], "positive"),
        ([0, 1, "pos", "neg", True], "positive"),
        ([1, 2, 4, 5], "1"),
        ([0, 1, "neutral"], "1"),
        ([1], "positive"),
    ],
)
def test_a_digit_is_a_sentiment_only_where_no_other_value_occurs(
    values: list[Any], one: str
) -> None:
    assert truth_map(WORDS, {}).among(values)(1) == one


def test_digits_that_are_labels_stay_labels() -> None:
    assert truth_map(DIGITS, {}).among([0, 1, 2])(1) == "1"


def test_values_that_are_no_labels_are_not_kept() -> None:
    truth = truth_map(WORDS, {})
    few = ["pos", None, "neutral", "A title of a review that somebody took for a label"]
    assert truth.bounded(few) == ["pos", None, "neutral", OTHER]
    many = ["pos", "0", None, *(f"title {n}" for n in range(MAX_VALUES))]
    assert truth.bounded(many) == ["pos", "0", None, *[OTHER] * MAX_VALUES]


def test_many_classes_become_one() -> None:
    labels = {f"title {n}" for n in range(MAX_VALUES + 1)}
    classes = classes_of({*labels, "positive"}, WORDS)
    assert set(classes.values()) == {OTHER, "positive"}
    assert set(classes_of(set(sorted(labels)[1:]), WORDS).values()) == set(sorted(labels)[1:])
