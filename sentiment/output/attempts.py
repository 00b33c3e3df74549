"""Finds rows that crash their worker process, and rejects them instead of trying them for ever.

Some rows end the process that works on them: a native library crashes, or memory runs out. Ray then
starts a new process and gives it the same rows. A crash raises no exception, so a file records it:

1. Before a process works on rows of a unit, it notes the stage and the rows in the *marker* of the
   unit, one small file. The next note replaces it, and the commit of the unit deletes it.
2. A process that finds a note of its own stage, or of a later one, was preceded by one that crashed
   over these rows: work that ends well is followed by another note or by the commit. It counts the
   crash in the marker. Most crashes have other causes than a row: a node was taken away. So the
   whole unit is attempted again, until two processes have crashed over it.
3. After that the unit is divided, and each part is noted by itself. A part over which a process
   crashes is divided again, until the row that causes the crashes is alone. All other parts finish
   as usual, and so does a whole unit that was only unlucky.
4. A row over which a process has crashed alone gets a last try in a process of its own. If that
   dies, too, the row is rejected. Rows that can only be read together get more tries before.

A marker counts only for the same rows of the same source, and only within one run: if the driver
died too, nobody knows whether the rows were the cause. A new run begins without markers.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, TypeVar

import numpy as np
import pyarrow as pa

from sentiment.block import ATTEMPTS, IDS, STAGES, UNIT, reject_rows
from sentiment.errors import OutputError
from sentiment.output.apart import ProcessDiedError
from sentiment.output.folder import Output
from sentiment.output.layout import ATTEMPTS_FOLDER
from sentiment.source.shards import Unit

# Crashes over a whole unit before it is divided. A part of a unit is divided after one crash.
MAX_CRASHES: Final = 2

# Crashes over the smallest part that can be read before its rows get their last try. That part may
# be a whole unit, which takes long: a machine that is lost interrupts it more easily than a single
# row. Readers restart within seconds, so additional crashes cost little.
READER_MAX_CRASHES: Final = 4

# Every crash costs the restart of a process, which may have to load a model. Many parts at a time
# keep the number of crashes low: six for one bad row among 1,024.
_PARTS: Final = 16

Part = tuple[int, int]  # first row and one past the last row
Result = TypeVar("Result")

_log = logging.getLogger(__name__)


@dataclass
class Marker:
    """The marker of a unit.

    Attributes:
        run: Token of the run.
        fingerprint: Of the source: a repaired file is tried afresh.
        crashes: Processes that crashed, by stage and rows.
        noted: Stage and rows that are being worked on; None if nothing is.
    """

    run: str
    fingerprint: str
    crashes: Counter[str] = field(default_factory=Counter)
    noted: tuple[str, str] | None = None

    @classmethod
    def from_json(cls, data: bytes | None) -> Marker | None:
        """Parse a marker; None if there is none or it is damaged."""
        try:
            values = json.loads(data or b"")
            noted = values["noted"]
            return cls(
                str(values["run"]),
                str(values["fingerprint"]),
                Counter({str(key): int(count) for key, count in values["crashes"].items()}),
                None if noted is None else (str(noted[0]), str(noted[1])),
            )
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return None

    def to_json(self) -> bytes:
        """Inverse of `from_json`."""
        return json.dumps(vars(self)).encode()

    def begin(self, stage: str) -> None:
        """Count the crash that a note of this stage or of a later one stands for."""
        if self.noted is None:
            return
        noted_stage, rows = self.noted
        if noted_stage in STAGES and STAGES.index(noted_stage) >= STAGES.index(stage):
            self.crashes[f"{noted_stage} {rows}"] += 1
        self.noted = None


@dataclass(frozen=True)
class Attempts:
    """The attempts of one stage to work on units.

    Attributes:
        output: Where the markers are.
        run_token: Token of the run.
        stage: The stage, one of `block.STAGES`.
        max_crashes: Crashes over a part that cannot be divided before its last try.
        settles: Whether work that ended well is noted as done, because the process goes on with
            other units before the next stage takes this one up.
    """

    output: Output
    run_token: str
    stage: str
    max_crashes: int = 1
    settles: bool = False

    def run(
        self,
        unit: Unit,
        whole: Part,
        attempt: Callable[[Part], Result],
        divide: Callable[[Part], Sequence[Part]],
        attempt_apart: Callable[[Part], Result],
        give_up: Callable[[Part, int], Result],
    ) -> list[Result]:
        """Work on a unit: as a whole, or in parts if processes crashed over it.

        Args:
            unit: Names the marker.
            whole: All of the unit.
            attempt: Works on a part and returns its result. May crash the process.
            divide: Returns smaller parts of a part, in order; none if it cannot be divided.
            attempt_apart: The same as `attempt`, in a process of its own.
            give_up: Returns the result of a part that is not attempted any more. Its second
                argument is the number of crashes.

        Returns:
            The results of all parts, in order.

        Raises:
            OutputError: The marker cannot be read or written.
        """
        path = marker_of(unit.unit_id)
        marker = self._marker(path, unit)
        if marker.crashes:
            _log.warning(
                "%s: %d processes crashed over it so far", unit.unit_id, marker.crashes.total()
            )
        results = []
        pending = [whole]  # a stack: the next part is the last element
        while pending:
            part = pending.pop()
            crashed = marker.crashes[f"{self.stage} {_name(part)}"]
            # Reading divides at row groups, for which it opens the file: only if it is needed.
            smaller = divide(part) if crashed else ()
            if crashed < self._crashes_allowed(part, whole, smaller):
                marker.noted = (self.stage, _name(part))
                self.output.write(path, marker.to_json())
                try:
                    results.append(attempt(part))
                except Exception:  # the process lives, so nothing crashed
                    self._settle(path, marker)
                    raise
                if self.settles:
                    self._settle(path, marker)
            elif smaller:
                pending.extend(reversed(smaller))
            else:
                results.append(_last_try(part, crashed, attempt_apart, give_up))
        return results

    def _settle(self, path: str, marker: Marker) -> None:
        marker.noted = None
        self.output.write(path, marker.to_json())

    def _marker(self, path: str, unit: Unit) -> Marker:
        """Read the marker of a unit, and count the crash that it may stand for."""
        fingerprint = unit.shard.fingerprint
        found = Marker.from_json(self.output.read(path))
        if found is None or (found.run, found.fingerprint) != (self.run_token, fingerprint):
            return Marker(self.run_token, fingerprint)
        found.begin(self.stage)
        return found

    def _crashes_allowed(self, part: Part, whole: Part, smaller: Sequence[Part]) -> int:
        """Return the number of crashes from which on a part is not attempted as it is."""
        if not smaller:
            return self.max_crashes  # giving up loses rows, so it needs the most evidence
        if part == whole:
            return MAX_CRASHES  # most crashes of whole units are not caused by their rows
        return 1  # some row of this unit is to blame, and dividing loses nothing

    def run_on_rows(
        self,
        block: pa.Table,
        function: Callable[[pa.Table], pa.Table],
        function_apart: Callable[[pa.Table], pa.Table],
        reason: str,
    ) -> pa.Table:
        """Call a function on the block of a unit, or on slices of it if processes crashed.

        Args:
            block: All rows of one unit, with carriers.
            function: Returns the rows it gets with columns of its own. It leaves rejected rows
                alone, and must not crash over them.
            function_apart: The same in a process of its own.
            reason: Reject reason of rows that are given up, one of `block.REASONS`.

        Returns:
            The results, joined in order. Rows that are given up are rejected.

        Raises:
            OutputError: The marker cannot be read or written.
        """
        if not block.num_rows:
            return function(block)
        unit = unit_of_block(block)

        def rows_of(part: Part) -> pa.Table:
            first, end = part
            return block.slice(first, end - first)

        def attempt(part: Part) -> pa.Table:
            return function(rows_of(part))

        def attempt_apart(part: Part) -> pa.Table:
            return function_apart(rows_of(part).combine_chunks())

        def give_up(part: Part, crashed: int) -> pa.Table:
            return function(_rejected(rows_of(part), self.stage, reason, crashed))

        whole = (0, block.num_rows)
        parts = self.run(unit, whole, attempt, _divide_rows, attempt_apart, give_up)
        if len(parts) == 1:
            return parts[0]
        # Only parts that were given up have the ATTEMPTS column; it becomes null in all others.
        return pa.concat_tables(parts, promote_options="default").combine_chunks()


def _last_try(
    part: Part,
    crashed: int,
    attempt_apart: Callable[[Part], Result],
    give_up: Callable[[Part, int], Result],
) -> Result:
    """Work on a part where a crash harms nobody, and give it up if that process dies, too."""
    try:
        return attempt_apart(part)
    except ProcessDiedError:
        return give_up(part, crashed + 1)


def unit_of_block(block: pa.Table) -> Unit:
    """Return the unit that a block with rows and carriers stands for."""
    units = block.column(UNIT).combine_chunks()
    return Unit.from_json(units.dictionary[units.indices[0].as_py()].as_py())


def marker_of(unit_id: str) -> str:
    """Return the path of the marker of a unit, relative to the output."""
    return f"{ATTEMPTS_FOLDER}/{hashlib.sha256(unit_id.encode()).hexdigest()[:32]}.json"


def clear_marker(output: Output, unit_id: str) -> None:
    """Delete the marker of a unit that is committed."""
    try:
        output.delete(marker_of(unit_id))
    except OutputError as error:  # the next run deletes it
        _log.warning("%s", error)


def clear_markers(output: Output) -> None:
    """Delete all markers, which are those of earlier runs.

    Raises:
        OutputError: Markers cannot be listed or deleted.
    """
    output.delete_folder(ATTEMPTS_FOLDER)


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
