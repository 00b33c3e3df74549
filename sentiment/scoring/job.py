"""The command `sentiment score`: list, index, set up, lease, plan, score, settle, report."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import pyarrow as pa

from sentiment.cluster import LazyCluster
from sentiment.errors import (
    DriftError,
    LedgerError,
    RejectedRowsError,
    SentimentError,
    SourceError,
)
from sentiment.ledger.compare import compare_with_earlier
from sentiment.ledger.summary import Outcome, RunSummary, summarise, write_run
from sentiment.logs import set_run_id
from sentiment.metrics.drift import Drift
from sentiment.monitor.phases import (
    FIND_MODEL,
    FINISH,
    LIST_AND_INDEX,
    PLAN,
    START_CLUSTER,
    TRY_MODEL,
)
from sentiment.monitor.run import LiveRun
from sentiment.output.attempts import clear_markers
from sentiment.output.commit import commit_rowless
from sentiment.output.committed import read_committed
from sentiment.output.finish import finish, mark_incomplete
from sentiment.output.folder import Output
from sentiment.output.gone import find_gone, gone_facts, retire
from sentiment.output.layout import REJECTED_FOLDER, added_columns
from sentiment.output.lease import hold
from sentiment.output.plan import Plan, plan_run
from sentiment.output.receipt import Footer, Receipt
from sentiment.report.job import write_page
from sentiment.scoring.pipeline import Work, run_pipeline
from sentiment.scoring.pool import resolve_pool
from sentiment.scoring.setup import Setup, configured_model, facts_of, resolve_setup
from sentiment.scoring.tasks import index_on_cluster
from sentiment.scoring.terminal import print_summary
from sentiment.settings.jobs import ScoreConfig
from sentiment.source.index import index_shards
from sentiment.source.listing import list_shards
from sentiment.source.shards import Shard, ShardIndex, Unit

# Delimited text up to this size is indexed in this process: starting a cluster takes longer.
_LOCAL_INDEX_BYTES = 64 * 2**20

_log = logging.getLogger(__name__)


def score(config: ScoreConfig, *, replay: bool = False) -> RunSummary:
    """Label every row of the sources that the output does not hold yet.

    Safe to interrupt at any time: the same call again goes on where this one stopped.

    Args:
        replay: Score units with rejected rows again as well.

    Returns:
        The summary, as written to `run.json`.

    Raises:
        SourceError: Nothing to read, no text column, clashing column names.
        ModelError: The model cannot be loaded or cannot spell the labels.
        OutputError: The output was made by another configuration, or cannot be written.
        LedgerError: Rows are missing from the output; run the same command again.
        RejectedRowsError: More rows were rejected than `max_rejected` allows; the rest is written.
        DriftError: Labels are unlike those of earlier runs; all is written.
    """
    started, run_id = time.perf_counter(), _run_id()
    set_run_id(run_id)
    live = LiveRun(run_id, config)
    with ExitStack() as stack:
        run, indexes, shards = _prepare(config, live, stack)
        live.account.phases.enter(PLAN)
        stack.enter_context(hold(run.output, run_id))
        plan = _plan(run, indexes, replay=replay)
        gone = find_gone(run.output, config.sources, shards)
        committed, incomplete = _execute(run, plan)
        live.account.phases.enter(FINISH)
        _settle_gone(run.output, gone, config)
    reused = [footer for shard in plan.shards for footer in shard.reused]
    _warn_of_missing_truth(reused, config)
    summary = summarise(
        run_id=run_id,
        output=config.output,
        expected=sum(shard.expected for shard in plan.shards),
        committed=committed,
        reused=reused,
        wall_sec=time.perf_counter() - started,
        run={
            **facts_of(config, run.setup),
            **live.facts(),
            "gone": gone_facts(gone, config.on_deleted),
        },
    )
    return _conclude(run, summary, [*committed, *reused], incomplete)


@dataclass(frozen=True)
class _Run:
    """What the steps of a run share."""

    config: ScoreConfig
    output: Output
    setup: Setup
    cluster: LazyCluster
    live: LiveRun


def _prepare(
    config: ScoreConfig, live: LiveRun, stack: ExitStack
) -> tuple[_Run, list[ShardIndex], Sequence[Shard]]:
    """Find the model, list and index the sources, and try the model.

    Nothing is written here, so that whatever cannot work stops the run without a trace.

    Args:
        stack: Closes the connection to the cluster at the end of the run.

    Returns:
        The run, the indexes of its shards, and the shards as listed.
    """
    phases = live.account.phases
    phases.enter(FIND_MODEL)
    model = configured_model(config)
    phases.enter(LIST_AND_INDEX)
    listing = list_shards(config.sources)
    for path in listing.skipped:
        _log.warning("%s: skipped, not a plain file of a known format", path)
    output = Output.open(config.output)
    cluster_timer = partial(phases.within, START_CLUSTER)
    cluster = LazyCluster(config.ray_address, stack, cluster_timer)
    indexes = _index(listing.shards, config, cluster)
    _check_columns(indexes, config)
    phases.enter(TRY_MODEL)
    setup = resolve_setup(config, model, cluster)
    return _Run(config, output, setup, cluster, live), indexes, listing.shards


def _conclude(
    run: _Run, summary: RunSummary, footers: Sequence[Footer], incomplete: Sequence[str]
) -> RunSummary:
    """Judge the run, write its account and its page, and print or raise the result.

    Args:
        footers: Of all files that stand for rows of the sources.
        incomplete: Folders whose rows are not all committed.
    """
    drift = compare_with_earlier(
        run.output, summary.scored, run.setup.stamp.config_digest, run.config
    )
    outcome, problem = _outcome(summary, drift, incomplete, run.config)
    summary = replace(summary, outcome=outcome, drift=drift)
    write_run(run.output, summary, footers)
    write_page(run.output, summary.run_id)
    if not run.config.quiet:
        print_summary(summary)
    if problem is not None:
        raise problem
    return summary


def _index(shards: Sequence[Shard], config: ScoreConfig, cluster: LazyCluster) -> list[ShardIndex]:
    """Index Parquet shards in this process, much delimited text on the cluster; keep the order."""
    text = [shard for shard in shards if shard.format != "parquet"]
    found: dict[Shard, ShardIndex] = {}
    if sum(shard.size_bytes for shard in text) > _LOCAL_INDEX_BYTES:
        cluster.get()
        found.update(zip(text, index_on_cluster(text, config.text_column), strict=True))
    here = [shard for shard in shards if shard not in found]
    found.update(zip(here, index_shards(here, config.text_column), strict=True))
    return [found[shard] for shard in shards]


def _check_columns(indexes: Sequence[ShardIndex], config: ScoreConfig) -> None:
    """Refuse sources whose columns would clash with added columns, before anything is scored."""
    added = set(added_columns(config.prefix).names)
    has_label = False
    for index in indexes:
        names = index.columns.names if index.columns is not None else []
        clash = sorted(added.intersection(names))
        if clash:
            raise SourceError(
                f"{index.shard.uri}: already has a column {clash[0]!r}; "
                "choose another first word for the added columns with --prefix"
            )
        has_label = has_label or config.label_column in names
    if config.label_column and not has_label:
        raise SourceError(f"--label-column {config.label_column}: no source has such a column")


def _plan(run: _Run, indexes: Sequence[ShardIndex], *, replay: bool) -> Plan:
    committed = read_committed(
        run.output,
        {index.shard.folder for index in indexes},
        {index.shard.key for index in indexes},
    )
    return plan_run(
        indexes,
        committed,
        config_digest=run.setup.stamp.config_digest,
        unit_rows=run.setup.pool.unit_rows,
        on_change=run.config.on_change,
        replay=replay,
    )


def _execute(run: _Run, plan: Plan) -> tuple[list[Footer], list[str]]:
    """Commit what the plan lacks, and complete each folder as soon as its last unit is committed.

    Returns:
        The footers of what was committed, and the folders that are not complete.
    """
    mark_incomplete(run.output, plan)
    done = {footer.unit_id: footer for footer in _commit_rowless_shards(run, plan)}
    units = [(unit, _columns(shard.index)) for shard in plan.shards for unit in shard.units]
    missing = Counter(unit.shard.folder for unit, _ in units)
    folders = plan.folders
    incomplete: list[str] = []

    def complete(folder: str) -> None:
        incomplete.extend(finish(run.output, Plan(tuple(folders[folder])), done))

    for folder in folders:
        if not missing[folder]:
            complete(folder)
    for footer in _scored(run, units):
        done[footer.unit_id] = footer
        missing[footer.folder] -= 1
        if not missing[footer.folder]:
            complete(footer.folder)
    incomplete += [folder for folder, units_left in missing.items() if units_left > 0]
    if not incomplete:
        clear_markers(run.output)
    return list(done.values()), incomplete


def _commit_rowless_shards(run: _Run, plan: Plan) -> Iterator[Footer]:
    """Commit the files without rows, which stand for empty shards and for damaged rests."""
    for shard in plan.shards:
        if shard.rowless:
            index = shard.index
            footer = commit_rowless(
                run.output, run.setup.stamp, index.shard, index.columns, index.damage
            )
            run.live.count_unit(Receipt(footer))
            yield footer


def _scored(run: _Run, units: Sequence[tuple[Unit, pa.Schema]]) -> Iterator[Footer]:
    """Score units on the cluster; yield each footer when its unit is committed."""
    if not units:
        return
    config, setup = run.config, run.setup
    cluster = run.cluster.get()
    # The kind of device was settled when the model was tried on it. If the cluster that is up now
    # shows other devices, that changes the size of the pool and never the kind.
    gpus = cluster.gpus if setup.pool.device_type == "cuda" else 0.0
    pool = resolve_pool(config, node_cpus=cluster.node_cpus, gpus=gpus, can_grow=cluster.can_grow)
    work = Work(
        units=units,
        text_column=config.text_column,
        location=run.output.location,
        stamp=setup.stamp,
        scorer=replace(setup.scorer, threads=pool.threads),
        pool=pool,
        no_progress_sec=config.no_progress_sec,
    )
    total = sum(unit.rows for unit, _ in units)
    yield from run.live.follow(run_pipeline(work, run.live.callback), total)


def _columns(index: ShardIndex) -> pa.Schema:
    assert index.columns is not None, "a shard that cannot be opened has no rows to plan"
    return index.columns


def _settle_gone(output: Output, gone: Sequence[Footer], config: ScoreConfig) -> None:
    """Report the output of source files that no longer exist, or delete it on request."""
    if not gone:
        return
    retired = config.on_deleted == "retire"
    if retired:
        retire(output, gone)
    _log.warning(
        "sources that are gone: %d; their %d rows %s",
        len({footer.source_file for footer in gone}),
        sum(footer.rows for footer in gone),
        "were removed from the output" if retired else "stay in the output (--on-deleted retire)",
    )


def _warn_of_missing_truth(reused: Sequence[Footer], config: ScoreConfig) -> None:
    """Warn of reused rows without true labels: those are counted while a row is scored."""
    rows = sum(one.labelled for one in reused if "confusion" not in one.metrics)
    if config.label_column and rows:
        _log.warning(
            "--label-column %s: %d reused rows were scored without it and count for no accuracy",
            config.label_column,
            rows,
        )


def _run_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:6]}"


def _outcome(
    summary: RunSummary, drift: Drift, incomplete: Sequence[str], config: ScoreConfig
) -> tuple[Outcome, SentimentError | None]:
    """Return how the run ended, and the error to raise after everything is written."""
    ledger = summary.ledger
    if not ledger.balanced or incomplete:
        return "unbalanced", LedgerError(
            f"{ledger.expected:,} rows expected, {ledger.labelled + ledger.rejected:,} scored and "
            f"{ledger.reused:,} reused; incomplete folders: {', '.join(incomplete) or 'none'}; "
            "run the same command again"
        )
    rejected = sum(summary.rejected.values())
    if rejected and rejected / ledger.expected > config.max_rejected:
        return "rejected", RejectedRowsError(
            f"{rejected:,} of {ledger.expected:,} rows were rejected "
            f"({rejected / ledger.expected:.2%}, --max-rejected is {config.max_rejected:.2%}); "
            f"they are in {config.output}/{REJECTED_FOLDER}, everything else is labelled"
        )
    if drift.verdict == "drift":
        found = f"tonight is unlike earlier runs ({len(drift.against)} compared): {drift.why}"
        if config.on_drift == "fail":
            return "drift", DriftError(
                f"{found}; all rows are written. Look at them; where this is to stay, score the "
                "next rows with --drift-runs 0"
            )
        _log.warning("%s", found)
    return "success", None
