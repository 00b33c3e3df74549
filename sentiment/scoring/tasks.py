"""Single tasks on the cluster, and readable errors for their failures."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import ray.data
from ray.exceptions import GetTimeoutError, RayError

from sentiment.errors import SentimentError
from sentiment.scoring.pool import TASK_CPUS
from sentiment.source.index import index_shards
from sentiment.source.options import ReadOptions
from sentiment.source.shards import ShardIndex

# Our own errors and any exception, as they are written at the end of a traceback.
_OUR_ERROR = re.compile(r"^ *sentiment\.errors\.(\w+): (.+)$", re.MULTILINE)
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception|Exit|Interrupt)\b")


def index_on_cluster(shards: Sequence[Any], options: ReadOptions) -> list[ShardIndex]:
    """Index shards in parallel, one task per shard; see `index_shards`.

    Raises:
        SourceError: A shard cannot be planned, or the storage does not answer.
    """
    index = ray.remote(num_cpus=TASK_CPUS)(_index)
    try:
        tasks = [index.remote(shard, options) for shard in shards]
        results = ray.get(tasks)
        return [one for indexes in results for one in indexes]
    except RayError as error:
        raise explain_ray_error(error) from error


def _index(shard: Any, options: ReadOptions) -> list[ShardIndex]:
    return index_shards([shard], options, keep_going=True)


def probe_on_gpu(check: Callable[[], Any], gpus: float, timeout_sec: float) -> Any:
    """Run a check where the scorers will run, waiting for a GPU to come up if none is.

    Raises:
        SentimentError: The check failed there, or no GPU came in time.
    """
    task = _call.options(num_gpus=gpus, num_cpus=0).remote(check)
    try:
        return ray.get(task, timeout=timeout_sec)
    except GetTimeoutError as error:
        ray.cancel(task)
        raise SentimentError(
            f"no node with {gpus:g} GPUs came up in {timeout_sec:g} seconds; check the cluster, "
            "wait longer with --no-progress-sec, or use CPUs with --gpus-per-actor 0"
        ) from error
    except RayError as error:
        raise explain_ray_error(error) from error


@ray.remote
def _call(check: Callable[[], Any]) -> Any:
    """Call the check. Ray makes tasks of functions only, and a check is a `functools.partial`."""
    return check()


def explain_ray_error(error: BaseException) -> SentimentError:
    """Return an error of our own for a failure that Ray reports.

    If a stage raised one of our errors, it is that error. Else it is a line that names the failure.
    """
    kinds: list[type[SentimentError]] = [SentimentError, *SentimentError.__subclasses__()]
    ours = {kind.__name__: kind for kind in kinds}
    # An exception loses its cause on the way between processes. Ray's message holds the traceback.
    for name, message in reversed(_OUR_ERROR.findall(str(error))):
        if name in ours:
            return ours[name](message)
    return SentimentError(
        f"the cluster stopped the run ({type(error).__name__}: {_exception_line(str(error))}); "
        "committed units are kept, the same command goes on from them"
    )


def _exception_line(text: str) -> str:
    """Return the line with the last exception that is not Ray's own, else the first line.

    Ray wraps what a stage raises in an exception of its own and adds advice below it.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    raised = [line for line in lines if _EXCEPTION.match(line) and "ray." not in line.split(":")[0]]
    return (raised[-1] if raised else lines[0])[:400]
