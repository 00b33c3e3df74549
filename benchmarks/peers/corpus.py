"""The reviews that all variants of `pipeline.py` read: as many as asked for, no two alike."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

# Digits of the row number that each review starts with.
_NUMBER_DIGITS = 6


def read_texts(source: Path) -> list[str]:
    """Texts of a Parquet file or folder, or of JSON Lines; rows without one are left out."""
    if source.suffix == ".jsonl":
        lines = source.read_text(encoding="utf-8").splitlines()
        texts = [json.loads(line)["text"] for line in lines]
    else:
        texts = pq.read_table(source, columns=["text"]).column("text").to_pylist()
    return [text for text in texts if text and text.strip()]


def numbered(texts: Sequence[str], rows: int) -> list[str]:
    """Texts over and over until there are enough, each with its row number for its first letters.

    No two are alike, so that nothing can be scored once for both, and truncation cannot make them
    alike again. Lengths stay what they were, except of texts shorter than the number. Of more texts
    than wanted, evenly spaced ones are taken: files are often sorted by label.
    """
    step = max(1.0, len(texts) / rows)
    repeated = (texts[int(row * step) % len(texts)] for row in range(rows))
    return [
        f"{row:0{_NUMBER_DIGITS}d} {text[_NUMBER_DIGITS + 1 :]}"
        for row, text in enumerate(repeated)
    ]


def write_corpus(folder: Path, texts: Sequence[str], shards: int) -> None:
    folder.mkdir()
    for shard in range(shards):
        first, end = (len(texts) * edge // shards for edge in (shard, shard + 1))
        table = pa.table({"id": pa.array(range(first, end)), "text": texts[first:end]})
        pq.write_table(table, folder / f"part-{shard:04d}.parquet")
