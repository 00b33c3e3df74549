"""How stages are wired and how their failures are told; whole runs are in test_run.py."""

from __future__ import annotations

import io
import logging
import re
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray
import ray.data
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError, RayTaskError, UserCodeException, WorkerCrashedError

from sentiment.block import ROW, UNIT
from sentiment.errors import LedgerError, ModelError, OutputError, SentimentError
from sentiment.output.commit import Stamp
from sentiment.output.fence import Fence
from sentiment.output.plan import plan_run
from sentiment.scoring.packed import unpack
from sentiment.scoring.pipeline import ReviewShards, Work, _stalled, _without_chatter
from sentiment.scoring.pool import TASK_CPUS, resolve_pool
from sentiment.scoring.reading import Pass
from sentiment.scoring.tasks import explain_ray_error
from sentiment.settings.jobs import ScoreConfig
from sentiment.source.index import index_shard
from sentiment.source.listing import list_shards
from sentiment.source.options import BY_DEFAULT
from sentiment.source.shards import Unit


def raised_in_a_stage(error: Exception) -> RayError:
    """What Ray Data hands the driver: the cause is lost on the way, its traceback is not."""
    text = (
        f"ray::MapBatches(Commit)() (pid=1)\n  File x, line 1\n    raise {type(error).__name__}\n"
        f"{type(error).__module__}.{type(error).__name__}: {error}\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        "ray.exceptions.UserCodeException: UDF failed to process a data block.\n"
        "To change retry attempts, configure `ray.data.DataContext`: it has Error settings"
    )
    found = RayTaskError("task", text, UserCodeException("UDF failed")).as_instanceof_cause()
    assert isinstance(found, RayError)
    return found


@pytest.mark.parametrize("kind", [OutputError, ModelError, LedgerError, SentimentError])
def test_our_error_comes_back_as_it_was_raised(kind: type[SentimentError]) -> None:
    found = explain_ray_error(raised_in_a_stage(kind("/out/a: cannot be written: disk full")))
    assert type(found) is kind
    assert str(found) == "/out/a: cannot be written: disk full"


def test_our_error_comes_back_from_a_plain_task() -> None:
    cause = ModelError("/model: the weights cannot be loaded")
    text = f"ray::check()\n  File x\nsentiment.errors.ModelError: {cause}"
    found = explain_ray_error(RayTaskError("check", text, cause).as_instanceof_cause())
    assert type(found) is ModelError
    assert str(found) == str(cause)


def test_a_strange_error_is_one_line_with_the_remedy() -> None:
    found = str(explain_ray_error(raised_in_a_stage(ZeroDivisionError("division by zero"))))
    assert "\n" not in found
    assert "ZeroDivisionError: division by zero" in found
    assert "the same command goes on" in found


def test_a_crash_without_a_traceback_is_told_by_its_first_line() -> None:
    found = str(explain_ray_error(WorkerCrashedError()))
    assert found.startswith("the cluster stopped the run (WorkerCrashedError: The worker died")


def work_on(passes: list[Pass], location: str) -> Work:
    """Work whose units are only read."""
    nothing: Any = None
    fence = Fence("run", "token", 1)
    stamp = Stamp("m", "c", "v", "sentiment")
    return Work(passes, BY_DEFAULT, location, fence, stamp, nothing, nothing, 900)


def test_a_read_task_is_a_pass(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n" + "Good soup\n" * 5)
    [shard] = list_shards([str(tmp_path)]).shards
    index = index_shard(shard)
    assert index.columns is not None
    plan = plan_run([index], {}, config_digest="c", unit_rows=100, on_change="refuse")
    units = plan.units
    source = ReviewShards(work_on([(tuple(units), index.columns)], str(tmp_path / "output")))
    # Ray may have any number of tasks in mind.
    [task] = source.get_read_tasks(parallelism=7)
    [packed] = list(task())
    assert isinstance(packed, pa.Table)
    assert packed.num_rows == 1
    block = unpack(packed)
    assert block["text"].to_pylist() == ["Good soup"] * 5
    assert block[ROW].to_pylist() == [0, 1, 2, 3, 4]
    assert Unit.from_json(block[UNIT][0].as_py()) == plan.units[0]
    assert task.metadata.num_rows == 1


def test_actors_never_ask_for_what_tasks_ask_for() -> None:
    # Ray fuses stages of equal needs: tokenising would run in the actors, on their threads.
    config = ScoreConfig(sources=["in"], output="out")
    for cpus in (1, 2, 4, 16, 64):
        assert resolve_pool(config, node_cpus=[cpus], gpus=0, can_grow=False).cpus != TASK_CPUS


def test_ray_data_keeps_its_account_to_itself() -> None:
    above = logging.getLogger("ray.data")
    consoles = [one for one in above.handlers if isinstance(one, logging.StreamHandler)]
    assert consoles, "Ray Data logs elsewhere now: is its chatter still silenced?"
    levels = [one.level for one in consoles]
    screen = io.StringIO()
    mine = logging.StreamHandler(screen)
    above.addHandler(mine)
    try:
        with _without_chatter():
            logging.getLogger("ray.data.somewhere").info("Starting execution")
            logging.getLogger("ray.data._internal.progress").warning("Progress bars disabled")
            logging.getLogger("ray.data.somewhere").warning("no node can run this")
    finally:
        above.removeHandler(mine)
    assert screen.getvalue() == "no node can run this\n"
    assert [one.level for one in consoles] == levels


@pytest.mark.ray
def test_a_run_that_stands_still_says_where(local_ray: None) -> None:
    def sleeps(block: pa.Table) -> pa.Table:
        time.sleep(60)
        return block

    context = ray.data.DataContext.get_current().copy()
    context.execution_no_progress_timeout_s = 3
    context.enable_progress_bars = False
    with ray.data.DataContext.current(context), _without_chatter():
        stuck = ray.data.from_arrow(pa.table({"a": [1]})).map_batches(sleeps, batch_size=None)
        with pytest.raises(ExecutionTimeoutError) as raised:
            stuck.materialize()
    told = str(_stalled(raised.value, 3))
    assert re.search(r"no task finished in 3 seconds .*running: 1 in \S*MapBatches\(sleeps\)", told)
    assert "--unit-rows" in told


def test_a_cluster_without_room_is_named() -> None:
    assert "no room" in str(_stalled(ExecutionTimeoutError("Operators still running:"), 900))
