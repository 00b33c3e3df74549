"""What the task workers of Ray run: reading a unit, tokenising a block, committing a block.

A worker imports the module of the function that it runs. This one imports neither torch nor
transformers, which would cost every worker seconds and hundreds of megabytes.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sentiment.block import (
    IDS,
    REASON,
    SCORER,
    STAGE_READ,
    STAGE_TOKENISE,
    TOKENISE_SEC,
    TOKENS,
    TRUNCATED,
    UNIT,
    reject_rows,
)
from sentiment.model.tokenizer import Tokeniser
from sentiment.output.attempts import READER_MAX_CRASHES, Attempts, Part, with_attempts
from sentiment.output.commit import Stamp, commit_block
from sentiment.output.folder import Output
from sentiment.output.receipt import ActorNote, Footer, Receipt
from sentiment.source.index import divide_unit, lost_unit, read_unit
from sentiment.source.shards import Unit

# The columns of what the commit stage gives: footers as JSON, and what the files do not tell.
FOOTER: Final = "footer"
BESIDE: Final = "beside"


def read_block(unit: Unit, columns: pa.Schema, text_column: str, location: str) -> list[pa.Table]:
    """Read one unit as one block.

    Rows that crash the reader are rejected: the row groups of Parquet that hold them, or the whole
    unit of a text shard, since its reader cannot skip rows.

    Args:
        unit: What to read.
        columns: Source columns as indexed.
        text_column: The column to score.
        location: The output, where markers of crashes are kept.

    Returns:
        One block, as Ray expects a list.
    """

    def rows_of(part: Part) -> Unit:
        return replace(unit, first_row=part[0], last_row=part[1] - 1)

    def read(part: Part) -> pa.Table:
        return read_unit(rows_of(part), columns, text_column)

    def divide(part: Part) -> list[Part]:
        return [(one.first_row, one.last_row + 1) for one in divide_unit(rows_of(part))]

    def give_up(part: Part, crashes: int) -> pa.Table:
        detail = f"{crashes} processes died while they read these rows"
        return with_attempts(lost_unit(rows_of(part), columns, detail), crashes)

    attempts = Attempts(Output.open(location), STAGE_READ, READER_MAX_CRASHES)
    whole = (unit.first_row, unit.last_row + 1)
    tables = attempts.run(unit, whole, read, divide, give_up)
    if len(tables) == 1:
        return tables
    block = pa.concat_tables(tables, promote_options="default").combine_chunks()
    # Each part names itself as the unit. The block has to name the unit it is committed as.
    units = pa.DictionaryArray.from_arrays(
        pa.array([0] * block.num_rows, pa.int32()), pa.array([unit.to_json()], pa.string())
    )
    return [block.set_column(block.schema.get_field_index(UNIT), UNIT, units)]


@dataclass(frozen=True)
class Tokenise:
    """The tokenise stage.

    Attributes:
        tokeniser: The model's.
        text_column: The column to score.
        location: The output, where markers of crashes are kept.
    """

    tokeniser: Tokeniser
    text_column: str
    location: str

    def __call__(self, block: pa.Table) -> pa.Table:
        attempts = Attempts(Output.open(self.location), STAGE_TOKENISE)
        return attempts.run_on_rows(block, self._tokenise, "tokenising_error")

    def _tokenise(self, rows: pa.Table) -> pa.Table:
        return tokenise_block(rows, self.tokeniser, self.text_column)


@dataclass(frozen=True)
class Commit:
    """The commit stage: writes the files of a scored block and returns receipts for the driver.

    Attributes:
        location: The output.
        stamp: Facts of the run that go into its files.
    """

    location: str
    stamp: Stamp

    def __call__(self, block: pa.Table) -> pa.Table:
        started = time.perf_counter()
        footers = commit_block(Output.open(self.location), self.stamp, block)
        # A block is one unit, but for those that Ray hands over without rows.
        write_sec = (time.perf_counter() - started) / max(1, len(footers))
        beside = json.dumps({"write_sec": write_sec, "note": _note(block)})
        return pa.table(
            {
                FOOTER: pa.array([footer.to_json() for footer in footers], pa.string()),
                BESIDE: pa.array([beside] * len(footers), pa.string()),
            }
        )


def receipts_of(committed: pa.Table) -> list[Receipt]:
    """Return the receipts in a block that the commit stage returned."""
    receipts = []
    for footer, text in zip(
        committed.column(FOOTER).to_pylist(), committed.column(BESIDE).to_pylist(), strict=True
    ):
        beside = json.loads(text)
        note = None if beside["note"] is None else ActorNote.from_json(beside["note"])
        receipts.append(Receipt(Footer.from_json(footer), beside["write_sec"], note))
    return receipts


def _note(block: pa.Table) -> str | None:
    if not block.num_rows or SCORER not in block.column_names:
        return None
    return str(block.column(SCORER)[0].as_py())


def tokenise_block(block: pa.Table, tokeniser: Tokeniser, text_column: str) -> pa.Table:
    """Attach token ids to the good rows of a block; reject rows that hold no text.

    Args:
        block: Rows as read, with the read carriers.

    Returns:
        The same rows with IDS, TOKENS, TRUNCATED and TOKENISE_SEC.
    """
    started = time.perf_counter()
    texts, problems = _usable_texts(block.column(text_column))
    known = block.column(REASON).to_pylist()
    # A row that the reader rejected keeps that reason.
    unusable = {
        row: problem
        for row, problem in enumerate(problems)
        if problem is not None and known[row] is None
    }
    good = [row for row, reason in enumerate(known) if reason is None and row not in unusable]
    encoded = tokeniser.encode([texts[row] for row in good])
    ids: list[NDArray[np.int32] | None] = [None] * block.num_rows
    tokens: list[int | None] = [None] * block.num_rows
    truncated: list[bool | None] = [None] * block.num_rows
    for row, item in zip(good, encoded, strict=True):
        ids[row], tokens[row], truncated[row] = item.ids, item.tokens, item.tokens > len(item.ids)
    details = [None] * len(unusable)
    block = reject_rows(block, [*unusable], STAGE_TOKENISE, [*unusable.values()], details)
    seconds = (time.perf_counter() - started) / max(1, block.num_rows)
    return (
        block.append_column(IDS, pa.array(ids, pa.list_(pa.int32())))
        .append_column(TOKENS, pa.array(tokens, pa.int32()))
        .append_column(TRUNCATED, pa.array(truncated, pa.bool_()))
        .append_column(TOKENISE_SEC, pa.array([seconds] * block.num_rows, pa.float32()))
    )


def _usable_texts(column: pa.ChunkedArray) -> tuple[list[str], list[str | None]]:
    """Return the text of every row, and the reason if a row has none."""
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    texts: list[str] = []
    problems: list[str | None] = []
    for found in column.to_pylist():
        value = _decoded(found) if isinstance(found, bytes) else found
        texts.append(value if isinstance(value, str) else "")
        problems.append(_problem(value))
    return texts, problems


def _decoded(value: bytes) -> str | bytes:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def _problem(value: object) -> str | None:
    if value is None:
        return "null_text"
    if isinstance(value, bytes):
        return "undecodable_text"
    if not isinstance(value, str):
        return "text_not_string"
    return None if value.strip() else "empty_text"
