"""Every row answered once or named, whatever runs out or breaks on the way."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from sentiment.engine.batching import TokenBatcher
from sentiment.errors import DeviceError

LENGTHS = st.lists(st.integers(1, 600), max_size=60)


class OutOfMemoryError(RuntimeError):
    """Named as torch's, which this room does not know."""


class Job:
    """Rows to answer, and what happened to them.

    Args:
        trouble: Takes the rows of a batch; what it returns is raised.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        trouble: Callable[[list[int]], Exception | None] = lambda _rows: None,
    ) -> None:
        self.lengths = lengths
        self.trouble = trouble
        self.calls: list[list[int]] = []
        self.kept: list[list[int]] = []

    def run(self, batcher: TokenBatcher) -> dict[int, str]:
        self.calls, self.kept = [], []
        self.failed = batcher.run(
            self.lengths, lambda rows: self._answer(rows, batcher), self._keep
        )
        return self.failed

    def _answer(self, rows: list[int], batcher: TokenBatcher) -> list[int]:
        assert len(rows) == 1 or self.tokens(rows) <= batcher.batch_tokens
        self.calls.append(list(rows))
        error = self.trouble(rows)
        if error is not None:
            raise error
        return [-row for row in rows]

    def _keep(self, rows: list[int], answers: list[int]) -> None:
        assert answers == [-row for row in rows]
        self.kept.append(list(rows))

    def tokens(self, rows: Sequence[int]) -> int:
        return sum(self.lengths[row] for row in rows)

    def assert_all_accounted_for(self) -> None:
        answered = [row for rows in self.kept for row in rows]
        assert sorted([*answered, *self.failed]) == list(range(len(self.lengths)))


def fits(job_lengths: Sequence[int], most_tokens: int) -> Callable[[list[int]], Exception | None]:
    """A device with memory for so many tokens."""

    def trouble(rows: list[int]) -> Exception | None:
        tokens = sum(job_lengths[row] for row in rows)
        return OutOfMemoryError("tried to allocate") if tokens > most_tokens else None

    return trouble


def breaks_on(
    poison: set[int], error: type[Exception] = ValueError
) -> Callable[[list[int]], Exception | None]:
    return lambda rows: error("no") if poison & set(rows) else None


@given(lengths=LENGTHS, budget=st.integers(1, 2000))
def test_every_row_is_answered_once_within_the_budget(lengths: list[int], budget: int) -> None:
    job = Job(lengths)
    batcher = TokenBatcher(budget)
    assert job.run(batcher) == {}
    job.assert_all_accounted_for()
    assert job.kept == job.calls
    for rows in job.kept:
        assert len(rows) == 1 or job.tokens(rows) <= budget
    assert batcher.batch_tokens == budget


@given(lengths=LENGTHS, budget=st.integers(1, 2000))
def test_the_longest_rows_come_first_and_no_batch_is_left_short(
    lengths: list[int], budget: int
) -> None:
    """Memory peaks at once rather than at the end; rows of a batch are of like length."""
    job = Job(lengths)
    job.run(TokenBatcher(budget))
    order = [lengths[row] for rows in job.kept for row in rows]
    assert order == sorted(order, reverse=True)
    for rows, after in itertools.pairwise(job.kept):
        assert job.tokens(rows) + lengths[after[0]] > budget


def test_no_rows_are_no_batches() -> None:
    job = Job([])
    assert job.run(TokenBatcher(16)) == {}
    assert job.calls == []


def test_equal_rows_keep_their_order() -> None:
    job = Job([5, 5, 9, 5, 5])
    job.run(TokenBatcher(10))
    assert job.kept == [[2], [0, 1], [3, 4]]


# --- memory ---------------------------------------------------------------------------------------


@example(lengths=[1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 5], budget=8, memory=1)
@given(lengths=LENGTHS, budget=st.integers(1, 4000), memory=st.integers(1, 2000))
def test_what_the_memory_holds_is_answered_and_what_it_cannot_is_named(
    lengths: list[int], budget: int, memory: int
) -> None:
    job = Job(lengths, fits(lengths, memory))
    batcher = TokenBatcher(budget)
    failed = job.run(batcher)
    job.assert_all_accounted_for()
    too_long = {row for row, length in enumerate(lengths) if length > memory}
    assert failed == dict.fromkeys(too_long, "OutOfMemoryError")
    # The budget halves, so it ends above half of what fits. A batch that failed is tried again only
    # in smaller ones. A row that is too long gives back what was halved for it, so each may cost as
    # many failures as there are halvings.
    assert min(budget, (memory + 1) // 2) <= batcher.batch_tokens <= budget
    halvings = math.ceil(math.log2(budget)) + 1
    assert len(job.calls) - len(job.kept) <= halvings * (1 + len(too_long))


@given(lengths=LENGTHS, memory=st.integers(600, 2000))
def test_the_order_survives_smaller_batches(lengths: list[int], memory: int) -> None:
    job = Job(lengths, fits(lengths, memory))
    assert job.run(TokenBatcher(100_000)) == {}
    order = [lengths[row] for rows in job.kept for row in rows]
    assert order == sorted(order, reverse=True)


def test_the_budget_that_held_is_kept() -> None:
    lengths = [10] * 40
    job = Job(lengths, fits(lengths, 100))
    batcher = TokenBatcher(400)
    assert job.run(batcher) == {}
    assert [len(rows) for rows in job.calls] == [40, 20, 10, 10, 10, 10]
    assert batcher.batch_tokens == 100
    assert job.run(batcher) == {}
    assert [len(rows) for rows in job.calls] == [10, 10, 10, 10]


def test_memory_that_runs_out_late_shrinks_only_what_is_left() -> None:
    lengths = [10] * 8
    attempts = iter([None, OutOfMemoryError(), None, None, None])
    job = Job(lengths, lambda _rows: next(attempts))
    batcher = TokenBatcher(40)
    assert job.run(batcher) == {}
    assert job.calls == [[0, 1, 2, 3], [4, 5, 6, 7], [4, 5], [6, 7]]
    assert batcher.batch_tokens == 20


def test_a_row_too_long_for_memory_fails_alone() -> None:
    lengths = [3, 500, 3, 3]
    job = Job(lengths, fits(lengths, 100))
    batcher = TokenBatcher(400)
    assert job.run(batcher) == {1: "OutOfMemoryError"}
    assert job.kept == [[0, 2, 3]]
    assert batcher.batch_tokens == 400, "a batch of its own says nothing of the others"


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("CUDA out of memory"),
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
    ids=repr,
)
def test_memory_runs_out_under_several_names(error: Exception) -> None:
    lengths = [10] * 8
    job = Job(lengths, lambda rows: error if len(rows) > 4 else None)
    batcher = TokenBatcher(80)
    assert job.run(batcher) == {}
    assert batcher.batch_tokens == 40


def test_torch_says_so_when_the_cpu_has_no_more_memory() -> None:
    """The message is torch's own, so that it may not change unseen."""

    def trouble(rows: list[int]) -> None:
        if len(rows) > 2:
            torch.empty(2**47)

    job = Job([10] * 4, trouble)
    batcher = TokenBatcher(40)
    assert job.run(batcher) == {}
    assert batcher.batch_tokens == 20


def test_a_smaller_budget_is_told_with_its_option(caplog: pytest.LogCaptureFixture) -> None:
    lengths = [10] * 4
    with caplog.at_level(logging.WARNING):
        Job(lengths, fits(lengths, 20)).run(TokenBatcher(40))
    [record] = caplog.records
    assert record.getMessage() == (
        "a batch of 40 tokens did not fit into memory; going on with 20 (--batch-tokens)"
    )


# --- rows that break the model --------------------------------------------------------------------


@given(
    lengths=st.lists(st.integers(1, 600), min_size=1, max_size=60),
    budget=st.integers(1, 40_000),
    data=st.data(),
)
def test_poison_is_found_by_halving(lengths: list[int], budget: int, data: Any) -> None:
    poison = data.draw(st.sets(st.integers(0, len(lengths) - 1), max_size=5))
    batches = Job(lengths)
    batches.run(TokenBatcher(budget))
    job = Job(lengths, breaks_on(poison))
    batcher = TokenBatcher(budget)
    assert job.run(batcher) == dict.fromkeys(poison, "ValueError")
    job.assert_all_accounted_for()
    assert batcher.batch_tokens == budget
    depth = math.ceil(math.log2(max(map(len, batches.calls))))
    assert len(job.calls) <= len(batches.calls) + 2 * depth * len(poison)


@pytest.mark.parametrize("error", [RuntimeError, ValueError, IndexError])
def test_a_row_that_breaks_the_model_is_named_with_its_error(error: type[Exception]) -> None:
    job = Job([4, 4, 4], breaks_on({1}, error))
    assert job.run(TokenBatcher(100)) == {1: error.__name__}
    job.assert_all_accounted_for()


def test_poison_that_looks_like_memory_fails_alone_too() -> None:
    """And once it has failed alone, the batches it was in are no longer held against the budget."""
    job = Job([8] * 16, breaks_on({11}, OutOfMemoryError))
    batcher = TokenBatcher(128)
    assert job.run(batcher) == {11: "OutOfMemoryError"}
    job.assert_all_accounted_for()
    assert batcher.batch_tokens == 128


def test_an_answer_that_cannot_be_kept_is_its_rows_fault() -> None:
    kept: list[list[int]] = []

    def keep(rows: list[int], _answers: Any) -> None:
        if 2 in rows:
            raise ValueError("shape mismatch")
        kept.append(rows)

    assert TokenBatcher(100).run([5] * 4, lambda rows: rows, keep) == {2: "ValueError"}
    assert sorted(row for rows in kept for row in rows) == [0, 1, 3]


@pytest.mark.parametrize("error", [DeviceError("the GPU failed"), KeyError("a bug of ours")])
def test_what_is_no_rows_fault_passes_through_at_once(error: Exception) -> None:
    job = Job([4, 4, 4], lambda _rows: error)
    with pytest.raises(type(error)):
        job.run(TokenBatcher(4))
    assert len(job.calls) == 1


@given(
    lengths=st.lists(st.integers(1, 600), min_size=1, max_size=40),
    budget=st.integers(1, 4000),
    memory=st.integers(600, 2000),
    data=st.data(),
)
def test_poison_and_little_memory_together_lose_no_row(
    lengths: list[int], budget: int, memory: int, data: Any
) -> None:
    poison = data.draw(st.sets(st.integers(0, len(lengths) - 1), max_size=4))
    full, broken = fits(lengths, memory), breaks_on(poison)
    job = Job(lengths, lambda rows: full(rows) or broken(rows))
    assert job.run(TokenBatcher(budget)) == dict.fromkeys(poison, "ValueError")
    job.assert_all_accounted_for()


def test_the_fill_counts_answered_batches_and_their_room() -> None:
    batcher = TokenBatcher(10)

    def answer(rows: list[int]) -> None:
        if 0 in rows and len(rows) > 1:
            raise ValueError

    # The longest row has a batch of its own; the others share one, which row 0 breaks up.
    batcher.run([3, 4, 25, 3], answer, lambda *_: None)
    fill = batcher.fill
    assert (fill.batches, fill.tokens, fill.room_tokens) == (4, 35, 25 + 3 * 10)
