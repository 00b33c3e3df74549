"""The setup of a run: devices, precision, digests, and the model tried once.

It is resolved before anything is planned, so that a model that cannot work stops the run at once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from sentiment.cluster import LazyCluster
from sentiment.digest import SCORING_VERSION, digest
from sentiment.engine.devices import default_batch_tokens, local_gpus
from sentiment.engine.gate import check_model
from sentiment.engine.scorer import ScorerPlan
from sentiment.errors import ModelError
from sentiment.metrics.calibration import (
    CALIBRATION_FILE,
    SCORE_SETTINGS,
    Calibration,
    read_calibration,
)
from sentiment.metrics.truth import truth_map
from sentiment.model.declaration import find_preset
from sentiment.model.find import Model, find_model
from sentiment.model.locate import BUILTIN
from sentiment.output.commit import Stamp
from sentiment.output.settings import OutputSettings
from sentiment.scoring.pool import Pool, resolve_pool
from sentiment.scoring.tasks import probe_on_gpu
from sentiment.settings.choices import Precision, prompt_of
from sentiment.settings.jobs import ScoreConfig, ScoringSettings
from sentiment.settings.sources import HOW_TO_READ, SourceSettings
from sentiment.source.settings import texts_of
from sentiment.storage import is_uri

_log = logging.getLogger(__name__)

# They choose rows: whole files anew every night, or what `Selection.of_rows` says.
_CHOICES = frozenset({"ignore", "where", "sample"})
_PACKAGES = ("sentiment", "ray", "torch", "transformers", "pyarrow")


@dataclass(frozen=True)
class Setup:
    """What was resolved for a run.

    Attributes:
        stamp: Of its files.
        scorer: What to score with.
        pool: On what.
        settings: What the rows of its output are scored with.
    """

    stamp: Stamp
    scorer: ScorerPlan
    pool: Pool
    settings: OutputSettings


def configured_model(config: ScoringSettings) -> Model:
    """Find the model that the settings ask for.

    Raises:
        ModelError: As `find_model` does.
    """
    return find_model(
        config.model,
        revision=config.revision,
        labels=config.labels,
        template=prompt_of(config.template, config.text_columns),
        max_source_tokens=config.max_source_tokens,
        long_text=config.long_text,
        decode=config.decode,
        num_beams=config.num_beams,
        max_new_tokens=config.max_new_tokens,
        sha256=config.model_sha256,
        allow_pickle=config.allow_pickle_weights,
    )


def resolve_setup(
    config: ScoreConfig,
    model: Model,
    cluster: LazyCluster,
    *,
    epoch: int,
    recorded: OutputSettings | None = None,
    chosen: Sequence[str] = (),
) -> Setup:
    """Resolve devices, precision and digests, and try the model.

    Args:
        epoch: Epoch of the lease of the run.
        recorded: Settings of the output. `--precision auto` is what they say, if all else is the
            same: the same command must work on another processor.
        chosen: What decides which rows of a file are scored.
    """
    found = cluster.resources(local_gpus=local_gpus())
    pool = resolve_pool(
        config,
        node_cpus=found.node_cpus,
        gpus=found.gpus,
        can_grow=found.can_grow,
        weights_bytes=_weights_bytes(model),
    )
    scorer = ScorerPlan(
        model=model,
        tokeniser=model.tokeniser(),
        precision=config.precision,
        batch_tokens=config.batch_tokens or default_batch_tokens(pool.device_type),
        threads=pool.threads,
        device_type=pool.device_type,
        calibration=find_calibration(config.calibration, model),
    )
    deciding = _deciding(config, scorer, chosen)
    if recorded is not None and recorded.digest_but_precision == digest(deciding):
        scorer = replace(scorer, precision=_adopted(config, recorded))
    if pool.device_type == "cuda":
        # The driver may have no GPU: ask a worker that has.
        cluster.get()
        check = partial(check_model, scorer)
        precision = probe_on_gpu(check, pool.gpus, config.no_progress_sec)
    else:
        precision = check_model(scorer)
    scorer = replace(scorer, precision=precision)
    stamp = _stamp(config, scorer, epoch=epoch, chosen=chosen)
    settings = OutputSettings(stamp.config_digest, digest(deciding), precision, model.name)
    return Setup(stamp, scorer, pool, settings)


def _adopted(config: ScoreConfig, recorded: OutputSettings) -> Precision:
    if config.precision != "auto":
        return config.precision
    return next((one for one in get_args(Precision) if one == recorded.precision), "auto")


def find_calibration(setting: str | None, model: Model) -> Calibration | None:
    """Return the calibration of a run: from the given file, none, or the model's own if it has one.

    Raises:
        ModelError: The file cannot be used, or was fitted for another model or, if it was asked
            for, with other labels or limits.
    """
    if setting == "none":
        return None
    path = Path(setting) if setting else model.folder / CALIBRATION_FILE
    if setting is None and not path.is_file():
        return None
    found = read_calibration(path)
    if found.model_digest != model.digest:
        raise ModelError(
            f"{path}: was fitted for the model with digest {found.model_digest[:12]}…, this one "
            f"has {model.digest[:12]}…; fit it anew, or use --calibration none"
        )
    now = {name: _plain(getattr(model, name)) for name in SCORE_SETTINGS}
    other = [name for name, value in (found.fitted_for or {}).items() if now.get(name) != value]
    if not other:
        return found
    why = f"{path}: was fitted with another --{other[0].replace('_', '-')}, which changes scores"
    if setting is not None:
        raise ModelError(f"{why}; fit it anew, or use --calibration none")
    _log.warning("%s: scores of this run are not calibrated", why)
    return None


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it."""
    return list(value) if isinstance(value, tuple) else value


def _weights_bytes(model: Model) -> int:
    """Return the size of the weights: of safetensors, or of .bin files if there are no others."""
    sizes = (
        sum(path.stat().st_size for path in model.folder.glob(pattern))
        for pattern in ("*.safetensors", "pytorch_model*.bin")
    )
    return next((size for size in sizes if size), 0)


def _deciding(config: ScoreConfig, scorer: ScorerPlan, chosen: Sequence[str]) -> dict[str, Any]:
    """Return everything that decides labels, scores and columns, but for the precision.

    Pool sizes are not part of it.
    """
    model = scorer.model
    return {
        "model": model.digest,
        # Pairs only where the two differ: labels that mean themselves keep the digest they had.
        "labels": model.labels
        if model.meanings == model.labels
        else list(zip(model.labels, model.meanings, strict=True)),
        "template": model.template,
        "max_source_tokens": model.max_source_tokens,
        "long_text": model.long_text,
        "decode": [model.decode, model.num_beams, model.max_new_tokens]
        if model.decode == "generate"
        else model.decode,
        "tokenizer": scorer.tokeniser.digest,
        "calibration": scorer.calibration.digest if scorer.calibration else None,
        "text_column": config.text_column,
        **_reading(config, chosen),
        "prefix": config.prefix,
        "scoring_version": SCORING_VERSION,
    }


def _reading(config: ScoreConfig, chosen: Sequence[str]) -> dict[str, Any]:
    """Return what the user says of the sources. Where nothing is said, the digest is as ever."""
    fields = SourceSettings.model_fields
    said = {name: getattr(config, name) for name in HOW_TO_READ if name not in _CHOICES}
    found = {name: value for name, value in said.items() if value != fields[name].default}
    if (template := texts_of(config).template) is not None:
        found["joined"] = template
    if chosen:
        found["chosen"] = list(chosen)
    return found if config.columns is None else {**found, "columns": sorted(config.columns)}


def _stamp(
    config: ScoreConfig, scorer: ScorerPlan, *, epoch: int, chosen: Sequence[str] = ()
) -> Stamp:
    """Digest everything that decides labels, scores and columns."""
    model = scorer.model
    deciding = {**_deciding(config, scorer, chosen), "precision": scorer.precision}
    return Stamp(
        model_digest=model.digest,
        config_digest=digest(deciding),
        code_version=version("sentiment"),
        prefix=config.prefix,
        texts=texts_of(config),
        label_column=config.label_column,
        truth=truth_map(model.meanings, config.label_map),
        group_by=tuple(config.group_by),
        epoch=epoch,
    )


def facts_of(config: ScoreConfig, setup: Setup) -> dict[str, Any]:
    """Return what `run.json` holds beside the figures."""
    model = setup.scorer.model
    return {
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        # Absolute, so that a replay finds them from any working directory.
        "config": {
            **config.resolved(),
            "sources": absolute(config.sources),
            "model": model_anywhere(config.model),
            "calibration": _anywhere(config.calibration),
        },
        "model": {
            "name": model.name,
            "digest": model.digest,
            "labels": list(model.labels),
            "meanings": list(model.meanings),
            "template": model.template,
            "max_source_tokens": model.max_source_tokens,
            "long_text": model.long_text,
            "decode": model.decode,
        },
        "config_digest": setup.stamp.config_digest,
        "precision": setup.scorer.precision,
        "calibration": setup.scorer.calibration and setup.scorer.calibration.facts(),
        "pool": asdict(setup.pool),
        "versions": {name: version(name) for name in _PACKAGES},
    }


def absolute(sources: Sequence[str]) -> list[str]:
    """Return sources as absolute paths, so that they are found from any working directory."""
    return [source if is_uri(source) else os.path.abspath(source) for source in sources]


def model_anywhere(name: str) -> str:
    """Return what names the same model from any working directory: the path of a folder or file."""
    if name == BUILTIN or (find_preset(name) is not None and not os.path.isdir(name)):
        return name
    return str(_anywhere(name))


def _anywhere(name: str | None) -> str | None:
    if name is None or not os.path.exists(os.path.expanduser(name)):
        return name
    return os.path.abspath(os.path.expanduser(name))
