"""Charts of counts: shares of labels, histograms, confusion, times.

Takes counts, gives `Chart`s. Knows no run and no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sentiment.report.svg import (
    CHAR_PX,
    Chart,
    Drawing,
    compact,
    duration,
    percent,
    shorten,
    ticks,
)

NARROW_PX = 340
WIDE_PX = 760

# Colours that people can tell apart; what comes after them shares one.
MOST_SERIES = 7
OTHERS = "other labels"

_CELL_PX = 60
_LEVELS = 5  # shades of a confusion matrix
_NAME_CHARS = 44


@dataclass(frozen=True)
class Series:
    """Which labels have a colour of their own, in which order; the same all over the page."""

    names: tuple[str, ...]

    def css(self, label: str) -> str:
        """Class of a label's shapes."""
        return f"s{self.names.index(label) + 1}" if label in self.names else "s0"

    def folded(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Counts with those labels summed up that have no colour of their own."""
        own = {name: counts.get(name, 0) for name in self.names}
        rest = sum(counts.values()) - sum(own.values())
        return {**own, OTHERS: rest} if rest else own

    @property
    def legend(self) -> tuple[tuple[str, str], ...]:
        """Class and name of each."""
        return tuple((self.css(name), name) for name in self.names)


def series_of(declared: Sequence[str], counts: Mapping[str, int]) -> Series:
    """Give colours to the labels a model declares, in its order, or else to the most frequent."""
    labels = list(dict.fromkeys([*declared, *sorted(counts)]))
    if len(labels) > MOST_SERIES:
        labels.sort(key=lambda label: (-counts.get(label, 0), label))
    return Series(tuple(labels[:MOST_SERIES]))


def share_bars(
    key: str, rows: Sequence[tuple[str, Mapping[str, int]]], series: Series, finding: str
) -> Chart:
    """One bar per name, as long as every other, divided by label.

    Args:
        rows: Name and rows by label, from top to bottom.
    """
    title = "Label share by partition"
    others = any(OTHERS in series.folded(counts) for _, counts in rows)
    return Chart(
        title,
        finding,
        _share_bars(f"{key}-n", title, rows, series, finding, NARROW_PX),
        _share_bars(f"{key}-w", title, rows, series, finding, WIDE_PX),
        legend=(*series.legend, ("s0", OTHERS)) if others else series.legend,
    )


def _share_bars(
    key: str,
    title: str,
    rows: Sequence[tuple[str, Mapping[str, int]]],
    series: Series,
    finding: str,
    width: int,
) -> Markup:
    beside = width > NARROW_PX  # names stand beside the bars where there is room, else above
    left, step, high = (270, 28, 20) if beside else (0, 44, 20)
    top, length = (4 if beside else 16), width - left - 8
    bottom = top + step * len(rows)
    draw = Drawing(key, width, bottom + 40)
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = left + length * tick
        draw.line(x, top - 2, x, bottom)
        anchor = "start" if tick == 0 else "end" if tick == 1 else "middle"
        draw.text(x, bottom + 14, percent(tick, 0), anchor=anchor)
    draw.text(left + length / 2, bottom + 34, "share of labelled rows (%)", "axis", "middle")
    for place, (name, counts) in enumerate(rows):
        y, total = top + step * place, sum(counts.values())
        much = f"{total:,} rows"
        shown = shorten(name, _NAME_CHARS - len(much) - (10 if beside else 0))
        if beside:
            draw.text(0, y + 14, shown, "name")
            draw.text(left - 12, y + 14, much, "tick", "end")
        else:
            draw.text(0, y, shown, "name")
            draw.text(width - 8, y, much, "tick", "end")
        bar, at = (y if beside else y + 5), float(left)
        for label, count in series.folded(counts).items():
            if not count:
                continue
            share = count / total
            tip = f"{name}: {label} {percent(share)}, {count:,} of {total:,} rows"
            css = series.css(label)
            # One pixel of paper between neighbours tells them apart without their colours.
            draw.rect(at, bar, max(length * share - 1, 0.5), high, f"bar {css}", tip)
            _inside(draw, at, bar + 14, length * share, label, share, css)
            at += length * share
        if not total:
            draw.text(left, bar + 14, "no labelled rows", "tick")
    return draw.finish(title, finding)


def _inside(
    draw: Drawing, x: float, y: float, length: float, label: str, share: float, css: str
) -> None:
    """Name a part of a bar inside it: in full, by its share, or not at all, as there is room."""
    for text in (f"{label} {percent(share)}", percent(share), percent(share, 0)):
        if len(text) * CHAR_PX + 10 <= length:
            draw.text(x + 6, y, text, f"on {css}")
            return


def histogram(
    key: str,
    title: str,
    counts: Sequence[int],
    *,
    edges: Sequence[str],
    x_title: str,
    finding: str,
    css: str = "s2",
    every: int = 1,
) -> Chart:
    """Rows by bin.

    Args:
        edges: Text of each bin's lower edge, and of the last one's upper edge.
        every: Write so many edges apart.
    """
    width, height, left, top = NARROW_PX, 206, 58, 10
    length, base = width - left - 8, height - 40
    draw = Drawing(key, width, height)
    scale = _count_axis(draw, max(counts, default=0), left, top, width - 8, base)
    draw.up(13, (top + base) / 2, "rows")
    step = length / max(len(counts), 1)
    for place, count in enumerate(counts):
        if count:
            # A single row among millions still shows.
            high = max((base - top) * count / scale, 1.5)
            tip = f"{edges[place]} to {edges[place + 1]}: {count:,} rows"
            draw.rect(left + step * place + 0.5, base - high, step - 1, high, f"bar {css}", tip)
    draw.line(left, base, width - 8, base, "base")
    for place in range(0, len(edges), every):
        anchor = "end" if place == len(edges) - 1 else "middle"
        draw.text(
            left + step * place + 4 * (anchor == "end"), base + 14, edges[place], anchor=anchor
        )
    draw.text(left + length / 2, height - 6, x_title, "axis", "middle")
    return Chart(title, finding, draw.finish(title, finding))


def _count_axis(
    draw: Drawing, most: float, left: float, top: float, right: float, base: float
) -> float:
    """Grid and ticks of a count from 0; gives the count at the top."""
    places = [tick for tick in ticks(0, max(most, 1)) if tick == int(tick)]
    places = places if places[-1] >= most else [*places, float(int(places[-1]) + 1)]
    for tick in places:
        y = base - (base - top) * tick / places[-1]
        draw.line(left, y, right, y)
        draw.text(left - 5, y + 4, compact(tick), anchor="end")
    return places[-1]


def confusion_grid(
    key: str, labels: Sequence[str], matrix: Sequence[Sequence[int]], finding: str
) -> Chart:
    """True against predicted labels, shaded by the share of the true label's rows."""
    title = "Confusion: what was true, what was said"
    names = [shorten(label, 16) for label in labels]
    left = 36 + max((len(name) for name in names), default=0) * CHAR_PX
    cell = max(_CELL_PX, min((NARROW_PX - left) / max(len(labels), 1), 110))
    top, high = 40, 46
    width = max(left + cell * len(labels) + 2, NARROW_PX)
    draw = Drawing(key, width, top + high * len(labels) + 6)
    draw.text(
        left + cell * len(labels) / 2, 13, "predicted label (rows, % of true)", "axis", "middle"
    )
    draw.up(13, top + high * len(labels) / 2, "true label")
    for place, (label, row) in enumerate(zip(labels, matrix, strict=True)):
        y, total = top + high * place, sum(row)
        x = left + cell * place
        draw.text(
            x + cell / 2, top - 8, shorten(names[place], int(cell / CHAR_PX) - 1), "name", "middle"
        )
        draw.text(left - 8, y + high / 2 + 4, names[place], "name", "end")
        for column, count in enumerate(row):
            share = count / total if total else 0.0
            level = min(int(share * _LEVELS), _LEVELS - 1)
            tip = f"true {label}, said {labels[column]}: {count:,} rows, {percent(share)}"
            x = left + cell * column
            draw.rect(x + 1, y + 1, cell - 2, high - 2, f"q{level}", tip)
            draw.text(
                x + cell / 2,
                y + 21,
                f"{count:,}" if count < 100_000 else compact(count),
                f"count onq{level}",
                "middle",
            )
            draw.text(x + cell / 2, y + 36, percent(share, 0), f"tick onq{level}", "middle")
    return Chart(title, finding, draw.finish(title, finding))


def time_bars(key: str, title: str, sec: Mapping[str, float], finding: str, what: str) -> Chart:
    """Seconds by name, in their order.

    Args:
        what: Title of the axis, with its unit.
    """
    width, step, top = NARROW_PX, 40, 16
    bottom, length = top + step * len(sec), NARROW_PX - 8
    draw = Drawing(key, width, bottom + 40)
    places = ticks(0, max([*sec.values(), 1e-3]))
    for number, tick in enumerate(places):
        x = length * tick / places[-1]
        draw.line(x, top - 10, x, bottom)
        anchor = "start" if number == 0 else "end" if tick == places[-1] else "middle"
        draw.text(x, bottom + 14, compact(tick), anchor=anchor)
    draw.text(length / 2, bottom + 34, what, "axis", "middle")
    total = sum(sec.values())
    for place, (name, value) in enumerate(sec.items()):
        y = top + step * place
        much = duration(value) + (f", {percent(value / total, 0)}" if total else "")
        draw.text(0, y, shorten(name, 30), "name")
        draw.text(length, y, much, "tick", "end")
        draw.rect(0, y + 5, max(length * value / places[-1], 1), 14, "bar s2", f"{name}: {much}")
    return Chart(title, finding, draw.finish(title, finding))
