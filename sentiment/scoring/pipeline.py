"""The Ray Data pipeline: read, tokenise, score and commit, one unit per block.

Every block is packed (see `packed.py`), so that Ray neither cuts nor joins units.

read_datasource(ReviewShards) -> map(tokenise) -> map(Scorer, actor pool) -> map(commit)
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy, Datasource, ReadTask, TaskPoolStrategy
from ray.data.block import BlockMetadata
from ray.data.exceptions import ExecutionTimeoutError, SystemException
from ray.exceptions import RayError

from sentiment.engine.scorer import ScorerPlan
from sentiment.errors import SentimentError
from sentiment.monitor.executor import StatusCallback
from sentiment.output.commit import Stamp
from sentiment.output.fence import Fence
from sentiment.output.receipt import Receipt
from sentiment.scoring.actor import PackedScorer
from sentiment.scoring.packed import TARGET_BYTES, PackedCommit, PackedReader, PackedTokenise
from sentiment.scoring.pool import READ_CPUS, READ_TASKS, TASK_CPUS, Pool
from sentiment.scoring.reading import Deferred, Pass, Reader, Span, rows_of, units_of
from sentiment.scoring.stages import results_of
from sentiment.scoring.tasks import explain_ray_error
from sentiment.source.options import ReadOptions
from sentiment.source.shards import Unit

_RUNNING = re.compile(r"^ *- (.+): ([1-9]\d*) active task", re.MULTILINE)
_FAILURES = (RayError, SystemException)


@dataclass(frozen=True)
class Work:
    """What the stages of a run need.

    Attributes:
        passes: What to score: units of one shard that one task reads one after another, with the
            columns the shard is read with.
        options: How sources are read.
        location: The output, as an absolute path or URI. Every worker opens it again.
        fence: Stops a run that has lost the output to another one.
        no_progress_sec: Ray's own stall timeout.
        confirmed: By unit id, the rows that the driver could not read either.
        rows_before: Rows that earlier pipelines of the run have finished, for the progress.
    """

    passes: Sequence[Pass]
    options: ReadOptions
    location: str
    fence: Fence
    stamp: Stamp
    scorer: ScorerPlan
    pool: Pool
    no_progress_sec: int
    confirmed: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)
    rows_before: int = 0


class ReviewShards(Datasource):
    """A Ray Data source whose read tasks are passes: a task yields the block of each unit."""

    def __init__(self, work: Work) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._work = work

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: the size in memory is unknown."""
        return None

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: Any = None,
    ) -> list[ReadTask]:
        """Return one task per pass, whatever parallelism Ray asks for."""
        return [
            ReadTask(
                PackedReader(self.reader(units, columns)),
                BlockMetadata(
                    num_rows=len(units),
                    size_bytes=units[0].shard.size_bytes,  # a hint: it bounds that of the pass
                    input_files=(units[0].shard.uri,),
                    exec_stats=None,
                ),
            )
            for units, columns in self._work.passes
        ]

    def reader(self, units: tuple[Unit, ...], columns: pa.Schema) -> Reader:
        """Return the reader of a pass."""
        work = self._work
        confirmed = [span for unit in units for span in work.confirmed.get(unit.unit_id, ())]
        return Reader(
            units, columns, work.options, work.location, work.fence.token, tuple(confirmed)
        )


def run_pipeline(
    work: Work, callback: StatusCallback | None = None
) -> Iterator[Receipt | Deferred]:
    """Score and commit all units. Yield receipts in the order in which units finish.

    A unit that cannot be read for now is yielded as a deferred one: it is not committed.

    Args:
        callback: Is told the status of the pipeline while it runs.

    Raises:
        SentimentError: A stage failed; what was committed stays and is reused by the next run.
    """
    context = ray.data.DataContext.get_current().copy()
    context.target_max_block_size = TARGET_BYTES
    context.execution_options.preserve_order = False
    # Progress is ours to show.
    context.enable_progress_bars = False
    if callback is not None:
        callback.expect(units_of(work.passes), rows_of(work.passes), work.rows_before)
        context.custom_execution_callback_classes = [
            *context.custom_execution_callback_classes,
            callback,  # type: ignore[list-item]
        ]
    context.execution_no_progress_timeout_s = work.no_progress_sec
    with ray.data.DataContext.current(context), _without_chatter():
        try:
            for batch in _dataset(work).iter_batches(batch_size=None, batch_format="pyarrow"):
                assert isinstance(batch, pa.Table)
                yield from results_of(batch)
        except ExecutionTimeoutError as error:
            raise _stalled(error, work.no_progress_sec) from error
        except _FAILURES as error:
            raise explain_ray_error(error) from error


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep the log of Ray Data in its file; show warnings only."""
    consoles = [
        handler
        for handler in logging.getLogger("ray.data").handlers
        if isinstance(handler, logging.StreamHandler)
    ]
    levels = [handler.level for handler in consoles]
    # They warn of what we asked for: no progress bars, and a share of CPUs beside a GPU.
    asked = [
        logging.getLogger(f"ray.data._internal.{name}")
        for name in ("progress", "execution.operators.map_operator")
    ]
    before = [logger.level for logger in asked]
    for handler in consoles:
        handler.setLevel(logging.WARNING)
    for logger in asked:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(asked, before, strict=True):
            logger.setLevel(level)
        for handler, level in zip(consoles, levels, strict=True):
            handler.setLevel(level)


def _dataset(work: Work) -> ray.data.Dataset:
    pool = work.pool
    tasks = max(2, pool.actors_max)
    dataset = ray.data.read_datasource(
        ReviewShards(work),
        override_num_blocks=len(work.passes),
        num_cpus=READ_CPUS,
        # Reading takes a hundredth of what scoring takes: a second reader for one actor would only
        # be one more process to start while the model loads.
        concurrency=min(READ_TASKS, max(1, pool.actors_max), len(work.passes)),
    )
    token = work.fence.token
    tokenise = PackedTokenise(work.scorer.tokeniser, work.options.texts, work.location, token)
    dataset = _map_blocks(dataset, tokenise, num_cpus=TASK_CPUS)
    dataset = _map_blocks(
        dataset,
        PackedScorer,
        fn_constructor_args=(work.scorer, work.location, token),
        compute=ActorPoolStrategy(min_size=pool.actors_min, max_size=pool.actors_max),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus or None,
    )
    return _map_blocks(
        dataset,
        PackedCommit(work.location, work.stamp, work.fence),
        # A commit takes a fraction of what scoring its unit took. Without a limit Ray starts a
        # process for every commit that waits when the actors leave; of one with more than there are
        # units it warns.
        compute=TaskPoolStrategy(size=min(units_of(work.passes), tasks)),
        num_cpus=TASK_CPUS,
    )


def _map_blocks(dataset: ray.data.Dataset, function: Any, **options: Any) -> ray.data.Dataset:
    """Run a function on whole blocks, on GPUs too.

    The public method insists on an integer batch size when GPUs are asked for. Ray's own
    `map_groups` has the same need and goes through `map_batches_internal`; so does this, in this
    one place.
    """
    return dataset.map_batches_internal(
        function,
        batch_size=None,
        batch_format="pyarrow",
        zero_copy_batch=True,
        udf_modifying_row_count=False,
        **options,
    )


def _stalled(error: ExecutionTimeoutError, no_progress_sec: int) -> SentimentError:
    """Return an error that names the stages that were running when nothing finished any more."""
    running = [f"{tasks} in {stage}" for stage, tasks in _RUNNING.findall(str(error))]
    return SentimentError(
        f"no task finished in {no_progress_sec} seconds (--no-progress-sec); running: "
        f"{', '.join(running) or 'none, so the cluster has no room for actors or tasks'}. Where a "
        "unit takes that long, use smaller --unit-rows; committed units are kept, the same command "
        "goes on from them"
    )
