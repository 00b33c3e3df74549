"""Damaged files by number, and a process that reads them one after the other.

Takes a seed and case numbers, gives what became of each file. A case follows from seed and number
alone. Run as a program it is a worker: a number a line on standard input, an answer a line on
standard output, so that whoever started it sees which case killed it. Knows no pytest.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import re
import resource
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from traceback import format_exception
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from memory_output import MemoryFiles
from pyarrow import fs
from reading_stages import process

from sentiment.errors import SourceError
from sentiment.output.folder import Output

# Far more than any file here needs, far less than a damaged header can ask for.
MEMORY_BYTES = 3 * 2**30

_ROWS = 60
_Mutation = Callable[[Random, bytearray, bytes], None]


@dataclass(frozen=True)
class Case:
    """One damaged file.

    Attributes:
        name: Its file name; the stem says what it was made from.
        damage: What was done to it, in order.
        unit_rows: Rows of a unit.
    """

    name: str
    content: bytes
    damage: tuple[str, ...]
    unit_rows: int


def case(seed: str, number: int) -> Case:
    """The case of a seed and a number."""
    rng = Random(f"{seed}-{number}")
    files = _originals()
    name = rng.choice(sorted(files))
    content = bytearray(files[name])
    other = files[rng.choice(sorted(files))]
    chosen = rng.choices(sorted(_MUTATIONS), k=rng.choice([1, 1, 1, 2, 4]))
    for mutation in chosen:
        _MUTATIONS[mutation](rng, content, other)
    return Case(name, bytes(content), tuple(chosen), rng.choice([7, 25, 1000]))


def run(one: Case) -> dict[str, Any]:
    """Take a case through all stages.

    Returns:
        Rows labelled and rejected, or what was raised: `refused` for what may be, `error` with its
        traceback for what may not.
    """
    output = Output("memory:out", fs.PyFileSystem(MemoryFiles()), "out")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, one.name).write_bytes(one.content)
        try:
            account = process(Path(folder), output, one.unit_rows)[one.name]
        except SourceError as error:
            return {"refused": str(error)}
        except BaseException as error:
            return {"error": "".join(format_exception(error))[-3000:]}
    details = sorted({reject.detail for reject in account.rejects})
    return {"labelled": len(account.labelled), "rejects": len(account.rejects), "details": details}


@cache
def _originals() -> dict[str, bytes]:
    """Small good files of every kind, by name."""
    names = [f"{kind}.parquet" for kind in _PARQUET]
    files = {name: _parquet(**_PARQUET[name.removesuffix(".parquet")]) for name in names}
    lines = [(i, f'review "{i}", æ\nfine {"so " * (i % 5)}', i / 7) for i in range(_ROWS)]
    for suffix, mark in ((".csv", ","), (".tsv", "\t")):
        rows = [mark.join([str(i), '"' + t.replace('"', '""') + '"', f"{n}"]) for i, t, n in lines]
        files[f"a{suffix}"] = "\r\n".join([mark.join(["id", "text", "n"]), *rows]).encode()
        plain = [mark.join([str(i), f"review {i}", f"{n}"]) for i, _, n in lines]
        files[f"plain{suffix}"] = "\n".join([mark.join(["id", "text", "n"]), *plain]).encode()
    objects = [{"id": i, "text": t, "n": n, "tags": [n, {"k": t}]} for i, t, n in lines]
    files["a.jsonl"] = "".join(json.dumps(one) + "\n" for one in objects).encode()
    for name in ("a.csv", "a.jsonl", "plain.tsv"):
        files[f"{name}.gz"] = gzip.compress(files[name], mtime=0)
    return files


_PARQUET: dict[str, dict[str, Any]] = {
    **{f"codec-{codec}": {"compression": codec} for codec in ("none", "snappy", "gzip", "lz4")},
    "codec-zstd-plain": {"compression": "zstd", "use_dictionary": False},
    "codec-brotli": {"compression": "brotli"},
    "plain": {"compression": "none", "use_dictionary": False},
    "checksums": {"compression": "none", "write_page_checksum": True},
    "pages-v2": {"data_page_version": "2.0", "compression": "snappy", "data_page_size": 100},
    "one-group": {"row_group_size": 1000},
    "delta": {
        "use_dictionary": False,
        "compression": "none",
        "column_encoding": {
            "id": "DELTA_BINARY_PACKED",
            "text": "DELTA_BYTE_ARRAY",
            "n": "BYTE_STREAM_SPLIT",
            "city": "DELTA_LENGTH_BYTE_ARRAY",
        },
    },
    "no-arrow-schema": {"store_schema": False},
    "index-pages": {"write_page_index": True, "compression": "none"},
}


def _parquet(**options: Any) -> bytes:
    texts = [f"review {i}, {'so ' * (i % 5)}fine æ" for i in range(_ROWS)]
    city = [("Oslo", "Lima", None)[i % 3] for i in range(_ROWS)]
    columns: dict[str, Any] = {
        "id": range(_ROWS),
        "text": texts,
        "n": [i / 7 for i in range(_ROWS)],
        "city": city,
    }
    if "column_encoding" not in options:
        columns["dict"] = pa.array(city).dictionary_encode()
        columns["list"] = [[t, t] if i % 3 else None for i, t in enumerate(texts)]
        columns["struct"] = [{"a": i, "b": {"c": t}} for i, t in enumerate(texts)]
        columns["map"] = pa.array([[("k", i)] for i in range(_ROWS)], pa.map_("string", "int8"))
        columns["when"] = pa.array(range(_ROWS), pa.timestamp("us", "UTC"))
        columns["price"] = pa.array([i % 90 for i in range(_ROWS)], pa.decimal128(9, 2))
        columns["whether it is even, in a name of some length"] = [i % 2 == 0 for i in range(_ROWS)]
        columns["view"] = pa.array(texts, pa.string_view())
    target = io.BytesIO()
    pq.write_table(pa.table(columns), target, **{"row_group_size": 20, **options})
    return target.getvalue()


def _flip_bits(rng: Random, content: bytearray, _: bytes) -> None:
    for _bit in range(rng.choice([1, 1, 3, 10])):
        if content:
            content[_place(rng, content)] ^= 1 << rng.randrange(8)


def _overwrite(rng: Random, content: bytearray, _: bytes) -> None:
    start = _place(rng, content)
    patterns = [b"\0", b"\xff", b"\x7f", b'"', b"\n", b"\r", b"\x80", b"{", b"["]
    size = rng.choice([1, 2, 4, 8, 64])
    filling = rng.choice(patterns) * size if rng.random() < 0.6 else rng.randbytes(size)
    content[start : start + size] = filling


def _truncate(rng: Random, content: bytearray, _: bytes) -> None:
    # A Parquet file without its end has no footer: keep the end as often as the start.
    cut = _place(rng, content)
    if rng.random() < 0.5:
        del content[cut:]
    else:
        del content[:cut]


def _delete(rng: Random, content: bytearray, _: bytes) -> None:
    start = _place(rng, content)
    del content[start : start + rng.choice([1, 3, 50, 500])]


def _duplicate(rng: Random, content: bytearray, _: bytes) -> None:
    start = _place(rng, content)
    chunk = content[start : start + rng.choice([1, 3, 50, 500])]
    place = _place(rng, content)
    content[place:place] = chunk * rng.choice([1, 1, 2, 20])


def _splice(rng: Random, content: bytearray, other: bytes) -> None:
    start, size = rng.randrange(len(other)), rng.choice([1, 8, 200, 5000])
    place = _place(rng, content)
    replaced = rng.choice([0, size])
    content[place : place + replaced] = other[start : start + size]


def _huge_number(rng: Random, content: bytearray, _: bytes) -> None:
    """Sizes and counts in Parquet are varints; one that grows makes all after it move."""
    start = _place(rng, content)
    number = rng.choice([2**31 - 1, 2**32, 2**40, 2**62, 2**63 - 1, 2**64 - 1])
    varint = bytearray()
    while number > 127:
        varint.append(number & 127 | 128)
        number >>= 7
    content[start : start + 1] = varint + bytes([number])


def _arrow_schema(rng: Random, content: bytearray, other: bytes) -> None:
    """The types that Arrow notes in the footer, in base64: damage below that, not in it."""
    found = re.search(rb"/////[A-Za-z0-9+/]{100,}={0,2}", content)
    if found is None or len(found.group()) % 4:  # no Parquet, or damaged before
        _flip_bits(rng, content, other)
        return
    schema = bytearray(base64.b64decode(found.group()))
    for _byte in range(rng.choice([1, 2, 5])):
        schema[rng.randrange(len(schema))] = rng.choice([0, 1, 2, 5, 16, 24, 127, 255])
    content[found.start() : found.end()] = base64.b64encode(schema)


_MUTATIONS: dict[str, _Mutation] = {
    "flip bits": _flip_bits,
    "overwrite": _overwrite,
    "truncate": _truncate,
    "delete": _delete,
    "duplicate": _duplicate,
    "splice": _splice,
    "huge number": _huge_number,
    "arrow schema": _arrow_schema,
}


def _place(rng: Random, content: Sequence[int]) -> int:
    """Anywhere, the first and last bytes (headers, footers) more often than their share."""
    if not content:
        return 0
    near = min(len(content), rng.choice([8, 64, 1000]))
    start = rng.choice([0, len(content) - near])
    if rng.random() < 0.5:
        start, near = 0, len(content)
    return start + rng.randrange(near)


def limit_memory(extra_bytes: int) -> None:
    """Let this process take so much address space beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + extra_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """Answer case numbers until standard input ends."""
    seed = sys.argv[1]
    # Libraries that load late must not count as what a case needs.
    undamaged = Case("a.csv", _originals()["a.csv"], (), 1000)
    assert run(undamaged).get("labelled") == _ROWS
    limit_memory(MEMORY_BYTES)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(run(case(seed, int(line)))), flush=True)


if __name__ == "__main__":
    main()
