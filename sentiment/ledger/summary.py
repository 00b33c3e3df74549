"""Summarise a run: its ledger and its figures; write them as `run.json` and `metrics.pq`."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Final, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sentiment.ledger.record import told_ledger
from sentiment.metrics.accuracy import judged, truth_among
from sentiment.metrics.counts import Counts, merge
from sentiment.metrics.drift import Drift
from sentiment.metrics.quality import classification_report
from sentiment.metrics.truth import TruthMap
from sentiment.output.folder import Output
from sentiment.output.layout import METRICS_FILE, REPORT_FILE, RUN_FILE, file_of_run
from sentiment.output.receipt import Footer

# Merged with other counts, this makes sure that the keys are there even if there are no others.
COUNTS_OF_NO_ROWS: Final[Counts] = {"labels": {}, "rejected": {}, "stage_sec": {}}

Outcome = Literal["success", "rejected", "unbalanced", "drift"]

# Given in full, not inferred: a run without rejects would otherwise get a column of type null, and
# readers could not concatenate the tables of many runs.
_METRICS_SCHEMA = pa.schema(
    [
        pa.field("run_id", pa.string()),
        pa.field("finished_at", pa.timestamp("ms", "UTC")),
        pa.field("model_digest", pa.string()),
        pa.field("partition", pa.string()),
        pa.field("group", pa.string()),
        pa.field("label", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("rows", pa.int64()),
        pa.field("truncated", pa.int64()),
        pa.field("tokens", pa.int64()),
        pa.field("with_truth", pa.int64()),
        pa.field("right", pa.int64()),
        pa.field("score_histogram", pa.list_(pa.int64())),
    ]
)


@dataclass(frozen=True)
class Ledger:
    """Where every row went. A file that cannot be read counts as one row.

    Attributes:
        expected: Rows that the sources hold.
        labelled: Rows labelled by this run.
        rejected: Rows rejected by this run.
        reused: Rows that an earlier run with the same digests committed; those that it excluded
            are among them.
        excluded: Rows that the user's own choice left out of this run.
    """

    expected: int
    labelled: int
    rejected: int
    reused: int
    excluded: int = 0

    @property
    def balanced(self) -> bool:
        """Whether every expected row is labelled, rejected, reused or excluded."""
        return self.expected == self.labelled + self.rejected + self.reused + self.excluded

    def told(self) -> str:
        """Return where the rows went, in words."""
        return told_ledger(self.labelled, self.rejected, self.reused, self.excluded)


@dataclass(frozen=True)
class RunSummary:
    """The result of a scoring run; `run.json` holds the same.

    Attributes:
        run_id: Name of the run's folder.
        output: Location of the labelled Parquet.
        ledger: Where every row went.
        counts: Merged counts of all rows, reused ones included.
        scored: Merged counts of the rows this run scored itself.
        tonight: Merged counts of the rows that nobody has judged before this run.
        outcome: `success`, or what is wrong with the output.
        drift: Comparison with earlier runs.
        quality: Classification report; None without true labels.
        wall_sec: Seconds from start to commit of the last unit.
        rows_per_sec: Rows labelled or rejected by this run per second of wall time.
        run: Everything else about the run: configuration, versions, digests, devices.
    """

    run_id: str
    output: str
    ledger: Ledger
    counts: Counts
    scored: Counts
    tonight: Counts
    outcome: Outcome
    drift: Drift
    quality: dict[str, Any] | None
    wall_sec: float
    rows_per_sec: float
    run: dict[str, Any]

    @property
    def rows(self) -> int:
        """Number of rows of the output, labelled or rejected, by this or an earlier run."""
        return sum(self.labelled.values()) + sum(self.rejected.values())

    @property
    def labelled(self) -> dict[str, int]:
        """Rows by label, reused ones included."""
        return {label: int(values["rows"]) for label, values in self.counts["labels"].items()}

    @property
    def rejected(self) -> dict[str, int]:
        """Rows by reject reason, reused ones included."""
        return dict(self.counts["rejected"])

    @property
    def page(self) -> str:
        """Location of the page about the run."""
        return f"{self.output.rstrip('/')}/{file_of_run(self.run_id, REPORT_FILE)}"

    def to_json(self) -> str:
        """Return the content of `run.json`."""
        values = asdict(self)
        # The facts of the run come first and are no object of their own: the keys lie side by side.
        return json.dumps({**values.pop("run"), **values}, indent=1, ensure_ascii=False) + "\n"


# More than seven parameters: each is a fact that only the caller knows, and all are keywords.
def summarise(
    *,
    run_id: str,
    output: str,
    expected: int,
    committed: Sequence[Footer],
    reused: Sequence[Footer],
    wall_sec: float,
    run: dict[str, Any],
    truth: TruthMap | None = None,
    unjudged: Collection[int] = (),
    left_out: int = 0,
) -> RunSummary:
    """Merge the footers of a run into its summary.

    Its outcome is `success` and its drift is not compared: the caller finds out later and replaces
    both.

    Args:
        run_id: Name of the run's folder.
        output: Location of the labelled Parquet.
        expected: Rows that the sources hold.
        committed: Footers of the files that this run committed.
        reused: Footers of the files that earlier runs committed and this run kept.
        wall_sec: Seconds from start to commit of the last unit.
        run: Everything else for `run.json`: configuration, versions, digests, devices.
        truth: What values of the label column stand for; None if there is no such column.
        unjudged: Epochs of earlier runs whose rows nobody has judged.
        left_out: Rows that the run did not come to, as the user wanted.
    """
    scored = _merged(committed)
    counts = _merged(reused, scored)
    tonight = _merged([footer for footer in reused if footer.epoch in unjudged], scored)
    truth = truth_among([counts], truth)
    scored, counts, tonight = (judged(one, truth) for one in (scored, counts, tonight))
    labelled = sum(footer.labelled for footer in committed)
    rejected = sum(footer.rejected for footer in committed)
    ledger = Ledger(
        expected,
        labelled,
        rejected,
        reused=sum(footer.rows for footer in reused),
        excluded=sum(footer.excluded for footer in committed) + left_out,
    )
    confusion = counts.get("confusion")
    return RunSummary(
        run_id=run_id,
        output=output,
        ledger=ledger,
        counts=counts,
        scored=scored,
        tonight=tonight,
        outcome="success",
        drift=Drift("not compared", "not asked for"),
        quality=classification_report(confusion) if confusion else None,
        wall_sec=wall_sec,
        rows_per_sec=(labelled + rejected) / wall_sec if wall_sec > 0 else 0.0,
        run=run,
    )


def _merged(footers: Iterable[Footer], start: Counts = COUNTS_OF_NO_ROWS) -> Counts:
    """Add the counts of footers to others, one after another: all together they may be large."""
    return merge(chain([start], (footer.metrics for footer in footers)))


def write_run(
    output: Output,
    summary: RunSummary,
    footers: Iterable[Footer],
    truth: TruthMap | None = None,
) -> None:
    """Write `metrics.pq` and then `run.json` of a run.

    The order matters: readers take a folder with a `run.json` for a finished run.

    Args:
        footers: Footers of all files of the output that belong to this run, reused ones included.
        truth: As for `summarise`.

    Raises:
        OutputError: A file cannot be written.
    """
    by_folder: dict[str, list[Footer]] = defaultdict(list)
    for footer in footers:
        by_folder[footer.folder].append(footer)
    merged = {folder: _merged(some) for folder, some in by_folder.items()}
    truth = truth_among(merged.values(), truth)
    table = partition_table({folder: judged(counts, truth) for folder, counts in merged.items()})
    table.insert(0, "run_id", summary.run_id)
    table.insert(1, "finished_at", pd.Timestamp(summary.run["finished_at"]))
    table.insert(2, "model_digest", summary.run["model"]["digest"])
    buffer = io.BytesIO()
    rows = pa.Table.from_pandas(table, schema=_METRICS_SCHEMA, preserve_index=False)
    # Without the metadata of pandas, which only pandas understands.
    pq.write_table(rows.replace_schema_metadata(None), buffer, compression="zstd")
    output.write(file_of_run(summary.run_id, METRICS_FILE), buffer.getvalue())
    output.write(file_of_run(summary.run_id, RUN_FILE), summary.to_json().encode())


def partition_table(partitions: Mapping[str, Counts]) -> pd.DataFrame:
    """Make the table of `metrics.pq`, without the columns that name the run.

    It has one row per partition and label and one per partition and reject reason. For each group
    of a partition it has the same rows again, with the group's name.

    Args:
        partitions: Merged counts by output folder.
    """
    records: list[dict[str, Any]] = []
    for partition, counts in sorted(partitions.items()):
        counts_by_group = [(None, counts), *sorted(counts.get("groups", {}).items())]
        for group, grouped in counts_by_group:
            records += [
                {"partition": partition, "group": group, **record} for record in _records(grouped)
            ]
    return pd.DataFrame.from_records(records, columns=_TABLE_COLUMNS)


_TABLE_COLUMNS: Final = [
    "partition", "group", "label", "reason", "rows", "truncated", "tokens", "with_truth", "right",
    "score_histogram",
]  # fmt: skip


def _records(counts: Counts) -> Iterator[dict[str, Any]]:
    """Yield one record per label, then one per reject reason."""
    confusion = counts.get("confusion")
    for label, values in counts["labels"].items():
        # Null, not 0, where no true labels were given.
        truth: dict[str, int | None] = {"with_truth": None, "right": None}
        if confusion is not None:
            truth["with_truth"] = sum(row.get(label, 0) for row in confusion.values())
            truth["right"] = confusion.get(label, {}).get(label, 0)
        yield {"label": label, "reason": None, **truth, **values}
    for reason, rows in counts["rejected"].items():
        yield {
            "label": None,
            "reason": reason,
            "rows": rows,
            "with_truth": None,
            "right": None,
            "truncated": 0,
            "tokens": 0,
            "score_histogram": None,
        }
