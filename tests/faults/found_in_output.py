"""What a reader finds in an output in memory, and how it differs from what should be there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from made_up_lives import DAMAGED, FOLDERS, Life, Night, indexes_of, truth

from sentiment.output.layout import REJECTED_FOLDER, SUCCESS_FILE
from sentiment.output.receipt import Footer
from sentiment.source.shards import ShardIndex


@dataclass
class Found:
    """What the files of one shard say.

    Attributes:
        answers: All that is said of each row; more than one where rows are doubled.
        stamps: Fingerprint and configuration of its data files.
        unpaired: Reject files without a data file, and data files that miss theirs.
        total: Rows of the shard, as its files tell.
    """

    answers: dict[int, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    stamps: set[tuple[str, str]] = field(default_factory=set)
    unpaired: list[str] = field(default_factory=list)
    total: int = 0


def look(files: Mapping[str, bytes], folder: str) -> dict[str, Found]:
    """What a reader sees in one folder and its rejects, by shard."""
    found: dict[str, Found] = defaultdict(Found)
    named = set()
    for name, data in files_in(files, folder):
        footer, labels = data_file(data)
        one = found[footer.source_file]
        one.stamps.add((footer.fingerprint, footer.config_digest))
        one.total = footer.shard_rows or 0
        for row, label in labels:
            one.answers[row].append(("label", label))
        rejects = f"out/{footer.reject_file}"
        named.add(rejects)
        said = 0
        if rejects in files:
            said = sum(_note(reject, found) for reject in rejects_in(files[rejects]))
        if said != footer.rejected:
            one.unpaired.append(name)
    private = f"{REJECTED_FOLDER}/{folder}" if folder else REJECTED_FOLDER
    for name, data in files_in(files, private):
        if f"out/{private}/{name}" not in named:
            found[rejects_in(data)[0]["source_file"]].unpaired.append(name)
    return found


# The same files are looked at after every night: reading each once makes a life a third shorter.
@lru_cache(maxsize=512)
def data_file(data: bytes) -> tuple[Footer, list[tuple[int, str]]]:
    """The footer of a data file, and its row numbers with their labels."""
    file = pq.ParquetFile(pa.BufferReader(data))
    footer = Footer.from_metadata(file.metadata.metadata)
    assert footer is not None
    table = file.read(["sentiment", "sentiment_source_row"], use_threads=False)
    rows = table.column("sentiment_source_row").to_pylist()
    return footer, list(zip(rows, table.column("sentiment").to_pylist(), strict=True))


@lru_cache(maxsize=512)
def rejects_in(data: bytes) -> list[dict[str, Any]]:
    """The rows of a reject file."""
    return pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False).to_pylist()


def _note(reject: Mapping[str, Any], found: dict[str, Found]) -> int:
    """Add what a reject says of its rows; returns how many they are."""
    answers = found[reject["source_file"]].answers
    first, last = reject["source_row"], reject["source_row_end"]
    if last is None:
        answers[max(0, first)].append(DAMAGED)
        return 1
    for row in range(first, last + 1):
        answers[row].append(("reject", reject["reason"]))
    return int(last - first + 1)


def files_in(files: Mapping[str, bytes], folder: str) -> Iterator[tuple[str, bytes]]:
    """Parquet files directly in a folder that a reader would open, by name."""
    start = f"out/{folder}/" if folder else "out/"
    for path, data in sorted(files.items()):
        name = path[len(start) :]
        if path.startswith(start) and "/" not in name and not name.startswith((".", "_")):
            yield name, data


def problems(
    files: Mapping[str, bytes], folder: str, due: Sequence[tuple[ShardIndex, int]]
) -> list[str]:
    """How a folder differs from what it should hold once it is complete.

    Shards that are gone keep their output, which nobody can check any more.
    """
    found = look(files, folder)
    wrong = []
    for index, model in due:
        one = found[index.shard.uri]
        expected = truth(index, model)
        doubled = sorted(row for row, said in one.answers.items() if len(said) > 1)
        seen = {row: said[0] for row, said in one.answers.items()}
        differ = sorted(row for row in expected if row in seen and seen[row] != expected[row])
        stamp = (index.shard.fingerprint, f"config {model}")
        for what, rows in [
            ("lost", sorted(expected.keys() - seen.keys())),
            ("doubled", doubled),
            ("unknown", sorted(seen.keys() - expected.keys())),
            ("different", differ),
            ("unpaired", one.unpaired),
            ("superseded", sorted(one.stamps - {stamp})),
        ]:
            if rows:
                wrong.append(f"{index.shard.uri}: {what}: {rows}")
    return wrong


def strays(files: Mapping[str, bytes], life: Life, night: Night) -> list[str]:
    """Shards that are gone and still have data files."""
    there = {index.shard.uri for index in indexes_of(life, night.lake)}
    found = [look(files, folder) for folder in FOLDERS]
    return sorted({uri for one in found for uri, files in one.items() if files.stamps} - there)


def half_done(files: Mapping[str, bytes], folder: str, due: set[str]) -> list[str]:
    """Shards that are gone and of which a folder holds a part, or two versions."""
    return [
        uri
        for uri, one in look(files, folder).items()
        if uri not in due
        and (
            len(one.stamps) > 1
            or sum(DAMAGED in said for said in one.answers.values()) > 1
            or any(len(said) > 1 for said in one.answers.values())
            or not set(range(one.total)) <= one.answers.keys()
        )
    ]


def success(files: Mapping[str, bytes], folder: str) -> bool:
    return (f"out/{folder}/{SUCCESS_FILE}" if folder else f"out/{SUCCESS_FILE}") in files
