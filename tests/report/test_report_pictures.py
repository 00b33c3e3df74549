"""The charts of a page and their findings: which are drawn, and that the sentences are true."""

from __future__ import annotations

import json
from typing import Any

import made_up_runs
import pytest

from sentiment.ledger.record import parse_run
from sentiment.ledger.runs import Partition
from sentiment.report.bars import Series
from sentiment.report.pictures import PageCharts, draw_charts, shares


def drawn(values: dict[str, Any], *partitions: Partition) -> PageCharts:
    run = parse_run(values["run_id"], json.dumps(values))
    return draw_charts(run, [run], partitions)


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def with_counts(**counts: Any) -> dict[str, Any]:
    values = made_up_runs.run()
    values["counts"] |= counts
    return values


def test_shares_are_those_of_all_rows() -> None:
    series = Series(("positive", "negative"))
    sentence = shares({"positive": 12_800, "negative": 12_200}, series)
    assert plain(sentence) == "positive 51.2 %, negative 48.8 % of 25,000 rows"
    assert shares({}, series) == "no labelled rows"


def test_of_many_labels_the_first_few_are_named() -> None:
    counts = {f"l{number}": 10 for number in range(10)}
    sentence = plain(shares(counts, Series(tuple(counts)[:7])))
    assert sentence == "l0 10.0 %, l1 10.0 %, l2 10.0 %, l3 10.0 %, 4 more of 100 rows"


def test_a_single_run_has_no_chart_over_nights() -> None:
    assert drawn(made_up_runs.run()).nights is None


def test_figures_that_a_run_lacks_are_not_drawn() -> None:
    charts = drawn(made_up_runs.run(counts={"labels": {"yes": {"rows": 5}}}))
    assert (charts.scores, charts.times) == ((), ())
    parts = ("partitions", "off_label", "lengths", "reliability", "confusion", "throughput")
    assert [getattr(charts, name) for name in parts] == [None] * len(parts)


def test_all_figures_of_a_run_are_drawn() -> None:
    charts = drawn(made_up_runs.full_run(), Partition("dt=1", {"negative": 3}, 0))
    assert (len(charts.scores), len(charts.times)) == (2, 2)
    parts = ("partitions", "off_label", "lengths", "reliability", "confusion", "throughput")
    assert all(getattr(charts, name) is not None for name in parts)


@pytest.mark.parametrize(
    ("bins", "finding", "last_edge"),
    [
        ([0, 3, 1] + [0] * 13, "2 to 4 tokens are most frequent: 75.0 % of the texts", ">8<"),
        ([1] + [0] * 14 + [2], "32.8k or more tokens are most frequent: 66.7 %", ">more<"),
    ],
)
def test_the_finding_on_lengths_names_the_fullest_bin(
    bins: list[int], finding: str, last_edge: str
) -> None:
    chart = drawn(with_counts(length_histogram=bins)).lengths
    assert chart is not None
    assert plain(chart.finding).startswith(finding)
    assert last_edge in chart.svg


def test_the_finding_on_off_label_mass_counts_from_one_half() -> None:
    chart = drawn(with_counts(off_label_histogram=[90] + [0] * 9 + [4] + [0] * 8 + [6])).off_label
    assert chart is not None
    assert plain(chart.finding).startswith("10 of 100 rows (10.00 %) have 0.5 or more: another")


@pytest.mark.parametrize(
    ("right", "truth"),
    [([1, 2], [1, 2, 3]), ([5], [3]), ([0], [0]), (None, [3]), ([1], None)],
    ids=["other bins", "more right than there are", "no rows", "no right", "no truth"],
)
def test_contradicting_counts_give_no_reliability_chart(right: Any, truth: Any) -> None:
    values = with_counts(right_histogram=right, truth_histogram=truth)
    assert drawn(values).reliability is None


def test_the_finding_on_reliability_names_the_highest_bin_and_the_whole() -> None:
    values = with_counts(right_histogram=[0, 1, 3, 0], truth_histogram=[0, 2, 4, 0])
    chart = drawn(values).reliability
    assert chart is not None
    assert plain(chart.finding) == (
        "Of 4 rows with a score of 0.5 to 0.75, 75.0 % are right; of all 6 rows with a true "
        "label, 66.7 %."
    )


def test_partitions_without_labels_say_so() -> None:
    chart = drawn(made_up_runs.run(), Partition("dt=1", {}, 7)).partitions
    assert chart is not None
    assert "no labelled rows" in chart.svg


def test_the_finding_on_stages_has_the_waiting_if_it_was_measured() -> None:
    times = drawn(made_up_runs.full_run()).times
    assert plain(times[1].finding).endswith("the actors waited 5 % of their time.")
    assert "waited" not in drawn(made_up_runs.run()).times[0].finding
