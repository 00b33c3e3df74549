"""The read stage: reads a unit as one block, or defers it if it cannot be read for now."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
from sentiment.output.attempts import READER_MAX_CRASHES, Attempts, Part, with_attempts
from sentiment.output.folder import Output
from sentiment.source.index import divide_unit, lost_unit, read_unit
from sentiment.source.shards import Unit

Span = tuple[int, int, str]  # first row, last row and reason of rows that cannot be read


class UnconfirmedError(Exception):
    """Rows could not be read, and nobody else has seen that yet."""

    def __init__(self, spans: Sequence[Span], detail: str) -> None:
        super().__init__(detail)
        self.spans = tuple(spans)


@dataclass(frozen=True)
class Reader:
    """The read stage of one unit.

    Rows that crash the reader are rejected: the row groups of Parquet that hold them, or the whole
    unit of a text shard, since its reader cannot skip rows.

    Attributes:
        unit: What to read.
        columns: Source columns as indexed.
        text_column: The column to score.
        location: The output, where markers of crashes are kept.
        run_token: Token of the run, which the markers carry.
        confirmed: Rows that another process could not read either. Only those are rejected.
    """

    unit: Unit
    columns: pa.Schema
    text_column: str
    location: str
    run_token: str
    confirmed: tuple[Span, ...] = ()

    def __call__(self) -> list[pa.Table]:
        """Read the unit.

        Returns:
            One block, as Ray expects a list. If the unit cannot be read for now, the block has one
            row that says so: the unit is deferred.

        Raises:
            OSError: The storage does not answer.
        """
        attempts = Attempts(
            Output.open(self.location), self.run_token, STAGE_READ, READER_MAX_CRASHES
        )
        whole = (self.unit.first_row, self.unit.last_row + 1)
        try:
            tables = attempts.run(
                self.unit, whole, self._read, self._divide, self._read_apart, self._give_up
            )
        except SourceChangedError as error:
            return [defer_unit(self.unit, self.columns, Deferred(self.unit, str(error)))]
        except UnconfirmedError as error:
            found = Deferred(self.unit, str(error), error.spans)
            return [defer_unit(self.unit, self.columns, found)]
        if len(tables) == 1:
            return tables
        block = pa.concat_tables(tables, promote_options="default").combine_chunks()
        # Each part names itself as the unit. The block has to name the unit it is committed as.
        units = pa.DictionaryArray.from_arrays(
            pa.array([0] * block.num_rows, pa.int32()),
            pa.array([self.unit.to_json()], pa.string()),
        )
        return [block.set_column(block.schema.get_field_index(UNIT), UNIT, units)]

    def _rows_of(self, part: Part) -> Unit:
        return replace(self.unit, first_row=part[0], last_row=part[1] - 1)

    def _read(self, part: Part) -> pa.Table:
        return self._confirmed(read_unit(self._rows_of(part), self.columns, self.text_column))

    def _read_apart(self, part: Part) -> pa.Table:
        return self._confirmed(
            call_apart(read_unit, self._rows_of(part), self.columns, self.text_column)
        )

    def _confirmed(self, block: pa.Table) -> pa.Table:
        """Return a block whose unreadable rows another process could not read either.

        Raises:
            UnconfirmedError: Some could.
        """
        found = unreadable(block)
        new = [detail for span, detail in found.items() if span not in self.confirmed]
        if new:
            raise UnconfirmedError([*found], f"{self.unit.shard.uri}: {new[0]}")
        return block

    def _divide(self, part: Part) -> list[Part]:
        return [(one.first_row, one.last_row + 1) for one in divide_unit(self._rows_of(part))]

    def _give_up(self, part: Part, crashes: int) -> pa.Table:
        detail = f"{crashes} processes died while they read these rows"
        return with_attempts(lost_unit(self._rows_of(part), self.columns, detail), crashes)


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
