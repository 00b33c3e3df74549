"""Batches of rows within a token budget, with retries when memory runs out.

Rows are sorted by length, so that a batch holds rows of similar length. If a batch does not fit
into memory it is halved and tried again, down to single rows. A row that fails alone is reported as
failed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

# How torch's CPU allocator, the C++ library and cuBLAS put it.
_OUT_OF_MEMORY: Final = ("not enough memory", "allocate memory", "bad_alloc", "ALLOC_FAILED")

_log = logging.getLogger(__name__)


@dataclass
class Fill:
    """Totals of the batches so far: their number, their tokens, the tokens they had room for.

    Attributes:
        batches: Batches that were answered.
        tokens: Tokens in them.
        room_tokens: Tokens they had room for.
    """

    batches: int = 0
    tokens: int = 0
    room_tokens: int = 0


class TokenBatcher:
    """Cuts rows into batches of similar length, and into smaller ones when memory runs out.

    A batch that runs out of memory is tried again in halves, and the budget that held is kept for
    all later batches, unless it was the fault of a single row. A batch that fails otherwise is
    halved until the guilty rows stand alone.

    Args:
        batch_tokens: Most tokens of a batch; a longer row is a batch of its own.

    Attributes:
        fill: Of all batches so far.
    """

    def __init__(self, batch_tokens: int) -> None:
        self.batch_tokens = batch_tokens
        self.fill = Fill()

    def run(
        self,
        lengths: Sequence[int],
        answer: Callable[[list[int]], Any],
        keep: Callable[[list[int], Any], None],
    ) -> dict[int, str]:
        """Answer all rows.

        Args:
            lengths: Tokens of each row.
            answer: Takes row numbers, gives their answers.
            keep: Takes row numbers and what `answer` gave for them.

        Returns:
            Rows that fail alone, with the name of what they raise. A `DeviceError` is no row's
            fault and passes through.
        """
        failed: dict[int, str] = {}
        shrunk: list[tuple[list[int], int]] = []  # batches out of memory, with the budget then
        # A stack, longest rows on top: memory peaks at once rather than at the end.
        pending = self._cut(sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)), lengths)
        pending.reverse()
        while pending:
            rows = pending.pop()
            if len(rows) > 1 and sum(lengths[row] for row in rows) > self.batch_tokens:
                pending += reversed(self._cut(rows, lengths))  # the budget shrank meanwhile
                continue
            try:
                keep(rows, answer(rows))
            except (RuntimeError, ValueError, IndexError, MemoryError) as error:
                trouble = type(error).__name__
                memory = _is_out_of_memory(error)
            else:
                self._count(sum(lengths[row] for row in rows))
                continue
            # Outside of `except`: the error's traceback holds the memory of the failed batch.
            if len(rows) == 1:
                failed[rows[0]] = trouble
                while memory and shrunk and rows[0] in shrunk[-1][0]:
                    self.batch_tokens = shrunk.pop()[1]
            elif memory:
                shrunk.append((rows, self.batch_tokens))
                self._shrink(sum(lengths[row] for row in rows))
                pending.append(rows)
            else:
                middle = len(rows) // 2
                pending += [rows[middle:], rows[:middle]]
        return failed

    def _shrink(self, tokens: int) -> None:
        self.batch_tokens = max(1, tokens // 2)
        _log.warning(
            "a batch of %d tokens did not fit into memory; going on with %d (--batch-tokens)",
            tokens,
            self.batch_tokens,
        )

    def _count(self, tokens: int) -> None:
        self.fill.batches += 1
        self.fill.tokens += tokens
        self.fill.room_tokens += max(tokens, self.batch_tokens)

    def _cut(self, order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        room = 0
        for row in order:
            tokens = max(1, lengths[row])
            if not batches or tokens > room:
                batches.append([])
                room = self.batch_tokens
            batches[-1].append(row)
            room -= tokens
        return batches


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that memory ran out. CPUs have no error class of their own for
    it.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(words in str(error) for words in _OUT_OF_MEMORY)
