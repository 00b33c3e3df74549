"""Locations become filesystems and paths; hidden names are told from others."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from sentiment.storage import in_threads, is_hidden, open_filesystem


def test_an_output_folder_need_not_exist(tmp_path: Path) -> None:
    _, path = open_filesystem(f"{tmp_path}/new/")
    assert path == f"{tmp_path}/new"
    assert open_filesystem(f"file://{tmp_path}/a%20b")[1] == f"{tmp_path}/a b"


@pytest.mark.parametrize("path", ["_SUCCESS", ".crc", "a/_temporary/b", ".a/b.parquet", "a/.b"])
def test_names_that_readers_skip_are_hidden(path: str) -> None:
    assert is_hidden(path)


@pytest.mark.parametrize("path", ["", "a", "a_b", "a.b", "dt=_1/part-0.parquet", "a/b_/c."])
def test_other_names_are_not_hidden(path: str) -> None:
    assert not is_hidden(path)


@pytest.mark.parametrize("computes", [True, False])
def test_calls_that_wait_get_more_threads_than_calls_that_compute(
    computes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if computes:  # whatever else keeps the cores of this machine busy
        clock = SimpleNamespace(perf_counter=time.thread_time, thread_time=time.thread_time)
        monkeypatch.setattr("sentiment.storage.time", clock)

    def call(number: int) -> tuple[int, int]:
        time.sleep(0.002)
        return number, threading.get_ident()

    results = in_threads(call, range(400))
    assert [number for number, _ in results] == [*range(400)]
    used = len({thread for _, thread in results} - {threading.get_ident()})
    assert used <= 2 if computes else used > 2


def test_few_calls_do_not_wait_for_each_other() -> None:
    barrier = threading.Barrier(10)
    in_threads(lambda _: barrier.wait(30), range(10))
