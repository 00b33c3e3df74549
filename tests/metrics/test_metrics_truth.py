"""Values of a label column translated into labels of the model."""

from __future__ import annotations

from typing import Any

import pytest

from sentiment.errors import ConfigError
from sentiment.metrics.truth import truth_map

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
