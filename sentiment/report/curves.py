"""Draw line charts: label shares over runs, the reliability of scores, throughput over time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from markupsafe import Markup

from sentiment.report.bars import NARROW_PX, OTHERS, WIDE_PX, Series
from sentiment.report.svg import (
    CHAR_PX,
    Chart,
    Drawing,
    compact,
    percent,
    shorten,
    spread_labels,
    ticks,
)

_HEIGHT_PX = 230
_TOP_PX = 14
_BASE_PX = _HEIGHT_PX - 42
_MIN_SHARE_SPAN = 0.2  # of an axis of shares: small changes must not fill the whole height
_MAX_DOTS = 40  # of one line; more would cover each other
_LABEL_GAP_PX = 13
_HOUR_SEC = 3600
_DAY_SEC = 24 * _HOUR_SEC
_NAME_CHARS = 14  # of a name at the end of its line
_MAX_SPEED_STEPS = 60  # of throughput; shorter steps would show noise


@dataclass(frozen=True)
class Night:
    """The labels of one run.

    Attributes:
        time: When the run finished.
        labels: Rows by label.
        model: Digest of its model; the chart marks where it changes.
    """

    time: datetime
    labels: Mapping[str, int]
    model: str = ""

    @property
    def rows(self) -> int:
        """Number of rows with a label."""
        return sum(self.labels.values())


@dataclass(frozen=True)
class _Plane:
    """Maps values to positions on the picture.

    Attributes:
        left: Position of the least x value, in pixels.
        right: Position of the greatest x value, in pixels.
        x_range: Least and greatest x value.
        y_range: Least and greatest y value.
    """

    left: float
    right: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (self.right - self.left) * (value - low) / ((high - low) or 1)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return _BASE_PX - (_BASE_PX - _TOP_PX) * (value - low) / ((high - low) or 1)


def share_lines(key: str, nights: Sequence[Night], series: Series, finding: str) -> Chart:
    """Draw the share of each label over the runs.

    Args:
        key: Prefix of the element ids, unique on the page.
        nights: At least one run, the oldest first, each with rows.
        series: Colours of the labels.
        finding: What a reader can see in it, as a sentence.
    """
    title = "Label share over nights"
    lines = [series.folded(night.labels) for night in nights]
    others = any(OTHERS in line for line in lines)
    names = [*series.names, *([OTHERS] if others else [])]
    shares = {
        name: [line.get(name, 0) / night.rows for line, night in zip(lines, nights, strict=True)]
        for name in names
    }
    legend = tuple((series.css_class(name), name) for name in names)
    return Chart(
        title,
        finding,
        _share_lines(f"{key}-n", title, nights, shares, series, finding, NARROW_PX),
        _share_lines(f"{key}-w", title, nights, shares, series, finding, WIDE_PX),
        # Names stand at the ends of the lines; a legend repeats them where they are cut there.
        legend=legend if any(len(name) > _NAME_CHARS for name in names) else (),
    )


def _share_lines(
    key: str,
    title: str,
    nights: Sequence[Night],
    shares: Mapping[str, Sequence[float]],
    series: Series,
    finding: str,
    width: int,
) -> Markup:
    draw = Drawing(key, width, _HEIGHT_PX)
    name_width = min(max(len(shorten(name, _NAME_CHARS)) for name in shares) * CHAR_PX + 12, 110)
    times = [night.time.timestamp() for night in nights]
    span = (times[0], times[-1])
    if span[0] == span[1]:  # a single run is drawn in the middle of a day
        span = (times[0] - _DAY_SEC / 2, times[0] + _DAY_SEC / 2)
    places = _share_ticks([share for values in shares.values() for share in values])
    plane = _Plane(50, width - name_width, span, (places[0], places[-1]))
    _share_axis(draw, plane, places, "share of labelled rows (%)")
    _time_axis(draw, plane, max_ticks=3 if width == NARROW_PX else 6)
    _mark_new_models(draw, plane, nights)
    ends = [plane.y(values[-1]) for values in shares.values()]
    name_places = spread_labels(ends, _LABEL_GAP_PX, _TOP_PX, _BASE_PX)
    for (name, values), name_y in zip(shares.items(), name_places, strict=True):
        css = series.css_class(name)
        points = [
            (plane.x(time), plane.y(share)) for time, share in zip(times, values, strict=True)
        ]
        draw.curve(points, f"line {css}")
        if len(points) <= _MAX_DOTS:
            for (x, y), night, share in zip(points, nights, values, strict=True):
                tip = f"{night.time:%Y-%m-%d %H:%M}: {name} {percent(share)} of {night.rows:,} rows"
                draw.dot(x, y, f"dot {css}", tip, 2.5)
        draw.text(plane.right + 8, name_y + 4, shorten(name, _NAME_CHARS), "name")
    return draw.finish(title, finding)


def _mark_new_models(draw: Drawing, plane: _Plane, nights: Sequence[Night]) -> None:
    """Draw a vertical line at each run whose model differs from that of the run before."""
    for before, night in pairwise(nights):
        if before.model == night.model:
            continue
        x = plane.x(night.time.timestamp())
        draw.line(x, _TOP_PX, x, _BASE_PX, "mark")
        # The text is on the left of the line if there is room for it.
        if x > plane.left + 90:
            draw.text(x - 4, _TOP_PX + 9, "new model", "tick", "end")
        else:
            draw.text(x + 4, _TOP_PX + 9, "new model", "tick", "start")


def _share_ticks(values: Sequence[float]) -> list[float]:
    """Return ticks that cover shares, never beyond 0 and 1, and at least `_MIN_SHARE_SPAN` wide."""
    low, high = min(values), max(values)
    missing_span = max(_MIN_SHARE_SPAN - (high - low), 0)
    low, high = max(low - missing_span / 2, 0.0), min(high + missing_span / 2, 1.0)
    return [tick for tick in ticks(low, high) if -1e-9 <= tick <= 1 + 1e-9]


def _share_axis(draw: Drawing, plane: _Plane, places: Sequence[float], title: str) -> None:
    for tick in places:
        draw.line(plane.left, plane.y(tick), plane.right, plane.y(tick))
        # One decimal only for ticks such as 2.5 %.
        digits = 0 if abs(tick * 100 - round(tick * 100)) < 1e-6 else 1
        draw.text(plane.left - 5, plane.y(tick) + 4, percent(tick, digits), anchor="end")
    draw.vertical_text(13, (_TOP_PX + _BASE_PX) / 2, title)


def _time_axis(draw: Drawing, plane: _Plane, max_ticks: int) -> None:
    """Draw the axis of time. Its ticks are whole days apart, or whole hours within two days."""
    low, high = plane.x_range
    if high - low >= 2 * _DAY_SEC:
        unit_sec, time_format = _DAY_SEC, "%-d %b"
    else:
        unit_sec, time_format = _HOUR_SEC, "%H:%M"
    step = math.ceil((high - low) / unit_sec / (max_ticks - 1)) * unit_sec
    for number in range(max_ticks):
        tick = low + step * number
        if tick <= high:
            # The first and the last text must not reach beyond the axis.
            anchor = "middle"
            if number == 0:
                anchor = "start"
            elif high - tick < step / 4:
                anchor = "end"
            draw.text(plane.x(tick), _BASE_PX + 16, f"{_utc(tick):{time_format}}", anchor=anchor)
    draw.line(plane.left, _BASE_PX, plane.right, _BASE_PX, "base")
    first, last = f"{_utc(low):%-d %b %Y}", f"{_utc(high):%-d %b %Y}"
    title = f"end of the run (UTC), {first if first == last else f'{first} to {last}'}"
    draw.text((plane.left + plane.right) / 2, _HEIGHT_PX - 6, title, "axis", "middle")


def _utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)


def reliability(key: str, right: Sequence[int], truth: Sequence[int], finding: str) -> Chart:
    """Draw the share of right labels by score. On the diagonal, scores and shares are equal.

    Args:
        key: Prefix of the element ids, unique on the page.
        right: Rows whose label is right, by equal bins of the score.
        truth: Rows with a true label, by the same bins.
        finding: What a reader can see in it, as a sentence.
    """
    title = "Reliability: are scores as right as they say?"
    draw = Drawing(key, NARROW_PX, _HEIGHT_PX + 30)
    plane = _Plane(50, NARROW_PX - 10, (0, 1), (0, 1))
    _share_axis(draw, plane, (0, 0.25, 0.5, 0.75, 1), "labels that are right (%)")
    for tick in (0, 0.25, 0.5, 0.75, 1):
        draw.line(plane.x(tick), _TOP_PX, plane.x(tick), _BASE_PX)
        draw.text(plane.x(tick), _BASE_PX + 16, f"{tick:g}", anchor="middle")
    draw.line(plane.x(0), plane.y(0), plane.x(1), plane.y(1), "diagonal")
    draw.text(plane.x(0.4), plane.y(0.2), "dashed: as right as they say")
    greatest, points = max([*truth, 1]), []
    for place, (right_rows, rows) in enumerate(zip(right, truth, strict=True)):
        if rows:
            middle, share = (place + 0.5) / len(truth), right_rows / rows
            x, y = plane.x(middle), plane.y(share)
            points.append((x, y))
            tip = f"scores around {middle:.3f}: {percent(share)} of {rows:,} rows right"
            # The area of a dot, not its radius, grows with the rows: eyes compare areas.
            draw.dot(x, y, "dot s2", tip, 2 + 5 * (rows / greatest) ** 0.5)
    if points:
        draw.curve(points, "line s2")
    draw.text(
        (plane.left + plane.right) / 2,
        _BASE_PX + 36,
        "score (probability, 0 to 1)",
        "axis",
        "middle",
    )
    draw.text(
        (plane.left + plane.right) / 2,
        _BASE_PX + 54,
        "the larger the dot, the more rows",
        "tick",
        "middle",
    )
    return Chart(title, finding, draw.finish(title, finding))


def throughput(key: str, timeline: Sequence[tuple[float, int]], finding: str) -> Chart:
    """Draw rows per second over the time of a run.

    Args:
        key: Prefix of the element ids, unique on the page.
        timeline: Seconds since the start and rows committed until then, ascending.
        finding: What a reader can see in it, as a sentence.
    """
    title = "Throughput over time"
    steps = speeds(timeline)
    return Chart(
        title,
        finding,
        _throughput(f"{key}-n", title, steps, finding, NARROW_PX),
        _throughput(f"{key}-w", title, steps, finding, WIDE_PX),
    )


def speeds(timeline: Sequence[tuple[float, int]]) -> list[tuple[float, float, float]]:
    """Return the speed in each step of a timeline.

    Points of the timeline that are too close are joined: units are committed in bursts, and a speed
    between two commits of a burst would mean nothing.

    Returns:
        Start in seconds, end in seconds and rows per second of each step.
    """
    min_step_sec = max((sec for sec, _ in timeline), default=0.0) / _MAX_SPEED_STEPS
    steps = []
    start_sec, start_rows = 0.0, 0
    for sec, rows in timeline:
        if sec > start_sec and sec - start_sec >= min_step_sec and rows >= start_rows:
            steps.append((start_sec, sec, (rows - start_rows) / (sec - start_sec)))
            start_sec, start_rows = sec, rows
    return steps


def _throughput(
    key: str, title: str, steps: Sequence[tuple[float, float, float]], finding: str, width: int
) -> Markup:
    draw = Drawing(key, width, _HEIGHT_PX)
    y_places = ticks(0, max((speed for _, _, speed in steps), default=1))
    x_places = ticks(0, steps[-1][1] if steps else 1, 3 if width == NARROW_PX else 6)
    plane = _Plane(54, width - 12, (0, x_places[-1]), (0, y_places[-1]))
    for tick in y_places:
        draw.line(plane.left, plane.y(tick), plane.right, plane.y(tick))
        draw.text(plane.left - 5, plane.y(tick) + 4, compact(tick), anchor="end")
    for tick in x_places:
        draw.text(plane.x(tick), _BASE_PX + 16, compact(tick), anchor="middle")
    draw.line(plane.left, _BASE_PX, plane.right, _BASE_PX, "base")
    # Both ends of each step are at the same height: the curve is a staircase.
    points = []
    for start, end, speed in steps:
        points += [(plane.x(start), plane.y(speed)), (plane.x(end), plane.y(speed))]
    draw.curve(points, "line s2")
    draw.vertical_text(13, (_TOP_PX + _BASE_PX) / 2, "rows per second")
    draw.text(
        (plane.left + plane.right) / 2, _HEIGHT_PX - 6, "time since the start (s)", "axis", "middle"
    )
    return draw.finish(title, finding)
