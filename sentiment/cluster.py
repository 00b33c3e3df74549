"""Joining or starting Ray, and what its devices allow.

Takes an address, gives a connected cluster and its resources; stops only what it started. Knows
nothing of jobs.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

import ray

from sentiment.errors import SentimentError


@dataclass(frozen=True)
class Cluster:
    """A connected Ray cluster.

    Attributes:
        address: Where it is; `local` when it was started for this run.
        node_cpus: CPUs of each node: an actor lives on one node, whatever their sum is.
        gpus: GPUs of all nodes.
        can_grow: Whether nodes may still come; a cluster started for this run stays as it is.
    """

    address: str
    node_cpus: tuple[float, ...]
    gpus: float
    can_grow: bool

    @property
    def cpus(self) -> float:
        """CPUs of all nodes."""
        return sum(self.node_cpus)


def joined_address(address: str | None) -> str | None:
    """The cluster a run will join, or None when it will start a local one."""
    return address or os.environ.get("RAY_ADDRESS") or None


class LazyCluster:
    """A cluster that is joined or started when first needed: a run with nothing to do starts none.

    Args:
        address: As for `connect`.
        stack: Closes the connection at the end of the run.
        timed: Opened around the joining or starting, to tell how long it took.
    """

    def __init__(
        self,
        address: str | None,
        stack: ExitStack,
        timed: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._address = address
        self._stack = stack
        self._timed = timed
        self._connected: Cluster | None = None

    def get(self) -> Cluster:
        """The connected cluster."""
        if self._connected is None:
            with self._timed():
                self._connected = self._stack.enter_context(connect(self._address))
        return self._connected

    def resources(self, local_gpus: int) -> Cluster:
        """What the cluster offers, without starting a local one just to ask it.

        Args:
            local_gpus: GPUs of this machine, which a local cluster would find.
        """
        if self._connected or ray.is_initialized() or joined_address(self._address):
            return self.get()
        return Cluster("local", (float(os.cpu_count() or 1),), float(local_gpus), can_grow=False)


@contextmanager
def connect(address: str | None) -> Iterator[Cluster]:
    """Join the cluster at `address`, else the one RAY_ADDRESS names, else start a local one.

    An already connected process (a notebook, a test) is used as it is and left connected.

    Raises:
        SentimentError: No cluster answers at the address.
    """
    target = joined_address(address) or "local"
    started = not ray.is_initialized()
    if started:
        _start(target)
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        yield Cluster(
            target,
            tuple(float(node.get("CPU", 0.0)) for node in nodes),
            sum(float(node.get("GPU", 0.0)) for node in nodes),
            can_grow=target != "local" or not started,
        )
    finally:
        if started:
            ray.shutdown()


def _idle_workers() -> int:
    """Worker processes that may wait for their next task.

    By default as many as there are whole CPUs free, which beside the scoring actors is none: every
    task would start a process of its own, at seconds of CPU each.
    """
    return max(2, os.cpu_count() or 1)


def _start(target: str) -> None:
    """Join or start Ray without its chatter: users see our lines, and errors as exceptions."""
    # The remarks on access tokens are for whoever opens a cluster to a network; ours is not.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Ray announces a changed default for RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO on every start.
            warnings.simplefilter("ignore", FutureWarning)
            if target == "local":
                ray.init(
                    address=target,
                    log_to_driver=False,
                    logging_level=logging.WARNING,
                    include_dashboard=False,
                    _node_ip_address="127.0.0.1",
                    _system_config={"num_workers_soft_limit": _idle_workers()},
                )
            else:
                ray.init(address=target, log_to_driver=False, logging_level=logging.WARNING)
    except Exception as error:  # Ray raises the bare class when a node is slow to start
        what = (
            "a local Ray cannot be started"
            if target == "local"
            else f"--ray-address {target}: cannot join"
        )
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise SentimentError(f"{what} ({reason})") from error
