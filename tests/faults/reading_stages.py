"""A folder of shards through every stage but the model: list, index, plan, read, tokenise, commit.

Takes a folder and an output, gives what became of each file, with all promises checked on the way.
The model is the one stage that is made up; there is no Ray. Knows nothing of how files are damaged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentiment.block import (
    CARRIER_FIELDS,
    LABEL,
    OFF_LABEL,
    REASON,
    REASONS,
    ROW,
    ROW_END,
    SCORE,
    SCORE_SEC,
    STAGE,
    UNIT,
)
from sentiment.model.tokenizer import Tokeniser
from sentiment.output.commit import Stamp, commit_rowless, commit_unit
from sentiment.output.committed import read_committed
from sentiment.output.folder import Output
from sentiment.output.layout import REJECT_SCHEMA, added_columns
from sentiment.output.plan import ShardPlan, plan_run
from sentiment.output.receipt import Footer
from sentiment.scoring.stages import tokenise_block
from sentiment.source.index import index_shards
from sentiment.source.listing import list_shards
from sentiment.source.read import read_unit
from sentiment.source.shards import Shard, ShardIndex, Unit

TEXT = "text"
STAMP = Stamp("model", "config", "0.1.0", "sentiment")
BUILTIN = Path(__file__).parents[2] / "sentiment" / "model" / "builtin"


@dataclass(frozen=True)
class Reject:
    """A line of a reject file: first and last row, the latter None for an open range."""

    first: int
    last: int | None
    reason: str
    detail: str

    def __str__(self) -> str:
        last = "end" if self.last is None else self.last
        rows = f"{self.first}" if self.last == self.first else f"{self.first} to {last}"
        return f"{'file' if self.first < 0 else f'row {rows}'}: {self.reason}"


@dataclass(frozen=True)
class Account:
    """What became of one file.

    Attributes:
        labelled: Rows with a label, by their numbers in the file.
        rejects: The rest.
        texts: The text of each labelled row, as committed.
    """

    labelled: tuple[int, ...]
    rejects: tuple[Reject, ...]
    texts: tuple[str, ...]


def process(
    source: Path, output: Output, unit_rows: int = 1000, sources: Sequence[str] = ()
) -> dict[str, Account]:
    """Take every shard of a folder to its committed files.

    Args:
        source: The folder.
        output: Where to commit; empty.
        unit_rows: Rows of a unit.
        sources: What to list in place of the folder.

    Returns:
        An account of each file, by its path below the folder.

    Raises:
        SentimentError: The folder cannot be planned.
        AssertionError: A promise is broken.
    """
    shards = list_shards(sources or [str(source)]).shards
    return {
        str(Path(shard.uri).relative_to(source)): commit(shard, index, output, unit_rows)
        for shard, index in zip(shards, index_shards(shards, keep_going=True), strict=True)
    }


def commit(shard: Shard, index: ShardIndex, output: Output, unit_rows: int) -> Account:
    """Take an indexed shard to its committed files, check them and give its account."""
    plan = _plan(index, output, unit_rows)
    assert index.shard == shard
    footers = []
    if plan.rowless:
        footers.append(commit_rowless(output, STAMP, index))
    for unit in plan.units:
        assert index.columns is not None
        block = read_unit(unit, index.columns)
        _check_block(unit, index.columns, block)
        footers.append(commit_unit(output, STAMP, unit, _scored(block)))
    assert sum(footer.rows for footer in footers) == plan.expected
    [index_again] = index_shards([shard], keep_going=True)
    again = _plan(index_again, output, unit_rows)
    assert again.done, "a rerun finds work left"
    assert {one.unit_id for one in again.reused} == {one.unit_id for one in footers}
    account = _account(output, index, footers)
    covered = Counter(account.labelled)
    for reject in account.rejects:
        if reject.first >= 0 and reject.last is not None:
            covered.update(range(reject.first, reject.last + 1))
    assert covered == Counter(range(index.rows)), "a row is accounted for twice or never"
    opened = [reject for reject in account.rejects if reject.last is None]
    assert len(opened) == (1 if index.damage else 0)
    return account


def _plan(index: ShardIndex, output: Output, unit_rows: int) -> ShardPlan:
    (plan,) = plan_run(
        [index],
        read_committed(output, [index.shard]).footers,
        config_digest=STAMP.config_digest,
        unit_rows=unit_rows,
        on_change="refuse",
    ).shards
    return plan


def _check_block(unit: Unit, columns: pa.Schema, block: pa.Table) -> None:
    """What `read_unit` promises."""
    assert block.schema.equals(pa.schema([*columns, *CARRIER_FIELDS]))
    block.validate(full=True)
    assert {Unit.from_json(value) for value in pc.unique(block[UNIT]).to_pylist()} <= {unit}
    covered: list[int] = []
    lines = (block[name].to_pylist() for name in (ROW, ROW_END, STAGE, REASON))
    for first, last, stage, reason in zip(*lines, strict=True):
        covered += range(first, last + 1)
        assert (stage, reason) == (None, None) or (stage == "read" and reason in REASONS)
        assert reason is not None or first == last
    assert covered == list(range(unit.first_row, unit.last_row + 1))
    is_bad = pc.is_valid(block[REASON])
    for name in columns.names:
        assert not pc.any(pc.and_(is_bad, pc.is_valid(block[name]))).as_py()


class _Tokeniser(Tokeniser):
    """The built-in model's, put together without transformers: its import takes seconds."""

    def __init__(self) -> None:
        self.eos_id = 1
        self._vocabulary_json = (BUILTIN / "tokenizer.json").read_text(encoding="utf-8")
        self._before = self._after = ""
        self._limit = 64
        self._long_text = "head"


def _scored(block: pa.Table) -> pa.Table:
    """Tokenised, and labelled as a model might."""
    block = tokenise_block(block, _Tokeniser())
    good = pc.is_null(block[REASON])
    for name, value in ((LABEL, "positive"), (SCORE, 0.75), (OFF_LABEL, 0.125)):
        kind = pa.string() if name == LABEL else pa.float32()
        values = pc.if_else(good, pa.scalar(value, kind), pa.scalar(None, kind))
        block = block.append_column(name, values)
    seconds = pa.array([0.0] * block.num_rows, pa.float32())
    return block.append_column(SCORE_SEC, seconds)


def _account(output: Output, index: ShardIndex, footers: Sequence[Footer]) -> Account:
    """Read back what was committed."""
    labelled: list[int] = []
    rejects: list[Reject] = []
    texts: list[str] = []
    for footer in sorted(footers, key=lambda one: (one.first_row, one.last_row)):
        data = _table(output, footer.unit_id)
        assert data.schema.names[-7:] == added_columns("sentiment").names
        if index.columns is not None:
            assert data.schema.names[:-7] == index.columns.names
            texts += map(str, data[TEXT].to_pylist())
        assert data.num_rows == footer.labelled
        labelled += data["sentiment_source_row"].to_pylist()
        lost = 0
        if footer.rejected:
            assert footer.reject_file is not None
            table = _table(output, footer.reject_file)
            assert table.schema.equals(REJECT_SCHEMA)
            for row in table.to_pylist():
                first, last = row["source_row"], row["source_row_end"]
                assert row["source_file"] == index.shard.identity
                rejects.append(Reject(first, last, row["reason"], row["detail"] or ""))
                lost += 1 if last is None else last - first + 1
        assert lost == footer.rejected
    return Account(tuple(labelled), tuple(rejects), tuple(texts))


def _table(output: Output, relative: str) -> pa.Table:
    with output.filesystem.open_input_file(output.path(relative)) as file:
        return pq.ParquetFile(file).read()
