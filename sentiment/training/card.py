"""The `labels.json` and the README (the model card) of a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sentiment.model.readme import front_matter, names_of, report_table
from sentiment.settings.finetune import FinetuneConfig

# Where files lay on the machine that trained is no business of a model card.
_PATHS = {"config", "train", "validation", "test", "output", "ray_address"}
_SHOWN_ELSEWHERE = {"data_notice", "license"}


def labels_json(config: FinetuneConfig, labels: Sequence[str]) -> dict[str, Any]:
    """Return `labels.json`: what `sentiment score` needs to ask the model as it was trained."""
    meanings = [config.meanings.get(label, label) for label in labels]
    return {
        "labels": list(labels),
        **({"meanings": meanings} if meanings != list(labels) else {}),
        "template": config.prompt,
        "max_source_tokens": config.max_source_tokens,
        "long_text": config.long_text,
    }


def model_card(
    config: FinetuneConfig, record: dict[str, Any], versions: dict[str, str], name: str
) -> str:
    """Return README.md of the model folder, in the format of the hub.

    Args:
        config: The settings that made the model.
        record: `training.json` as the training loop left it.
        versions: Package versions.
        name: Of the model.
    """
    settings = config.model_dump(
        mode="json", exclude_defaults=True, exclude=_PATHS | _SHOWN_ELSEWHERE
    )
    base, base_id = "random weights and a vocabulary of its own", None
    if config.model:
        # A folder of the training machine means nothing elsewhere; its name may.
        path = Path(config.model).expanduser()
        base = settings["model"] = path.resolve().name if path.is_dir() else config.model
        base_id = None if path.is_dir() else config.model
    answers = ", ".join(f"`{text}`" for text in sorted(set(config.label_texts.values())))
    held_out = names_of(config.validation) or "rows held out of the training files"
    tested = record["test"] is not None
    front = front_matter(
        name,
        base_model=base_id,
        license=config.license,
        data=names_of(config.test) if tested else held_out,
        report=record["test"] if tested else record["validation"],
    )
    parts = [
        f"---\n{front.to_yaml()}\n---",
        f"# {name}",
        f"A text-to-text T5 with {record['parameters']:,} parameters that answers a review with "
        f"one of the texts {answers}. Trained from {base} on {record['train_rows']:,} labelled "
        "texts.",
        *_report(config, record, held_out),
        "## Intended use and limits",
        "Made to answer texts like those it was trained on with one of these answers, never with "
        f"“none of them”. It reads {config.max_source_tokens} tokens of a text "
        f"({'both ends' if config.long_text == 'head_tail' else 'the beginning'} of a longer one). "
        "Other kinds of text, other languages and groups of writers were not measured: evaluate "
        "before use with `sentiment evaluate`.",
        "## Training",
        _hyperparameters(config, record),
        _history_table(record["history"]),
        _cost(record["cost"]),
    ]
    if config.data_notice:
        parts += ["## Data", config.data_notice.strip()]
    parts += [
        "## Configuration",
        "Made by `sentiment finetune --config FILE` with these settings; data paths are arguments:",
        "```yaml\n" + yaml.safe_dump(settings, sort_keys=False).strip() + "\n```",
        "## Framework versions",
        "\n".join(f"- {package} {number}" for package, number in versions.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _report(config: FinetuneConfig, record: dict[str, Any], held_out: str) -> list[str]:
    """The classification reports on the test files, if there are any, and on the held-out rows."""
    parts = ["## Report"]
    if record["test"] is not None:
        parts += [
            f"On the test files ({names_of(config.test)}), scored once:",
            report_table(record["test"]),
        ]
    return [*parts, f"On the validation rows ({held_out}):", report_table(record["validation"])]


def _hyperparameters(config: FinetuneConfig, record: dict[str, Any]) -> str:
    """Return the list of hyperparameters, with the names that cards on the hub use."""
    each = config.batch_rows if config.batch_tokens is None else f"{config.batch_tokens:,} tokens"
    workers = record["cost"]["workers"]
    values = {
        "learning_rate": config.learning_rate,
        "train_batch_size": f"{each} on each of {workers} workers" if workers > 1 else each,
        "seed": config.seed,
        "optimizer": f"AdamW with betas=({config.adam_beta1}, {config.adam_beta2}), "
        f"epsilon={config.adam_epsilon}, weight_decay={config.weight_decay}",
        "lr_scheduler_type": "linear",
        "lr_scheduler_warmup_steps": config.warmup_steps,
        "num_epochs": config.epochs,
        "max_grad_norm": config.max_grad_norm,
        "dropout": config.dropout,
        "precision": record["training_precision"],
    }
    return "\n".join(f"- {name}: {value}" for name, value in values.items())


def _cost(cost: dict[str, Any]) -> str:
    return (
        f"{cost['steps']:,} steps over {cost['tokens']:,} tokens took {cost['seconds']:,.0f} s "
        f"(validations not counted) on {cost['device']}; one worker's memory peaked at "
        f"{cost['peak_memory_mib']:,} MiB."
    )


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
