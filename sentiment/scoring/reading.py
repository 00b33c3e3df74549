"""The read stage: reads units as blocks, and defers those that cannot be read for now."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from sentiment.block import (
    DEFERRED,
    DETAIL,
    REASON,
    ROW,
    ROW_END,
    STAGE_READ,
    UNIT,
    UNREADABLE_REASONS,
)
from sentiment.errors import SourceChangedError
from sentiment.output.apart import call_apart
from sentiment.output.attempts import (
    READER_MAX_CRASHES,
    Attempts,
    Part,
    unit_of_block,
    with_attempts,
)
from sentiment.output.folder import Output
from sentiment.source.options import ReadOptions
from sentiment.source.read import ShardReader, divide_unit, lost_unit, read_unit
from sentiment.source.shards import Unit

# Bytes of memory after which a unit ends early.
_UNIT_BYTES = 64 * 2**20

Pass = tuple[tuple[Unit, ...], pa.Schema]  # units of one shard, and its columns
Span = tuple[int, int, str]  # first row, last row and reason of rows that cannot be read


def rows_of(passes: Sequence[Pass]) -> int:
    """Return the number of rows of passes."""
    return sum(unit.rows for units, _ in passes for unit in units)


def units_of(passes: Sequence[Pass]) -> int:
    """Return the number of units of passes."""
    return sum(len(units) for units, _ in passes)


class UnconfirmedError(Exception):
    """Rows could not be read, and nobody else has seen that yet."""

    def __init__(self, spans: Sequence[Span], detail: str) -> None:
        super().__init__(detail)
        self.spans = tuple(spans)


@dataclass(frozen=True)
class Reader:
    """The read stage: reads units of one shard one after another.

    Rows that crash the reader are rejected: the row groups of Parquet that hold them, or the whole
    unit of a text shard, since its reader cannot skip rows.

    Attributes:
        units: What to read, in the order of the file.
        columns: Source columns as indexed.
        options: Which columns are scored, and which rows are wanted.
        location: The output, where markers of crashes are kept.
        run_token: Token of the run, which the markers carry.
        confirmed: Rows that another process could not read either. Only those are rejected.
    """

    units: tuple[Unit, ...]
    columns: pa.Schema
    options: ReadOptions
    location: str
    run_token: str
    confirmed: tuple[Span, ...] = ()

    def __call__(self) -> Iterator[pa.Table]:
        """Read the units.

        Yields:
            A block for each unit, or several that share its rows, if these take much memory: then
            each is a unit of its own. If a unit cannot be read for now, its block has one row that
            says so: the unit is deferred.

        Raises:
            OSError: The storage does not answer.
        """
        # After the crash of a task all of its units are read again. Those that the first process
        # had read well must not count as attempted.
        attempts = Attempts(
            Output.open(self.location),
            self.run_token,
            STAGE_READ,
            READER_MAX_CRASHES,
            settles=len(self.units) > 1,
        )
        with ShardReader(self.units[0].shard, self.columns, self.options) as reader:
            for unit in self.units:
                left: Unit | None = unit
                while left is not None:
                    block = self._block(left, reader, attempts)
                    yield block
                    last = unit_of_block(block).last_row
                    left = replace(left, first_row=last + 1) if last < unit.last_row else None

    def _block(self, unit: Unit, reader: ShardReader, attempts: Attempts) -> pa.Table:
        """Read a unit, or its first rows."""
        whole = (unit.first_row, unit.last_row + 1)

        def read(part: Part) -> pa.Table:
            most = _UNIT_BYTES if part == whole else None
            return self._confirmed(reader.read(_rows_of(unit, part), most))

        def read_apart(part: Part) -> pa.Table:
            rows = _rows_of(unit, part)
            return self._confirmed(call_apart(read_unit, rows, self.columns, self.options))

        def divide(part: Part) -> list[Part]:
            parts = divide_unit(_rows_of(unit, part))
            return [(one.first_row, one.last_row + 1) for one in parts]

        def give_up(part: Part, crashes: int) -> pa.Table:
            detail = f"{crashes} processes died while they read these rows"
            return with_attempts(lost_unit(_rows_of(unit, part), self.columns, detail), crashes)

        try:
            tables = attempts.run(unit, whole, read, divide, read_apart, give_up)
        except SourceChangedError as error:
            return defer_unit(unit, self.columns, Deferred(unit, str(error)))
        except UnconfirmedError as error:
            return defer_unit(unit, self.columns, Deferred(unit, str(error), error.spans))
        if len(tables) == 1:
            return tables[0]
        block = pa.concat_tables(tables, promote_options="default").combine_chunks()
        # Each part names itself as the unit. The block has to name the unit it is committed as.
        units = pa.DictionaryArray.from_arrays(
            pa.array([0] * block.num_rows, pa.int32()),
            pa.array([unit.to_json()], pa.string()),
        )
        return block.set_column(block.schema.get_field_index(UNIT), UNIT, units)

    def _confirmed(self, block: pa.Table) -> pa.Table:
        """Return a block whose unreadable rows another process could not read either.

        Raises:
            UnconfirmedError: Some could.
        """
        found = unreadable(block)
        new = [detail for span, detail in found.items() if span not in self.confirmed]
        if new:
            raise UnconfirmedError([*found], f"{self.units[0].shard.uri}: {new[0]}")
        return block


def _rows_of(unit: Unit, part: Part) -> Unit:
    return replace(unit, first_row=part[0], last_row=part[1] - 1)


def unreadable(block: pa.Table) -> dict[Span, str]:
    """Return the rows of a block that could not be read, each with what was wrong."""
    bad = block.filter(pc.is_in(block.column(REASON), pa.array(sorted(UNREADABLE_REASONS))))
    spans = zip(*(bad.column(name).to_pylist() for name in (ROW, ROW_END, REASON)), strict=True)
    return dict(zip(spans, bad.column(DETAIL).to_pylist(), strict=True))


@dataclass(frozen=True)
class Deferred:
    """A unit that is not committed for now.

    Attributes:
        unit: The unit.
        detail: Why, without review text.
        spans: Rows that could not be read, if that is why: another process has to try. None if the
            whole file is gone or changed.
    """

    unit: Unit
    detail: str
    spans: tuple[Span, ...] | None = None

    def to_json(self) -> str:
        """Return it as one line of JSON, for the DETAIL carrier."""
        return json.dumps({"unit": self.unit.to_json(), "detail": self.detail, "spans": self.spans})

    @classmethod
    def from_json(cls, text: str) -> Deferred:
        """Inverse of `to_json`."""
        values = json.loads(text)
        spans = values["spans"]
        return cls(
            Unit.from_json(values["unit"]),
            values["detail"],
            None if spans is None else tuple((int(a), int(b), str(c)) for a, b, c in spans),
        )


def defer_unit(unit: Unit, columns: pa.Schema, deferred: Deferred) -> pa.Table:
    """Return a block of one row that carries a deferred unit through the stages."""
    block = lost_unit(unit, columns, deferred.to_json())
    return block.set_column(
        block.schema.get_field_index(REASON), REASON, pa.array([DEFERRED], pa.string())
    )


def deferred_in(block: pa.Table) -> Deferred | None:
    """Return the deferred unit that a block stands for; None for a block of rows."""
    if block.num_rows == 1 and block.column(REASON)[0].as_py() == DEFERRED:
        return Deferred.from_json(block.column(DETAIL)[0].as_py())
    return None
