"""Rates of the last two minutes, the timeline, and the account of a run."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sentiment.monitor.account import Account, PipelineStatus, Rate, Timeline
from sentiment.output.receipt import ActorNote, Footer, Receipt, tokens_of


class Clock:
    """A clock that a test advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def wait(self, sec: float) -> None:
        self.now += sec


def receipt(
    labelled: int, rejected: int = 0, score_sec: float = 0.0, actor: str | None = None
) -> Receipt:
    counts = {
        "labels": {"good": {"rows": labelled, "tokens": 10 * labelled}},
        "rejected": {"null_text": rejected},
        "stage_sec": {"read": 0.5, "tokenise": 0.25, "score": score_sec, "write": 0.001},
    }
    rows = labelled + rejected
    footer = Footer("u", "f", "fp", 0, rows - 1, labelled, rejected, "m", "c", "v", counts)
    note = None if actor is None else ActorNote(actor, 3.0, 1, 10, 20)
    return Receipt(footer, 0.125, note)


def test_a_rate_is_that_of_the_last_two_minutes() -> None:
    rate = Rate(0, 0)
    rate.add(100, 1000)
    assert rate.per_sec(100) == (10,)
    rate.add(200, 1100)
    # The sample at 100 s is the last that is older than two minutes.
    assert rate.per_sec(300) == (0.5,)


def test_a_rate_falls_while_no_sample_is_added() -> None:
    rate = Rate(0, 0, 0)
    rate.add(10, 100, 20)
    assert rate.per_sec(10) == (10, 2)
    assert rate.per_sec(50) == (2, 0.4)


@given(st.integers(0, 2000))
def test_a_timeline_keeps_its_ends_and_few_points(count: int) -> None:
    timeline = Timeline()
    for n in range(count):
        timeline.add({"sec": n})
    seconds = [point["sec"] for point in timeline.points()]
    assert len(seconds) <= 200
    assert seconds == sorted(set(seconds))
    assert (seconds[:1], seconds[-1:]) == (([0], [count - 1]) if count else ([], []))
    # Evenly spread, but for the last.
    assert len({after - one for one, after in pairwise(seconds[:-1])}) <= 1


def test_the_account_of_a_run() -> None:
    clock = Clock()
    account = Account(clock)
    account.phases.enter("plan")
    account.count_unit(receipt(0, rejected=1))  # a file that cannot be opened
    clock.wait(2)
    account.start_scoring(rows=30)
    clock.wait(4)
    account.update_status(PipelineStatus({"score": 0}, actors=0, starting=2))
    clock.wait(4)
    account.update_status(PipelineStatus({"score": 0}, actors=2, starting=0))
    clock.wait(10)
    account.count_unit(receipt(18, rejected=2, score_sec=8, actor="a"))
    account.update_status(PipelineStatus({"score": 20}, actors=1, starting=0))
    clock.wait(5)
    account.count_unit(receipt(10, score_sec=4, actor="b"))
    account.count_unit(receipt(0, actor="b"))
    account.stop_scoring()
    account.phases.enter("finish")
    clock.wait(1)
    report = account.to_json()
    assert report["phases"] == {"plan": 2, "start actors": 8, "score": 15, "finish": 1}
    assert report["stages"] == {
        "read": {"sec": 2.0, "rows": 31},
        "tokenise": {"sec": 1.0, "rows": 31},
        "score": {"sec": 12, "rows": 31},
        "write": {"sec": 0.5, "rows": 31},
    }
    # Two actors for ten seconds, one for five; each loaded its model for three before.
    assert report["model_load_sec"] == 6
    assert report["wait_sec"] == 25 - 12
    assert report["actor_sec"] == 25 + 6
    assert report["timeline"] == [
        {"sec": 0, "rows": 1, "tokens": 0, "rejected": 1},
        {"sec": 2, "rows": 1, "tokens": 0, "rejected": 1},
        {"sec": 20, "rows": 21, "tokens": 180, "rejected": 3},
        {"sec": 25, "rows": 31, "tokens": 280, "rejected": 3},
        {"sec": 25, "rows": 31, "tokens": 280, "rejected": 3},
    ]


def test_without_a_status_the_time_of_actors_is_null() -> None:
    account = Account(Clock())
    account.start_scoring(10)
    account.count_unit(receipt(10, score_sec=4, actor="a"))
    account.stop_scoring()
    report = account.to_json()
    assert (report["actor_sec"], report["wait_sec"], report["model_load_sec"]) == (None, None, 3.0)
    assert account.progress().status is None


def test_the_progress_of_a_running_job() -> None:
    clock = Clock()
    account = Account(clock)
    account.count_unit(receipt(0, rejected=1))
    account.start_scoring(rows=40)
    assert account.progress().left_sec is None
    clock.wait(5)
    account.update_status(PipelineStatus({"read": 40, "score": 20}, actors=1, starting=0))
    clock.wait(5)
    account.count_unit(receipt(9, rejected=1))
    figures = account.progress()
    assert (figures.rows, figures.total_rows, figures.rejected, figures.tokens) == (11, 41, 2, 90)
    assert (figures.rows_per_sec, figures.tokens_per_sec, figures.left_sec) == (1, 9, 30)
    assert figures.stage_rates == {"read": 4, "score": 2}


def test_tokens_are_those_of_all_labels() -> None:
    assert tokens_of(receipt(7).footer) == 70
    assert tokens_of(Footer("u", "f", "fp", 0, 0, 0, 1, "m", "c", "v", {})) == 0
