"""The commit: one scored block becomes one reject file and then one data file.

The data file alone is the commit. Its name and its rows follow from the unit, so a repeated task
overwrites its own file. Its footer carries the counts of the unit, so the committed files are the
manifest. A file is serialised in memory and written in one piece.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentiment.block import (
    CARRIER_PREFIX,
    LABEL,
    OFF_LABEL,
    READ_SEC,
    REASON,
    ROW,
    SCORE,
    SCORE_SEC,
    SPLIT,
    STAGE_READ,
    STAGE_SCORE,
    STAGE_TOKENISE,
    STAGE_WRITE,
    TOKENISE_SEC,
    TOKENS,
    TRUNCATED,
    UNIT,
)
from sentiment.errors import LedgerError
from sentiment.metrics.counts import count_unit, group_name
from sentiment.metrics.truth import TruthMap
from sentiment.output.folder import Output
from sentiment.output.layout import REJECT_SCHEMA, REJECTED_FOLDER, added_columns
from sentiment.output.receipt import Footer
from sentiment.output.rejects import python_values, reject_table, rows_per_reject
from sentiment.source.shards import Damage, Shard, Unit


@dataclass(frozen=True)
class Stamp:
    """What every file of a run is stamped with.

    Attributes:
        prefix: First word of the added columns.
        label_column: Column of true labels, if any.
        truth: What its values stand for.
        group_by: Columns whose combinations are counted apart.
    """

    model_digest: str
    config_digest: str
    code_version: str
    prefix: str
    label_column: str | None = None
    truth: TruthMap = field(default_factory=TruthMap)
    group_by: tuple[str, ...] = ()


def commit_block(output: Output, stamp: Stamp, block: pa.Table) -> list[Footer]:
    """Commit every unit of a scored block.

    Args:
        block: Whole units with all carriers; rejected rows included.

    Returns:
        One footer per unit.

    Raises:
        OutputError: A file cannot be written.
    """
    units = block.column(UNIT).combine_chunks()
    codes = units.indices.to_numpy()
    footers = []
    for code in dict.fromkeys(codes.tolist()):
        unit = Unit.from_json(units.dictionary[code].as_py())
        rows = block.filter(pa.array(codes == code)) if (codes != code).any() else block
        footers.append(commit_unit(output, stamp, unit, rows))
    return footers


def commit_unit(output: Output, stamp: Stamp, unit: Unit, rows: pa.Table) -> Footer:
    """Write the reject file (if any row was rejected), then the data file: the commit.

    Raises:
        LedgerError: The rows are not exactly those of the unit; nothing is written.
        OutputError: A file cannot be written.
    """
    started = time.perf_counter()
    is_good = pc.is_null(rows.column(REASON))
    good, bad = rows.filter(is_good), rows.filter(pc.invert(is_good))
    rejects = reject_table(unit.shard, bad)
    lost = rows_per_reject(rejects)
    _check_complete(unit, good, rejects, lost)
    rejected: Counter[str] = Counter()
    reasons = rejects.column("reason").to_pylist()
    for reason, count in zip(reasons, lost, strict=True):
        rejected[reason] += count
    data = labelled_table(stamp.prefix, unit.shard, good)
    metrics = count_unit(
        labels=good.column(LABEL).to_pylist(),
        scores=good.column(SCORE).to_numpy(),
        off_label=good.column(OFF_LABEL).to_numpy(),
        tokens=good.column(TOKENS).to_numpy(),
        truncated=good.column(TRUNCATED).to_numpy(),
        rejected=rejected,
        stage_sec={
            STAGE_READ: _total(rows, READ_SEC),
            STAGE_TOKENISE: _total(rows, TOKENISE_SEC),
            STAGE_SCORE: _total(rows, SCORE_SEC),
            STAGE_WRITE: time.perf_counter() - started,
        },
        truth=_truth(good, stamp),
        groups=_groups(good, stamp.group_by),
        split_rows=int(pc.sum(good.column(SPLIT)).as_py() or 0)
        if SPLIT in good.column_names
        else None,
        rejected_groups=list(zip(_groups(bad, stamp.group_by) or (), reasons, lost, strict=False)),
    )
    footer = _footer(stamp, unit, metrics, labelled=good.num_rows, rejected=sum(lost))
    _write(output, footer, data, rejects)
    return footer


def commit_rowless(
    output: Output, stamp: Stamp, shard: Shard, columns: pa.Schema | None, damage: Damage | None
) -> Footer:
    """Commit an empty shard, or the part of a shard that cannot be read, as a file without rows.

    Damage counts as one rejected row: nobody can know how many it holds.
    """
    first = max(0, damage.first_row) if damage else 0
    unit = Unit(shard, first_row=first, last_row=first - 1)
    rejects = REJECT_SCHEMA.empty_table()
    if damage:
        record = {
            "source_file": shard.uri,
            "source_row": damage.first_row,
            "source_row_end": None,
            "stage": STAGE_READ,
            "reason": damage.reason,
            "detail": damage.detail,
            "attempts": 1,
            "row_json": None,
        }
        rejects = pa.Table.from_pylist([record], REJECT_SCHEMA)
    rejected = {damage.reason: 1} if damage else {}
    metrics = count_unit(
        labels=[],
        scores=np.zeros(0, np.float32),
        off_label=np.zeros(0, np.float32),
        tokens=np.zeros(0, np.int32),
        truncated=np.zeros(0, np.bool_),
        rejected=rejected,
        stage_sec={},
    )
    data = pa.schema([*(columns or []), *added_columns(stamp.prefix)]).empty_table()
    footer = _footer(stamp, unit, metrics, labelled=0, rejected=len(rejected))
    _write(output, footer, data, rejects)
    return footer


def labelled_table(prefix: str, shard: Shard, good: pa.Table) -> pa.Table:
    """Source columns as they came, followed by the added columns."""
    source = good.select(
        [name for name in good.column_names if not name.startswith(CARRIER_PREFIX)]
    )
    added = [
        good.column(LABEL),
        good.column(SCORE),
        good.column(OFF_LABEL),
        good.column(TOKENS),
        good.column(TRUNCATED),
        pa.array([shard.uri] * good.num_rows, pa.string()),
        good.column(ROW),
    ]
    for column, values in zip(added_columns(prefix), added, strict=True):
        source = source.append_column(column, values)
    return source.replace_schema_metadata(None)


def serialise(table: pa.Table, footer: Footer | None = None) -> memoryview:
    """A whole Parquet file (zstd) in memory, with the footer in its key-value metadata."""
    sink = pa.BufferOutputStream()
    # Without checksums two of three flipped bits in a text page would go unnoticed.
    with pq.ParquetWriter(
        sink, table.schema, compression="zstd", write_page_checksum=True
    ) as writer:
        writer.write_table(table)
        if footer is not None:
            writer.add_key_value_metadata(footer.to_metadata())
    return memoryview(sink.getvalue())


def _footer(
    stamp: Stamp, unit: Unit, metrics: dict[str, Any], *, labelled: int, rejected: int
) -> Footer:
    return Footer(
        unit_id=unit.unit_id,
        source_file=unit.shard.uri,
        fingerprint=unit.shard.fingerprint,
        first_row=unit.first_row,
        last_row=unit.last_row,
        labelled=labelled,
        rejected=rejected,
        model_digest=stamp.model_digest,
        config_digest=stamp.config_digest,
        code_version=stamp.code_version,
        metrics=metrics,
    )


def _write(output: Output, footer: Footer, data: pa.Table, rejects: pa.Table) -> None:
    """Write the rejects of a unit, then its data file, which alone is the commit."""
    reject_file = f"{REJECTED_FOLDER}/{footer.unit_id}"
    committed = serialise(data, footer)
    rejected_rows = serialise(rejects) if rejects.num_rows else None
    if rejected_rows is not None or output.exists(reject_file):
        # The data file of an earlier commit goes first. After a crash between the two writes it
        # would stand beside rejects that are not its own, and rows could be in neither file.
        output.delete(footer.unit_id)
        if rejected_rows is not None:
            output.write(reject_file, rejected_rows)
        else:
            output.delete(reject_file)
    output.write(footer.unit_id, committed)


def _check_complete(unit: Unit, good: pa.Table, rejects: pa.Table, lost: list[int]) -> None:
    """Every row of the unit exactly once, labelled or rejected."""
    covered = good.column(ROW).to_pylist()
    for first, count in zip(rejects.column("source_row").to_pylist(), lost, strict=True):
        covered.extend(range(first, first + count))
    if sorted(covered) != list(range(unit.first_row, unit.last_row + 1)):
        raise LedgerError(
            f"{unit.shard.uri}: rows {unit.first_row} to {unit.last_row} reached the commit as "
            f"{good.num_rows} labelled and {sum(lost)} rejected rows; nothing of them is written"
        )


def _total(rows: pa.Table, name: str) -> float:
    return float(pc.sum(rows.column(name)).as_py() or 0.0)


def _truth(good: pa.Table, stamp: Stamp) -> list[str | None] | None:
    if stamp.label_column is None or stamp.label_column not in good.column_names:
        return None
    return [stamp.truth(value) for value in python_values(good.column(stamp.label_column))]


def _groups(rows: pa.Table, columns: tuple[str, ...]) -> list[str] | None:
    """Group of every row, if rows are grouped; a column that its source lacks counts as null."""
    if not columns:
        return None
    values = [
        python_values(rows.column(name)) if name in rows.column_names else [None] * rows.num_rows
        for name in columns
    ]
    return [group_name(columns, row) for row in zip(*values, strict=True)]
