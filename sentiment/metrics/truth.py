"""Translate the values of a label column into the labels of the model.

Sources write the same label in different ways: `0` and `1`, `neg` and `pos`, or stars from 1 to 5.
Some write that there is none: null, NaN, or a blank.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

from sentiment.errors import ConfigError

# Common spellings of the two sentiments, in lower case. The digits are apart: next to a 2 or a 5,
# a 1 is one star and not a word for `positive`.
_NEGATIVE = frozenset({"negative", "neg", "false"})
_POSITIVE = frozenset({"positive", "pos", "true"})
_DIGITS = {"0": "negative", "1": "positive"}

COMMON_SPELLINGS: Final = _NEGATIVE | _POSITIVE | _DIGITS.keys()

# How writers of text spell a missing value, in lower case. A label of the model wins.
_MISSING = frozenset({"", "nan", "null", "<na>"})

# A whole number that was written as a float: `1.0`.
_WHOLE = re.compile(r"([+-]?\d+)\.0*")

# Stands for values that are too many or too long to be labels. A label column may be a mistake, and
# what it holds, such as the titles of reviews, must not land in `run.json`.
OTHER: Final = "(other)"
MAX_VALUES: Final = 50
_MAX_CHARS: Final = 40


@dataclass(frozen=True)
class TruthMap:
    """Translates values of the label column into labels of the model.

    Attributes:
        labels: Labels that the model answers with.
        given: Label for each value, as text (`--label-map`). If it is empty, common spellings are
            recognised.
        digits: Whether 0 and 1 are such spellings.
    """

    labels: tuple[str, ...] = ()
    given: Mapping[str, str] = field(default_factory=dict)
    digits: bool = True

    def __call__(self, value: Any) -> str | None:
        """Return the label of a value; None for a value without one.

        With `given`, only its values have a label: three of five stars may be neither. Without it,
        a value that is neither a label nor a known spelling is returned unchanged. It then appears
        as a class of its own that the model never predicts, and lowers the accuracy. Left out, it
        would make the accuracy look better than it is.
        """
        text = self.text_of(value)
        if text is None:
            return None
        if self.given:
            return self._given.get(text)
        return self._known(text) or text

    def text_of(self, value: Any) -> str | None:
        """Return a value of the label column as text; None if it says that there is no label."""
        text = label_text(value)
        is_missing = (
            text.lower() in _MISSING and text not in self.labels and text not in self._given
        )
        return None if is_missing else text

    def among(self, values: Iterable[Any]) -> TruthMap:
        """Return the map to use in a column that holds these values.

        0 and 1 are read as `negative` and `positive` only if no other value occurs that has no
        label: of five stars, one is not positive.
        """
        texts = {self.text_of(value) for value in values} - {None}
        others = [text for text in texts if text is not None and self._known(text) is None]
        return replace(self, digits=not others)

    def bounded(self, texts: Sequence[str | None]) -> list[str | None]:
        """Put OTHER in the place of values that are too long or, all together, too many."""
        distinct = set(texts) - {None}
        if len(distinct) > MAX_VALUES:
            kept = {text for text in distinct if text is not None and self._is_label(text)}
        else:
            kept = {text for text in distinct if text is not None and len(text) <= _MAX_CHARS}
        return [text if text is None or text in kept else OTHER for text in texts]

    def _is_label(self, text: str) -> bool:
        return (self._given.get(text) if self.given else self._known(text)) is not None

    @cached_property
    def _given(self) -> dict[str, str]:
        return {label_text(value): label for value, label in self.given.items()}

    def _known(self, text: str) -> str | None:
        """Return the label that a text is or spells; None if it does neither."""
        if text in self.labels:
            return text
        sentiment = _sentiment_of(text, digits=self.digits)
        if sentiment is None:
            return None
        candidates = [one for one in self.labels if _sentiment_of(one, digits=True) == sentiment]
        # Of two labels with the same meaning (`pos` and `positive`), neither can be chosen.
        return candidates[0] if len(candidates) == 1 else None


def truth_map(labels: Sequence[str], given: Mapping[str, str]) -> TruthMap:
    """Make the map of a run.

    Args:
        labels: Labels that the model answers with.
        given: Label for each value (`--label-map`); may be empty.

    Raises:
        ConfigError: `given` names a label that the model does not answer with.
    """
    for value, label in given.items():
        if label not in labels:
            raise ConfigError(
                f"--label-map {value}={label}: the model answers with {', '.join(labels)}"
            )
    return TruthMap(tuple(labels), dict(given))


def label_text(value: Any) -> str:
    """Return a value of a label column as text: whole numbers without `.0`, "" for null and NaN.

    Many writers turn a column of integers into floats as soon as it has a null.
    """
    if value is None:
        return ""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    text = str(value).strip()
    if text in ("True", "False"):
        return text.lower()
    whole = _WHOLE.fullmatch(text)
    if whole is not None:
        text = whole[1]
    return "" if isinstance(value, float) and text == "nan" else text


def classes_of(values: Collection[str], labels: Collection[str]) -> dict[str, str]:
    """Return the class of each value: itself, or OTHER if more than MAX_VALUES are no labels."""
    strange = [value for value in values if value not in labels]
    crowd = set(strange) if len(strange) > MAX_VALUES else set()
    return {value: OTHER if value in crowd else value for value in values}


def _sentiment_of(text: str, *, digits: bool) -> str | None:
    """Return the sentiment that a word stands for; None if it is no common spelling of one."""
    word = text.strip().lower()
    if word in _NEGATIVE:
        return "negative"
    if word in _POSITIVE:
        return "positive"
    return _DIGITS.get(word) if digits else None
