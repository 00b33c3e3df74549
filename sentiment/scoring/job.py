"""The command `sentiment score`: lease, list, index, set up, plan, score, settle, report."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import pyarrow as pa

from sentiment.cluster import LazyCluster
from sentiment.errors import SentimentError
from sentiment.ledger.compare import compare_with_earlier
from sentiment.ledger.diary import Diary, forget_unfinished
from sentiment.ledger.summary import RunSummary, summarise, write_run
from sentiment.logs import set_run_id
from sentiment.monitor.phases import (
    FIND_MODEL,
    FINISH,
    START_CLUSTER,
)
from sentiment.monitor.run import LiveRun
from sentiment.output.attempts import clear_markers
from sentiment.output.commit import commit_rowless
from sentiment.output.fence import Fence
from sentiment.output.finish import Incomplete, finish, mark_incomplete
from sentiment.output.folder import Output
from sentiment.output.gone import gone_facts, retire
from sentiment.output.lease import hold
from sentiment.output.plan import Plan
from sentiment.output.receipt import Footer, Receipt
from sentiment.output.recount import recounted
from sentiment.output.settings import write_settings
from sentiment.output.unjudged import add_unjudged, read_unjudged, settle_unjudged
from sentiment.report.job import write_page
from sentiment.scoring.checks import check_places
from sentiment.scoring.confirm import decide
from sentiment.scoring.night import Night, prepare
from sentiment.scoring.outcome import judge, warn_of_missing_truth
from sentiment.scoring.pipeline import Work, run_pipeline
from sentiment.scoring.pool import resolve_pool
from sentiment.scoring.probe import probe_nodes
from sentiment.scoring.reading import Deferred, Pass
from sentiment.scoring.setup import Setup, configured_model, facts_of
from sentiment.scoring.terminal import print_summary
from sentiment.settings.jobs import ScoreConfig
from sentiment.source.cut import group_into_passes
from sentiment.source.index import outage_as_source_error
from sentiment.source.shards import ShardIndex

_log = logging.getLogger(__name__)

# Units of one Ray pipeline. The driver holds every task of a pipeline in memory.
_PIPELINE_UNITS = 50_000


def score(config: ScoreConfig, *, again: Collection[str] = ()) -> RunSummary:
    """Label every row of the sources that the output does not hold yet.

    Safe to interrupt at any time: the same call again goes on where this one stopped.

    Args:
        again: Reasons of rejects whose units are scored again, for a replay.

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
    run_id = _run_id()
    set_run_id(run_id)
    live = LiveRun(run_id, config)
    with ExitStack() as stack:
        live.account.phases.enter(FIND_MODEL)
        model = configured_model(config)
        output = Output.open(config.output)
        check_places(config.sources, output.location)
        # Before the sources are listed: what another run does in between would make the list old.
        fence = stack.enter_context(hold(output, run_id)).fence
        cluster_timer = partial(live.account.phases.within, START_CLUSTER)
        cluster = LazyCluster(config.ray_address, stack, cluster_timer)
        output = output.fenced(fence)
        setup, night = prepare(config, model, output, fence.epoch, cluster, live, again)
        run = _Run(config, output, fence, setup, cluster, live)
        with _diary(run, night.plan) as note:
            scored, incomplete = _execute(run, night, note)
            live.account.phases.enter(FINISH)
            _settle_gone(run.output, night.gone, config)
            summary, problem = _conclude(run, night, scored, incomplete)
        forget_unfinished(output, night.unfinished)
        # A replay scores rows of many nights anew: it is no night to be judged.
        if problem is None and not again:
            epochs = {footer.epoch for shard in night.plan.shards for footer in shard.reused}
            settle_unjudged(run.output, {*epochs, fence.epoch})
    if problem is not None:
        raise problem
    return summary


@dataclass(frozen=True)
class _Run:
    """What the steps of a run share.

    Attributes:
        output: Refuses changes once the lease is lost.
        left: By unit id, why a unit was left to the next run.
    """

    config: ScoreConfig
    output: Output
    fence: Fence
    setup: Setup
    cluster: LazyCluster
    live: LiveRun
    left: dict[str, str] = field(default_factory=dict)


@contextmanager
def _diary(run: _Run, plan: Plan) -> Iterator[Callable[[int], None]]:
    """Keep a diary while the body runs, if there is anything to do; it goes at the end.

    Yields:
        To be called with the number of units that are committed.
    """
    units = sum(len(shard.to_commit) for shard in plan.shards)
    if not units:
        yield lambda committed: None
        return
    rows = sum(unit.rows for unit in plan.units)
    diary = Diary.begin(run.output, run.fence.run_id, units=units, rows=rows)

    def note(committed: int) -> None:
        phase = run.live.account.phases.current or ""
        diary.note(units=committed, rows=run.live.account.progress().rows, phase=phase)

    try:
        yield note
    except BaseException as error:
        diary.fail(error)
        raise
    diary.end()


def _conclude(
    run: _Run, night: Night, scored: Sequence[Footer], incomplete: Sequence[Incomplete]
) -> tuple[RunSummary, SentimentError | None]:
    """Judge the run, write its account and its page, and print it.

    Args:
        scored: Footers of what this run committed.
        incomplete: Folders without `_SUCCESS`.

    Returns:
        The summary, and the error to raise.
    """
    config, shards = run.config, night.plan.shards
    reused = [footer for shard in shards for footer in shard.reused]
    reused = recounted(run.output, reused, run.setup.stamp)
    warn_of_missing_truth(reused, config)
    truth = run.setup.stamp.truth if config.label_column else None
    summary = summarise(
        run_id=run.fence.run_id,
        output=config.output,
        expected=sum(shard.expected for shard in shards),
        committed=scored,
        reused=reused,
        wall_sec=run.live.wall_sec(),
        run={
            **facts_of(config, run.setup),
            **run.live.facts(),
            "gone": gone_facts(night.gone, config.on_deleted),
            "unfinished": [asdict(entry) for entry in night.unfinished],
        },
        truth=truth,
        unjudged=read_unjudged(run.output),
    )
    drift = compare_with_earlier(run.output, summary.tonight, run.setup.stamp.config_digest, config)
    outcome, problem = judge(summary, drift, incomplete, config)
    summary = replace(summary, outcome=outcome, drift=drift)
    write_run(run.output, summary, [*scored, *reused], truth)
    write_page(run.output, summary.run_id)
    if not config.quiet:
        print_summary(summary)
    return summary, problem


def _execute(
    run: _Run, night: Night, note: Callable[[int], None]
) -> tuple[list[Footer], list[Incomplete]]:
    """Commit what the plan lacks, and complete each folder as soon as its last unit is committed.

    If the user wants it, the files of sources that are gone are deleted from a folder before that.

    Args:
        note: Called with the number of committed units.

    Returns:
        The footers of what was committed, and the folders that are not complete.
    """
    plan = night.plan
    write_settings(run.output, run.setup.settings)
    if any(shard.to_commit for shard in plan.shards):
        add_unjudged(run.output, run.fence.epoch)
    clear_markers(run.output)
    mark_incomplete(run.output, plan)
    done: dict[str, list[Footer]] = defaultdict(list)  # by source
    for footer in _commit_rowless_shards(run, plan):
        done[footer.source_file].append(footer)
    passes = [
        (units, _columns(shard.index))
        for shard in plan.shards
        for units in group_into_passes(shard.index, shard.units)
    ]
    left = Counter[str]()  # rows by folder
    for units, _ in passes:
        left[units[0].shard.folder] += sum(unit.rows for unit in units)
    incomplete: list[Incomplete] = []

    def complete(folder: str) -> None:
        if run.config.on_deleted == "retire":
            retire(run.output, [footer for footer in night.gone if footer.folder == folder])
        was_complete = folder in night.committed.complete
        found = finish(
            run.output, folder, folders[folder], done, was_complete=was_complete, left=run.left
        )
        if found is not None:
            incomplete.append(found)

    folders = plan.folders
    for folder in folders:
        if not left[folder]:
            complete(folder)
    seen = {footer.unit_id for footers in done.values() for footer in footers}
    for footer in _scored(run, passes):
        # Ray runs a read task again if its process dies, and drops what it has got already by its
        # number. A source that changes in between could shift the numbers.
        if footer.unit_id in seen:
            continue
        seen.add(footer.unit_id)
        done[footer.source_file].append(footer)
        note(len(seen))
        left[footer.folder] -= footer.rows
        if not left[footer.folder]:
            complete(footer.folder)
    for folder, rows_left in left.items():
        if rows_left > 0:
            complete(folder)
    clear_markers(run.output)
    return [footer for footers in done.values() for footer in footers], incomplete


def _commit_rowless_shards(run: _Run, plan: Plan) -> Iterator[Footer]:
    """Commit the files without rows, which stand for empty shards and for damaged rests."""
    for shard in plan.shards:
        if shard.rowless:
            footer = commit_rowless(run.output, run.setup.stamp, shard.index)
            run.live.count_unit(Receipt(footer))
            yield footer


def _scored(run: _Run, passes: Sequence[Pass]) -> Iterator[Footer]:
    """Score units on the cluster; yield each footer when its unit is committed.

    Units that could not be read get a second try, if the driver can read them or finds the same
    rows unreadable. What fails again goes into `run.left`.
    """
    if not passes:
        return
    config, setup = run.config, run.setup
    cluster = run.cluster.get()
    probe_nodes(run.output)
    # The kind of device was settled when the model was tried on it. If the cluster that is up now
    # shows other devices, that changes the size of the pool and never the kind.
    gpus = cluster.gpus if setup.pool.device_type == "cuda" else 0.0
    pool = resolve_pool(config, node_cpus=cluster.node_cpus, gpus=gpus, can_grow=cluster.can_grow)
    work = Work(
        passes=(),
        text_column=config.text_column,
        location=run.output.location,
        fence=run.fence,
        stamp=setup.stamp,
        scorer=replace(setup.scorer, threads=pool.threads),
        pool=pool,
        no_progress_sec=config.no_progress_sec,
    )

    def receipts() -> Iterator[Receipt]:
        done = 0
        for some in _slices(passes):
            yield from _scored_once(run, replace(work, passes=some, rows_before=done))
            done += _rows_of(some)

    yield from run.live.follow(receipts(), _rows_of(passes))


def _rows_of(passes: Sequence[Pass]) -> int:
    return sum(unit.rows for units, _ in passes for unit in units)


def _slices(passes: Sequence[Pass]) -> Iterator[Sequence[Pass]]:
    """Divide the work among pipelines, so that each is small enough for the driver."""
    first = units = 0
    for at, (some, _) in enumerate(passes):
        if units and units + len(some) > _PIPELINE_UNITS:
            yield passes[first:at]
            first, units = at, 0
        units += len(some)
    yield passes[first:]


def _scored_once(run: _Run, work: Work) -> Iterator[Receipt]:
    """Run the pipeline, and a second one for the units that get a second try."""
    deferred: list[Deferred] = []
    yield from _receipts(run_pipeline(work, run.live.callback), deferred)
    if not deferred:
        return
    columns = {units[0].shard: schema for units, schema in work.passes}
    with outage_as_source_error():
        decision = decide(deferred, columns, work.text_column)
    run.left.update(decision.left)
    if not decision.again:
        return
    before = work.rows_before + _rows_of(work.passes) - _rows_of(decision.again)
    second = replace(work, passes=decision.again, confirmed=decision.confirmed, rows_before=before)
    deferred_again: list[Deferred] = []
    yield from _receipts(run_pipeline(second, run.live.callback), deferred_again)
    run.left.update((one.unit.unit_id, one.detail) for one in deferred_again)


def _receipts(results: Iterator[Receipt | Deferred], deferred: list[Deferred]) -> Iterator[Receipt]:
    """Yield the receipts among the results, and collect the deferred units."""
    for result in results:
        if isinstance(result, Deferred):
            _log.warning("%s", result.detail)
            deferred.append(result)
        else:
            yield result


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


def _run_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:6]}"
