"""Rows that kill their process cost a bounded number of deaths and no other row."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.block import ATTEMPTS, DETAIL, IDS, REASON, STAGE, UNIT
from sentiment.output.attempts import MAX_CRASHES, Attempts, clear_markers
from sentiment.output.folder import Output
from sentiment.output.layout import ATTEMPTS_FOLDER
from sentiment.source.shards import Shard, Unit

SHARD = Shard("/lake/a.parquet", "dt=1", "a.parquet", "parquet", "f", 1)


class Death(BaseException):
    """The process is gone: whatever it would have done afterwards does not happen."""


class Mortal(Output):
    """An output whose process may be dead, and then removes no marker."""

    def delete(self, relative: str) -> None:
        if relative in _dead:
            raise Death
        super().delete(relative)


_dead: set[str] = set()


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output.open(str(tmp_path / "out"))


def block_of(rows: int) -> pa.Table:
    unit = Unit(SHARD, 100, 99 + rows)
    nothing = pa.nulls(rows, pa.string())
    return pa.table(
        {
            "n": pa.array(range(rows), pa.int64()),
            UNIT: pa.DictionaryArray.from_arrays(
                pa.array([0] * rows, pa.int32()), pa.array([unit.to_json()], pa.string())
            ),
            STAGE: nothing,
            REASON: nothing,
            DETAIL: nothing,
            IDS: pa.array([[n] for n in range(rows)], pa.list_(pa.int32())),
        }
    )


def killed_by(*poison: int) -> Callable[[pa.Table], pa.Table]:
    """Work that dies over these rows, as long as they have token ids."""

    def work(rows: pa.Table) -> pa.Table:
        for n, ids in zip(rows["n"].to_pylist(), rows[IDS].to_pylist(), strict=True):
            if ids is not None and n in poison:
                raise Death
        done = pa.array([ids is not None for ids in rows[IDS].to_pylist()])
        return rows.drop_columns([IDS]).append_column("done", done)

    return work


def until_done(
    output: Output, block: pa.Table, work: Callable[[pa.Table], pa.Table]
) -> tuple[pa.Table, int]:
    """Processes one after another, as Ray starts them; the result and the number that died."""
    deaths = 0
    while True:
        mortal = Mortal(output.location, output.filesystem, output.root)
        before = set(output.list_tree(ATTEMPTS_FOLDER))

        def dying(rows: pa.Table, before: set[str] = before) -> pa.Table:
            try:
                return work(rows)
            except Death:
                _dead.update(set(output.list_tree(ATTEMPTS_FOLDER)) - before)
                raise

        try:
            return Attempts(mortal, "score").run_on_rows(block, dying, "scoring_error"), deaths
        except Death:
            deaths += 1
            assert deaths < 200, "it never ends"
        finally:
            _dead.clear()


def test_rows_that_kill_nobody_leave_no_marker(output: Output) -> None:
    done, deaths = until_done(output, block_of(5), killed_by())
    assert deaths == 0
    assert done["done"].to_pylist() == [True] * 5
    assert ATTEMPTS not in done.column_names
    assert output.list_tree(ATTEMPTS_FOLDER) == []


@settings(deadline=None, max_examples=40)  # storage is slow at times
@given(rows=st.integers(1, 1100), data=st.data())
def test_only_the_row_that_kills_is_given_up(
    tmp_path_factory: pytest.TempPathFactory, rows: int, data: Any
) -> None:
    poison = data.draw(st.integers(0, rows - 1))
    output = Output.open(str(tmp_path_factory.mktemp("out")))
    done, deaths = until_done(output, block_of(rows), killed_by(poison))
    assert done["n"].to_pylist() == list(range(rows))
    assert [n for n, reason in enumerate(done[REASON].to_pylist()) if reason] == [poison]
    assert [n for n, fine in enumerate(done["done"].to_pylist()) if not fine] == [poison]
    assert done[REASON][poison].as_py() == "scoring_error"
    assert done[STAGE][poison].as_py() == "score"
    # Twice over the unit, once over each part on the way, twice over the row.
    assert deaths <= 2 * MAX_CRASHES + math.ceil(math.log(rows, 16))
    if rows > 1:
        assert done[ATTEMPTS][poison].as_py() == MAX_CRASHES
        assert done[ATTEMPTS].null_count == rows - 1


def test_several_rows_that_kill_are_all_found(output: Output) -> None:
    done, _ = until_done(output, block_of(300), killed_by(0, 7, 8, 299))
    assert [n for n, reason in enumerate(done[REASON].to_pylist()) if reason] == [0, 7, 8, 299]


def test_a_unit_that_was_unlucky_twice_loses_no_row(output: Output) -> None:
    """A node that is taken away looks like a death, and is no row's fault."""
    left = [Death(), Death()]

    def unlucky(rows: pa.Table) -> pa.Table:
        if left:
            raise left.pop()
        return killed_by()(rows)

    done, deaths = until_done(output, block_of(40), unlucky)
    assert deaths == 2
    assert done[REASON].null_count == 40
    assert done["done"].to_pylist() == [True] * 40


def test_an_exception_is_no_death(output: Output) -> None:
    def failing(_: pa.Table) -> pa.Table:
        raise RuntimeError("not this time")

    with pytest.raises(RuntimeError):
        Attempts(output, "score").run_on_rows(block_of(3), failing, "scoring_error")
    assert output.list_tree(ATTEMPTS_FOLDER) == []


def test_stages_do_not_blame_each_other(output: Output) -> None:
    for stage in ("score", "tokenise"):
        output.write(f"{ATTEMPTS_FOLDER}/{stage}/{Unit(SHARD, 100, 102).unit_id}/0-3-x", b"")
    calls: list[int] = []

    def counting(rows: pa.Table) -> pa.Table:
        calls.append(rows.num_rows)
        return killed_by()(rows)

    Attempts(output, "score").run_on_rows(block_of(3), counting, "scoring_error")
    assert calls == [3], "one death is not enough, and those of another stage do not count"


def test_markers_are_cleared_when_all_is_done(output: Output) -> None:
    output.write(f"{ATTEMPTS_FOLDER}/score/dt=1/u.parquet/0-3-x", b"")
    output.write("dt=1/data.parquet", b"x")
    clear_markers(output)
    assert output.list_tree("") == ["dt=1/data.parquet"]
