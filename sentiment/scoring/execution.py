"""Carries a plan out: what the output lacks is scored and committed, folder after folder."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from sentiment.cluster import LazyCluster
from sentiment.monitor.run import LiveRun
from sentiment.output.attempts import clear_markers
from sentiment.output.columns import write_columns
from sentiment.output.commit import commit_rowless
from sentiment.output.fence import Fence
from sentiment.output.finish import Incomplete, finish, mark_incomplete
from sentiment.output.folder import Output
from sentiment.output.gone import retire
from sentiment.output.plan import Plan
from sentiment.output.receipt import Footer, Receipt
from sentiment.output.settings import write_settings
from sentiment.output.unjudged import add_unjudged
from sentiment.scoring.confirm import decide
from sentiment.scoring.night import Night
from sentiment.scoring.pipeline import Work, run_pipeline
from sentiment.scoring.pool import resolve_pool
from sentiment.scoring.probe import probe_nodes
from sentiment.scoring.reading import Deferred, Pass, rows_of
from sentiment.scoring.setup import Setup
from sentiment.settings.jobs import ScoreConfig
from sentiment.source.cut import group_into_passes
from sentiment.source.index import outage_as_source_error
from sentiment.source.settings import read_options
from sentiment.source.shards import ShardIndex

_log = logging.getLogger(__name__)

# Units of one Ray pipeline. The driver holds every task of a pipeline in memory.
_PIPELINE_UNITS = 50_000


@dataclass(frozen=True)
class Run:
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


def execute(
    run: Run, night: Night, note: Callable[[int], None]
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
    if run.setup.stamp.columns is not None:
        write_columns(run.output, run.setup.stamp.columns)
    if any(shard.to_commit for shard in plan.shards):
        add_unjudged(run.output, run.fence.epoch)
    clear_markers(run.output)
    mark_incomplete(run.output, plan)
    folders = _Folders(run, night)
    for footer in _commit_rowless_shards(run, plan):
        folders.add(footer)
    passes = [
        (units, _columns(shard.index))
        for shard in plan.shards
        for units in group_into_passes(shard.index, shard.units)
    ]
    for folder in plan.folders:
        if not folders.rows_left[folder]:
            folders.complete(folder)
    for footer in _scored(run, passes):
        if not folders.add(footer):
            continue
        note(len(folders.committed))
        folders.rows_left[footer.folder] -= footer.rows
        if not folders.rows_left[footer.folder]:
            folders.complete(footer.folder)
    for folder, rows_left in folders.rows_left.items():
        if rows_left > 0:
            folders.complete(folder)
    clear_markers(run.output)
    return list(folders.committed.values()), folders.incomplete


class _Folders:
    """The folders of a run and what is committed in them.

    Attributes:
        committed: Footers by unit id.
        rows_left: Rows of each folder that are still to be scored.
        incomplete: Folders that cannot be completed.
    """

    def __init__(self, run: Run, night: Night) -> None:
        self._run = run
        self._night = night
        self._plans = night.plan.folders
        self._by_source: dict[str, list[Footer]] = defaultdict(list)
        self.committed: dict[str, Footer] = {}
        self.incomplete: list[Incomplete] = []
        self.rows_left = Counter[str]()
        for unit in night.plan.units:
            self.rows_left[unit.shard.folder] += unit.rows

    def add(self, footer: Footer) -> bool:
        """Count a committed unit; return False if it is counted already.

        Ray runs a read task again if its process dies, and knows by their numbers which of its
        blocks it has got. A source that changes in between could shift the numbers.
        """
        if footer.unit_id in self.committed:
            return False
        self.committed[footer.unit_id] = footer
        self._by_source[footer.source_file].append(footer)
        return True

    def complete(self, folder: str) -> None:
        """Give a folder its `_SUCCESS`, if it holds all rows."""
        run, night = self._run, self._night
        if run.config.on_deleted == "retire":
            retire(run.output, [footer for footer in night.gone if footer.folder == folder])
        found = finish(
            run.output,
            folder,
            self._plans[folder],
            self._by_source,
            was_complete=folder in night.committed.complete,
            left=run.left,
        )
        if found is not None:
            self.incomplete.append(found)


def _commit_rowless_shards(run: Run, plan: Plan) -> Iterator[Footer]:
    """Commit the files without rows, which stand for empty shards and for damaged rests."""
    for shard in plan.shards:
        if shard.rowless:
            footer = commit_rowless(run.output, run.setup.stamp, shard.index)
            run.live.count_unit(Receipt(footer))
            yield footer


def _scored(run: Run, passes: Sequence[Pass]) -> Iterator[Footer]:
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
        options=read_options(config),
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
            done += rows_of(some)

    yield from run.live.follow(receipts(), rows_of(passes))


def _slices(passes: Sequence[Pass]) -> Iterator[Sequence[Pass]]:
    """Divide the work among pipelines, so that each is small enough for the driver."""
    first = units = 0
    for at, (some, _) in enumerate(passes):
        if units and units + len(some) > _PIPELINE_UNITS:
            yield passes[first:at]
            first, units = at, 0
        units += len(some)
    yield passes[first:]


def _scored_once(run: Run, work: Work) -> Iterator[Receipt]:
    """Run the pipeline, and a second one for the units that get a second try."""
    deferred: list[Deferred] = []
    yield from _receipts(run_pipeline(work, run.live.callback), deferred)
    if not deferred:
        return
    columns = {units[0].shard: schema for units, schema in work.passes}
    with outage_as_source_error():
        decision = decide(deferred, columns, work.options)
    run.left.update(decision.left)
    if not decision.again:
        return
    before = work.rows_before + rows_of(work.passes) - rows_of(decision.again)
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
