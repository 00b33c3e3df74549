"""The columns of an output: one name and one type each, whatever the files of its sources have.

Readers take an output for one table. So the types of all shards are settled before the first row is
written, and kept in the output: tonight's files fit those of last month. A type is widened where
every value stays what it is. Where that cannot be, the column is text.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from sentiment.errors import SourceError
from sentiment.output.committed import Committed
from sentiment.output.folder import Output
from sentiment.output.layout import ADDED_COLUMNS, COLUMNS_FILE
from sentiment.output.widening import widened
from sentiment.source.formats.binary_text import is_text
from sentiment.source.index import unusable
from sentiment.source.shards import ShardIndex
from sentiment.texts import TextColumns

Policy = Literal["refuse", "widen", "text"]


@dataclass(frozen=True)
class Drift:
    """A column that has several types in the sources.

    Attributes:
        name: Its name.
        types: The types, that of the output first if it has one.
        becomes: Its type in the output.
        example: A source file of a type that is not the first.
    """

    name: str
    types: tuple[str, ...]
    becomes: str
    example: str

    def told(self) -> str:
        """Return it in words."""
        return (
            f"column {self.name!r} is {' and '.join(self.types)} in the sources, see "
            f"{self.example}; in the output it is {self.becomes}"
        )


@dataclass
class _Seen:
    """What is known of one column: its types, each with a source and whether integers are wide."""

    name: str
    types: dict[pa.DataType, tuple[str, bool]] = field(default_factory=dict)

    def add(self, kind: pa.DataType, source: str, *, has_wide: bool) -> None:
        first, was_wide = self.types.get(kind, (source, False))
        self.types[kind] = (first, was_wide or has_wide)


def read_columns(output: Output) -> pa.Schema | None:
    """Read the columns of an output; None if nothing says what they are.

    Raises:
        OutputError: The storage does not answer.
    """
    try:
        values = json.loads(output.read(COLUMNS_FILE) or b"")
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(values["arrow"])))
    except (ValueError, KeyError, TypeError, pa.ArrowException):
        return None


def columns_of(output: Output, committed: Committed) -> pa.Schema | None:
    """Return the columns of an output; of one of an earlier version, those of its first file.

    Raises:
        OutputError: The storage does not answer.
    """
    if (known := read_columns(output)) is not None:
        return known
    labelled = (one for found in committed.footers.values() for one in found if one.labelled)
    first = min(labelled, key=lambda footer: footer.unit_id, default=None)
    if first is None:
        return None
    with output.filesystem.open_input_file(output.path(first.unit_id)) as file:
        schema = pq.read_schema(file)
    names = schema.names[: len(schema) - ADDED_COLUMNS]
    return pa.schema([pa.field(name, schema.field(name).type) for name in names])


def write_columns(output: Output, columns: pa.Schema) -> None:
    """Write the columns of an output, if they are new.

    Raises:
        OutputError: It cannot be written.
    """
    known = read_columns(output)
    if known is not None and known.equals(columns):
        return
    values = {
        "columns": {one.name: str(one.type) for one in columns},
        "arrow": base64.b64encode(columns.serialize().to_pybytes()).decode(),
    }
    output.write(COLUMNS_FILE, json.dumps(values, indent=1).encode() + b"\n")


def settle_columns(
    indexes: Sequence[ShardIndex], recorded: pa.Schema | None, policy: Policy, texts: TextColumns
) -> tuple[pa.Schema, list[Drift]]:
    """Settle the columns of an output.

    Args:
        indexes: The shards of this run.
        recorded: What the output has. Its columns come first, and keep their types.
        policy: What to do about columns of several types: refuse them, widen them where that is
            safe, or make them text.
        texts: The columns to score. Where one is no text, its rows are rejected.

    Returns:
        The columns, and those that had several types.

    Raises:
        SourceError: A column has several types, and they are refused.
    """
    seen = {one.name: _Seen(one.name) for one in recorded or ()}
    for index in _distinct(indexes):
        for one in index.columns or ():
            column = seen.setdefault(one.name, _Seen(one.name))
            has_wide = one.name in index.wide_columns
            column.add(one.type, index.shard.uri, has_wide=has_wide)
    fields, drifts = [], []
    for name, column in seen.items():
        known = recorded.field(name).type if recorded and name in recorded.names else None
        if name in texts.names:
            column.types = {kind: one for kind, one in column.types.items() if is_text(kind)}
            column.types = column.types or {known or pa.string(): ("", False)}
        becomes = _settled(column, known, policy)
        fields.append(pa.field(name, becomes))
        if (drift := _drift(column, known, becomes)) is not None:
            drifts.append(drift)
    if policy == "refuse" and drifts:
        raise SourceError(
            f"{drifts[0].told()}. --schema-drift refuse lets no column have several types"
        )
    return pa.schema(fields), drifts


def _distinct(indexes: Iterable[ShardIndex]) -> Iterable[ShardIndex]:
    """Yield one index of those that have the same columns: a lake has many such files."""
    known: set[tuple[object, ...]] = set()
    for index in indexes:
        if index.columns is None:
            continue
        key = (*index.columns.names, *index.columns.types, *sorted(index.wide_columns))
        if key not in known:
            known.add(key)
            yield index


def _settled(column: _Seen, known: pa.DataType | None, policy: Policy) -> pa.DataType:
    if known is not None and not pa.types.is_null(known):
        return known
    kinds = [kind for kind in column.types if not pa.types.is_null(kind)]
    if not kinds:
        return pa.string()  # a later file may hold anything, and a column of nulls no reader widens
    becomes = kinds[0]
    wide = any(is_wide for _, is_wide in column.types.values())
    for kind in kinds[1:]:
        becomes = pa.string() if policy == "text" else widened(becomes, kind, has_wide=wide)
    return becomes


def _drift(column: _Seen, known: pa.DataType | None, becomes: pa.DataType) -> Drift | None:
    kinds = {kind: uri for kind, (uri, _) in column.types.items() if not pa.types.is_null(kind)}
    types = [*kinds] if known is None else [known, *(kind for kind in kinds if kind != known)]
    if len(types) < 2:
        return None
    return Drift(column.name, tuple(map(str, types)), str(becomes), kinds[types[1]])


def without_clashing_cases(
    indexes: Sequence[ShardIndex], recorded: pa.Schema | None
) -> list[ShardIndex]:
    """Find shards with a column that differs from one of another shard in case only.

    Many readers take the two for one. The spelling of the output counts, or that of most shards.

    Returns:
        The indexes; a shard with another spelling is damaged as a whole.
    """
    spellings: dict[str, dict[str, int]] = {}
    for name in recorded.names if recorded is not None else ():
        spellings.setdefault(name.lower(), {})[name] = len(indexes) + 1
    for index in indexes:
        for name in index.columns.names if index.columns is not None else ():
            counts = spellings.setdefault(name.lower(), {})
            counts[name] = counts.get(name, 0) + 1
    usual = {
        low: max(counts, key=lambda name: (counts[name], name))
        for low, counts in spellings.items()
        if len(counts) > 1
    }
    return [_with_usual_case(index, usual) for index in indexes] if usual else list(indexes)


def _with_usual_case(index: ShardIndex, usual: Mapping[str, str]) -> ShardIndex:
    for name in index.columns.names if index.columns is not None else ():
        if usual.get(name.lower(), name) != name:
            other = usual[name.lower()]
            return unusable(
                index.shard,
                f"{index.shard.uri}: column {name!r} differs from column {other!r} of the other "
                "files in case only, and many readers take them for one; rename it",
            )
    return index
