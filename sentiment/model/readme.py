"""The README of a model folder in the format of the hub: front matter and tables of figures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final, cast

from huggingface_hub import EvalResult, ModelCard, ModelCardData

_TASK: Final = "text-classification"
_METRICS: Final = ("accuracy", "precision", "recall", "f1")

# What `sentiment evaluate` writes stands between these, and is replaced by the next evaluation.
_BEGIN, _END = "<!-- sentiment evaluate -->", "<!-- end of sentiment evaluate -->"


def report_table(report: Mapping[str, Any]) -> str:
    """Return a classification report as a Markdown table."""
    lines = ["| | precision | recall | f1-score | support |", "|---|---|---|---|---|"]
    for label in report["labels"]:
        lines.append(_report_row(label, report[label]))
    support = int(report["weighted avg"]["support"])
    lines.append(f"| accuracy | | | {report['accuracy']:.4f} | {support:,} |")
    for average in ("macro avg", "weighted avg"):
        lines.append(_report_row(average, report[average]))
    return "\n".join(lines)


def _report_row(name: str, values: Mapping[str, float]) -> str:
    return (
        f"| {name} | {values['precision']:.4f} | {values['recall']:.4f} "
        f"| {values['f1-score']:.4f} | {int(values['support']):,} |"
    )


def names_of(sources: Sequence[str]) -> str:
    """Return the last parts of source paths. The folders of one machine do not belong in a card."""
    return ", ".join(PurePosixPath(source.rstrip("/")).name for source in sources)


def front_matter(
    name: str,
    *,
    base_model: str | None,
    license: str | None,
    data: str,
    report: Mapping[str, Any],
) -> ModelCardData:
    """Return the front matter, which the hub reads.

    Args:
        name: Of the model, in the table of results.
        base_model: Hub id of the model it was trained from.
        license: A hub identifier of the licence of the weights.
        data: What the report is about.
        report: A classification report; its weighted averages are the results.
    """
    return ModelCardData(
        license=license,
        base_model=base_model,
        library_name="transformers",
        pipeline_tag=_TASK,
        tags=["t5", "sentiment-analysis"],
        metrics=list(_METRICS),
        model_name=name,
        eval_results=_results(data, report),
    )


def _results(data: str, report: Mapping[str, Any]) -> list[EvalResult]:
    average = report["weighted avg"]
    values = (report["accuracy"], average["precision"], average["recall"], average["f1-score"])
    return [
        EvalResult(
            task_type=_TASK,
            task_name="Sentiment classification",
            dataset_type="text",
            dataset_name=data,
            metric_type=metric,
            metric_name=metric,
            metric_value=round(float(value), 4),
            metric_args=None if metric == "accuracy" else {"average": "weighted"},
        )
        for metric, value in zip(_METRICS, values, strict=True)
    ]


def with_evaluation(
    text: str, *, name: str, sources: Sequence[str], date: str, report: Mapping[str, Any]
) -> str:
    """Return a card with the figures of an evaluation in place of earlier ones.

    Args:
        text: The card so far; nothing makes a new one.
        name: Of the model, where the card says none.
        sources: What was evaluated.
        date: Of the evaluation.
        report: Its classification report.

    Returns:
        The card with the results in its front matter, and in a section that replaces the one of an
        earlier evaluation, or comes last.

    Raises:
        ValueError: The front matter is no YAML mapping.
    """
    card = ModelCard(text if text.startswith("---") else f"---\n{{}}\n---\n{text}")
    front = cast(ModelCardData, card.data)
    data = names_of(sources)
    front.model_name = front.model_name or name
    front.eval_results = _results(data, report)
    section = "\n\n".join(
        [
            _BEGIN,
            f"## Evaluation on {data}",
            f"By `sentiment evaluate` on {date}:",
            report_table(report),
            _END,
        ]
    )
    marked = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)
    before = card.text.rstrip() or f"\n# {name}"
    card.text = (
        marked.sub(lambda _: section, card.text)
        if marked.search(card.text)
        else f"{before}\n\n{section}\n"
    )
    return str(card)
