"""The size of the actor pool: how many actors, on which devices, with how many threads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sentiment.errors import ConfigError
from sentiment.settings.choices import DeviceType
from sentiment.settings.jobs import ScoreConfig

# CPUs each tokenise or commit task asks for. Small, so that a machine with two cores can run them
# beside its actor; different from every actor's share, or Ray would fuse tokenising into it.
TASK_CPUS = 0.24

# CPUs a read task asks for, and how many run at the same time. A task that reads many units waits
# with its share in hand while the later stages work, so all of them together must leave room for
# these where only _LEAST_RESERVED_CPUS are left. Not zero: nothing is to run on a head node without
# CPUs.
READ_CPUS = 0.001
READ_TASKS = 10

# CPUs of a cluster that actors leave to those tasks. Actors that hold every CPU starve the readers
# they wait for, and the run stands still.
_RESERVED_CPUS = 0.5

# The same where the user chooses the share of an actor.
_LEAST_RESERVED_CPUS = 0.25

# Half a CPU is the least that makes an actor worth its memory.
_LEAST_CPUS = 0.5

# More threads than this gain little on T5-base; more actors gain more.
_CPUS_PER_ACTOR = 4

# A unit should take a minute or so: it is what a crash costs, and nothing moves on the bar before
# the first is done. A T5-base (0.9 GB) on a few cores scores about five reviews a second.
_UNIT_ROWS = {"cpu": 1024, "cuda": 32768}
_LEAST_UNIT_ROWS = 32
_CPU_ROWS_TIMES_BYTES = 256 * 0.9e9


@dataclass(frozen=True)
class Pool:
    """The actor pool of a run.

    Attributes:
        device_type: What the actors compute on.
        actors_min: Actors to start with.
        actors_max: Most actors.
        cpus: CPUs an actor asks for; its thread count is this, rounded up.
        gpus: GPUs an actor asks for, 0 on CPU.
        unit_rows: Most rows of a unit.
    """

    device_type: DeviceType
    actors_min: int
    actors_max: int
    cpus: float
    gpus: float
    unit_rows: int

    @property
    def threads(self) -> int:
        """Threads of an actor."""
        return max(1, math.ceil(self.cpus))


def resolve_pool(
    config: ScoreConfig,
    *,
    node_cpus: Sequence[float],
    gpus: float,
    can_grow: bool,
    weights_bytes: int = 0,
) -> Pool:
    """Choose the pool: GPU actors if the cluster has GPUs or the user asks for them, else CPU
    actors.

    `--gpus-per-actor` above 0 asks for GPUs even when none is up yet, since an autoscaling cluster
    starts them on demand; 0 forces CPU actors.

    Args:
        config: The settings.
        node_cpus: CPUs of each node that is up; an actor must fit into one of them.
        gpus: GPUs of the cluster.
        can_grow: Whether nodes may still come.
        weights_bytes: Size of the model: on CPUs, units of a large one have fewer rows.

    Raises:
        ConfigError: The settings ask for more than the actors can ever get.
    """
    share = config.gpus_per_actor
    if share is None:
        share = min(1.0, gpus)
    if share > 1 and share != int(share):
        raise ConfigError(f"--gpus-per-actor {share:g}: above 1 it must be a whole number of GPUs")
    if share > 0:
        return _gpu_pool(config, share, gpus, sum(node_cpus), can_grow=can_grow)
    pool = _cpu_pool(config, [cpus for cpus in node_cpus if cpus > 0], can_grow=can_grow)
    if config.unit_rows is None and weights_bytes:
        rows = max(_LEAST_UNIT_ROWS, int(_CPU_ROWS_TIMES_BYTES / weights_bytes))
        pool = replace(pool, unit_rows=min(pool.unit_rows, rows))
    return pool


def _gpu_pool(
    config: ScoreConfig, share: float, gpus: float, cpus: float, *, can_grow: bool
) -> Pool:
    fitting = int(gpus / share + 1e-6)
    if not can_grow and fitting < config.actors_min:
        raise ConfigError(
            f"--gpus-per-actor {share:g}: with --actors-min {config.actors_min} that is more than "
            f"the {gpus:g} GPUs of this machine"
        )
    cpu_share = config.cpus_per_actor
    if cpu_share is None:
        # One, less where many actors share few CPUs with the reading.
        even = _usable(cpus) / max(1, fitting) if cpus else 1.0
        cpu_share = min(1.0, math.floor(100 * even) / 100)
    return _pool(config, "cuda", fitting, cpu_share, share, can_grow=can_grow)


def _cpu_pool(config: ScoreConfig, node_cpus: Sequence[float], *, can_grow: bool) -> Pool:
    largest = max(node_cpus, default=0.0)
    share = config.cpus_per_actor
    if share is None:
        share = _default_share(largest, 1 if can_grow else config.actors_min)
        fitting = sum(int(_usable(cpus) / share) for cpus in node_cpus)
        # Threads are whole: no more actors than there are cores for theirs.
        fitting = min(fitting, int(sum(node_cpus) / math.ceil(share)))
        return _pool(config, "cpu", fitting, share, 0.0, can_grow=can_grow)
    if node_cpus and share > largest - _LEAST_RESERVED_CPUS:
        raise ConfigError(
            f"--cpus-per-actor {share:g}: the largest node has {largest:g} CPUs and reading needs "
            f"{_LEAST_RESERVED_CPUS:g} of them"
        )
    fitting = sum(int((cpus - _LEAST_RESERVED_CPUS) / share) for cpus in node_cpus)
    if not can_grow and fitting < config.actors_min:
        raise ConfigError(
            f"--actors-min {config.actors_min}: at {share:g} CPUs each {fitting} fit beside reading"
        )
    return _pool(config, "cpu", fitting, share, 0.0, can_grow=can_grow)


def _usable(cpus: float) -> float:
    """Return the CPUs of a node that actors may use."""
    return max(_RESERVED_CPUS, cpus - _RESERVED_CPUS)


def _default_share(cpus: float, actors: int) -> float:
    """Divide a node among actors with at most four threads each.

    Raises:
        ConfigError: So many actors are asked for that one would get next to nothing.
    """
    usable = _usable(cpus)
    share = math.floor(2 * usable / max(actors, math.ceil(usable / _CPUS_PER_ACTOR))) / 2
    if share < _LEAST_CPUS:
        raise ConfigError(
            f"--actors-min {actors}: {int(usable / _LEAST_CPUS)} actors fit on {cpus:g} CPUs"
        )
    return share


def _pool(
    config: ScoreConfig,
    device_type: DeviceType,
    fitting: int,
    cpus: float,
    gpus: float,
    *,
    can_grow: bool,
) -> Pool:
    most = max(config.actors_min, fitting)
    if config.actors_max is not None:
        # Actors beyond what fits would take the CPUs of the reading they wait for.
        most = config.actors_max if can_grow else min(config.actors_max, most)
    return Pool(
        device_type=device_type,
        actors_min=config.actors_min,
        actors_max=most,
        cpus=cpus,
        gpus=gpus,
        unit_rows=config.unit_rows or _UNIT_ROWS[device_type],
    )
