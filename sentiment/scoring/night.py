"""What a run finds before it begins: sources, what is committed, and the plan that follows."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from sentiment.cluster import LazyCluster
from sentiment.errors import SourceError
from sentiment.ledger.diary import Entry, find_unfinished
from sentiment.model.find import Model
from sentiment.monitor.phases import LIST_AND_INDEX, PLAN, TRY_MODEL
from sentiment.monitor.run import LiveRun
from sentiment.output.columns import columns_of, settle_columns, without_clashing_cases
from sentiment.output.committed import Committed, read_committed
from sentiment.output.folder import Output
from sentiment.output.gone import find_gone
from sentiment.output.plan import Plan, limited, plan_run
from sentiment.output.receipt import Footer
from sentiment.output.settings import check_settings, read_settings
from sentiment.scoring.checks import check_columns
from sentiment.scoring.choice import chosen_rows
from sentiment.scoring.indexing import index_sources, layout_facts
from sentiment.scoring.setup import Setup, resolve_setup
from sentiment.settings.jobs import ScoreConfig
from sentiment.source.listing import Listing, list_shards
from sentiment.source.options import ReadOptions
from sentiment.source.selection.partitions import partition_of
from sentiment.source.settings import read_options, texts_of
from sentiment.source.shards import ShardIndex

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Night:
    """What a run found before it began.

    Attributes:
        plan: What is to be done.
        committed: What the output held.
        gone: Footers of the files of sources that do not exist any more.
        unfinished: Runs before this one that ended without an account.
        no_shards: What `run.json` says of files in the sources that hold no records.
        layouts: What it says of how files were read.
    """

    plan: Plan
    committed: Committed
    gone: Sequence[Footer]
    unfinished: list[Entry]
    no_shards: dict[str, Any]
    layouts: list[dict[str, Any]]


# More than seven parameters: each is a part of the run, and `score` has no other way to give them.
def prepare(
    config: ScoreConfig,
    model: Model,
    output: Output,
    epoch: int,
    cluster: LazyCluster,
    live: LiveRun,
    again: Collection[str] = (),
) -> tuple[Setup, Night]:
    """List and index the sources, try the model, and plan the night. Nothing is written yet.

    Args:
        epoch: Epoch of the lease of the run.
        live: Is told which phase begins.
        again: Reasons of rejects whose units are scored again.

    Raises:
        SourceError: Nothing to read, no text column, clashing column names.
        ModelError: The model cannot be loaded or cannot spell the labels.
        OutputError: The output was made by another configuration.
    """
    options = read_options(config)
    listing = _list(config, options, live)
    committed = read_committed(output, listing.shards)
    shards = [committed.placed(shard) for shard in listing.shards]
    indexes = index_sources(shards, committed, config, cluster, again=again)
    layouts = layout_facts(indexes)
    for one in layouts:
        _log.info("%d files are read as %s, first %s", one["files"], one["layout"], one["first"][0])
    recorded = columns_of(output, committed)
    indexes = without_clashing_cases(indexes, recorded)
    indexes = check_columns(indexes, config, is_known=recorded is not None)
    live.account.phases.enter(TRY_MODEL)
    columns = _settle(indexes, recorded, config)
    settings = read_settings(output)
    chosen = chosen_rows(options.selection, shards)
    setup = resolve_setup(config, model, cluster, epoch=epoch, recorded=settings, chosen=chosen)
    setup = replace(setup, stamp=replace(setup.stamp, columns=columns))
    live.account.phases.enter(PLAN)
    plan = plan_run(
        indexes,
        committed.footers,
        config_digest=setup.stamp.config_digest,
        unit_rows=setup.pool.unit_rows,
        on_change=config.on_change,
        again=again,
    )
    if config.limit is not None:
        plan = limited(plan, config.limit)
    gone = find_gone(output, committed, config.sources, shards, options.selection)
    retired = {one.unit_id for one in gone} if config.on_deleted == "retire" else ()
    check_settings(output, committed, settings, setup.settings, config.on_change, retired)
    unfinished = find_unfinished(output)
    for entry in unfinished:
        _log.warning("%s; this run goes on from there", entry)
    return setup, Night(plan, committed, gone, unfinished, listing.facts(), layouts)


def _settle(
    indexes: Sequence[ShardIndex], recorded: pa.Schema | None, config: ScoreConfig
) -> pa.Schema | None:
    """Settle the columns of the output, and tell of those that have several types."""
    columns, drifts = settle_columns(indexes, recorded, config.schema_drift, texts_of(config))
    if config.columns is not None:
        keys = {key for index in indexes for key in partition_of(index.shard.folder)}
        unknown = sorted(set(config.columns) - set(columns.names) - keys)
        if unknown and any(index.columns is not None for index in indexes):
            raise SourceError(f"--columns {unknown[0]}: no source has such a column")
        columns = pa.schema([one for one in columns if one.name in config.columns])
    for drift in drifts:
        _log.warning("%s (--schema-drift %s)", drift.told(), config.schema_drift)
    return columns if len(columns) else None


def _list(config: ScoreConfig, options: ReadOptions, live: LiveRun) -> Listing:
    """List the shards of the sources, and warn of files that are none."""
    live.account.phases.enter(LIST_AND_INDEX)
    listing = list_shards(config.sources, options)
    for path in listing.skipped:
        _log.warning("%s: skipped: neither name nor content say that it holds records", path)
    return listing
