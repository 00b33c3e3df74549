"""How many actors, on what, with how many threads."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.errors import ConfigError
from sentiment.scoring.pool import TASK_CPUS, Pool, resolve_pool
from sentiment.settings.jobs import ScoreConfig


def resolve(*node_cpus: float, gpus: float = 0, can_grow: bool = False, **settings: Any) -> Pool:
    config = ScoreConfig(sources=["in"], output="out", **settings)
    return resolve_pool(config, node_cpus=node_cpus, gpus=gpus, can_grow=can_grow)


@pytest.mark.parametrize(
    ("cpus", "actors", "share", "threads"),
    [
        (1, 1, 0.5, 1),
        (2, 1, 1.5, 2),
        (4, 1, 3.5, 4),
        (16, 4, 3.5, 4),
        (64, 16, 3.5, 4),
    ],
)
def test_one_machine_without_gpus(cpus: float, actors: int, share: float, threads: int) -> None:
    pool = resolve(cpus)
    assert pool == Pool("cpu", 1, actors, share, 0.0, 1024)
    assert pool.threads == threads


@pytest.mark.parametrize(
    ("gpus", "settings", "actors", "gpu_share"),
    [
        (1, {}, 1, 1.0),
        (8, {}, 8, 1.0),
        (1, {"gpus_per_actor": 0.25}, 4, 0.25),
        (1, {"gpus_per_actor": 0.1}, 10, 0.1),
        (8, {"gpus_per_actor": 2}, 4, 2.0),
        (0.5, {}, 1, 0.5),
    ],
)
def test_gpus_are_used_where_there_are_any(
    gpus: float, settings: dict[str, Any], actors: int, gpu_share: float
) -> None:
    pool = resolve(16, gpus=gpus, **settings)
    assert (pool.device_type, pool.actors_max, pool.gpus) == ("cuda", actors, gpu_share)
    assert (pool.cpus, pool.unit_rows) == (1.0, 32768)


def test_many_gpu_actors_leave_cpus_to_reading() -> None:
    pool = resolve(4, gpus=8)
    assert pool.actors_max * pool.cpus <= 4 - TASK_CPUS


def test_no_gpus_per_actor_means_cpu_actors() -> None:
    assert resolve(16, gpus=8, gpus_per_actor=0).device_type == "cpu"


def test_gpus_can_be_asked_of_a_cluster_that_has_none_yet() -> None:
    pool = resolve(0, can_grow=True, gpus_per_actor=1, actors_min=2, actors_max=6)
    assert pool == Pool("cuda", 2, 6, 1.0, 1.0, 32768)


def test_a_cold_cluster_without_cpus_gets_one_actor() -> None:
    assert (resolve(0, can_grow=True).actors_max, resolve(can_grow=True).actors_max) == (1, 1)


def test_an_actor_fits_into_the_largest_node_whatever_their_sum() -> None:
    pool = resolve(*[2.0] * 8)
    assert (pool.cpus, pool.actors_max) == (1.5, 8)


def test_a_head_that_scores_nothing_counts_for_nothing() -> None:
    assert resolve(0, 16, 16, can_grow=True) == Pool("cpu", 1, 8, 3.5, 0.0, 1024)


def test_more_actors_than_usual_get_smaller_shares() -> None:
    pool = resolve(2, actors_min=2)
    assert (pool.actors_min, pool.actors_max, pool.cpus, pool.threads) == (2, 2, 0.5, 1)


def test_settings_win_over_defaults() -> None:
    pool = resolve(16, actors_min=2, actors_max=3, cpus_per_actor=2, unit_rows=10)
    assert pool == Pool("cpu", 2, 3, 2.0, 0.0, 10)


def test_a_machine_gets_no_more_actors_than_fit_beside_reading() -> None:
    assert resolve(4, cpus_per_actor=0.5, actors_max=100).actors_max == 7
    assert resolve(4, cpus_per_actor=0.5, actors_max=100, can_grow=True).actors_max == 100


@pytest.mark.parametrize(
    ("cpus", "gpus", "settings", "message"),
    [
        (4, 0, {"cpus_per_actor": 4}, "--cpus-per-actor 4: the largest node has 4 CPUs"),
        (4, 0, {"cpus_per_actor": 1, "actors_min": 4}, "--actors-min 4: at 1 CPUs each 3 fit"),
        (2, 0, {"actors_min": 4}, "--actors-min 4: 3 actors fit on 2 CPUs"),
        (4, 2, {"gpus_per_actor": 1.5}, "--gpus-per-actor 1.5: above 1 it must be a whole"),
        (4, 0, {"gpus_per_actor": 1}, "--gpus-per-actor 1: .* the 0 GPUs of this machine"),
        (4, 1, {"gpus_per_actor": 2}, "--gpus-per-actor 2: .* the 1 GPUs of this machine"),
    ],
)
def test_what_can_never_run_is_refused(
    cpus: float, gpus: float, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(cpus, gpus=gpus, **settings)


@given(st.lists(st.integers(1, 128), min_size=1, max_size=6), st.booleans())
def test_default_actors_leave_room_and_do_not_oversubscribe(
    nodes: list[int], can_grow: bool
) -> None:
    pool = resolve(*nodes, can_grow=can_grow)
    assert pool.threads == math.ceil(pool.cpus) <= 4
    assert pool.cpus <= max(nodes) - TASK_CPUS
    assert pool.cpus != TASK_CPUS, "Ray would fuse tokenising into the actor"
    assert pool.actors_max * pool.threads <= sum(nodes)
    assert pool.actors_max * pool.cpus <= sum(nodes) - 2 * TASK_CPUS


@pytest.mark.parametrize(
    ("weights_bytes", "expected"), [(9e6, 1024), (0.9e9, 256), (3e9, 76), (45e9, 32)]
)
def test_units_of_a_large_model_are_small_on_cpus(weights_bytes: float, expected: int) -> None:
    settings: Any = {"node_cpus": [8.0], "can_grow": False, "weights_bytes": int(weights_bytes)}
    config = ScoreConfig(sources=["in"], output="out")
    assert resolve_pool(config, gpus=0, **settings).unit_rows == expected
    assert resolve_pool(config, gpus=1, **settings).unit_rows == 32768
    given = config.model_copy(update={"unit_rows": 500})
    assert resolve_pool(given, gpus=0, **settings).unit_rows == 500
