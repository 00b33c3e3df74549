"""Finds rows that crash their worker process, and rejects them instead of trying them for ever.

Some rows end the process that works on them: a native library crashes, or memory runs out. Ray then
starts a new process and gives it the same rows. A crash raises no exception, so files record it:

1. Before a process works on rows of a unit, it writes a *marker*: an empty file in a folder of the
   stage and the unit, named for these rows. When the work returns or raises, the process deletes
   the marker. So a marker that is still there stands for a process that crashed over these rows.
2. A process that starts to work on a unit lists its markers and counts the crashes. Most crashes
   have other causes than a row: a node was taken away, or the driver was stopped. So the whole unit
   is attempted again, until two processes have crashed over it.
3. After that the unit is divided, and each part gets a marker of its own. A part over which a
   process crashes is divided again, until the row that causes the crashes is alone. All other parts
   finish as usual, and so does a whole unit that was only unlucky.
4. A row is rejected when two processes have crashed over it alone. Rows that can only be read
   together are rejected when five processes have crashed over them.

Markers stay until the run has committed all units: a new process must come to the same parts as the
one before it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeVar
from uuid import uuid4

import numpy as np
import pyarrow as pa

from sentiment.block import ATTEMPTS, IDS, UNIT, reject_rows
from sentiment.errors import OutputError
from sentiment.output.folder import Output
from sentiment.output.layout import ATTEMPTS_FOLDER
from sentiment.source.shards import Unit

# Crashes over a whole unit before it is divided, and over a single row before it is rejected. What
# lies between, a part of a unit, is divided after one crash.
MAX_CRASHES: Final = 2

# Crashes over the smallest part that can be read before its rows are rejected. That part may be a
# whole unit, which takes long: a driver that is stopped or a machine that is lost interrupts it
# more easily than a single row. Readers restart within seconds, so additional crashes cost little.
READER_MAX_CRASHES: Final = 5

# Every crash costs the restart of a process, which may have to load a model. Many parts at a time
# keep the number of crashes low: six for one bad row among 1,024.
_PARTS: Final = 16

Part = tuple[int, int]  # first row and one past the last row
Result = TypeVar("Result")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempts:
    """The attempts of one stage to work on units.

    Attributes:
        output: Where the markers are.
        stage: The stage, one of `block.STAGES`. Each stage has markers of its own.
        max_crashes: Crashes over a part that cannot be divided before it is given up.
    """

    output: Output
    stage: str
    max_crashes: int = MAX_CRASHES

    def run(
        self,
        unit: Unit,
        whole: Part,
        attempt: Callable[[Part], Result],
        divide: Callable[[Part], Sequence[Part]],
        give_up: Callable[[Part, int], Result],
    ) -> list[Result]:
        """Work on a unit: as a whole, or in parts if processes crashed over it.

        Args:
            unit: Names the markers.
            whole: All of the unit.
            attempt: Works on a part and returns its result. May crash the process.
            divide: Returns smaller parts of a part, in order; none if it cannot be divided.
            give_up: Returns the result of a part that is not attempted any more. Its second
                argument is the number of crashes.

        Returns:
            The results of all parts, in order.

        Raises:
            OutputError: Markers cannot be listed or written.
        """
        folder = f"{ATTEMPTS_FOLDER}/{self.stage}/{unit.unit_id}"
        crashes = Counter(name.rpartition("-")[0] for name in self.output.list_files(folder))
        if crashes:
            _log.warning("%s: %d processes crashed over it so far", unit.unit_id, crashes.total())
        results = []
        pending = [whole]  # a stack: the next part is the last element
        while pending:
            part = pending.pop()
            crashed = crashes[_name(part)]
            # Reading divides at row groups, for which it opens the file: only if it is needed.
            smaller = divide(part) if crashed else ()
            if crashed < self._crashes_allowed(part, whole, smaller):
                with self._marked(f"{folder}/{_name(part)}"):
                    results.append(attempt(part))
            elif smaller:
                pending.extend(reversed(smaller))
            else:
                results.append(give_up(part, crashed))
        return results

    def _crashes_allowed(self, part: Part, whole: Part, smaller: Sequence[Part]) -> int:
        """Return the number of crashes from which on a part is not attempted as it is."""
        if not smaller:
            return self.max_crashes  # giving up loses rows, so it needs the most evidence
        if part == whole:
            return MAX_CRASHES  # most crashes of whole units are not caused by their rows
        return 1  # some row of this unit is to blame, and dividing loses nothing

    def run_on_rows(
        self, block: pa.Table, function: Callable[[pa.Table], pa.Table], reason: str
    ) -> pa.Table:
        """Call a function on the block of a unit, or on slices of it if processes crashed.

        Args:
            block: All rows of one unit, with carriers.
            function: Returns the rows it gets with columns of its own. It leaves rejected rows
                alone, and must not crash over them.
            reason: Reject reason of rows that are given up, one of `block.REASONS`.

        Returns:
            The results, joined in order. Rows that are given up are rejected.

        Raises:
            OutputError: Markers cannot be listed or written.
        """
        if not block.num_rows:
            return function(block)
        units = block.column(UNIT).combine_chunks()
        unit = Unit.from_json(units.dictionary[units.indices[0].as_py()].as_py())

        def rows_of(part: Part) -> pa.Table:
            first, end = part
            return block.slice(first, end - first)

        def attempt(part: Part) -> pa.Table:
            return function(rows_of(part))

        def give_up(part: Part, crashed: int) -> pa.Table:
            return function(_rejected(rows_of(part), self.stage, reason, crashed))

        parts = self.run(unit, (0, block.num_rows), attempt, _divide_rows, give_up)
        if len(parts) == 1:
            return parts[0]
        # Only parts that were given up have the ATTEMPTS column; it becomes null in all others.
        return pa.concat_tables(parts, promote_options="default").combine_chunks()

    @contextmanager
    def _marked(self, stem: str) -> Iterator[None]:
        """Keep a marker while the body runs; only a crash leaves it behind."""
        marker = f"{stem}-{uuid4().hex[:8]}"  # each crash needs a file of its own to be counted
        self.output.write(marker, b"")
        try:
            yield
        finally:
            try:
                self.output.delete(marker)
            except OutputError as error:
                # The work is done. The marker counts as a crash, which costs time but no rows.
                _log.warning("%s", error)


def clear_markers(output: Output) -> None:
    """Delete all markers.

    For a run that has committed all units: crashes must not count against units of later runs.

    Raises:
        OutputError: Markers cannot be listed or deleted.
    """
    for path in output.list_tree(ATTEMPTS_FOLDER):
        output.delete(path)


def with_attempts(rows: pa.Table, crashes: int) -> pa.Table:
    """Add the ATTEMPTS column: the number of processes that crashed over these rows."""
    values = pa.array([crashes] * rows.num_rows, pa.int32())
    index = rows.schema.get_field_index(ATTEMPTS)
    if index >= 0:  # an earlier stage gave up other rows of this unit
        return rows.set_column(index, ATTEMPTS, values)
    return rows.append_column(ATTEMPTS, values)


def _name(part: Part) -> str:
    return f"{part[0]}-{part[1]}"


def _divide_rows(part: Part) -> list[Part]:
    """Divide rows into at most _PARTS parts of nearly the same size; a single row into none."""
    first, end = part
    if end - first < 2:
        return []
    edges = np.unique(np.linspace(first, end, _PARTS + 1).astype(int)).tolist()
    return list(pairwise(edges))


def _rejected(rows: pa.Table, stage: str, reason: str, crashes: int) -> pa.Table:
    """Return the rows as rejected ones, which later stages leave alone."""
    count = rows.num_rows
    details = [f"{crashes} processes died over this row alone"] * count
    rows = reject_rows(rows, range(count), stage, [reason] * count, details)
    if IDS in rows.column_names:
        # Rejected rows have no token ids: so the scorer does not even look at them.
        index = rows.schema.get_field_index(IDS)
        rows = rows.set_column(index, IDS, pa.nulls(count, rows.schema.field(IDS).type))
    return with_attempts(rows, crashes)
