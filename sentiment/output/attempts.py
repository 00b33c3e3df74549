"""Finding rows that kill their worker process, so that they are rejected and the run goes on.

Before a process works on rows it writes a marker, an empty file, and deletes it afterwards. A
marker that is still there was left by a process that died. Ray starts the process again and gives
it the same rows, and the new process counts the markers:

1. The whole unit is tried twice. Most deaths are not caused by a row: a node was taken away, or a
   driver was stopped.
2. Then the unit is divided into parts, each with a marker of its own. A part in which a process
   died is divided again, until a single row is left. All other parts are scored.
3. A single row is rejected when two processes died on it alone. Rows that can only be read
   together are rejected when five died on them.
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

# Deaths over a whole unit before it is taken apart, and over a row alone before it is given up.
# What lies between is divided after one.
PATIENCE: Final = 2

# Deaths over the smallest part that can be read. It may be a whole unit, which a killed driver or a
# lost machine takes along more easily than a single row; and a reader starts within seconds.
READER_PATIENCE: Final = 5

# Each death costs a start of the process, model included: many parts keep the deaths few. A row
# among 1,024 costs six of them.
_WAYS: Final = 16

Part = tuple[int, int]  # first and one past the last
Done = TypeVar("Done")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempts:
    """The markers of one stage.

    Attributes:
        stage: `read`, `tokenise` or `score`.
        patience: Processes that must have died over the smallest part before it is given up.
    """

    output: Output
    stage: str
    patience: int = PATIENCE

    def work(
        self,
        unit: Unit,
        whole: Part,
        work: Callable[[Part], Done],
        give_up: Callable[[Part, int], Done],
        divide: Callable[[Part], Sequence[Part]],
    ) -> list[Done]:
        """Work on a unit, in one part if no process died over it yet.

        Args:
            work: Takes a part, gives its result. May kill the process.
            give_up: Takes a part that cannot be divided and the processes that died over it.
            divide: Takes a part, gives smaller ones in order; none if there are none.

        Returns:
            The results of all parts, in order.

        Raises:
            OutputError: A marker cannot be written.
        """
        folder = f"{ATTEMPTS_FOLDER}/{self.stage}/{unit.unit_id}"
        deaths = Counter(name.rpartition("-")[0] for name in self.output.list_files(folder))

        def results(part: Part) -> Iterator[Done]:
            died = deaths[_name(part)]
            # Dividing may cost a look into the file: only where somebody died.
            smaller = divide(part) if died else ()
            if died < (self.patience if not smaller else PATIENCE if part == whole else 1):
                with self._marked(f"{folder}/{_name(part)}"):
                    yield work(part)
            elif smaller:
                for one in smaller:
                    yield from results(one)
            else:
                yield give_up(part, died)

        if deaths:
            _log.warning("%s: %d processes died over it so far", unit.unit_id, deaths.total())
        return list(results(whole))

    def work_on_rows(
        self, block: pa.Table, work: Callable[[pa.Table], pa.Table], reason: str
    ) -> pa.Table:
        """Work on the block of a unit, by slices where processes died.

        Args:
            block: All rows of one unit, with carriers.
            work: Takes rows, gives the same rows with columns of its own; leaves rejected ones be.
            reason: Of rows given up, from `schema.REASONS`.
        """
        if not block.num_rows:
            return work(block)
        units = block.column(UNIT).combine_chunks()
        unit = Unit.from_json(units.dictionary[units.indices[0].as_py()].as_py())

        def attempt(part: Part) -> pa.Table:
            return work(block.slice(part[0], part[1] - part[0]))

        def give_up(part: Part, died: int) -> pa.Table:
            detail = f"{died} processes died over this row alone"
            rows = block.slice(part[0], part[1] - part[0])
            return work(_rejected(rows, self.stage, reason, detail, died))

        parts = self.work(unit, (0, block.num_rows), attempt, give_up, _by_rows)
        if len(parts) == 1:
            return parts[0]
        # Only a row that was given up says how often it was tried.
        return pa.concat_tables(parts, promote_options="default").combine_chunks()

    @contextmanager
    def _marked(self, stem: str) -> Iterator[None]:
        marker = f"{stem}-{uuid4().hex[:8]}"
        self.output.write(marker, b"")
        try:
            yield
        finally:
            try:
                self.output.delete(marker)
            except OutputError as error:
                # Counts as a death, which costs time and no rows.
                _log.warning("%s", error)


def clear_markers(output: Output) -> None:
    """Remove all markers: every unit is committed, and whoever died did so for another reason."""
    for path in output.list_tree(ATTEMPTS_FOLDER):
        output.delete(path)


def _name(part: Part) -> str:
    return f"{part[0]}-{part[1]}"


def _by_rows(part: Part) -> list[Part]:
    first, end = part
    if end - first < 2:
        return []
    edges = np.unique(np.linspace(first, end, _WAYS + 1).astype(int)).tolist()
    return list(pairwise(edges))


def _rejected(rows: pa.Table, stage: str, reason: str, detail: str, died: int) -> pa.Table:
    """All these rows as rejected ones."""
    count = rows.num_rows
    rows = reject_rows(
        rows, range(count), stage=stage, reasons=[reason] * count, details=[detail] * count
    )
    if IDS in rows.column_names:
        rows = _with_column(rows, IDS, pa.nulls(rows.num_rows, rows.schema.field(IDS).type))
    return tried(rows, died)


def tried(rows: pa.Table, died: int) -> pa.Table:
    """The rows, with the number of processes that died over them."""
    return _with_column(rows, ATTEMPTS, pa.array([died] * rows.num_rows, pa.int32()))


def _with_column(rows: pa.Table, name: str, values: pa.Array) -> pa.Table:
    at = rows.schema.get_field_index(name)
    return rows.append_column(name, values) if at < 0 else rows.set_column(at, name, values)
