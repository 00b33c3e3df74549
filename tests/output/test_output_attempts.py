"""Rows that kill their process cost a bounded number of deaths and no other row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.block import ATTEMPTS, DETAIL, IDS, REASON, STAGE, UNIT
from sentiment.output.apart import ProcessDiedError
from sentiment.output.attempts import (
    MAX_CRASHES,
    Attempts,
    Marker,
    clear_marker,
    clear_markers,
    marker_of,
)
from sentiment.output.folder import Output
from sentiment.output.layout import ATTEMPTS_FOLDER
from sentiment.source.shards import Shard, Unit

RUN = "token of the run"
SHARD = Shard("/lake/a.parquet", "dt=1", "a.parquet", "f", 1)


class Death(BaseException):
    """The process is gone: whatever it would have done afterwards does not happen."""


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
    """Processes one after another, as Ray starts them; the result and the number that died.

    The last try of a row happens in a process of its own, whose death counts as well.
    """
    deaths = [0]

    def apart(rows: pa.Table) -> pa.Table:
        try:
            return work(rows)
        except Death:
            deaths[0] += 1
            raise ProcessDiedError("signal SIGKILL") from None

    while True:
        try:
            attempts = Attempts(output, RUN, "score")
            return attempts.run_on_rows(block, work, apart, "scoring_error"), deaths[0]
        except Death:
            deaths[0] += 1
            assert deaths[0] < 200, "it never ends"


def markers(output: Output) -> list[Marker]:
    found = [Marker.from_json(output.read(path)) for path in output.list_tree(ATTEMPTS_FOLDER)]
    return [one for one in found if one is not None]


def test_a_unit_has_one_marker_that_blames_nobody(output: Output) -> None:
    done, deaths = until_done(output, block_of(5), killed_by())
    assert deaths == 0
    assert done["done"].to_pylist() == [True] * 5
    assert ATTEMPTS not in done.column_names
    [marker] = markers(output)
    assert not marker.crashes
    [path] = output.list_tree(ATTEMPTS_FOLDER)
    assert path == marker_of(Unit(SHARD, 100, 104).unit_id)
    clear_marker(output, Unit(SHARD, 100, 104).unit_id)
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
    # Twice over the unit, once over each part on the way, once over the row, and its last try.
    assert deaths <= MAX_CRASHES + math.ceil(math.log(max(2, rows), 16)) + 2
    assert done[ATTEMPTS][poison].as_py() == 2
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


def test_a_row_whose_last_try_goes_well_is_no_reject(output: Output) -> None:
    """Nodes that are taken away over one row time and again are still no fault of the row."""
    left = [Death() for _ in range(MAX_CRASHES + 2)]

    def unlucky(rows: pa.Table) -> pa.Table:
        if left and 7 in rows["n"].to_pylist():
            raise left.pop()
        return killed_by()(rows)

    done, deaths = until_done(output, block_of(40), unlucky)
    assert deaths == MAX_CRASHES + 2
    assert not left
    assert done["n"].to_pylist() == list(range(40))
    assert done[REASON].null_count == 40


def test_an_exception_is_no_crash(output: Output) -> None:
    def failing(_: pa.Table) -> pa.Table:
        raise RuntimeError("not this time")

    for _ in range(3 * MAX_CRASHES):
        attempts = Attempts(output, RUN, "score")
        with pytest.raises(RuntimeError):
            attempts.run_on_rows(block_of(3), failing, failing, "scoring_error")
    [marker] = markers(output)
    assert (marker.noted, marker.crashes) == (None, {})


@pytest.mark.parametrize(
    ("marker", "counts"),
    [
        (Marker(RUN, "f", Counter({"score 0-3": 5}), ("score", "0-3")), True),
        (Marker("another run", "f", Counter({"score 0-3": 5}), ("score", "0-3")), False),
        (Marker(RUN, "before the repair", Counter({"score 0-3": 5}), ("score", "0-3")), False),
        (Marker(RUN, "f", Counter({"tokenise 0-3": 5}), ("tokenise", "0-3")), False),
    ],
    ids=["ours", "another run", "repaired", "an earlier stage"],
)
def test_a_marker_counts_for_the_same_rows_and_run_only(
    output: Output, marker: Marker, counts: bool
) -> None:
    output.write(marker_of(Unit(SHARD, 100, 102).unit_id), marker.to_json())
    calls: list[int] = []

    def counting(rows: pa.Table) -> pa.Table:
        calls.append(rows.num_rows)
        return killed_by()(rows)

    Attempts(output, RUN, "score").run_on_rows(block_of(3), counting, counting, "scoring_error")
    assert calls == ([1, 1, 1] if counts else [3])


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"run": "r"}', b"\xff"])
def test_a_damaged_marker_counts_for_nothing(output: Output, data: bytes) -> None:
    output.write(marker_of(Unit(SHARD, 100, 102).unit_id), data)
    done, deaths = until_done(output, block_of(3), killed_by())
    assert (deaths, done[REASON].null_count) == (0, 3)


def test_markers_of_earlier_runs_go(output: Output) -> None:
    output.write(f"{ATTEMPTS_FOLDER}/score/dt=1/u.parquet/0-3-x", b"")  # of an earlier version
    output.write(marker_of("dt=1/u.parquet"), b"{}")
    output.write("dt=1/data.parquet", b"x")
    clear_markers(output)
    assert output.list_tree("") == ["dt=1/data.parquet"]
    assert not Path(output.path(ATTEMPTS_FOLDER)).exists()
