"""Translate the values of a label column into the labels of the model.

Sources write the same label in different ways: `0` and `1`, `neg` and `pos`, or stars from 1 to 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sentiment.errors import ConfigError

# Common spellings of the two sentiments, in lower case.
_NEGATIVE = frozenset({"negative", "neg", "0", "false"})
_POSITIVE = frozenset({"positive", "pos", "1", "true"})


@dataclass(frozen=True)
class TruthMap:
    """Translates values of the label column into labels of the model.

    Attributes:
        labels: Labels that the model answers with.
        given: Label for each value, as text (`--label-map`). If it is empty, common spellings are
            recognised.
    """

    labels: tuple[str, ...] = ()
    given: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, value: Any) -> str | None:
        """Return the label of a value; None for a value without one.

        With `given`, only its values have a label: three of five stars may be neither. Without it,
        a value that is neither a label nor a known spelling is returned unchanged. It then appears
        as a class of its own that the model never predicts, and lowers the accuracy. Left out, it
        would make the accuracy look better than it is.
        """
        if value is None:
            return None
        text = as_text(value)
        if self.given:
            return self.given.get(text)
        if text in self.labels:
            return text
        sentiment = _sentiment_of(text)
        if sentiment is None:
            return text
        candidates = [label for label in self.labels if _sentiment_of(label) == sentiment]
        # Of two labels with the same meaning (`pos` and `positive`), neither can be chosen.
        return candidates[0] if len(candidates) == 1 else text


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


def as_text(value: Any) -> str:
    """Return a value of a label column as text, whole floats without `.0`.

    Many writers turn a column of integers into floats as soon as it has a null.
    """
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _sentiment_of(text: str) -> str | None:
    """Return the sentiment that a word stands for; None if it is no common spelling of one."""
    word = text.strip().lower()
    if word in _NEGATIVE:
        return "negative"
    if word in _POSITIVE:
        return "positive"
    return None
