"""Join a Ray cluster, or start a local one, and report its resources.

A cluster that was started here is stopped at the end; one that was joined is left running.
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
        address: Address of the cluster; `local` if it was started for this run.
        node_cpus: CPUs of each node. An actor needs all its CPUs on one node, so the sum alone does
            not say how many actors fit.
        gpus: GPUs of all nodes together.
        can_grow: Whether nodes may be added during the run, for example by an autoscaler. A cluster
            that was started for this run cannot grow.
    """

    address: str
    node_cpus: tuple[float, ...]
    gpus: float
    can_grow: bool

    @property
    def cpus(self) -> float:
        """CPUs of all nodes together."""
        return sum(self.node_cpus)


def address_to_join(address: str | None) -> str | None:
    """Return the address of the cluster that a run joins; None if it starts a local one.

    Args:
        address: Setting `--ray-address`; the environment variable RAY_ADDRESS is used without it.
    """
    return address or os.environ.get("RAY_ADDRESS") or None


class LazyCluster:
    """A cluster that is joined or started at first use. A run with nothing to score starts none.

    Args:
        address: As for `connect`.
        stack: Closes the connection at the end of the run.
        timer: Makes a context that is open while the cluster is joined or started, to measure how
            long this takes.
    """

    def __init__(
        self,
        address: str | None,
        stack: ExitStack,
        timer: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._address = address
        self._stack = stack
        self._timer = timer
        self._connected: Cluster | None = None

    def get(self) -> Cluster:
        """Return the connected cluster; join or start it if that has not happened yet.

        Raises:
            SentimentError: No cluster answers at the address, or Ray cannot be started.
        """
        if self._connected is None:
            with self._timer():
                self._connected = self._stack.enter_context(connect(self._address))
        return self._connected

    @property
    def is_up(self) -> bool:
        """Whether the cluster is joined or started already."""
        return self._connected is not None

    def resources(self, local_gpus: int) -> Cluster:
        """Return the resources of the cluster, without starting a local one only to ask it.

        A local cluster would have the resources of this machine.

        Args:
            local_gpus: GPUs of this machine.
        """
        if self._connected or ray.is_initialized() or address_to_join(self._address):
            return self.get()
        return Cluster("local", (float(os.cpu_count() or 1),), float(local_gpus), can_grow=False)


@contextmanager
def connect(address: str | None) -> Iterator[Cluster]:
    """Join the cluster at `address`, or the one that RAY_ADDRESS names, or start a local one.

    If this process is connected to Ray already (in a notebook, in a test), that connection is used
    and left open.

    Args:
        address: Setting `--ray-address`; None if it is not given.

    Raises:
        SentimentError: No cluster answers at the address, or Ray cannot be started.
    """
    target = address_to_join(address) or "local"
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
    """Return how many idle worker processes Ray keeps for the next task.

    Ray's default is the number of whole CPUs that are free. Beside the scoring actors none is free,
    so Ray would start a new process for every task, which takes seconds of CPU time each.
    """
    return max(2, os.cpu_count() or 1)


def _start(target: str) -> None:
    """Join or start Ray without its log lines. Users see our lines, and errors as exceptions.

    Args:
        target: Address of a cluster, or `local`.
    """
    # Ray warns about access tokens, which matter only for clusters that are open to a network. The
    # local cluster below listens on 127.0.0.1.
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
    except Exception as error:  # Ray raises Exception itself when a node is slow to start
        problem = (
            "a local Ray cannot be started"
            if target == "local"
            else f"--ray-address {target}: cannot join"
        )
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise SentimentError(f"{problem} ({reason})") from error
