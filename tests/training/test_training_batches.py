"""The order of training: every row once an epoch, the same for the same seed, little padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.settings.finetune import FinetuneConfig
from sentiment.training.batches import Rows, epoch_batches, phase_batches, pieces

LENGTHS = np.random.default_rng(0).integers(1, 100, 400)


def config_of(**changes: Any) -> FinetuneConfig:
    return FinetuneConfig(train=["t"], output="o", model="m", **changes)


def padding(batches: list[Rows]) -> float:
    """Padded tokens for each real one."""
    padded = sum(len(batch) * LENGTHS[batch].max() for batch in batches)
    return float(padded / sum(LENGTHS[batch].sum() for batch in batches))


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=200),
    budget=st.one_of(st.none(), st.integers(16, 2000)),
    grouped=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_an_epoch_has_every_row_once_within_the_budget(
    lengths: list[int], budget: int | None, grouped: bool, epoch: int
) -> None:
    config = config_of(batch_tokens=budget, batch_rows=7, length_grouped=grouped)
    tokens = np.array(lengths)
    batches = list(epoch_batches(tokens, config, epoch))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for batch in batches:
        if budget is None:
            assert len(batch) <= 7
        else:
            assert len(batch) == 1 or len(batch) * tokens[batch].max() <= budget
    again = list(epoch_batches(tokens, config, epoch))
    assert [batch.tolist() for batch in again] == [batch.tolist() for batch in batches]


@pytest.mark.parametrize(
    "settings", [{"batch_tokens": 500}, {"length_grouped": True}, {"length_grouped": False}]
)
def test_epochs_and_seeds_differ(settings: dict[str, Any]) -> None:
    def order(epoch: int, seed: int) -> list[int]:
        config = config_of(seed=seed, **settings)
        return [int(row) for batch in epoch_batches(LENGTHS, config, epoch) for row in batch]

    assert order(0, 1) != order(1, 1) != order(1, 2)
    assert order(0, 1) != list(range(400))


def test_grouping_saves_padding_and_stays_shuffled() -> None:
    plain = list(epoch_batches(LENGTHS, config_of(length_grouped=False), 0))
    grouped = list(epoch_batches(LENGTHS, config_of(length_grouped=True), 0))
    assert padding(plain) > 1.6
    assert padding(grouped) < 1.05
    means = [float(LENGTHS[batch].mean()) for batch in grouped]
    assert means != sorted(means)


@pytest.mark.parametrize(("epochs", "batches", "ends"), [(2, 100, [50, 100]), (1.5, 75, [50, 75])])
def test_a_phase_ends_within_an_epoch_if_asked(
    epochs: float, batches: int, ends: list[int]
) -> None:
    found, found_ends = phase_batches(LENGTHS, config_of(), epochs)
    assert (len(found), found_ends) == (batches, ends)
    assert found[0].tolist() != found[50].tolist()
    assert sorted(np.concatenate(found[:50]).tolist()) == list(range(400))


@given(st.integers(1, 40), st.integers(1, 12))
def test_pieces_are_the_batch_with_short_rows_together(rows: int, count: int) -> None:
    batch = np.random.default_rng(rows).choice(400, rows, replace=False)
    parts = pieces(batch, LENGTHS, count)
    assert sorted(np.concatenate(parts).tolist()) == sorted(batch.tolist())
    assert len(parts) == min(count, rows)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    in_order = LENGTHS[np.concatenate(parts)].tolist()
    assert in_order == sorted(in_order)
    assert padding(parts) <= padding([batch])
