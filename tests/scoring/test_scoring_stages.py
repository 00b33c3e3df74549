"""What Ray's task workers run, without Ray; reading, tokenising and committing have own tests."""

from __future__ import annotations

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
from sentiment.model.locate import BUILTIN_FOLDER
from sentiment.model.tokenizer import Tokeniser
from sentiment.output.attempts import READER_PATIENCE
from sentiment.output.commit import Stamp
from sentiment.output.folder import Output
from sentiment.output.layout import ATTEMPTS_FOLDER
from sentiment.output.receipt import ActorNote, Footer
from sentiment.scoring import stages
from sentiment.scoring.stages import Commit, Tokenise, read_block, receipts_of
from sentiment.source.index import index_shard
from sentiment.source.listing import list_shards
from sentiment.source.shards import Unit

LEAN = """
import pickle, sys
import sentiment.scoring.stages
stage = pickle.loads(sys.stdin.buffer.read())
print(stage.tokeniser.encode([sys.argv[1]])[0].ids.tolist())
heavy = {"torch", "transformers", "ray", "sklearn", "scipy", "pydantic", "pydantic_settings"}
heavy &= set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""


@pytest.mark.parametrize("name", ["tiny_model", "builtin"])
def test_a_worker_tokenises_without_the_heavy_libraries(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Each of many workers would pay seconds and hundreds of megabytes for them."""
    folder = BUILTIN_FOLDER if name == "builtin" else request.getfixturevalue(name)
    tokeniser = Tokeniser(folder, "review: {text}", 64, "head_tail")
    text = tiny_models.example_texts()[0]
    done = subprocess.run(
        [sys.executable, "-c", LEAN, text],
        input=pickle.dumps(Tokenise(tokeniser, "text", str(tmp_path / "output"))),
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
    read_unit, deaths = stages.read_unit, 0
    while True:
        with pytest.MonkeyPatch.context() as process:

            def deadly(part: Unit, *rest: Any, process: pytest.MonkeyPatch = process) -> pa.Table:
                if part.first_row <= killer <= part.last_row:
                    process.setattr(Output, "delete", lambda *_: None)  # the dead clean nothing up
                    raise Death
                return read_unit(part, *rest)

            process.setattr(stages, "read_unit", deadly)
            try:
                [block] = read_block(unit, columns, "text", output)
            except Death:
                deaths += 1
                assert deaths < 20, "it never ends"
            else:
                return block, deaths


def planned(path: Path) -> tuple[Unit, pa.Schema]:
    """All rows of a file as one unit."""
    [shard] = list_shards([str(path)]).shards
    index = index_shard(shard, "text")
    assert index.columns is not None
    return Unit(shard, 0, index.rows - 1, index.cuts[0][1]), index.columns


def test_a_row_group_that_kills_the_reader_is_lost_alone(tmp_path: Path) -> None:
    texts = [f"review {n}" for n in range(100)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=30)
    unit, columns = planned(tmp_path / "a.parquet")
    block, deaths = read_until_done(unit, columns, str(tmp_path / "out"), killer=40)
    assert deaths == 2 + READER_PATIENCE
    lost = [row for row, reason in enumerate(block[REASON].to_pylist()) if reason]
    [lost_row] = lost
    assert (block[ROW][lost_row].as_py(), block[ROW_END][lost_row].as_py()) == (30, 59)
    assert block[REASON][lost_row].as_py() == "unreadable_rows"
    assert block[ATTEMPTS][lost_row].as_py() == READER_PATIENCE
    kept = [text for text in block["text"].to_pylist() if text is not None]
    assert kept == [*texts[:30], *texts[60:]]
    assert block[UNIT].unique().to_pylist() == [unit.to_json()]


def test_text_that_kills_the_reader_is_lost_with_its_unit(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n" + "fine\n" * 10)
    unit, columns = planned(tmp_path / "a.csv")
    block, deaths = read_until_done(unit, columns, str(tmp_path / "out"), killer=4)
    assert deaths == READER_PATIENCE
    assert block[REASON].to_pylist() == ["unreadable_rows"]
    assert (block[ROW][0].as_py(), block[ROW_END][0].as_py()) == (0, 9)


def test_a_file_is_not_opened_to_be_divided_unless_somebody_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Unit) -> list[Unit]:
        raise AssertionError("the footer was read again")

    monkeypatch.setattr(stages, "parts_of", refuse)
    pq.write_table(pa.table({"text": ["fine"] * 9}), tmp_path / "a.parquet", row_group_size=3)
    unit, columns = planned(tmp_path / "a.parquet")
    [block] = read_block(unit, columns, "text", str(tmp_path / "out"))
    assert block.num_rows == 9


def test_reading_leaves_no_marker(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n" + "fine\n" * 10)
    unit, columns = planned(tmp_path / "a.csv")
    [block] = read_block(unit, columns, "text", str(tmp_path / "out"))
    assert block.num_rows == 10
    assert Output.open(str(tmp_path / "out")).list_tree(ATTEMPTS_FOLDER) == []


def test_a_commit_sends_a_receipt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committed: list[pa.Table] = []
    footers = [Footer("u1", "f", "fp", 0, 1, 2, 0, "m", "c", "v")]

    def commit_block(_: Output, __: Stamp, block: pa.Table) -> list[Footer]:
        committed.append(block)
        time.sleep(0.02)
        return footers if block.num_rows else []

    monkeypatch.setattr(stages, "commit_block", commit_block)
    commit = Commit(str(tmp_path), Stamp("m", "c", "v", "sentiment"))
    note = ActorNote("a", 2.5, 3, 100, 120)
    block = pa.table({"text": ["x", "y"], SCORER: [note.to_json()] * 2})
    [receipt] = receipts_of(commit(block))
    assert (receipt.footer, receipt.note) == (footers[0], note)
    assert 0.02 <= receipt.write_sec < 20
    # Ray may call with a block that has neither rows nor our columns.
    assert receipts_of(commit(pa.table({}))) == []
    [unnoted] = receipts_of(commit(block.drop_columns([SCORER])))
    assert unnoted.note is None
    assert len(committed) == 3
