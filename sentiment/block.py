"""The names and shapes every stage agrees on: shards, units, columns, reject reasons, footers.

Takes nothing, gives the vocabulary of the project. Knows no file format, no model and no cluster.

A *shard* is one input file. A *unit* is a contiguous row range of one shard: it is read as one
block, scored as one block and committed as one output file. A *carrier* is a column that travels
with a block between stages and never reaches the labelled output.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import pyarrow as pa

# Everything that is not labelled data lives below this folder of the output. The leading underscore
# makes Spark, Hive, DuckDB and pyarrow datasets skip it.
PRIVATE_FOLDER: Final = "_sentiment"
REJECTED_FOLDER: Final = f"{PRIVATE_FOLDER}/rejected"
RUNS_FOLDER: Final = f"{PRIVATE_FOLDER}/runs"
RUN_FILE: Final = "run.json"  # these three are in a folder below it, named by the run's id
METRICS_FILE: Final = "metrics.parquet"
REPORT_FILE: Final = "report.html"
LEASE_FILE: Final = f"{PRIVATE_FOLDER}/lease.json"
ATTEMPTS_FOLDER: Final = f"{PRIVATE_FOLDER}/attempts"
SUCCESS_FILE: Final = "_SUCCESS"
FOOTER_KEY: Final = b"sentiment"

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

# Why a row could not be labelled, and what the user can do about it.
REASONS: Final[Mapping[str, str]] = {
    "null_text": "the text is null",
    "empty_text": "the text is empty or only white space",
    "text_not_string": "the text column holds something other than text",
    "undecodable_text": "the text is not valid UTF-8",
    "malformed_record": "the record does not parse or has the wrong number of fields",
    "unreadable_file": "the file cannot be opened or its footer cannot be read",
    "unreadable_rows": "these rows of the file cannot be read",
    "off_label_text": "free generation answered with a text that is no label",
    "tokenising_error": "the tokenizer failed on this row alone",
    "scoring_error": "the model failed on this row alone",
}

REJECT_SCHEMA: Final = pa.schema(
    [
        pa.field("source_file", pa.string(), nullable=False),
        pa.field("source_row", pa.int64(), nullable=False),
        pa.field("source_row_end", pa.int64()),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string()),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("row_json", pa.string()),
    ]
)


def file_of_run(run_id: str, name: str) -> str:
    """Path of RUN_FILE, METRICS_FILE or REPORT_FILE of a run, relative to OUTPUT."""
    return f"{RUNS_FOLDER}/{run_id}/{name}"


def added_columns(prefix: str) -> pa.Schema:
    """The columns the labelled output gains, in order.

    Args:
        prefix: First word of every added name, `sentiment` unless `--prefix` says otherwise.
    """
    return pa.schema(
        [
            pa.field(prefix, pa.string()),
            pa.field(f"{prefix}_score", pa.float32()),
            pa.field(f"{prefix}_off_label", pa.float32()),
            pa.field(f"{prefix}_tokens", pa.int32()),
            pa.field(f"{prefix}_truncated", pa.bool_()),
            pa.field(f"{prefix}_source_file", pa.string()),
            pa.field(f"{prefix}_source_row", pa.int64()),
        ]
    )


@dataclass(frozen=True)
class Footer:
    """What a committed data file says about itself (one JSON object under FOOTER_KEY).

    Attributes:
        rows: Source rows this file accounts for; `labelled + rejected`.
        metrics: Mergeable counts of the unit, see `metrics.py`.
    """

    unit_id: str
    source_file: str
    fingerprint: str
    first_row: int
    last_row: int
    labelled: int
    rejected: int
    model_digest: str
    config_digest: str
    code_version: str
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Source rows this file accounts for."""
        return self.labelled + self.rejected

    @property
    def rowless(self) -> bool:
        """Whether the file stands for an empty shard or for damage, as a unit of no rows does."""
        return self.last_row < self.first_row

    @property
    def folder(self) -> str:
        """Output folder of the file, relative to OUTPUT; "" is the top."""
        return self.unit_id.rpartition("/")[0]

    def to_metadata(self) -> dict[bytes, bytes]:
        """Parquet key-value metadata."""
        return {FOOTER_KEY: self.to_json().encode()}

    def to_json(self) -> str:
        """The footer as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Footer:
        """Inverse of `to_json`."""
        return cls(**json.loads(text))

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None) -> Footer | None:
        """Inverse of `to_metadata`; None when the file was not written by this project."""
        raw = (metadata or {}).get(FOOTER_KEY)
        return None if raw is None else cls.from_json(raw)
