"""Single tasks on the cluster, and readable errors for their failures."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import ray.data
from ray.exceptions import GetTimeoutError, RayError

from sentiment.errors import SentimentError
from sentiment.scoring.pool import TASK_CPUS
from sentiment.source.index import index_shard
from sentiment.source.shards import ShardIndex

_OURS = re.compile(r"^ *sentiment\.errors\.(\w+): (.+)$", re.MULTILINE)


_RAISED = re.compile(r"[\w.]*(Error|Exception|Exit|Interrupt)\b")


def index_on_cluster(shards: Sequence[Any], text_column: str) -> list[ShardIndex]:
    """Index shards of delimited text in parallel, one task per shard.

    Raises:
        SourceError: A shard cannot be planned.
    """
    index = ray.remote(num_cpus=TASK_CPUS)(index_shard)
    try:
        return list(ray.get([index.remote(shard, text_column) for shard in shards]))
    except RayError as error:
        raise _explained(error) from error


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
        raise _explained(error) from error


@ray.remote
def _call(check: Callable[[], Any]) -> Any:
    """Ray takes functions only, and what we hand over is a partial."""
    return check()


def _explained(error: BaseException) -> SentimentError:
    """Our own error if one of ours is behind Ray's, else a line that names the failure."""
    kinds: list[type[SentimentError]] = [SentimentError, *SentimentError.__subclasses__()]
    ours = {kind.__name__: kind for kind in kinds}
    # Causes do not survive the way between processes; the traceback in the message does.
    for name, message in reversed(_OURS.findall(str(error))):
        if name in ours:
            return ours[name](message)
    return SentimentError(
        f"the cluster stopped the run ({type(error).__name__}: {_gist(str(error))}); "
        "committed units are kept, the same command goes on from them"
    )


def _gist(text: str) -> str:
    """The line that says it: the last exception of a traceback that is not Ray's, else the first.

    Ray wraps what a stage raises in an exception of its own and adds advice below it.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [""]
    raised = [line for line in lines if _RAISED.match(line) and "ray." not in line.split(":")[0]]
    return (raised[-1] if raised else lines[0])[:400]
