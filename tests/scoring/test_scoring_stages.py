"""What Ray's task workers run, without Ray; reading, tokenising and committing have own tests."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_models

from sentiment.block import ATTEMPTS, REASON, ROW, ROW_END, SCORER, UNIT
from sentiment.metrics.truth import TruthMap
from sentiment.model.locate import BUILTIN_FOLDER
from sentiment.model.tokenizer import Tokeniser
from sentiment.output.apart import ProcessDiedError
from sentiment.output.attempts import READER_MAX_CRASHES
from sentiment.output.commit import Stamp
from sentiment.output.fence import Fence
from sentiment.output.folder import Output
from sentiment.output.receipt import ActorNote, Footer, Receipt
from sentiment.scoring import reading, stages
from sentiment.scoring.reading import Deferred, Reader
from sentiment.scoring.stages import Commit, Tokenise, results_of
from sentiment.source.index import index_shard
from sentiment.source.listing import list_shards
from sentiment.source.options import BY_DEFAULT
from sentiment.source.read import ShardReader, read_unit
from sentiment.source.shards import Unit
from sentiment.texts import TEXT

RUN = "token of the run"
FENCE = Fence("run", RUN, 1)

# pandas is not among them: Ray Data itself imports it in every worker.
LEAN = """
import pickle, sys
import sentiment.scoring.stages
tokenise, commit = pickle.loads(sys.stdin.buffer.read())
print(tokenise.tokeniser.encode([sys.argv[1]])[0].ids.tolist())
heavy = {"torch", "transformers", "ray", "sklearn", "scipy", "pydantic", "pydantic_settings"}
imported = heavy & set(sys.modules)
sys.exit(f"imported {imported}" if imported else 0)
"""


@pytest.mark.parametrize("name", ["tiny_model", "builtin"])
def test_a_worker_tokenises_without_the_heavy_libraries(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Each of many workers would pay seconds and hundreds of megabytes for them."""
    folder = BUILTIN_FOLDER if name == "builtin" else request.getfixturevalue(name)
    tokeniser = Tokeniser(folder, "review: {text}", 64, "head_tail")
    text, output = tiny_models.example_texts()[0], str(tmp_path / "output")
    truth = TruthMap(("negative", "positive"), {"5": "positive"})
    stamp = Stamp("m", "c", "v", "sentiment", "stars", truth, ("shop",))
    done = subprocess.run(
        [sys.executable, "-c", LEAN, text],
        input=pickle.dumps((Tokenise(tokeniser, TEXT, output, RUN), Commit(output, stamp, FENCE))),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().strip() == str(tokeniser.encode([text])[0].ids.tolist())


class Death(BaseException):
    """The process is gone."""


def read_until_done(
    unit: Unit, columns: pa.Schema, output: str, killer: int
) -> tuple[pa.Table, int]:
    """Read as Ray does it, process after process, while row `killer` kills whoever reads it."""
    read, deaths = ShardReader.read, 0

    def deadly(reader: ShardReader, part: Unit, max_bytes: int | None = None) -> pa.Table:
        if part.first_row <= killer <= part.last_row:
            raise Death
        return read(reader, part, max_bytes)

    def call_apart(_: Any, *arguments: Any) -> pa.Table:
        try:
            return read_unit(*arguments)
        except Death:
            raise ProcessDiedError("signal SIGSEGV") from None

    with pytest.MonkeyPatch.context() as process:
        process.setattr(ShardReader, "read", deadly)
        process.setattr(reading, "call_apart", call_apart)
        while True:
            try:
                [block] = Reader((unit,), columns, BY_DEFAULT, output, RUN)()
            except Death:
                deaths += 1
                assert deaths < 20, "it never ends"
            else:
                return block, deaths


def planned(path: Path) -> tuple[Unit, pa.Schema]:
    """All rows of a file as one unit."""
    [shard] = list_shards([str(path)]).shards
    index = index_shard(shard)
    assert index.columns is not None
    return Unit(index.shard, 0, index.rows - 1, index.cuts[0][1]), index.columns


def test_a_row_group_that_kills_the_reader_is_lost_alone(tmp_path: Path) -> None:
    texts = [f"review {n}" for n in range(100)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=30)
    unit, columns = planned(tmp_path / "a.parquet")
    block, deaths = read_until_done(unit, columns, str(tmp_path / "out"), killer=40)
    assert deaths == 2 + READER_MAX_CRASHES
    lost = [row for row, reason in enumerate(block[REASON].to_pylist()) if reason]
    [lost_row] = lost
    assert (block[ROW][lost_row].as_py(), block[ROW_END][lost_row].as_py()) == (30, 59)
    assert block[REASON][lost_row].as_py() == "unreadable_rows"
    assert block[ATTEMPTS][lost_row].as_py() == READER_MAX_CRASHES + 1, "with the last try"
    kept = [text for text in block["text"].to_pylist() if text is not None]
    assert kept == [*texts[:30], *texts[60:]]
    assert block[UNIT].unique().to_pylist() == [unit.to_json()]


def test_text_that_kills_the_reader_is_lost_with_its_unit(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n" + "fine\n" * 10)
    unit, columns = planned(tmp_path / "a.csv")
    block, deaths = read_until_done(unit, columns, str(tmp_path / "out"), killer=4)
    assert deaths == READER_MAX_CRASHES
    assert block[REASON].to_pylist() == ["unreadable_rows"]
    assert (block[ROW][0].as_py(), block[ROW_END][0].as_py()) == (0, 9)


def test_a_file_is_not_opened_to_be_divided_unless_somebody_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Unit) -> list[Unit]:
        raise AssertionError("the footer was read again")

    monkeypatch.setattr(reading, "divide_unit", refuse)
    pq.write_table(pa.table({"text": ["fine"] * 9}), tmp_path / "a.parquet", row_group_size=3)
    unit, columns = planned(tmp_path / "a.parquet")
    [block] = Reader((unit,), columns, BY_DEFAULT, str(tmp_path / "out"), RUN)()
    assert block.num_rows == 9


def test_a_commit_sends_a_receipt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committed: list[pa.Table] = []
    footers = [Footer("u1", "f", "fp", 0, 1, 2, 0, "m", "c", "v")]

    def commit_block(_: Output, __: Stamp, block: pa.Table) -> list[Footer]:
        committed.append(block)
        time.sleep(0.02)
        return footers if block.num_rows else []

    monkeypatch.setattr(stages, "commit_block", commit_block)
    commit = Commit(str(tmp_path), Stamp("m", "c", "v", "sentiment"), FENCE)
    note = ActorNote("a", 2.5, 3, 100, 120)
    block = pa.table({"text": ["x", "y"], SCORER: [note.to_json()] * 2})
    [receipt] = results_of(commit(block))
    assert isinstance(receipt, Receipt)
    assert (receipt.footer, receipt.note) == (footers[0], note)
    assert 0.02 <= receipt.write_sec < 20
    # Ray may call with a block that has neither rows nor our columns.
    assert results_of(commit(pa.table({}))) == []
    [unnoted] = results_of(commit(block.drop_columns([SCORER])))
    assert isinstance(unnoted, Receipt)
    assert unnoted.note is None
    assert len(committed) == 3


# Units that cannot be read for now.


def commits_nothing(block: pa.Table, output: Output) -> Deferred:
    """Send a block of a deferred unit through the other stages; what the driver is told."""
    tokeniser = Tokeniser(BUILTIN_FOLDER, "review: {text}", 64, "head_tail")
    block = Tokenise(tokeniser, TEXT, output.location, RUN)(block)
    commit = Commit(output.location, Stamp("m", "c", "v", "sentiment"), FENCE)
    [result] = results_of(commit(block))
    assert isinstance(result, Deferred)
    assert output.list_tree("") == [], "a file or a marker was left"
    return result


@pytest.mark.parametrize("kind", ["gone", "changed", "appended"])
def test_a_source_that_changed_is_left_to_the_next_run(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "fine\n" * 10)
    unit, columns = planned(path)
    if kind == "gone":
        path.unlink()
    elif kind == "changed":
        path.write_text("text\n" + "good\n" * 11)
    else:
        with path.open("a") as file:
            file.write("late\n")
    output = Output.open(str(tmp_path / "out"))
    [block] = Reader((unit,), columns, BY_DEFAULT, output.location, RUN)()
    deferred = commits_nothing(block, output)
    assert (deferred.unit, deferred.spans) == (unit, None)
    assert str(path) in deferred.detail


def test_rows_that_cannot_be_read_need_a_second_witness(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = pa.table({"text": [f"review {n}" for n in range(60)]})
    pq.write_table(texts, path, row_group_size=30, compression="NONE", use_dictionary=False)
    unit, columns = planned(path)
    data = bytearray(path.read_bytes())
    place = data.index(b"review 40")
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(place - 4)
        file.write(b"\xff\xff\xff\x7f")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    output = Output.open(str(tmp_path / "out"))
    [block] = Reader((unit,), columns, BY_DEFAULT, output.location, RUN)()
    deferred = commits_nothing(block, output)
    assert deferred.spans == ((30, 59, "unreadable_rows"),)
    again = Reader((unit,), columns, BY_DEFAULT, output.location, RUN, confirmed=deferred.spans)
    [block] = again()
    assert block[REASON].to_pylist() == [None] * 30 + ["unreadable_rows"]
