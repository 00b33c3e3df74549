"""Broken and odd files beside good ones: damage stays where it is, and every row has its fate."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from hostile_files import (
    HOSTILE,
    Make,
    claiming_page,
    csv,
    jsonl,
    packed,
    page,
    parquet,
    with_text,
)
from memory_output import MemoryFiles
from pyarrow import fs
from reading_stages import Account, process

from sentiment.output.folder import Output
from sentiment.source.listing import list_shards

ROOT = Path(__file__).resolve().parents[2]
CASES = [
    pytest.param(name, make, one.gets, id=name.replace("\n", "-"))
    for one in HOSTILE
    for name, make in one.files.items()
]


def memory() -> Output:
    return Output("memory:out", fs.PyFileSystem(MemoryFiles()), "out")


def told(account: Account) -> str:
    """An account in the words of the page; rejects of one reason as one range if they are one."""
    by_reason = defaultdict(list)
    for reject in account.rejects:
        by_reason[reject.reason].append(reject)
    parts = [f"{len(account.labelled)} labelled"] if account.labelled or not by_reason else []
    for reason, rejects in by_reason.items():
        first, last = rejects[0].first, rejects[-1].last
        for before, after in pairwise(rejects):
            assert before.last == after.first - 1, "not one range"
        rows = f"row {first}" if first == last else f"rows {first} to {last}"
        rows = f"row {first} on" if last is None else rows
        parts.append(f"{'file' if first < 0 else rows}: {reason}")
    return "; ".join(parts)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A folder of good files."""
    folder = tmp_path / "lake" / "dt=1"
    folder.mkdir(parents=True)
    for name, content in (("a.parquet", parquet()), ("b.csv", csv()), ("c.jsonl", jsonl())):
        (folder / f"good-{name}").write_bytes(content)
    return tmp_path / "lake"


def assert_good_files_are_done(accounts: dict[str, Account]) -> None:
    good = {name: told(one) for name, one in accounts.items() if "/good-" in name}
    labelled = {"a.parquet": "30 labelled", "b.csv": "3 labelled", "c.jsonl": "3 labelled"}
    assert good == {f"dt=1/good-{name}": text for name, text in labelled.items()}


@pytest.mark.parametrize(("name", "make", "gets"), CASES)
def test_each_file_gets_what_the_page_says(
    lake: Path, tmp_path: Path, name: str, make: Make, gets: str
) -> None:
    path = lake / "dt=1" / name
    path.parent.mkdir(exist_ok=True)
    make(path)
    # On a disk, where names matter, with a unit a file; in memory with units of few rows.
    for output, unit_rows in ((Output.open(str(tmp_path / "out")), 1000), (memory(), 4)):
        accounts = process(lake, output, unit_rows)
        assert_good_files_are_done(accounts)
        found = [one for one in accounts if f"{one}/".startswith(f"dt=1/{name}/")]
        account = accounts.pop(found[0]) if found else None
        assert len(accounts) == 3
        if account is None:
            warned = str(path) in list_shards([str(lake)]).skipped
            assert gets == f"passed over {'with a warning' if warned else 'in silence'}"
        else:
            assert told(account) == gets
            # Reasons never show the text. (gzip's own quotes the two bytes it found in place of its
            # mark, and names of columns are shown.)
            assert not any("review number" in reject.detail for reject in account.rejects)


def test_the_page_is_the_table() -> None:
    assert (ROOT / "docs" / "hostile-files.md").read_text(encoding="utf-8") == page()


def test_texts_survive_their_neighbours(lake: Path) -> None:
    """Rows beside damage keep their own text: nothing shifts."""
    content = csv(b"3", b'4,"a" b', b"5,sch\xf6n \xff\xff\xff\xff", b"6,the last")
    (lake / "odd.csv").write_bytes(content)
    account = process(lake, memory(), unit_rows=2)["odd.csv"]
    assert dict(zip(account.labelled, account.texts, strict=True)) == {
        **{row: f"review number {row}" for row in range(3)},
        6: "the last",
    }


MEMORY_BYTES = 3 * 2**29
LINE = b"x" * (40 * 2**20)
CUT = "1 labelled; row 0: malformed_record"
LOST = "rows 0 to 299: unreadable_rows"
BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "uncompressed.parquet": (lambda: claiming_page("uncompressed", 2**31 - 1), LOST),
    "compressed.parquet": (lambda: claiming_page("compressed", 2**31 - 1), LOST),
    "entries.parquet": (lambda: claiming_page("entries", 2**31 - 1), LOST),
    "text.parquet": (lambda: with_text(pa.array([LINE, b"a"])), CUT),
    "line.csv.gz": (lambda: packed(b"id,text\n0," + LINE + b"\n1,a\n"), CUT),
    "line.csv": (lambda: b"id,text\n0," + LINE * 3 + b"\n1,a\n", CUT),
    "line.jsonl": (lambda: b'{"text":"' + LINE * 3 + b'"}\n{"text":"a"}\n', CUT),
    "quote.csv": (
        lambda: csv(b'3,"' + b"ten chars\n" * 2**21),
        "3 labelled; row 3 on: unreadable_rows",
    ),
}


@pytest.mark.faults
@pytest.mark.parametrize("name", BOMBS)
def test_what_a_file_claims_does_not_fill_the_memory(tmp_path: Path, name: str) -> None:
    make, gets = BOMBS[name]
    lake = tmp_path / "lake"
    lake.mkdir()
    (lake / name).write_bytes(make())
    script = (
        f"import sys; sys.path[:0] = {sys.path!r}; from test_hostile_files import *;"
        "from fuzz_reading import limit_memory;"
        f"limit_memory({MEMORY_BYTES});"
        f"print(told(process(Path(sys.argv[1]), memory())[{name!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(lake)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == gets, done.stderr


def test_a_file_without_permission_is_unreadable(lake: Path) -> None:
    # Root may read everything, so it becomes nobody, once all is imported that nobody may not.
    script = (
        f"import sys; sys.path[:0] = {sys.path!r}; from test_hostile_files import *;"
        "process(Path(sys.argv[1]), memory());"
        "os.geteuid() or os.setuid(65534);"
        "print(told(process(Path(sys.argv[2]), memory())['secret.csv']))"
    )
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        Path(folder, "secret.csv").write_bytes(csv())
        os.chmod(Path(folder, "secret.csv"), 0)
        done = subprocess.run(
            [sys.executable, "-c", script, str(lake), folder],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stdout.strip() == "file: unreadable_file", done.stderr
