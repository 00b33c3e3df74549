"""The two questions the pipeline asks of a shard: what is in it, and what do these rows hold.

Takes a shard or a unit, gives its index or a block with carriers. Knows which format answers, and
that damaged data is an answer and not an error.
"""

from __future__ import annotations

import time

import pyarrow as pa

from sentiment.errors import SourceError
from sentiment.schema import CARRIER_PREFIX, Shard, ShardIndex, Unit
from sentiment.source.blocks import Rows, assemble, lost
from sentiment.source.delimited import index_delimited, read_delimited
from sentiment.source.jsonl import index_jsonl, read_jsonl
from sentiment.source.parquet import index_parquet, read_parquet
from sentiment.source.storage import state_of

# A file without a header has a review where a name should be: messages show the start of names.
_NAME_CHARS = 40
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
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SourceError(f"{shard.uri}: two columns are named {_shown(twice)}; rename one")
    if text_column not in names:
        raise SourceError(
            f"{shard.uri}: there is no column {text_column!r} among {_shown(names)}; "
            "name the column of the text with --text-column"
        )


def _shown(names: list[str]) -> str:
    short = [n if len(n) <= _NAME_CHARS else f"{n[:_NAME_CHARS]}…" for n in names[:_NAMES_SHOWN]]
    more = len(names) - len(short)
    return ", ".join(map(repr, short)) + (f" and {more} more" if more else "")


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
        if any(reject.reason.startswith("unreadable") for reject in rows.rejects):
            state_of(unit.shard)  # raises when it is the storage that failed, not the file
    return assemble(unit, columns, rows, time.perf_counter() - started)


def _read(unit: Unit, columns: pa.Schema, text_column: str) -> Rows:
    if unit.shard.format == "parquet":
        return read_parquet(unit, columns, text_column)
    if unit.shard.format == "jsonl":
        return read_jsonl(unit, columns, text_column)
    return read_delimited(unit, columns, text_column)
