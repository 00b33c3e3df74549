"""Columns that travel with a block of rows, the names of the stages, and the reasons of rejects.

A *shard* is one input file. A *unit* is a range of rows of one shard. It is read as one block,
scored as one block and committed as one output file. A *carrier* is a column that our stages add to
a block for each other; it is removed before the labelled file is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

# Carriers. Source columns may not start with this prefix.
CARRIER_PREFIX: Final = "_sentiment_"
UNIT: Final = "_sentiment_unit"  # dictionary<string>: the unit as JSON, the same in every row
ROW: Final = "_sentiment_row"  # int64: row number in the shard, from 0; -1 means the whole shard
ROW_END: Final = "_sentiment_row_end"  # int64: last row a reject stands for; null means open
STAGE: Final = "_sentiment_stage"  # string: the stage that rejected the row; null while it is good
REASON: Final = "_sentiment_reason"  # string: one of REASONS; null while the row is good
DETAIL: Final = "_sentiment_detail"  # string: what exactly was wrong, without review text
RAW: Final = "_sentiment_raw"  # string: the record as found, when it does not fit the columns
IDS: Final = "_sentiment_ids"  # list<int32>: token ids, `</s>` included; null once rejected
TOKENS: Final = "_sentiment_tokens_seen"  # int32: token count before truncation, `</s>` included
UNKNOWN: Final = "_sentiment_unknown"  # int32: of these, tokens that stand for unknown characters
TRUNCATED: Final = "_sentiment_truncated"  # bool: the text was longer than the source limit
LABEL: Final = "_sentiment_label"  # string
SCORE: Final = "_sentiment_score"  # float32
OFF_LABEL: Final = "_sentiment_off_label"  # float32
SPLIT: Final = "_sentiment_split"  # bool, only with windows: they disagree; null once rejected
# int32, only where processes died over rows of the block: how many did over a rejected row
ATTEMPTS: Final = "_sentiment_attempts"
SCORER: Final = "_sentiment_scorer"  # dictionary<string>: an `ActorNote` as JSON, as UNIT is
# Seconds of the unit spent in each stage, spread evenly over its rows so that any slice adds up.
READ_SEC: Final = "_sentiment_read_sec"
TOKENISE_SEC: Final = "_sentiment_tokenise_sec"
SCORE_SEC: Final = "_sentiment_score_sec"

CARRIER_FIELDS: Final = pa.schema(
    [
        pa.field(UNIT, pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field(ROW, pa.int64(), nullable=False),
        pa.field(ROW_END, pa.int64()),
        pa.field(STAGE, pa.string()),
        pa.field(REASON, pa.string()),
        pa.field(DETAIL, pa.string()),
        pa.field(RAW, pa.string()),
        pa.field(READ_SEC, pa.float32(), nullable=False),
    ]
)

# The stages of a row, as rejects, footers and `run.json` name them.
STAGE_READ: Final = "read"
STAGE_TOKENISE: Final = "tokenise"
STAGE_SCORE: Final = "score"
STAGE_WRITE: Final = "write"
STAGES: Final = (STAGE_READ, STAGE_TOKENISE, STAGE_SCORE, STAGE_WRITE)

UNUSABLE_COLUMNS: Final = "unusable_columns"

# Why a row could not be labelled, and what the user can do about it.
REASONS: Final[Mapping[str, str]] = {
    "null_text": "the text is null",
    "empty_text": "the text is empty, or nothing in it can be seen",
    "unknown_text": "the model knows no character of the text",
    "text_not_string": "the text column holds something other than text",
    "undecodable_text": "the text is not valid UTF-8",
    "malformed_record": "the record does not parse or has the wrong number of fields",
    UNUSABLE_COLUMNS: "the file has no text column, or columns that cannot be told apart",
    "unreadable_file": "the file cannot be opened or its footer cannot be read",
    "unreadable_rows": "these rows of the file cannot be read",
    "off_label_text": "free generation answered with a text that is no label",
    "tokenising_error": "the tokenizer failed on this row alone",
    "scoring_error": "the model failed on this row alone",
}


# Reasons that say that bytes could not be read. Such a fault may pass: another process has to see
# the same before rows are rejected for it.
UNREADABLE_REASONS: Final = frozenset({"unreadable_file", "unreadable_rows"})

# Reasons that another run may not find: the rows are worth a second try.
TRANSIENT_REASONS: Final = UNREADABLE_REASONS | {"tokenising_error", "scoring_error"}

# Stands for a reason in rows that the user's own choice leaves out. They are counted, and go
# neither to the data file nor to the rejects.
EXCLUDED: Final = "excluded"

# Stands for a reason in a block whose unit cannot be read for now. It is never committed.
DEFERRED: Final = "deferred"


def nulls(count: int, kind: pa.DataType) -> pa.Array:
    """Return nulls of any type; pyarrow makes none of extension types such as tensors."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.nulls(count, kind.storage_type))
    return pa.nulls(count, kind)


def empty_table(columns: pa.Schema) -> pa.Table:
    """Return a table without rows, with columns of any type."""
    return pa.Table.from_arrays([nulls(0, kind) for kind in columns.types], schema=columns)


def reject_rows(
    block: pa.Table,
    rows: Sequence[int] | NDArray[np.intp],
    stage: str,
    reasons: Sequence[str] | NDArray[np.object_],
    details: Sequence[str | None] | NDArray[np.object_],
) -> pa.Table:
    """Mark rows of a block as rejected.

    Args:
        block: Rows with the read carriers.
        rows: Positions in the block of the rows to reject, ascending.
        stage: The stage that rejects them, one of STAGES.
        reasons: One of REASONS for each of these rows.
        details: What exactly was wrong with each of these rows, without review text.

    Returns:
        The same block with STAGE, REASON and DETAIL set in these rows and unchanged in all others.
    """
    mask = np.zeros(block.num_rows, dtype=bool)
    mask[np.asarray(rows, dtype=np.intp)] = True
    stages = [stage] * len(rows)
    for name, values in ((STAGE, stages), (REASON, reasons), (DETAIL, details)):
        column = pc.replace_with_mask(
            block.column(name).combine_chunks(), pa.array(mask), pa.array(values, pa.string())
        )
        block = block.set_column(block.schema.get_field_index(name), name, column)
    return block
