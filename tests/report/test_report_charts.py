"""Charts: they show all of their data, and say in text what they show."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.report.bars import (
    MAX_SERIES,
    NARROW_PX,
    OTHERS,
    BinAxis,
    Series,
    confusion_grid,
    histogram,
    series_of,
    share_bars,
    time_bars,
)
from sentiment.report.curves import Night, reliability, share_lines, speeds, throughput
from sentiment.report.svg import Chart, clean, compact, shorten, spread_labels, ticks

HOSTILE = "<script>alert('x')</script> \"]]>&amp; \x00\x1b\ud800 \u202e"
SVG = "{http://www.w3.org/2000/svg}"
LABELS = st.dictionaries(st.sampled_from("abcdefghijkl"), st.integers(0, 10**9), min_size=1)


def nights(count: int) -> list[Night]:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        Night(start + timedelta(days=day), {"no": 40 + day % 7, "yes": 60}, "ab"[day > count / 2])
        for day in range(count)
    ]


def charts(name: str = "yes") -> list[Chart]:
    """Return a chart of each kind, with the name in every place that takes one."""
    series = Series((name, "no"))
    two = [Night(night.time, {name: 60, "no": 40}, night.model) for night in nights(3)]
    edges = ["0", "0.25", "0.5", "0.75", "1"]
    return [
        share_bars("one", [(name, {name: 3, "no": 1})], series, name),
        share_lines("two", two, series, name),
        histogram("three", name, [1, 0, 5, 9], BinAxis("score (0 to 1)", edges), name),
        reliability("four", [0, 2, 8], [1, 4, 9], name),
        confusion_grid("five", [name, "no"], [[5, 1], [2, 7]], name),
        throughput("six", [(1.0, 10), (2.0, 30), (3.0, 35)], name),
        time_bars("seven", name, {name: 3.5, "no": 0.0}, name, "time (s)"),
    ]


def pictures(chart: Chart) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in (chart.svg, chart.wide) if svg is not None]


def texts(picture: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in picture.iter(f"{SVG}text")]


def bars(picture: ElementTree.Element) -> list[ElementTree.Element]:
    return [one for one in picture.iter(f"{SVG}rect") if "bar" in (one.get("class") or "")]


@pytest.mark.parametrize(
    "name", ["yes", HOSTILE, "ж" * 500, ""], ids=["plain", "hostile", "long", "empty"]
)
@pytest.mark.parametrize("kind", range(7))
def test_every_chart_is_xml_with_title_and_description(kind: int, name: str) -> None:
    chart = charts(name)[kind]
    for picture in pictures(chart):
        title, description = picture.find(f"{SVG}title"), picture.find(f"{SVG}desc")
        assert picture.get("role") == "img"
        assert title is not None
        assert description is not None
        assert picture.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        assert title.text == (clean(chart.title) or None)
        assert description.text == (clean(name) or None)
        assert not list(picture.iter(f"{SVG}script"))


@pytest.mark.parametrize("kind", range(7))
def test_every_chart_has_axes_with_units_and_ticks(kind: int) -> None:
    units = ("(%)", "(s)", "(0 to 1)", "0 to 1)", "rows", "% of true", "(UTC)", "per second")
    for picture in pictures(charts()[kind]):
        axes = [one for one in picture.iter(f"{SVG}text") if one.get("class") == "axis"]
        assert axes
        assert any(unit in (axis.text or "") for axis in axes for unit in units)
        assert any(re.search(r"\d", text) for text in texts(picture))


@pytest.mark.parametrize("kind", range(7))
def test_nothing_is_drawn_outside_the_picture(kind: int) -> None:
    for picture in pictures(charts("a name that is rather long, as names are")[kind]):
        width, height = map(float, (picture.get("viewBox") or "").split()[2:])
        for one in picture.iter(f"{SVG}rect"):
            x, y, w, h = (float(one.get(name) or 0) for name in ("x", "y", "width", "height"))
            assert 0 <= x <= x + w <= width + 0.2
            assert 0 <= y <= y + h <= height + 0.2


def test_ids_differ_between_the_charts_of_a_page() -> None:
    ids = [
        element.get("id")
        for chart in charts()
        for picture in pictures(chart)
        for element in picture.iter()
        if element.get("id")
    ]
    assert len(ids) == len(set(ids))


@settings(deadline=None)
@given(LABELS.filter(lambda counts: sum(counts.values()) > 0))
def test_the_parts_of_a_share_bar_add_up_to_the_whole_bar(counts: dict[str, int]) -> None:
    series = series_of([], counts)
    for picture in pictures(share_bars("k", [("here", counts)], series, "")):
        parts = sorted(bars(picture), key=lambda one: float(one.get("x") or 0))
        start = float(parts[0].get("x") or 0)
        last = parts[-1]
        end = float(last.get("x") or 0) + float(last.get("width") or 0) + 1
        whole = float((picture.get("viewBox") or "").split()[2]) - 8 - start
        assert end - start == pytest.approx(whole, abs=2)
        assert len(parts) == sum(1 for rows in series.folded(counts).values() if rows)


@settings(deadline=None)
@given(LABELS)
def test_folding_labels_loses_no_row(counts: dict[str, int]) -> None:
    folded = series_of([], counts).folded(counts)
    assert sum(folded.values()) == sum(counts.values())
    assert len(folded) <= MAX_SERIES + 1


def test_a_label_has_the_same_colour_in_every_chart() -> None:
    series = series_of(["negative", "positive"], {"positive": 3, "odd": 1})
    assert series.css_class("negative") == "s1"
    assert series.css_class("positive") == "s2"
    assert series.css_class("never heard of") == "s0"


def test_more_labels_than_colours_are_summed_up() -> None:
    counts = {f"label {number}": 100 - number for number in range(12)}
    chart = share_bars("k", [("here", counts)], series_of([], counts), "")
    assert chart.legend[-1] == ("s0", OTHERS)
    assert len(chart.legend) == MAX_SERIES + 1


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=20))
def test_histogram_bars_are_as_high_as_their_counts(counts: list[int]) -> None:
    edges = [str(place) for place in range(len(counts) + 1)]
    chart = histogram("k", "t", counts, BinAxis("x", edges), "f")
    heights = [float(one.get("height") or 0) for one in bars(pictures(chart)[0])]
    shown = [count for count in counts if count]
    assert len(heights) == len(shown)
    for height, count in zip(heights, shown, strict=True):
        assert height == pytest.approx(max(heights) * count / max(shown), abs=1.6)


def test_a_single_row_among_millions_shows() -> None:
    chart = histogram("k", "t", [10**7, 1], BinAxis("x", ["0", "1", "2"]), "f")
    assert float(bars(pictures(chart)[0])[1].get("height") or 0) > 1


def test_a_confusion_matrix_shows_every_count_and_the_share_of_its_row() -> None:
    [picture] = pictures(confusion_grid("k", ["a", "b"], [[30, 10], [0, 0]], "f"))
    shown = [text.replace("\N{NO-BREAK SPACE}", " ") for text in texts(picture)]
    assert [text for text in shown if text in ("30", "10", "0", "75 %", "25 %", "0 %")] == [
        "30", "75 %", "10", "25 %", "0", "0 %", "0", "0 %",
    ]  # fmt: skip


def test_a_reliability_diagram_has_a_dot_per_bin_with_rows_and_the_diagonal() -> None:
    [picture] = pictures(reliability("k", [0, 2, 8], [0, 4, 9], "f"))
    assert len(list(picture.iter(f"{SVG}circle"))) == 2
    assert [one.get("class") for one in picture.iter(f"{SVG}line")].count("diagonal") == 1


@pytest.mark.parametrize("count", [1, 2, 7, 365])
def test_a_line_has_a_point_per_night(count: int) -> None:
    for picture in pictures(share_lines("k", nights(count), Series(("no", "yes")), "f")):
        lines = list(picture.iter(f"{SVG}polyline"))
        assert [len((line.get("points") or "").split()) for line in lines] == [count, count]


def test_a_change_of_the_model_is_marked() -> None:
    [picture, _] = pictures(share_lines("k", nights(9), Series(("no", "yes")), "f"))
    assert texts(picture).count("new model") == 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 100), st.integers(0, 1000)), max_size=300))
def test_speeds_account_for_the_rows_between_their_moments(
    moves: Sequence[tuple[float, int]],
) -> None:
    moments, sec, rows = [], 0.0, 0
    for pause, more in moves:
        sec, rows = sec + pause, rows + more
        moments.append((sec, rows))
    steps = speeds(moments)
    done = sum((end - start) * speed for start, end, speed in steps)
    at = dict(moments).get(steps[-1][1], 0) if steps else 0
    assert done == pytest.approx(at, abs=1e-3)
    assert len(steps) <= 61


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e9), st.integers(2, 8))
def test_ticks_cover_their_range(low: float, span: float, about: int) -> None:
    places = ticks(low, low + span, about)
    slack = 1e-6 * (abs(low) + span)
    assert places[0] <= low + slack
    assert places[-1] >= low + span - slack
    assert 2 <= len(places) <= 2 * about + 3


@settings(deadline=None)
@given(st.lists(st.floats(0, 100), max_size=7))
def test_labels_of_lines_do_not_cover_each_other(places: list[float]) -> None:
    placed = spread_labels(places, 10, 0, 100)
    assert all(
        after - before >= 10 - 1e-6
        for before, after in zip(sorted(placed), sorted(placed)[1:], strict=False)
    )
    assert [math.isfinite(place) and -1e-6 <= place <= 100 + 1e-6 for place in placed] == [
        True
    ] * len(places)


@settings(deadline=None)
@given(st.text(), st.integers(5, 50))
def test_shortened_text_keeps_its_ends(text: str, chars: int) -> None:
    short = shorten(text, chars)
    assert len(short) <= chars
    assert short == text or (short[0] == text[0] and short[-1] == text[-1] and "…" in short)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (2.5, "2.5"), (950, "950"), (1200, "1,200"), (25_000, "25k"), (3.5e6, "3.5M")],
)
def test_ticks_are_short(value: float, text: str) -> None:
    assert compact(value) == text


def test_narrow_pictures_fit_a_phone() -> None:
    assert all(pictures(chart)[0].get("width") == str(NARROW_PX) for chart in charts())
