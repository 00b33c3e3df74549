"""What a run comes down to: devices, precision, digests, and what `run.json` tells of them.

Takes settings and a found model; gives the model as scorers get it, the pool and the stamp of every
file. Tries the model before anything is planned. Knows no shard.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sentiment.cluster import LazyCluster
from sentiment.digest import SCORING_VERSION, digest
from sentiment.engine.devices import default_batch_tokens, local_gpus
from sentiment.engine.gate import check_model
from sentiment.engine.scorer import ScorerPlan
from sentiment.errors import ModelError
from sentiment.metrics.calibration import CALIBRATION_FILE, Calibration, read_calibration
from sentiment.metrics.truth import truth_map
from sentiment.model.find import ModelCard, find_model
from sentiment.output.commit import Stamp
from sentiment.scoring.pool import Pool, resolve_pool
from sentiment.scoring.tasks import probe_on_gpu
from sentiment.settings.jobs import ScoreConfig
from sentiment.storage import is_uri

_PACKAGES = ("sentiment", "ray", "torch", "transformers", "pyarrow")


@dataclass(frozen=True)
class Resolved:
    """What was resolved for this run."""

    stamp: Stamp
    scorer: ScorerPlan
    pool: Pool


def find_card(config: ScoreConfig) -> ModelCard:
    """The model the settings ask for.

    Raises:
        ModelError: As `weights.find_model` does.
    """
    return find_model(
        config.model,
        revision=config.revision,
        labels=config.labels,
        template=config.template,
        max_source_tokens=config.max_source_tokens,
        long_text=config.long_text,
        decode=config.decode,
        num_beams=config.num_beams,
        max_new_tokens=config.max_new_tokens,
        sha256=config.model_sha256,
        allow_pickle=config.allow_pickle_weights,
    )


def resolve(config: ScoreConfig, card: ModelCard, cluster: LazyCluster) -> Resolved:
    """Settle devices, precision and digests, and try the model before anything is planned."""
    found = cluster.resources(local_gpus=local_gpus())
    pool = resolve_pool(
        config,
        node_cpus=found.node_cpus,
        gpus=found.gpus,
        can_grow=found.can_grow,
        weights_bytes=_weights_bytes(card),
    )
    scorer = ScorerPlan(
        card=card,
        tokeniser=card.tokeniser(),
        precision=config.precision,
        batch_tokens=config.batch_tokens or default_batch_tokens(pool.device_type),
        threads=pool.threads,
        device_type=pool.device_type,
        decode=card.decode,
        num_beams=card.num_beams,
        max_new_tokens=card.max_new_tokens,
        calibration=find_calibration(config.calibration, card),
    )
    if pool.device_type == "cuda":
        # The driver may have no GPU: ask a worker that has.
        cluster.get()
        check = partial(check_model, scorer)
        precision = probe_on_gpu(check, pool.gpus, config.no_progress_sec)
    else:
        precision = check_model(scorer)
    scorer = replace(scorer, precision=precision)
    return Resolved(_stamp(config, scorer), scorer, pool)


def find_calibration(setting: str | None, card: ModelCard) -> Calibration | None:
    """The calibration of a run: the given file, none at all, or the model's own if it has one.

    Raises:
        ModelError: The file cannot be used, or was fitted for another model.
    """
    if setting == "none":
        return None
    path = Path(setting) if setting else card.folder / CALIBRATION_FILE
    if setting is None and not path.is_file():
        return None
    found = read_calibration(path)
    if found.model_digest != card.digest:
        raise ModelError(
            f"{path}: was fitted for the model with digest {found.model_digest[:12]}…, this one "
            f"has {card.digest[:12]}…; fit it anew, or use --calibration none"
        )
    return found


def _weights_bytes(card: ModelCard) -> int:
    """Size of the weights; of those in .bin files where there are no others."""
    sizes = (
        sum(path.stat().st_size for path in card.folder.glob(pattern))
        for pattern in ("*.safetensors", "pytorch_model*.bin")
    )
    return next((size for size in sizes if size), 0)


def _stamp(config: ScoreConfig, scorer: ScorerPlan) -> Stamp:
    """Digests of everything that decides labels, scores and columns; pool sizes do not."""
    card = scorer.card
    deciding = {
        "model": card.digest,
        # Pairs only where the two differ: labels that mean themselves keep the digest they had.
        "labels": card.labels
        if card.meanings == card.labels
        else list(zip(card.labels, card.meanings, strict=True)),
        "template": card.template,
        "max_source_tokens": card.max_source_tokens,
        "long_text": card.long_text,
        "decode": [scorer.decode, scorer.num_beams, scorer.max_new_tokens]
        if scorer.decode == "generate"
        else scorer.decode,
        "precision": scorer.precision,
        "calibration": scorer.calibration.digest if scorer.calibration else None,
        "text_column": config.text_column,
        "prefix": config.prefix,
        "scoring_version": SCORING_VERSION,
    }
    return Stamp(
        model_digest=card.digest,
        config_digest=digest(deciding),
        code_version=version("sentiment"),
        prefix=config.prefix,
        label_column=config.label_column,
        truth=truth_map(card.meanings, config.label_map),
        group_by=tuple(config.group_by),
    )


def facts_of(config: ScoreConfig, run: Resolved) -> dict[str, Any]:
    """What `run.json` tells beside the figures."""
    card = run.scorer.card
    return {
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        # Absolute, so that a replay finds them from any working directory.
        "config": {**config.resolved(), "sources": absolute(config.sources)},
        "model": {
            "name": card.name,
            "digest": card.digest,
            "labels": list(card.labels),
            "meanings": list(card.meanings),
            "template": card.template,
            "max_source_tokens": card.max_source_tokens,
            "long_text": card.long_text,
            "decode": card.decode,
        },
        "config_digest": run.stamp.config_digest,
        "precision": run.scorer.precision,
        "calibration": run.scorer.calibration and run.scorer.calibration.facts(),
        "pool": asdict(run.pool),
        "versions": {name: version(name) for name in _PACKAGES},
    }


def absolute(sources: Sequence[str]) -> list[str]:
    """Sources as they are found from any working directory."""
    return [source if is_uri(source) else os.path.abspath(source) for source in sources]
