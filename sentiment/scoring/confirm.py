"""Decides about units that could not be read: the driver looks for itself.

A worker that cannot read a file may be the only one: its mount is missing, or the store failed for
a moment. Rows are rejected only if the driver finds the same rows unreadable, and then another
worker finds them so again. Everything else waits for the next run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa

from sentiment.errors import SourceChangedError
from sentiment.scoring.reading import Deferred, Pass, Span, unreadable
from sentiment.source.options import ReadOptions
from sentiment.source.read import ShardReader
from sentiment.source.shards import Shard

# Units that the driver holds in memory at the same time.
_UNITS_AT_ONCE = 4


@dataclass
class Decision:
    """What becomes of deferred units.

    Attributes:
        again: Units to read again, shard by shard, with the columns they are read with.
        confirmed: By unit id, the rows that the driver could not read either.
        left: By unit id, why a unit is left to the next run.
    """

    again: list[Pass] = field(default_factory=list)
    confirmed: dict[str, tuple[Span, ...]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def decide(
    deferred: Sequence[Deferred], columns: Mapping[Shard, pa.Schema], options: ReadOptions
) -> Decision:
    """Read deferred units here, and decide what becomes of them.

    Args:
        deferred: Units that a worker could not read.
        columns: The columns that their shards are read with.
        options: How they are read.

    Raises:
        OSError: The storage does not answer.
    """
    by_shard: dict[Shard, list[Deferred]] = defaultdict(list)
    for one in sorted(deferred, key=lambda one: one.unit.first_row):
        by_shard[one.unit.shard].append(one)

    def look(shard: Shard) -> list[tuple[Span, ...] | str]:
        """Return of each unit the rows that cannot be read here, or why it cannot as a whole."""
        found: list[tuple[Span, ...] | str] = []
        with ShardReader(shard, columns[shard], options) as reader:
            for one in by_shard[shard]:
                try:
                    found.append(tuple(unreadable(reader.read(one.unit))))
                except SourceChangedError as error:
                    found.append(str(error))
        return found

    decision = Decision()
    with ThreadPoolExecutor(_UNITS_AT_ONCE) as threads:
        for shard, found in zip(by_shard, threads.map(look, by_shard), strict=True):
            again = []
            for one, seen in zip(by_shard[shard], found, strict=True):
                if isinstance(seen, str):
                    decision.left[one.unit.unit_id] = seen
                    continue
                again.append(one.unit)
                if seen and seen == one.spans:
                    decision.confirmed[one.unit.unit_id] = seen
            if again:
                decision.again.append((tuple(again), columns[shard]))
    return decision
