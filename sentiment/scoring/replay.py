"""The command `sentiment replay`: scores rejected rows again.

It uses the sources and the settings that the `run.json` files of the output hold.
"""

from __future__ import annotations

import logging

from sentiment.block import REASONS, TRANSIENT_REASONS
from sentiment.errors import OutputError, SourceError
from sentiment.ledger.runs import newest_first, run_ids, warn_left_out
from sentiment.ledger.summary import RunSummary
from sentiment.output.folder import Output
from sentiment.output.layout import RUN_FILE, file_of_run, is_data_file
from sentiment.scoring.choice import joined_choice
from sentiment.scoring.job import score
from sentiment.settings.jobs import ReplayConfig, ScoreConfig
from sentiment.source.listing import list_shards
from sentiment.source.options import ReadOptions
from sentiment.source.selection.partitions import partition_of
from sentiment.source.settings import read_options

_log = logging.getLogger(__name__)


def replay(config: ReplayConfig) -> RunSummary:
    """Score again every unit that has rejected rows, and everything that is missing.

    With `transient` only units whose rows were rejected for a reason that may pass.

    Nights that chose other partitions are taken together.

    A unit is committed anew as a whole, so the ledger holds at every moment. Rows that fail again
    are rejected again. The model and all that decides labels are those of the latest run.

    Raises:
        OutputError: No run has written to this output, or it cannot be read.
        SourceError: None of its sources is there any more.
        SentimentError: As `scoring.job.score` does.
    """
    output = Output.open(config.output)
    runs = _settings(output)
    sources = list(dict.fromkeys(source for run in runs for source in run.sources))
    where = joined_choice([run.where for run in runs], _partition_keys(output))
    latest = runs[-1].model_copy(update={"where": where})
    options = read_options(latest)
    there = [source for source in sources if _is_there(source, options)]
    if not there:
        raise SourceError(f"{config.output}: none of its {len(sources)} sources is there any more")
    settings = latest.model_copy(
        update={
            "sources": there,
            "output": config.output,
            "max_rejected": config.max_rejected,
            "ray_address": config.ray_address,
            "quiet": config.quiet,
            "limit": None,
            "on_change": "refuse",
            "on_deleted": "keep",
            "drift_runs": 0,
            "accept_drift": False,
        }
    )
    return score(settings, again=TRANSIENT_REASONS if config.transient else REASONS.keys())


def _settings(output: Output) -> list[ScoreConfig]:
    """Return the settings of every run, the oldest first; leave out what cannot be read.

    Raises:
        OutputError: No run has written to this output, or no settings can be read.
    """
    settings = []
    for run in newest_first(output):
        # Another version may have had other settings. If those decided labels, the new run refuses
        # the output, because its configuration digest differs.
        try:
            if run.config is None:
                raise ValueError("no settings")
            settings.append(ScoreConfig(**run.config))
        except (TypeError, ValueError) as error:
            warn_left_out(output, run.run_id, f"its settings: {type(error).__name__}")
    if not settings:
        ids = run_ids(output)
        if not ids:
            raise OutputError(
                f"{output.location}: no run has been here, so there is nothing to score again; "
                "start with `sentiment score`"
            )
        path = output.path(file_of_run(ids[-1], RUN_FILE))
        raise OutputError(f"{path}: its settings cannot be read; score again into another --output")
    return settings[::-1]


def _partition_keys(output: Output) -> set[str]:
    """Return the keys of the partitions of an output."""
    folders = {path.rpartition("/")[0] for path in output.list_tree("") if is_data_file(path)}
    return {key for folder in folders for key in partition_of(folder)}


def _is_there(source: str, options: ReadOptions) -> bool:
    try:
        list_shards([source], options)
    except SourceError as error:
        _log.warning("left out: %s", error)
        return False
    return True
