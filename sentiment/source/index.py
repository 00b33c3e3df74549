"""Indexing and reading a shard in the format that it has.

Damaged data is a result and not an error: an index says where the damage begins, and a block holds
rejected rows.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import replace

import pyarrow as pa

from sentiment.block import CARRIER_PREFIX
from sentiment.errors import SourceError
from sentiment.source.blocks import Rows, assemble, lost
from sentiment.source.delimited import index_delimited, read_delimited
from sentiment.source.jsonl import index_jsonl, read_jsonl
from sentiment.source.parquet import index_parquet, read_parquet
from sentiment.source.shards import Shard, ShardIndex, Unit
from sentiment.source.state import state_of
from sentiment.storage import is_outage

# A file without a header has a review where a name should be, one in JSON has quotes and braces:
# messages show short plain names only.
_PLAIN_NAME = re.compile(r"[\w \t.,:;|/#@$%&+()\[\]-]{0,40}")
_NAMES_SHOWN = 30


def index_shard(shard: Shard, text_column: str) -> ShardIndex:
    """Learn what planning needs to know of a shard.

    Args:
        shard: The shard, as listed. Parquet costs a read of the footer, text a read of the file.
        text_column: The column to score.

    Returns:
        Its index. A file that cannot be read has rows up to the damage and says what is wrong.

    Raises:
        SourceError: The text column is absent, two columns share a name, or a column has a name
            that is reserved.
        OSError: The storage does not answer.
    """
    if shard.format == "parquet":
        index = index_parquet(shard)
    elif shard.format == "jsonl":
        index = index_jsonl(shard, text_column)
    else:
        index = index_delimited(shard)
    if index.damage is not None:
        if is_outage(index.damage.detail):
            raise OSError(f"{shard.uri}: {index.damage.detail}")
        state_of(shard)  # raises when it is the storage that failed, not the file
    if index.columns is not None:
        _check_columns(shard, index.columns.names, text_column)
    return index


def _check_columns(shard: Shard, names: list[str], text_column: str) -> None:
    for name in names:
        if name.startswith(CARRIER_PREFIX):
            raise SourceError(
                f"{shard.uri}: column {name!r} starts with {CARRIER_PREFIX!r}, which is reserved; "
                "rename the column"
            )
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise SourceError(f"{shard.uri}: two columns are named {_shown(twice)}; rename one")
    if text_column not in names:
        raise SourceError(
            f"{shard.uri}: there is no column {text_column!r} among {_shown(names)}; "
            "name the column of the text with --text-column"
        )


def _shown(names: list[str]) -> str:
    if not names:
        return "none"
    shown = [
        repr(name) if _PLAIN_NAME.fullmatch(name) else f"a name of {len(name)} characters"
        for name in names[:_NAMES_SHOWN]
    ]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def read_unit(unit: Unit, columns: pa.Schema, text_column: str) -> pa.Table:
    """Read the rows of a unit as one block.

    Args:
        unit: Rows of an indexed shard, starting at one of its cuts.
        columns: Source columns as indexed.
        text_column: The column to score.

    Returns:
        The source columns, then `schema.CARRIER_FIELDS`. One row per source row in file order,
        except that rows lost together share one reject from ROW to ROW_END. For all other rows
        ROW_END is ROW. A rejected row is null in every source column.

    Raises:
        OSError: The storage does not answer. Everything that is wrong with the data is a reject.
    """
    started = time.perf_counter()
    changed = state_of(unit.shard)
    if changed is not None:
        rows = lost(unit, columns, *changed)
    else:
        rows = _read(unit, columns, text_column)
        # The store may be back by the time it is asked for the state of the file.
        outage = next((one.detail for one in rows.rejects if is_outage(one.detail)), None)
        if outage is not None:
            raise OSError(f"{unit.shard.uri}: {outage}")
        # What was read may be half the old file and half a new one. And when it is the storage that
        # failed, not the file, this raises.
        changed = state_of(unit.shard)
        if changed is not None:
            rows = lost(unit, columns, *changed)
    return assemble(unit, columns, rows, time.perf_counter() - started)


def parts_of(unit: Unit) -> list[Unit]:
    """The unit cut where damage ends: at row groups of Parquet; none if it cannot be cut."""
    if unit.shard.format != "parquet":
        return []
    starts = [row for row, _ in index_parquet(unit.shard).cuts]
    firsts = [unit.first_row, *(row for row in starts if unit.first_row < row <= unit.last_row)]
    lasts = [row - 1 for row in firsts[1:]] + [unit.last_row]
    if len(firsts) == 1:
        return []
    return [
        replace(unit, first_row=first, last_row=last)
        for first, last in zip(firsts, lasts, strict=True)
    ]


def lost_unit(unit: Unit, columns: pa.Schema, detail: str) -> pa.Table:
    """What `read_unit` gives where all rows of a unit are lost."""
    return assemble(unit, columns, lost(unit, columns, "unreadable_rows", detail), 0.0)


def _read(unit: Unit, columns: pa.Schema, text_column: str) -> Rows:
    if unit.shard.format == "parquet":
        return read_parquet(unit, columns, text_column)
    if unit.shard.format == "jsonl":
        return read_jsonl(unit, columns, text_column)
    return read_delimited(unit, columns, text_column)
