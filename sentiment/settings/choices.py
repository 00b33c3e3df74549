"""Types and rules of settings that the model and the stages use too.

Task workers import this module, so it does not import pydantic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sentiment.texts import fields_of, joins

LongText = Literal["head", "head_tail", "windows"]
Decode = Literal["labels", "generate"]
Precision = Literal["auto", "fp32", "bf16", "int8"]
DeviceType = Literal["cpu", "cuda"]

PLAIN_TEMPLATE = "{text}"


def is_template(value: object) -> bool:
    """Whether a prompt has the place of the review in it exactly once."""
    return isinstance(value, str) and value.count("{text}") == 1


def are_labels(values: object) -> bool:
    """Whether these are two or more texts, none of them empty, no two alike."""
    if not isinstance(values, list | tuple):
        return False
    texts = {value for value in values if isinstance(value, str) and value}
    return len(texts) == len(values) >= 2


def contradiction(
    decode: Decode | None,
    num_beams: int | None,
    long_text: LongText | None = None,
    template: str | None = None,
) -> str | None:
    """What is wrong with settings that are each right alone; None if nothing is.

    A setting that is None is not known yet and contradicts nothing.
    """
    if decode == "labels" and num_beams not in (None, 1):
        return f"--num-beams {num_beams} needs --decode generate"
    if long_text == "windows" and decode == "generate":
        return "--long-text windows needs --decode labels: answers cannot be averaged"
    if long_text == "windows" and template not in (None, PLAIN_TEMPLATE):
        return (
            f"--long-text windows: only the first window would have the prompt {template!r}; use "
            "head or head_tail"
        )
    return None


def prompt_of(template: str | None, text_columns: Sequence[str]) -> str | None:
    """Return the prompt of a model: of a template that joins columns, there is no other prompt."""
    return PLAIN_TEMPLATE if joins(template, text_columns) else template


def template_problem(template: str | None, text_columns: Sequence[str]) -> str | None:
    """What is wrong with a `--template`; None if nothing is.

    Args:
        template: A prompt with `{text}` in it, or one that joins columns by their names.
        text_columns: Names of the columns.
    """
    if joins(template, text_columns):
        found = fields_of(template, text_columns)
        left = [name for name in text_columns if name not in found]
        if left:
            return f"--template {template!r} leaves out {left[0]!r} of --text-column"
        return None
    if template is None or is_template(template):
        return None
    return (
        f"--template must hold {{text}} exactly once, or the columns of --text-column, as "
        f"--text-column title,body --template '{{title}}. {{body}}'; got {template!r}"
    )


def labels_problem(labels: Sequence[str] | None) -> str | None:
    """What is wrong with `--labels`; None if nothing is."""
    if labels is None or are_labels(list(labels)):
        return None
    return f"--labels needs two or more different texts, got {list(labels)}"
