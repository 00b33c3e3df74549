"""Deaths that are a row's fault, and deaths that are not.

A row that kills its process is rejected alone, and the run ends by itself; what was merely at work
when somebody killed the run is never held against it.
"""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness import Job, data_files, read_output, reap, write_hook

from sentiment.model.tokenizer import Tokeniser

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(900)]

POISON = "never never never never again again again again"
AT = 57
ROWS = 120

# The wrapped engine notes each death, for the test to count.
DEADLY_ENGINE = """
import os, signal

score = module.Engine.score

def deadly(self, ids):
    if any(row.tolist() == {ids} for row in ids):
        with open({deaths!r}, "a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return score(self, ids)

module.Engine.score = deadly
"""

# A reader that says when it is at work, and stays at it while it is told to.
SLOW_READER = """
import os, time

read = module.ShardReader.read

def slow(*arguments):
    if os.path.exists({hold!r}):
        open({reading!r}, "w").close()
        time.sleep(300)
    return read(*arguments)

module.ShardReader.read = slow
"""


def test_a_row_that_kills_its_process_is_rejected_alone(
    tiny_model: Path, scratch: Path, tmp_path: Path
) -> None:
    lake, deaths = tmp_path / "lake", tmp_path / "deaths"
    lake.mkdir()
    texts = [f"the soup of day {row} was good" for row in range(ROWS)]
    texts[AT] = POISON
    pq.write_table(pa.table({"text": texts}), lake / "a.parquet")
    ids = Tokeniser(tiny_model, "{text}", 64, "head").encode([POISON])[0].ids.tolist()
    change = DEADLY_ENGINE.format(ids=ids, deaths=str(deaths))
    hook = write_hook(tmp_path / "hook", "sentiment.engine.labels", change)
    job = Job(lake, tmp_path / "out", tiny_model, scratch, extra_path=hook)
    try:
        job.finish()
    finally:
        reap(job.mark, patience_sec=10)
    found = read_output(job.output)
    [(source, row)] = found.rejected
    [reject] = found.rejected[source, row]
    assert (row, reject["reason"], reject["stage"]) == (AT, "scoring_error", "score")
    assert reject["attempts"] == 2
    assert "never" not in reject["detail"]
    assert {row for _, row in found.labelled} == set(range(ROWS)) - {AT}
    assert all(len(rows) == 1 for rows in found.labelled.values())
    assert len(list(data_files(job.output))) == 3, "its unit is still one file"
    # Twice with its unit, a few times with a part of it, twice alone.
    assert 2 < len(deaths.read_text()) < 8
    assert found.success == {"."}
    assert not [path for path in (job.output / "_sentiment/attempts").rglob("*") if path.is_file()]


def test_killed_drivers_are_not_held_against_what_was_being_read(
    tiny_model: Path, scratch: Path, tmp_path: Path
) -> None:
    lake, hold, reading = tmp_path / "lake", tmp_path / "hold", tmp_path / "reading"
    lake.mkdir()
    (lake / "a.csv").write_text("text\n" + "the soup was good\n" * 30)
    pq.write_table(pa.table({"text": ["the soup was bad"] * 30}), lake / "b.parquet")
    change = SLOW_READER.format(hold=str(hold), reading=str(reading))
    hook = write_hook(tmp_path / "hook", "sentiment.source.read", change)
    job = Job(lake, tmp_path / "out", tiny_model, scratch, extra_path=hook)
    hold.touch()
    try:
        for _ in range(3):
            reading.unlink(missing_ok=True)
            process = job.start()
            while not reading.exists():
                assert process.poll() is None, job.log()
                time.sleep(0.1)
            time.sleep(2)  # for the other unit to be read as well
            process.kill()
            process.wait()
            reap(job.mark, patience_sec=0)
        hold.unlink()
        job.finish()
    finally:
        reap(job.mark, patience_sec=0)
    found = read_output(job.output)
    assert len(found.labelled) == 60
    assert dict(found.rejected) == {}
