"""Build the example shards under `examples/reviews` from `examples/reviews.jsonl`.

Takes the readable source of truth, one review per line, and gives two Parquet files and one CSV
file, one per day. Six bad rows, which are not in the source, are put in between the good ones, so
that a run over the example also shows what becomes of rows that cannot be labelled. The same source
gives the same bytes whenever the same version of pyarrow writes them.

    python examples/build_reviews.py [--output FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

HERE: Final = Path(__file__).resolve().parent
SOURCE: Final = HERE / "reviews.jsonl"
CSV_DAY: Final = "2026-11-20"
SCHEMA: Final = pa.schema(
    [
        pa.field("review_id", pa.string()),
        pa.field("domain", pa.string()),
        pa.field("stars", pa.int64()),
        pa.field("label", pa.string()),
        pa.field("text", pa.string()),
    ]
)

Row = Mapping[str, Any]

# Day -> (row number in the finished file, the values of the bad row), in ascending order.
BAD_PARQUET_ROWS: Final[Mapping[str, Sequence[tuple[int, tuple[object, ...]]]]] = {
    "2026-11-18": [
        (41, ("x0001", "product", 2, "negative", None)),
        (97, ("x0002", "film", 4, "positive", " \t\n ")),
    ],
    "2026-11-19": [(73, ("x0003", "service", 5, "positive", ""))],
}
# The same for the CSV file, as the bytes of whole records: one field is missing, one text is in
# Latin-1 instead of UTF-8, one text is empty.
BAD_CSV_RECORDS: Final[Sequence[tuple[int, bytes]]] = [
    (12, b"x0004,restaurant,1,negative\r\n"),
    (33, b"x0005,restaurant,4,positive,Lovely little caf\xe9 and the best scones on the coast\r\n"),
    (50, b'x0006,product,3,negative,""\r\n'),
]


def load_reviews(source: Path = SOURCE) -> dict[str, list[Row]]:
    """Day -> its reviews in file order, with the columns of SCHEMA and no others."""
    days: dict[str, list[Row]] = {}
    # Split at "\n" alone: `str.splitlines` would also split at characters a review may contain.
    for line in source.read_text(encoding="utf-8").split("\n"):
        if line:
            review = json.loads(line)
            days.setdefault(review["day"], []).append({n: review[n] for n in SCHEMA.names})
    return days


def write_parquet(rows: Sequence[Row], day: str, path: Path) -> None:
    """Write one day, bad rows included, as Zstandard Parquet with two row groups."""
    mixed = list(rows)
    for position, bad in BAD_PARQUET_ROWS.get(day, ()):
        mixed.insert(position, dict(zip(SCHEMA.names, bad, strict=True)))
    table = pa.Table.from_pylist(mixed, schema=SCHEMA)
    pq.write_table(table, path, compression="zstd", row_group_size=(len(mixed) + 1) // 2)


def csv_record(values: Sequence[object]) -> bytes:
    """One RFC 4180 record: CRLF at the end, quotes only where they are needed."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\r\n").writerow(values)
    return buffer.getvalue().encode()


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write one day, bad records included, as CSV with a header."""
    records = [csv_record([row[name] for name in SCHEMA.names]) for row in rows]
    for position, bad in BAD_CSV_RECORDS:
        records.insert(position, bad)
    path.write_bytes(csv_record(SCHEMA.names) + b"".join(records))


def build(output: Path) -> list[Path]:
    """Write every day below `output` and return the files written."""
    written = []
    for day, rows in sorted(load_reviews().items()):
        folder = output / f"dt={day}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / ("part-0.csv" if day == CSV_DAY else "part-0.parquet")
        if day == CSV_DAY:
            write_csv(rows, path)
        else:
            write_parquet(rows, day, path)
        written.append(path)
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build the example shards from reviews.jsonl.")
    parser.add_argument("--output", type=Path, default=HERE / "reviews", help="folder to write to")
    for written_file in build(parser.parse_args().output):
        print(written_file)
