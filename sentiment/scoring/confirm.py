"""Decides about units that could not be read: the driver looks for itself.

A worker that cannot read a file may be the only one: its mount is missing, or the store failed for
a moment. Rows are rejected only if the driver finds the same rows unreadable, and then another
worker finds them so again. Everything else waits for the next run.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa

from sentiment.errors import SourceChangedError
from sentiment.scoring.reading import Deferred, Span, unreadable
from sentiment.source.read import read_unit
from sentiment.source.shards import Unit

# Units that the driver holds in memory at the same time.
_UNITS_AT_ONCE = 4


@dataclass
class Decision:
    """What becomes of deferred units.

    Attributes:
        again: Units to read again, with the columns they are read with.
        confirmed: By unit id, the rows that the driver could not read either.
        left: By unit id, why a unit is left to the next run.
    """

    again: list[tuple[Unit, pa.Schema]] = field(default_factory=list)
    confirmed: dict[str, tuple[Span, ...]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def decide(deferred: Sequence[tuple[Deferred, pa.Schema]], text_column: str) -> Decision:
    """Read deferred units here, and decide what becomes of them.

    Args:
        deferred: Units that a worker could not read, with the columns they are read with.
        text_column: The column to score.

    Raises:
        OSError: The storage does not answer.
    """

    def look(one: tuple[Deferred, pa.Schema]) -> tuple[Span, ...] | str:
        """Return the rows that cannot be read here, or why the whole unit cannot."""
        try:
            return tuple(unreadable(read_unit(one[0].unit, one[1], text_column)))
        except SourceChangedError as error:
            return str(error)

    decision = Decision()
    with ThreadPoolExecutor(_UNITS_AT_ONCE) as threads:
        for (one, columns), seen in zip(deferred, threads.map(look, deferred), strict=True):
            if isinstance(seen, str):
                decision.left[one.unit.unit_id] = seen
                continue
            decision.again.append((one.unit, columns))
            if seen and seen == one.spans:
                decision.confirmed[one.unit.unit_id] = seen
    return decision
