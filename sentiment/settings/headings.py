"""The headings of `--help`: which settings stand under which, and what their values are called.

Every setting of a command stands under one heading, the settings that most people need first.
"""

from __future__ import annotations

from typing import Final

from sentiment.settings.flags import Groups
from sentiment.settings.sources import HOW_TO_READ

_MODEL: Final = {
    "revision": "NAME",
    "model_sha256": "DIGEST",
    "allow_pickle_weights": None,
    "labels": "TEXT",
    "template": "TEXT",
    "calibration": "PATH",
}
_ANSWERS: Final = {
    "max_source_tokens": "TOKENS",
    "long_text": None,
    "decode": None,
    "num_beams": "BEAMS",
    "max_new_tokens": "TOKENS",
    "precision": None,
}
_CLUSTER: Final = {
    "ray_address": "ADDRESS",
    "actors_min": "ACTORS",
    "actors_max": "ACTORS",
    "gpus_per_actor": "GPUS",
    "cpus_per_actor": "CPUS",
    "batch_tokens": "TOKENS",
    "unit_rows": "ROWS",
    "no_progress_sec": "SECONDS",
}
_LOGGING: Final = {"log_format": None, "quiet": None}

# Of every command that scores sources.
_MOST_USED: Final = {
    "sources": "SOURCE",
    "output": "PATH",
    "model": "NAME",
    "text_column": "COLUMN",
    "label_column": "COLUMN",
    "config": "PATH",
}

SCORE: Final[Groups] = {
    "most used": _MOST_USED,
    "input": {"label_map": "VALUE=LABEL", "limit": "ROWS"},
    "how sources are read": HOW_TO_READ,
    "output": {
        "prefix": "WORD",
        "group_by": "COLUMN",
        "columns": "COLUMN",
        "schema_drift": None,
        "on_change": None,
        "on_deleted": None,
    },
    "model": _MODEL,
    "reading and answering": _ANSWERS,
    "what counts as failure": {"max_rejected": "FRACTION"},
    "comparing nights": {
        "drift_runs": "RUNS",
        "drift_psi": "INDEX",
        "drift_share": "FRACTION",
        "on_drift": None,
        "accept_drift": None,
    },
    "cluster": _CLUSTER,
    "logging": _LOGGING,
}

EVALUATE: Final[Groups] = {
    "most used": _MOST_USED,
    "input": {
        "label_map": "VALUE=LABEL",
        "prediction_column": "COLUMN",
        "score_column": "COLUMN",
    },
    "how sources are read": HOW_TO_READ,
    "figures": {
        "positive_label": "LABEL",
        "bootstrap": "RESAMPLES",
        "seed": "NUMBER",
        "mistakes": "ROWS",
        "show_text": None,
        "parity_rows": "ROWS",
    },
    "output": {
        "fit_calibration": "PATH",
        "update_card": None,
        "prefix": "WORD",
        "group_by": "COLUMN",
    },
    "model": _MODEL,
    "reading and answering": _ANSWERS,
    "what counts as failure": {"max_rejected": "FRACTION"},
    "cluster": _CLUSTER,
    "logging": _LOGGING,
}

REPORT: Final[Groups] = {
    "settings": {"output": "OUTPUT", "run": "RUN", "to": "PATH", "nights": "RUNS", "config": "PATH"}
}

VERIFY: Final[Groups] = {
    "settings": {
        "output": "OUTPUT",
        "source": "SOURCE",
        "text_column": "COLUMN",
        "deep": None,
        "config": "PATH",
        "quiet": None,
    },
    "how sources are read": HOW_TO_READ,
}

REPLAY: Final[Groups] = {
    "settings": {
        "output": "OUTPUT",
        "transient": None,
        "max_rejected": "FRACTION",
        "ray_address": "ADDRESS",
        "config": "PATH",
        "quiet": None,
    }
}

MODELS: Final[Groups] = {"settings": {"config": "PATH"}}

FINETUNE: Final[Groups] = {
    "most used": {
        "train": "SOURCE",
        "output": "PATH",
        "preset": None,
        "model": "NAME",
        "text_column": "COLUMN",
        "label_column": "COLUMN",
        "config": "PATH",
    },
    "data": {
        "validation": "SOURCE",
        "validation_fraction": "FRACTION",
        "test": "SOURCE",
        "confidence_column": "COLUMN",
        "label_texts": "VALUE=TEXT",
        "meanings": "TEXT=LABEL",
        "template": "TEXT",
        "max_source_tokens": "TOKENS",
        "long_text": None,
    },
    "how sources are read": HOW_TO_READ,
    "model": {"revision": "NAME", "allow_pickle_weights": None},
    "batches": {
        "epochs": "EPOCHS",
        "batch_rows": "ROWS",
        "batch_tokens": "TOKENS",
        "length_grouped": None,
        "gradient_accumulation_steps": "PIECES",
        "gradient_checkpointing": None,
    },
    "optimiser": {
        "learning_rate": "RATE",
        "embedding_learning_rate": "RATE",
        "warmup_steps": "STEPS",
        "adam_beta1": "DECAY",
        "adam_beta2": "DECAY",
        "adam_epsilon": "NUMBER",
        "weight_decay": "DECAY",
        "max_grad_norm": "NORM",
        "dropout": "FRACTION",
        "seed": "NUMBER",
        "precision": None,
    },
    "checkpoints and stopping": {
        "checkpoint_steps": "STEPS",
        "early_stopping_patience": "VALIDATIONS",
    },
    "finished model": {"save_precision": None, "license": "NAME", "data_notice": "TEXT"},
    "cluster": {"ray_address": "ADDRESS", "workers": "WORKERS", "cpus_per_worker": "CPUS"},
    "a network trained from nothing": {
        "architecture.vocab_size": "PIECES",
        "architecture.d_model": "WIDTH",
        "architecture.d_kv": "WIDTH",
        "architecture.d_ff": "WIDTH",
        "architecture.encoder_layers": "BLOCKS",
        "architecture.decoder_layers": "BLOCKS",
        "architecture.heads": "HEADS",
        "architecture.feed_forward": None,
        "architecture.local_heads": None,
        "architecture.embedding_std": "NUMBER",
    },
    "the first phase of such a network": {
        "architecture.pooling_epochs": "EPOCHS",
        "architecture.pooling_dropout": "FRACTION",
        "architecture.pooling_learning_rate": "RATE",
        "architecture.pooling_embedding_learning_rate": "RATE",
    },
}
