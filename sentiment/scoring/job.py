"""The command `sentiment score`: lease, list, index, set up, plan, score, settle, report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

from sentiment.cluster import LazyCluster
from sentiment.errors import LeaseLostError, OutputError, SentimentError
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
from sentiment.output.finish import Incomplete
from sentiment.output.folder import Output
from sentiment.output.gone import gone_facts, retire
from sentiment.output.lease import hold
from sentiment.output.plan import Plan
from sentiment.output.receipt import Footer
from sentiment.output.recount import recounted
from sentiment.output.unjudged import read_unjudged, settle_unjudged
from sentiment.report.job import write_page
from sentiment.scoring.checks import check_places
from sentiment.scoring.execution import Run, execute
from sentiment.scoring.night import Night, prepare
from sentiment.scoring.outcome import judge, warn_of_missing_truth
from sentiment.scoring.setup import configured_model, facts_of
from sentiment.scoring.terminal import print_summary
from sentiment.settings.jobs import ScoreConfig
from sentiment.source.settings import read_options

_log = logging.getLogger(__name__)


def score(config: ScoreConfig, *, again: Collection[str] = ()) -> RunSummary:
    """Label every row of the sources that the output does not hold yet.

    Safe to interrupt at any time: the same call again goes on where this one stopped.

    Args:
        again: Reasons of rejects whose units are scored again, for a replay.

    Returns:
        The summary, as written to `run.json`.

    Raises:
        ConfigError: The condition of `where` cannot be parsed.
        SourceError: Nothing to read, no text column, clashing column names.
        ModelError: The model cannot be loaded or cannot spell the labels.
        OutputError: The output was made by another configuration, or cannot be written.
        LedgerError: Rows are missing from the output; run the same command again.
        RejectedRowsError: More rows were rejected than `max_rejected` allows; the rest is written.
        DriftError: Labels are unlike those of earlier runs; all is written.
    """
    read_options(config)  # refuses a condition that cannot be parsed, before anything is begun
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
        run = Run(config, output, fence, setup, cluster, live)
        with _diary(run, night.plan) as note, _lost_lease_first(output):
            scored, incomplete = execute(run, night, note)
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


@contextmanager
def _lost_lease_first(output: Output) -> Iterator[None]:
    """Name the lost lease where something else failed for it.

    The run that took over removes files and folders that this one is about to use. That looks like
    a fault of the storage.

    Raises:
        LeaseLostError: The body failed, and another run has taken the output over.
    """
    try:
        yield
    except SentimentError as error:
        with suppress(OutputError):  # if the lease cannot be read, the first error tells more
            try:
                output.check_fence()
            except LeaseLostError as lost:
                raise lost from error
        raise


@contextmanager
def _diary(run: Run, plan: Plan) -> Iterator[Callable[[int], None]]:
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
    run: Run, night: Night, scored: Sequence[Footer], incomplete: Sequence[Incomplete]
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
            "no_shards": night.no_shards,
            "layouts": night.layouts,
            "gone": gone_facts(night.gone, config.on_deleted),
            "unfinished": [asdict(entry) for entry in night.unfinished],
        },
        truth=truth,
        unjudged=read_unjudged(run.output),
        left_out=sum(shard.left_rows for shard in shards),
    )
    drift = compare_with_earlier(run.output, summary.tonight, run.setup.stamp.config_digest, config)
    outcome, problem = judge(summary, drift, incomplete, config)
    summary = replace(summary, outcome=outcome, drift=drift)
    write_run(run.output, summary, [*scored, *reused], truth)
    write_page(run.output, summary.run_id)
    if not config.quiet:
        print_summary(summary)
    return summary, problem


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
