"""The papers of a finished model: `labels.json` and a model card with its measured report.

Takes settings and training records, gives file contents. Knows no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sentiment.finetune.config import FinetuneConfig

# Where files lay on the machine that trained is no business of a model card; the notice about the
# data has a section of its own.
_PATHS = {"data_notice", "config", "train", "validation", "test", "output", "ray_address"}


def labels_json(config: FinetuneConfig, labels: Sequence[str]) -> dict[str, Any]:
    """What `sentiment score` needs to know to ask the model as it was trained."""
    meanings = [config.meanings.get(label, label) for label in labels]
    return {
        "labels": list(labels),
        **({"meanings": meanings} if meanings != list(labels) else {}),
        "template": config.template,
        "max_source_tokens": config.max_source_tokens,
        "long_text": config.long_text,
    }


def report_table(report: dict[str, Any]) -> str:
    """A classification report as a Markdown table."""
    lines = ["| | precision | recall | f1-score | support |", "|---|---|---|---|---|"]
    for label in report["labels"]:
        lines.append(_report_row(label, report[label]))
    support = int(report["weighted avg"]["support"])
    lines.append(f"| accuracy | | | {report['accuracy']:.4f} | {support:,} |")
    for average in ("macro avg", "weighted avg"):
        lines.append(_report_row(average, report[average]))
    return "\n".join(lines)


def model_card(config: FinetuneConfig, record: dict[str, Any], versions: dict[str, str]) -> str:
    """README.md of the model folder.

    Args:
        config: The settings that made the model.
        record: `training.json` as the training loop left it.
        versions: Package versions.
    """
    settings = config.model_dump(mode="json", exclude_defaults=True, exclude=_PATHS)
    base = "random weights and a vocabulary of its own"
    if config.model:
        # A folder of the training machine means nothing elsewhere; its name may.
        path = Path(config.model).expanduser()
        base = settings["model"] = path.resolve().name if path.is_dir() else config.model
    answers = ", ".join(f"`{text}`" for text in sorted(set(config.label_texts.values())))
    parts = [
        "# T5 sentiment classifier",
        f"A text-to-text T5 with {record['parameters']:,} parameters that answers a review with "
        f"one of the texts {answers}. Trained from {base} on {record['train_rows']:,} labelled "
        "texts.",
        "## Report",
    ]
    if record["test"]:
        parts += ["On the test files, scored once:", report_table(record["test"])]
    parts += ["On the held-out validation rows:", report_table(record["validation"])]
    parts += ["## Training", _history_table(record["history"])]
    if config.data_notice:
        parts += ["## Data", config.data_notice.strip()]
    parts += [
        "## Configuration",
        "Made by `sentiment finetune --config FILE` with these settings; data paths are arguments:",
        "```yaml\n" + yaml.safe_dump(settings, sort_keys=False).strip() + "\n```",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
    ]
    return "\n\n".join(parts) + "\n"


def _history_table(history: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| phase | epoch | step | training loss | validation accuracy |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {m['phase']} | {m['epoch']:g} | {m['step']:,} | {m['train_loss']:.4f} "
        f"| {m['validation_accuracy']:.4f} |"
        for m in history
    ]
    return "\n".join(lines)


def _report_row(name: str, values: dict[str, float]) -> str:
    return (
        f"| {name} | {values['precision']:.4f} | {values['recall']:.4f} "
        f"| {values['f1-score']:.4f} | {int(values['support']):,} |"
    )
