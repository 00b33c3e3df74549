"""True labels in the words of the model: `0` and `1`, `neg` and `pos`, stars by a map.

Takes values of a label column and the labels of a model, gives labels. Knows no file and no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sentiment.errors import ConfigError

# What people write for the two ends of sentiment, in lower case.
_NEGATIVE = frozenset({"negative", "neg", "0", "false"})
_POSITIVE = frozenset({"positive", "pos", "1", "true"})


@dataclass(frozen=True)
class TruthMap:
    """How values of the label column become labels of the model.

    Attributes:
        labels: Labels the model answers with.
        given: Label for each value, as text; empty for what goes without saying.
    """

    labels: tuple[str, ...] = ()
    given: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, value: Any) -> str | None:
        """The label a value stands for; None where it stands for none.

        With a map only the values it names have a label: three of five stars may be neither.
        Without one, a value that is no label and no known word for one is kept as it is, so that it
        shows up as a class the model never hits instead of vanishing from the accuracy.
        """
        if value is None:
            return None
        text = as_text(value)
        if self.given:
            return self.given.get(text)
        if text in self.labels:
            return text
        end = _end(text)
        alike = [label for label in self.labels if end and _end(label) == end]
        return alike[0] if len(alike) == 1 else text


def truth_map(labels: Sequence[str], given: Mapping[str, str]) -> TruthMap:
    """The map of a run.

    Raises:
        ConfigError: `--label-map` names a label the model does not answer with.
    """
    for value, label in given.items():
        if label not in labels:
            raise ConfigError(
                f"--label-map {value}={label}: the model answers with {', '.join(labels)}"
            )
    return TruthMap(tuple(labels), dict(given))


def as_text(value: Any) -> str:
    """A value of a label column as text; integers that met a null became floats in many a lake."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _end(text: str) -> str | None:
    """Which end of sentiment a word stands for, if any."""
    word = text.strip().lower()
    return "negative" if word in _NEGATIVE else "positive" if word in _POSITIVE else None
