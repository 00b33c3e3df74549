"""Draw bar charts: label shares, histograms, the confusion matrix, times."""

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

# Number of colours that people can tell apart. All labels beyond it share one more colour.
MAX_SERIES = 7
OTHERS = "other labels"

_BAR_PX = 20  # height of a bar of shares
_CELL_PX = 60  # least width of a cell of the confusion matrix
_SHADES = 5  # of the confusion matrix
_NAME_CHARS = 44


@dataclass(frozen=True)
class Series:
    """The labels that have a colour of their own; the same in all charts of a page.

    Attributes:
        names: These labels, in the order of the colours.
    """

    names: tuple[str, ...]

    def css_class(self, label: str) -> str:
        """Return the CSS class of a label's shapes; `s0` is the colour of all other labels."""
        return f"s{self.names.index(label) + 1}" if label in self.names else "s0"

    def folded(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Return counts in which the labels without a colour of their own are summed up."""
        own = {name: counts.get(name, 0) for name in self.names}
        rest = sum(counts.values()) - sum(own.values())
        return {**own, OTHERS: rest} if rest else own

    @property
    def legend(self) -> tuple[tuple[str, str], ...]:
        """CSS class and name of each label."""
        return tuple((self.css_class(name), name) for name in self.names)


def series_of(declared: Sequence[str], counts: Mapping[str, int]) -> Series:
    """Choose the labels that have a colour of their own.

    Args:
        declared: Labels of the model; they come first, in this order.
        counts: Rows by label. If there are more labels than colours, the most frequent ones get
            them.
    """
    labels = list(dict.fromkeys([*declared, *sorted(counts)]))
    if len(labels) > MAX_SERIES:
        labels.sort(key=lambda label: (-counts.get(label, 0), label))
    return Series(tuple(labels[:MAX_SERIES]))


def share_bars(
    key: str, rows: Sequence[tuple[str, Mapping[str, int]]], series: Series, finding: str
) -> Chart:
    """Draw one bar per name, all of the same length, divided by label.

    Args:
        key: Prefix of the element ids, unique on the page.
        rows: Name, and rows by label, of each bar from top to bottom.
        series: Colours of the labels.
        finding: What a reader can see in it, as a sentence.
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
    # On a wide screen the names are beside the bars, on a narrow one above them.
    beside = width > NARROW_PX
    if beside:
        left, top, step, bar_offset, name_chars = 270, 4, 28, 0, _NAME_CHARS - 10
    else:
        left, top, step, bar_offset, name_chars = 0, 16, 44, 5, _NAME_CHARS
    length, bottom = width - left - 8, top + step * len(rows)
    draw = Drawing(key, width, bottom + 40)
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = left + length * tick
        draw.line(x, top - 2, x, bottom)
        draw.text(x, bottom + 14, percent(tick, 0), anchor=_tick_anchor(tick == 0, tick == 1))
    draw.text(left + length / 2, bottom + 34, "share of labelled rows (%)", "axis", "middle")
    for place, (name, counts) in enumerate(rows):
        y = top + step * place
        amount = f"{sum(counts.values()):,} rows"
        shown = shorten(name, name_chars - len(amount))
        if beside:
            draw.text(0, y + 14, shown, "name")
            draw.text(left - 12, y + 14, amount, "tick", "end")
        else:
            draw.text(0, y, shown, "name")
            draw.text(width - 8, y, amount, "tick", "end")
        _share_bar(draw, (left, y + bar_offset), length, name, counts, series)
    return draw.finish(title, finding)


def _share_bar(
    draw: Drawing,
    position: tuple[float, float],
    length: float,
    name: str,
    counts: Mapping[str, int],
    series: Series,
) -> None:
    """Draw one bar, divided by label.

    Args:
        position: Its upper left corner.
        length: Length of the whole bar, in pixels.
        name: What the bar stands for.
        counts: Rows by label.
        series: Colours of the labels.
    """
    x, y = position
    total = sum(counts.values())
    if not total:
        draw.text(x, y + 14, "no labelled rows", "tick")
        return
    for label, count in series.folded(counts).items():
        if not count:
            continue
        share = count / total
        tip = f"{name}: {label} {percent(share)}, {count:,} of {total:,} rows"
        css = series.css_class(label)
        # One empty pixel separates neighbours for people who cannot see their colours.
        draw.rect(x, y, max(length * share - 1, 0.5), _BAR_PX, f"bar {css}", tip)
        text = _text_that_fits(label, share, length * share)
        if text:
            draw.text(x + 6, y + 14, text, f"on {css}")
        x += length * share


def _tick_anchor(first: bool, last: bool) -> str:
    """Return where a tick's text is anchored, so that it stays inside of the picture."""
    if first:
        return "start"
    return "end" if last else "middle"


def _text_that_fits(label: str, share: float, width: float) -> str:
    """Return the longest text for a part of a bar that fits into it; "" if none does."""
    for text in (f"{label} {percent(share)}", percent(share), percent(share, 0)):
        if len(text) * CHAR_PX + 10 <= width:
            return text
    return ""


@dataclass(frozen=True)
class BinAxis:
    """The horizontal axis of a histogram.

    Attributes:
        title: Its title, with the unit.
        edges: Text of each bin's lower edge, and of the last bin's upper edge.
        label_every: Write only every so many edges; 1 writes all.
    """

    title: str
    edges: Sequence[str]
    label_every: int = 1


def histogram(
    key: str,
    title: str,
    counts: Sequence[int],
    axis: BinAxis,
    finding: str,
    css: str = "s2",
) -> Chart:
    """Draw rows by bin.

    Args:
        key: Prefix of the element ids, unique on the page.
        counts: Rows of each bin.
        axis: Edges of the bins.
        finding: What a reader can see in it, as a sentence.
        css: CSS class of the bars.
    """
    edges = axis.edges
    width, height, left, top = NARROW_PX, 206, 58, 10
    length, base = width - left - 8, height - 40
    draw = Drawing(key, width, height)
    scale = _count_axis(draw, max(counts, default=0), left, top, width - 8, base)
    draw.vertical_text(13, (top + base) / 2, "rows")
    step = length / max(len(counts), 1)
    for place, count in enumerate(counts):
        if count:
            # At least 1.5 pixels high, so that one row among millions is visible.
            high = max((base - top) * count / scale, 1.5)
            tip = f"{edges[place]} to {edges[place + 1]}: {count:,} rows"
            draw.rect(left + step * place + 0.5, base - high, step - 1, high, f"bar {css}", tip)
    draw.line(left, base, width - 8, base, "base")
    for place in range(0, len(edges), axis.label_every):
        x = left + step * place
        if place == len(edges) - 1:
            draw.text(x + 4, base + 14, edges[place], anchor="end")
        else:
            draw.text(x, base + 14, edges[place], anchor="middle")
    draw.text(left + length / 2, height - 6, axis.title, "axis", "middle")
    return Chart(title, finding, draw.finish(title, finding))


def _count_axis(
    draw: Drawing, greatest: float, left: float, top: float, right: float, base: float
) -> float:
    """Draw the grid and the ticks of a vertical axis of counts.

    Returns:
        The count at the top of the axis, at least `greatest`.
    """
    # Counts are whole numbers, so ticks between them would mean nothing.
    places = [tick for tick in ticks(0, max(greatest, 1)) if tick == int(tick)]
    if places[-1] < greatest:
        places.append(float(int(places[-1]) + 1))
    for tick in places:
        y = base - (base - top) * tick / places[-1]
        draw.line(left, y, right, y)
        draw.text(left - 5, y + 4, compact(tick), anchor="end")
    return places[-1]


def confusion_grid(
    key: str, labels: Sequence[str], matrix: Sequence[Sequence[int]], finding: str
) -> Chart:
    """Draw rows by true and predicted label, shaded by the share of the true label's rows.

    Args:
        key: Prefix of the element ids, unique on the page.
        labels: Labels, in the order of the matrix.
        matrix: Rows by true label (outer) and predicted label (inner).
        finding: What a reader can see in it, as a sentence.
    """
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
    draw.vertical_text(13, top + high * len(labels) / 2, "true label")
    for place, (label, row) in enumerate(zip(labels, matrix, strict=True)):
        y, total = top + high * place, sum(row)
        x = left + cell * place
        draw.text(
            x + cell / 2, top - 8, shorten(names[place], int(cell / CHAR_PX) - 1), "name", "middle"
        )
        draw.text(left - 8, y + high / 2 + 4, names[place], "name", "end")
        for column, count in enumerate(row):
            share = count / total if total else 0.0
            shade = min(int(share * _SHADES), _SHADES - 1)
            tip = f"true {label}, said {labels[column]}: {count:,} rows, {percent(share)}"
            x = left + cell * column
            draw.rect(x + 1, y + 1, cell - 2, high - 2, f"q{shade}", tip)
            draw.text(
                x + cell / 2,
                y + 21,
                f"{count:,}" if count < 100_000 else compact(count),
                f"count onq{shade}",
                "middle",
            )
            draw.text(x + cell / 2, y + 36, percent(share, 0), f"tick onq{shade}", "middle")
    return Chart(title, finding, draw.finish(title, finding))


def time_bars(
    key: str, title: str, sec: Mapping[str, float], finding: str, axis_title: str
) -> Chart:
    """Draw seconds by name.

    Args:
        key: Prefix of the element ids, unique on the page.
        sec: Seconds by name, from top to bottom.
        finding: What a reader can see in it, as a sentence.
        axis_title: Title of the axis, with its unit.
    """
    width, step, top = NARROW_PX, 40, 16
    bottom, length = top + step * len(sec), NARROW_PX - 8
    draw = Drawing(key, width, bottom + 40)
    places = ticks(0, max([*sec.values(), 1e-3]))
    for number, tick in enumerate(places):
        x = length * tick / places[-1]
        draw.line(x, top - 10, x, bottom)
        anchor = _tick_anchor(number == 0, tick == places[-1])
        draw.text(x, bottom + 14, compact(tick), anchor=anchor)
    draw.text(length / 2, bottom + 34, axis_title, "axis", "middle")
    total = sum(sec.values())
    for place, (name, value) in enumerate(sec.items()):
        y = top + step * place
        amount = duration(value) + (f", {percent(value / total, 0)}" if total else "")
        draw.text(0, y, shorten(name, 30), "name")
        draw.text(length, y, amount, "tick", "end")
        draw.rect(0, y + 5, max(length * value / places[-1], 1), 14, "bar s2", f"{name}: {amount}")
    return Chart(title, finding, draw.finish(title, finding))
