"""Charts of curves: labels over nights, reliability, throughput.

Takes figures in the order of time or score, gives `Chart`s. Knows no run and no file.
"""

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
    spread,
    ticks,
)

_HEIGHT_PX = 230
_TOP_PX = 14
_BASE_PX = _HEIGHT_PX - 42
_LEAST_SPAN = 0.2  # of a share axis: noise should not fill the picture
_MOST_DOTS = 40  # of one line, before they run into each other
_LABEL_GAP_PX = 13
_DAY_SEC = 86400
_END_CHARS = 14  # of a name at the end of its line
_MOST_STEPS = 60  # of throughput


@dataclass(frozen=True)
class Night:
    """What one run labelled.

    Attributes:
        model: Digest of its model; a change of it is marked.
    """

    time: datetime
    labels: Mapping[str, int]
    model: str = ""

    @property
    def rows(self) -> int:
        """Rows with a label."""
        return sum(self.labels.values())


@dataclass(frozen=True)
class _Plane:
    """Where values are on the picture."""

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
    """Share of each label, night by night.

    Args:
        nights: At least one, the oldest first, each with rows.
    """
    title = "Label share over nights"
    lines = [series.folded(night.labels) for night in nights]
    others = any(OTHERS in line for line in lines)
    names = [*series.names, *([OTHERS] if others else [])]
    shares = {
        name: [line.get(name, 0) / night.rows for line, night in zip(lines, nights, strict=True)]
        for name in names
    }
    named = tuple((series.css(name), name) for name in names)
    return Chart(
        title,
        finding,
        _share_lines(f"{key}-n", title, nights, shares, series, finding, NARROW_PX),
        _share_lines(f"{key}-w", title, nights, shares, series, finding, WIDE_PX),
        legend=named if any(len(name) > _END_CHARS for name in names) else (),
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
    room = min(max(len(shorten(name, _END_CHARS)) for name in shares) * CHAR_PX + 12, 110)
    times = [night.time.timestamp() for night in nights]
    # A single night stands in the middle of its day.
    span = (
        (times[0], times[-1])
        if times[-1] > times[0]
        else (times[0] - _DAY_SEC / 2, times[0] + _DAY_SEC / 2)
    )
    places = _share_ticks([share for values in shares.values() for share in values])
    plane = _Plane(50, width - room, span, (places[0], places[-1]))
    _share_axis(draw, plane, places, "share of labelled rows (%)")
    _dates(draw, plane, most=3 if width == NARROW_PX else 6)
    for before, night in pairwise(nights):
        if before.model != night.model:
            x = plane.x(night.time.timestamp())
            draw.line(x, _TOP_PX, x, _BASE_PX, "mark")
            anchor = "end" if x > plane.left + 90 else "start"
            draw.text(x - 4 if anchor == "end" else x + 4, _TOP_PX + 9, "new model", "tick", anchor)
    ends = [plane.y(values[-1]) for values in shares.values()]
    beside = spread(ends, _LABEL_GAP_PX, _TOP_PX, _BASE_PX)
    for (name, values), end in zip(shares.items(), beside, strict=True):
        css = series.css(name)
        points = [
            (plane.x(time), plane.y(share)) for time, share in zip(times, values, strict=True)
        ]
        draw.curve(points, f"line {css}")
        if len(points) <= _MOST_DOTS:
            for (x, y), night, share in zip(points, nights, values, strict=True):
                tip = f"{night.time:%Y-%m-%d %H:%M}: {name} {percent(share)} of {night.rows:,} rows"
                draw.dot(x, y, f"dot {css}", tip, 2.5)
        draw.text(plane.right + 8, end + 4, shorten(name, _END_CHARS), "name")
    return draw.finish(title, finding)


def _share_ticks(values: Sequence[float]) -> list[float]:
    """Ticks around shares, never beyond 0 and 1, and never so close that noise looks like news."""
    low, high = min(values), max(values)
    lacking = max(_LEAST_SPAN - (high - low), 0)
    low, high = max(low - lacking / 2, 0.0), min(high + lacking / 2, 1.0)
    return [tick for tick in ticks(low, high) if -1e-9 <= tick <= 1 + 1e-9]


def _share_axis(draw: Drawing, plane: _Plane, places: Sequence[float], title: str) -> None:
    for tick in places:
        draw.line(plane.left, plane.y(tick), plane.right, plane.y(tick))
        digits = 0 if abs(tick * 100 - round(tick * 100)) < 1e-6 else 1
        draw.text(plane.left - 5, plane.y(tick) + 4, percent(tick, digits), anchor="end")
    draw.up(13, (_TOP_PX + _BASE_PX) / 2, title)


def _dates(draw: Drawing, plane: _Plane, most: int) -> None:
    """Ticks of an axis of time: whole days apart, or hours within two days."""
    low, high = plane.x_range
    unit, form = (_DAY_SEC, "%-d %b") if high - low >= 2 * _DAY_SEC else (3600, "%H:%M")
    step = math.ceil((high - low) / unit / (most - 1)) * unit
    for count in range(most):
        at = low + step * count
        if at <= high:
            anchor = "start" if count == 0 else "end" if high - at < step / 4 else "middle"
            draw.text(plane.x(at), _BASE_PX + 16, f"{_utc(at):{form}}", anchor=anchor)
    draw.line(plane.left, _BASE_PX, plane.right, _BASE_PX, "base")
    first, last = f"{_utc(low):%-d %b %Y}", f"{_utc(high):%-d %b %Y}"
    title = f"end of the run (UTC), {first if first == last else f'{first} to {last}'}"
    draw.text((plane.left + plane.right) / 2, _HEIGHT_PX - 6, title, "axis", "middle")


def _utc(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)


def reliability(key: str, right: Sequence[int], truth: Sequence[int], finding: str) -> Chart:
    """How often labels are right, by their score, against the diagonal of a score that is true.

    Args:
        right: Rows labelled right, by equal bins of the score.
        truth: Rows with a true label, by the same bins.
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
    most, points = max([*truth, 1]), []
    for place, (good, rows) in enumerate(zip(right, truth, strict=True)):
        if rows:
            middle, share = (place + 0.5) / len(truth), good / rows
            x, y = plane.x(middle), plane.y(share)
            points.append((x, y))
            tip = f"scores around {middle:.3f}: {percent(share)} of {rows:,} rows right"
            draw.dot(x, y, "dot s2", tip, 2 + 5 * (rows / most) ** 0.5)
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
    """Rows per second between the moments of a run.

    Args:
        timeline: Seconds since the start and rows done by then, ascending.
    """
    title = "Throughput over time"
    steps = speeds(timeline)
    pictures = [
        _throughput(f"{key}-{name}", title, steps, finding, width)
        for name, width in (("n", NARROW_PX), ("w", WIDE_PX))
    ]
    return Chart(title, finding, pictures[0], pictures[1])


def speeds(timeline: Sequence[tuple[float, int]]) -> list[tuple[float, float, float]]:
    """From second, to second, rows per second, over steps long enough to tell speed from noise."""
    least = max((sec for sec, _ in timeline), default=0.0) / _MOST_STEPS
    found, before = [], (0.0, 0)
    for sec, rows in timeline:
        if sec > before[0] and sec - before[0] >= least and rows >= before[1]:
            found.append((before[0], sec, (rows - before[1]) / (sec - before[0])))
            before = (sec, rows)
    return found


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
    points = [(plane.x(at), plane.y(speed)) for start, end, speed in steps for at in (start, end)]
    draw.curve(points, "line s2")
    draw.up(13, (_TOP_PX + _BASE_PX) / 2, "rows per second")
    draw.text(
        (plane.left + plane.right) / 2, _HEIGHT_PX - 6, "time since the start (s)", "axis", "middle"
    )
    return draw.finish(title, finding)
