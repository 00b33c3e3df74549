"""The commit: one scored block becomes one reject file and then one data file.

The data file alone is the commit. Its name and its rows follow from the unit, so a repeated task
overwrites its own file. Its footer names the reject file and carries the counts of the unit, so the
committed files are the manifest. A file is serialised in memory and written in one piece.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentiment.block import (
    EXCLUDED,
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
    UNKNOWN,
    empty_table,
)
from sentiment.errors import LeaseLostError, OutputError
from sentiment.metrics.counts import count_unit
from sentiment.metrics.truth import TruthMap
from sentiment.output.committed import find_footer
from sentiment.output.complete import check_complete
from sentiment.output.conform import conform_rows
from sentiment.output.contents import rows_digest
from sentiment.output.counted_by import group_names, truth_values
from sentiment.output.folder import Output
from sentiment.output.layout import (
    REJECT_SCHEMA,
    added_columns,
    data_files,
    reject_file_of,
    source_hash_in,
)
from sentiment.output.plan import rowless_unit
from sentiment.output.receipt import Footer, rejects_of
from sentiment.output.rejects import reject_table, rows_per_reject
from sentiment.source.selection.partitions import with_partition
from sentiment.source.shards import Shard, ShardIndex, Unit
from sentiment.texts import TEXT, TextColumns


@dataclass(frozen=True)
class Stamp:
    """What every file of a run is stamped with.

    Attributes:
        prefix: First word of the added columns.
        label_column: Column of true labels, if any.
        truth: What its values stand for.
        group_by: Columns whose combinations are counted apart.
        epoch: Epoch of the lease of the run.
        texts: The columns that are scored.
        columns: Columns of the output; None to take those of each block.
    """

    model_digest: str
    config_digest: str
    code_version: str
    prefix: str
    label_column: str | None = None
    truth: TruthMap = field(default_factory=TruthMap)
    group_by: tuple[str, ...] = ()
    epoch: int = 0
    texts: TextColumns = TEXT
    columns: pa.Schema | None = None

    @property
    def counted_by(self) -> list[str]:
        """Columns, or keys of partitions, by whose values rows are counted."""
        return [*([self.label_column] if self.label_column else []), *self.group_by]


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
    rows, source = conform_rows(rows, stamp.columns)
    is_good = pc.is_null(rows.column(REASON))
    good, bad = rows.filter(is_good), rows.filter(pc.invert(is_good))
    is_excluded = pc.equal(bad.column(REASON), EXCLUDED)
    excluded, bad = bad.filter(is_excluded), bad.filter(pc.invert(is_excluded))
    rejects = reject_table(unit.shard, bad)
    lost = rows_per_reject(rejects)
    not_wanted = check_complete(unit, good, rejects, excluded)
    rejected: Counter[str] = Counter()
    reasons = rejects.column("reason").to_pylist()
    for reason, count in zip(reasons, lost, strict=True):
        rejected[reason] += count
    data = labelled_table(stamp.prefix, unit.shard, good, source)
    counted, uncounted = (
        with_partition(some, unit.shard.folder, stamp.counted_by) for some in (good, bad)
    )
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
        truth=truth_values(counted, stamp.label_column, stamp.truth),
        groups=group_names(counted, stamp.group_by),
        split_rows=int(pc.sum(good.column(SPLIT)).as_py() or 0)
        if SPLIT in good.column_names
        else None,
        unknown_tokens=int(pc.sum(good.column(UNKNOWN)).as_py() or 0)
        if UNKNOWN in good.column_names
        else None,
        rejected_groups=list(
            zip(group_names(uncounted, stamp.group_by) or (), reasons, lost, strict=False)
        ),
    )
    footer = _footer(stamp, unit, metrics, labelled=good.num_rows, rejected=sum(lost))
    scored = [name for name in stamp.texts.names if name in data.column_names]
    # They may not pass through.
    digest = rows_digest(data, scored, stamp.prefix) if scored else None
    footer = replace(footer, rows_sha256=digest, excluded=not_wanted)
    return _write(output, footer, data, rejects)


def commit_rowless(output: Output, stamp: Stamp, index: ShardIndex) -> Footer:
    """Commit an empty shard, or the part of a shard that cannot be read, as a file without rows.

    Damage counts as one rejected row: nobody can know how many it holds.
    """
    unit, damage = rowless_unit(index), index.damage
    rejects = REJECT_SCHEMA.empty_table()
    if damage:
        record = {
            "source_file": index.shard.identity,
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
    columns = index.columns if stamp.columns is None else stamp.columns
    data = empty_table(pa.schema([*(columns or []), *added_columns(stamp.prefix)]))
    footer = _footer(stamp, unit, metrics, labelled=0, rejected=len(rejected))
    return _write(output, footer, data, rejects)


def labelled_table(prefix: str, shard: Shard, good: pa.Table, source: pa.Table) -> pa.Table:
    """Source columns, followed by the added columns."""
    added = [
        good.column(LABEL),
        good.column(SCORE),
        good.column(OFF_LABEL),
        good.column(TOKENS),
        good.column(TRUNCATED),
        pa.array([shard.identity] * good.num_rows, pa.string()),
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
        source_file=unit.shard.identity,
        fingerprint=unit.shard.fingerprint,
        first_row=unit.first_row,
        last_row=unit.last_row,
        labelled=labelled,
        rejected=rejected,
        model_digest=stamp.model_digest,
        config_digest=stamp.config_digest,
        code_version=stamp.code_version,
        metrics=metrics,
        epoch=stamp.epoch,
        shard_rows=unit.shard_rows,
        text_column=stamp.texts.told(),
        label_column=stamp.label_column,
        group_by=list(stamp.group_by),
    )


def _write(output: Output, footer: Footer, data: pa.Table, rejects: pa.Table) -> Footer:
    """Write the rejects of a unit, then its data file, which alone is the commit.

    Nothing that is committed goes before its successor is in place: the rejects of an earlier
    commit have another name and are deleted last. A crash leaves a reject file too many at most,
    which no data file names.

    Returns:
        The footer as it was written.
    """
    earlier = _committed_before(output, footer)
    if rejects.num_rows:
        rejected_rows = serialise(rejects)
        footer = replace(footer, reject_file=reject_file_of(footer.unit_id, rejected_rows))
        assert footer.reject_file is not None
        output.write(footer.reject_file, rejected_rows)
    output.write(footer.unit_id, serialise(data, footer))
    if footer.reject_file is not None and not output.exists(footer.reject_file):
        # This attempt was taken for dead: when the folder was completed, nothing named its rejects.
        output.write(footer.reject_file, rejected_rows)
    try:
        output.check_fence()
    except LeaseLostError:
        _take_back(output, footer)
        raise
    superseded = rejects_of(earlier) if earlier is not None else None
    if superseded is not None and superseded != footer.reject_file:
        output.delete(superseded)
    return footer


def _committed_before(output: Output, footer: Footer) -> Footer | None:
    """Return the footer of the file that a commit replaces; None if there is none or it is damaged.

    Raises:
        OutputError: The file belongs to another source.
    """
    if not output.exists(footer.unit_id):
        return None
    earlier = find_footer(output, footer.unit_id)
    if earlier is not None and earlier.source_file != footer.source_file:
        raise OutputError(
            f"{output.path(footer.unit_id)}: holds rows of another source, {earlier.source_file}; "
            "it is not replaced. Move it, or use another --output"
        )
    return earlier


def _take_back(output: Output, footer: Footer) -> None:
    """Delete a file that was written while another run took the output over.

    It was suspended between its last look at the lease and its write. The other run may have
    committed the same rows in files of other names; then these rows are in the output twice. If it
    committed the same unit, the file is in its place and has the same rows.
    """
    own_hash, unfenced = source_hash_in(footer.unit_id), replace(output, fence=None)
    for path in data_files(output, footer.folder):
        if path == footer.unit_id or source_hash_in(path) != own_hash:
            continue
        other = find_footer(output, path)
        if other is not None and other.epoch > footer.epoch and other.overlaps(footer):
            unfenced.delete(footer.unit_id)
            if footer.reject_file is not None:
                unfenced.delete(footer.reject_file)
            return


def _total(rows: pa.Table, name: str) -> float:
    return float(pc.sum(rows.column(name)).as_py() or 0.0)
