"""The pipeline benchmark: its corpus, its rates, and whose memory it counts. No Ray here."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment.model.find import find_model
from sentiment.model.tokenizer import Tokeniser

ROOT = Path(__file__).resolve().parent.parent

# Starts a child that starts a child, each holding some memory of its own.
PARENT = """
import subprocess, sys, time
depth = int(sys.argv[1])
held = bytearray(b"x") * (20 * 2**20)
if depth:
    subprocess.Popen([sys.executable, "-c", sys.argv[2], str(depth - 1), sys.argv[2]])
time.sleep(60)
"""


@pytest.fixture(scope="module", autouse=True)
def benchmarks_on_the_path() -> Iterator[None]:
    """A script finds its neighbours because its folder comes first on the path."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def rates() -> ModuleType:
    from peers import rates

    return rates


@pytest.fixture(scope="module")
def corpus() -> ModuleType:
    from peers import corpus

    return corpus


@pytest.fixture(scope="module")
def processes() -> ModuleType:
    from peers import processes

    return processes


def test_a_repeated_corpus_keeps_lengths_and_repeats_no_text(corpus: ModuleType) -> None:
    texts = ["The soup was cold and late", "A fine, fine film", "Would buy again"]
    made = corpus.numbered(texts, 100)
    assert len(set(made)) == 100
    assert [len(text) for text in made] == [len(texts[row % 3]) for row in range(100)]


def test_a_corpus_smaller_than_its_source_is_spread_over_it(corpus: ModuleType) -> None:
    texts = [f"Review of the film {number}" for number in range(10)]
    assert [text[-1] for text in corpus.numbered(texts, 5)] == ["0", "2", "4", "6", "8"]


def test_texts_shorter_than_their_number_are_told_apart_too(corpus: ModuleType) -> None:
    assert len(set(corpus.numbered(["Bad", "Good"], 50))) == 50


def test_repeated_texts_differ_for_the_model_even_when_cut_short(corpus: ModuleType) -> None:
    model = find_model("builtin")
    tokeniser = Tokeniser(model.folder, model.template, 16, "head")
    ids = tokeniser.encode(corpus.numbered(["A long story of a film about a film " * 20], 200))
    assert len({row.ids.tobytes() for row in ids}) == 200


def test_a_corpus_has_all_rows_once_over_its_shards(corpus: ModuleType, tmp_path: Path) -> None:
    texts = corpus.numbered(["Good soup"], 10)
    corpus.write_corpus(tmp_path / "corpus", texts, 4)
    shards = sorted((tmp_path / "corpus").iterdir())
    assert len(shards) == 4
    assert [text for one in shards for text in pq.read_table(one)["text"].to_pylist()] == texts


def test_the_warm_rate_leaves_out_the_first_commit(rates: ModuleType) -> None:
    # 50 seconds of start-up, then 10 rows every 2 seconds; commits in any order.
    assert rates.warm_rate([(54.0, 10), (50.0, 10), (52.0, 10), (56.0, 10)]) == 5.0


def test_the_warm_rate_starts_after_a_unit_of_every_actor(rates: ModuleType) -> None:
    two_actors = [(50.0, 10), (50.0, 10), (52.0, 10), (52.0, 10), (54.0, 10), (54.0, 10)]
    assert rates.warm_rate(two_actors, first=2) == 10.0


def test_a_single_commit_has_no_warm_rate(rates: ModuleType) -> None:
    assert rates.warm_rate([(50.0, 10)]) is None


def test_commits_are_data_files_in_order_of_time(rates: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "_sentiment").mkdir()
    for name, rows, written_at in (("b", 3, 10), ("a", 2, 20), ("_sentiment/metrics", 9, 5)):
        path = tmp_path / f"{name}.parquet"
        pq.write_table(pa.table({"text": ["x"] * rows}), path)
        os.utime(path, (written_at, written_at))
    assert rates.commits_of(tmp_path) == [(10.0, 3), (20.0, 2)]


def test_rounds_become_medians_with_the_range_of_the_rates(rates: ModuleType) -> None:
    rounds = [
        {"rows_per_sec": rate, "rows_per_sec_warm": None, "precision": "bf16"}
        for rate in (3.0, 1.0, 2.0)
    ]
    assert rates.summarised(rounds) == {
        "rows_per_sec": 2.0,
        "rows_per_sec_range": [1.0, 3.0],
        "rows_per_sec_warm": None,
        "precision": "bf16",
    }


def test_memory_counts_marked_processes_and_their_descendants_only(processes: ModuleType) -> None:
    marked = {**os.environ, processes.MARK: "this-test"}
    # Its own run, as another benchmark beside this one would have.
    other = {**os.environ, processes.MARK: "another-test"}
    command = [sys.executable, "-c", PARENT]
    mine = subprocess.Popen([*command, "2", PARENT], env=marked)
    theirs = subprocess.Popen([*command, "0", PARENT], env=other)
    try:
        deadline = time.monotonic() + 8
        while len(found := processes.marked_processes("this-test")) < 3:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        assert mine.pid in found
        assert theirs.pid not in found
        while sum(map(processes.pss_bytes, found)) < 3 * 20 * 2**20:
            assert time.monotonic() < deadline, "the memory of a descendant is missing"
            time.sleep(0.05)
    finally:
        for pid in found | {theirs.pid}:
            os.kill(pid, 9)
        mine.wait()
        theirs.wait()
    assert processes.marked_processes("this-test") == set()


def test_a_watched_program_tells_its_time_and_memory(processes: ModuleType, tmp_path: Path) -> None:
    watched = processes.run_watched(
        [sys.executable, "-c", "import time; held = bytearray(b'x') * 2**25; time.sleep(1)"],
        cores=[min(os.sched_getaffinity(0))],
        environment=os.environ,
        sample_sec=0.1,
        log=tmp_path / "log",
    )
    assert watched.wall_sec >= 1
    assert watched.peak_pss_bytes > 2**25


def test_a_failed_program_is_told_with_its_last_words(
    processes: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="no such model"):
        processes.run_watched(
            [sys.executable, "-c", "raise SystemExit('no such model')"],
            cores=[min(os.sched_getaffinity(0))],
            environment=os.environ,
            sample_sec=0.1,
            log=tmp_path / "log",
        )


def test_only_ratios_with_both_sides_measured_are_told() -> None:
    import pipeline

    results = {
        "job": {"rows_per_sec": 4.0, "rows_per_sec_warm": 9.0},
        "bare-engine": {"rows_per_sec": 5.0, "rows_per_sec_warm": 10.0},
        "ray-transformers-fp32": {"rows_per_sec": 0.5, "rows_per_sec_warm": None},
    }
    assert pipeline.ratios(results) == {
        "job / bare engine, warm": 0.9,
        "job / transformers fp32": 8.0,
    }
