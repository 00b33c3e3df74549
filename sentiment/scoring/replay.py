"""The command `sentiment replay`: scores rejected rows again.

It uses the sources and the settings that the `run.json` files of the output hold.
"""

from __future__ import annotations

import logging

from pydantic import ValidationError

from sentiment.errors import OutputError, SourceError
from sentiment.ledger.runs import read_run, run_ids
from sentiment.ledger.summary import RunSummary
from sentiment.output.folder import Output
from sentiment.output.layout import RUN_FILE, file_of_run
from sentiment.scoring.job import score
from sentiment.settings.jobs import ReplayConfig, ScoreConfig
from sentiment.source.listing import list_shards

_log = logging.getLogger(__name__)


def replay(config: ReplayConfig) -> RunSummary:
    """Score again every unit that has rejected rows, and whatever else is missing.

    A unit is committed anew as a whole, so the ledger holds at every moment. Rows that fail again
    are rejected again. The model and all that decides labels are those of the latest run.

    Raises:
        OutputError: No run has written to this output, or it cannot be read.
        SourceError: None of its sources is there any more.
        SentimentError: As `run.score` does.
    """
    output = Output.open(config.output)
    runs = [_settings(output, run_id) for run_id in run_ids(output)]
    if not runs:
        raise OutputError(
            f"{config.output}: no run has been here, so there is nothing to score again; "
            "start with `sentiment score`"
        )
    sources = list(dict.fromkeys(source for run in runs for source in run.sources))
    there = [source for source in sources if _is_there(source)]
    if not there:
        raise SourceError(f"{config.output}: none of its {len(sources)} sources is there any more")
    settings = runs[-1].model_copy(
        update={
            "sources": there,
            "output": config.output,
            "max_rejected": config.max_rejected,
            "ray_address": config.ray_address,
            "quiet": config.quiet,
            "on_change": "refuse",
            "on_deleted": "keep",
            "drift_runs": 0,
        }
    )
    return score(settings, replay=True)


def _settings(output: Output, run_id: str) -> ScoreConfig:
    """The settings of a run."""
    try:
        return ScoreConfig(**read_run(output, run_id)["config"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        path = output.path(file_of_run(run_id, RUN_FILE))
        raise OutputError(
            f"{path}: its settings cannot be read ({type(error).__name__}); "
            "score again into another --output"
        ) from error


def _is_there(source: str) -> bool:
    try:
        list_shards([source])
    except SourceError as error:
        _log.warning("left out: %s", error)
        return False
    return True
