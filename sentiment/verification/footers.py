"""Checks one data file by itself: whether its name, columns and rows agree with its footer."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.parquet as pq

from sentiment.output.folder import Output
from sentiment.output.layout import added_columns, earlier_reject_file_of, source_hash_in
from sentiment.output.receipt import Footer, rejects_of
from sentiment.source.shards import EARLIER_HASH_DIGITS, Shard, Unit, hash_of
from sentiment.storage import one_line
from sentiment.verification.contents import DAMAGE_ERRORS, Problem

_ADDED = len(added_columns(""))
_LAST_ADDED = added_columns("").names[-1]  # without its prefix

Columns = list[tuple[str, str]]  # name and type, both as text


@dataclass(frozen=True)
class DataFile:
    """A data file whose footer can be read.

    Attributes:
        path: Relative to the output.
        footer: Its footer without the metrics. They are checked here and not needed later, and they
            are the largest part of it.
        columns: Names and types of the source columns, one a line. Files with equal columns share
            one string.
    """

    path: str
    footer: Footer
    columns: str

    @property
    def rowless(self) -> bool:
        """Whether the file stands for an empty shard or for damage."""
        return self.footer.rowless


@dataclass(frozen=True)
class Examined:
    """The result of checking one data file.

    Attributes:
        file: The file; None if it cannot be read or another program wrote it.
        problems: What is wrong with it.
    """

    file: DataFile | None
    problems: tuple[Problem, ...]


def examine(output: Output, path: str, rejects: Collection[str], *, deep: bool) -> Examined:
    """Check one data file by itself.

    Args:
        output: The output.
        path: The file, relative to the output.
        rejects: All reject files of the output.
        deep: Read its rows and its rejects, too, if its footer is in order.
    """
    try:
        footer, rows, columns = _open(output, path)
    except (*DAMAGE_ERRORS, TypeError) as error:
        return _unusable(path, f"cannot be read ({one_line(error)})")
    if footer is None:
        return _unusable(path, "was not written by sentiment, but readers will take it for data")
    if not _is_sound(footer):
        return _unusable(path, "its footer holds impossible values")
    prefix = _prefix(columns)
    problems = [
        Problem(path, what)
        for what in (
            *_name_problems(path, footer),
            *_count_problems(footer, rows),
            *_column_problems(columns, prefix),
            *_reject_problems(path, footer, rejects),
        )
    ]
    if deep and not problems:
        # Imported here because it imports pandas, which the other checks do not need.
        from sentiment.verification.rows import check_rows

        problems = check_rows(output, path, footer, prefix)
    source = sys.intern("\n".join(f"{name} {kind}" for name, kind in columns[:-_ADDED]))
    return Examined(DataFile(path, replace(footer, metrics={}), source), tuple(problems))


def _open(output: Output, path: str) -> tuple[Footer | None, int, Columns]:
    """Read the footer, the number of rows and the columns of a Parquet file.

    Raises:
        OSError: It cannot be read.
        pa.ArrowException: It is no Parquet file, or damaged.
        ValueError: Its footer is not JSON, or a name in it is not UTF-8.
        TypeError: Its footer has unknown fields, or lacks some.
    """
    with output.filesystem.open_input_file(output.path(path)) as stream:
        file = pq.ParquetFile(stream)
        metadata, schema = file.metadata, file.schema_arrow
    columns = [(one.name, str(one.type)) for one in schema]
    return Footer.from_metadata(metadata.metadata), metadata.num_rows, columns


def _prefix(columns: Columns) -> str:
    """Return the first word of the added columns; "" if the last column is not one of them."""
    last = columns[-1][0] if columns else ""
    return last.removesuffix(_LAST_ADDED) if last.endswith(_LAST_ADDED) else ""


def _unusable(path: str, what: str) -> Examined:
    return Examined(None, (Problem(path, what),))


def _is_sound(footer: Footer) -> bool:
    """Whether the values have the right types and possible ranges; JSON itself checks neither."""
    values = vars(footer)
    counts: Any = footer.metrics
    texts = ("unit_id", "source_file", "fingerprint", "model_digest", "config_digest")
    numbers = ("first_row", "last_row", "labelled", "rejected", "excluded")
    return (
        all(isinstance(values[name], str) for name in texts)
        and all(type(values[name]) is int for name in numbers)
        and isinstance(counts, dict)
        and min(footer.first_row, footer.labelled, footer.rejected, footer.excluded) >= 0
        and footer.last_row >= footer.first_row - 1
    )


def _name_problems(path: str, footer: Footer) -> Iterator[str]:
    """Check that the path is that of the unit, and that its name agrees with source and rows."""
    if path != footer.unit_id:
        yield f"is {footer.unit_id} by its footer: it was copied, moved or renamed"
        return
    # The name of the file starts with that of the source, which is not in the footer.
    shard = Shard("", "", "", footer.fingerprint, 0, footer.source_file)
    rows = Unit(shard, footer.first_row, footer.last_row).file_name.removeprefix(shard.key)
    full_hash = hash_of(footer.source_file)
    hashes = (full_hash, full_hash[:EARLIER_HASH_DIGITS])
    if source_hash_in(path) not in hashes or not path.endswith(rows):
        yield "its footer gives another source or other rows than its name"


def _count_problems(footer: Footer, rows: int) -> Iterator[str]:
    """Check that the rows, the footer and the metrics in it give the same numbers."""
    if rows != footer.labelled:
        yield f"holds {rows:,} rows, its footer says {footer.labelled:,} labelled"
    span = footer.last_row - footer.first_row + 1
    if span and footer.rows != span:
        yield (
            f"its footer says {footer.labelled:,} labelled, {footer.rejected:,} rejected and "
            f"{footer.excluded:,} excluded, "
            f"which is not the {span:,} rows from {footer.first_row} to {footer.last_row}"
        )
    if not span and (footer.labelled or footer.rejected > 1 or footer.excluded):
        yield "stands for an empty source or for damage, but its footer counts rows"
    try:
        labelled = sum(values["rows"] for values in footer.metrics["labels"].values())
        rejected = sum(footer.metrics["rejected"].values())
    except (KeyError, TypeError, AttributeError):
        yield "the metrics in its footer cannot be added up"
        return
    if (labelled, rejected) != (footer.labelled, footer.rejected):
        yield (
            f"the metrics in its footer count {labelled:,} labelled and {rejected:,} rejected "
            f"rows, the footer itself {footer.labelled:,} and {footer.rejected:,}"
        )


def _column_problems(columns: Columns, prefix: str) -> Iterator[str]:
    """Check that the added columns come last and have their types."""
    if not prefix:
        yield "the added columns are not there"
        return
    found = dict(columns[-_ADDED:])
    wrong = [one.name for one in added_columns(prefix) if found.get(one.name) != str(one.type)]
    if wrong:
        yield f"these added columns are missing or of another type: {', '.join(wrong)}"


def _reject_problems(path: str, footer: Footer, rejects: Collection[str]) -> Iterator[str]:
    """Check that its reject file is there if and only if rows were rejected.

    A data file that was moved is not checked: its reject file is still in the old place.
    """
    if path != footer.unit_id:
        return
    name = rejects_of(footer)
    if name is not None and name not in rejects:
        yield f"its footer says {footer.rejected:,} rejected, but there is no reject file"
    if name is not None and not footer.rejected:
        yield "names a reject file, but its footer says nothing was rejected"
    if not footer.rejected and earlier_reject_file_of(path) in rejects:
        yield "has a reject file, but its footer says nothing was rejected"
