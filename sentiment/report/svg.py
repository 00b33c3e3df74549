"""Draw charts as SVG: text, lines and shapes, and the scales and texts of their axes.

Positions are CSS pixels from the top left corner. Texts may come from anywhere: all of them are
escaped here. Colours are CSS classes, which `page.css` defines for light and dark screens and for
paper.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

# Average width of a character at the charts' font size. Only a browser could measure texts, but
# they are placed before any browser sees them.
CHAR_PX = 6.9

# Characters that XML forbids, even escaped: control characters, lone surrogates, non-characters.
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

# Round steps between ticks, times a power of ten.
_TICK_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Chart:
    """A finished chart.

    Attributes:
        title: What it shows.
        finding: What a reader can see in it, as a sentence.
        svg: The picture for a narrow screen, and for every screen if `wide` is None.
        wide: The picture for a wide screen.
        legend: CSS class and name of each series; empty if the chart itself names them.
        note: What the chart leaves out or sums up; "" if it shows everything.
    """

    title: str
    finding: str
    svg: Markup
    wide: Markup | None = None
    legend: tuple[tuple[str, str], ...] = ()
    note: str = ""


@dataclass
class Drawing:
    """An SVG picture under construction.

    Attributes:
        key: Prefix of its element ids, unique on the page. It is not escaped, so it must not come
            from data.
        width: In CSS pixels.
        height: In CSS pixels.
        parts: SVG elements so far, escaped.
    """

    key: str
    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, text: str, css: str = "tick", anchor: str = "start") -> None:
        """Draw one line of text with its baseline at y."""
        self.parts.append(
            f'<text x="{number(x)}" y="{number(y)}" class="{css}" text-anchor="{anchor}">'
            f"{escape(clean(text))}</text>"
        )

    def vertical_text(self, x: float, y: float, text: str) -> None:
        """Draw the title of a vertical axis, turned by 90 degrees, with its middle at y."""
        self.parts.append(
            f'<text transform="translate({number(x)} {number(y)}) rotate(-90)" class="axis" '
            f'text-anchor="middle">{escape(clean(text))}</text>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str = "grid") -> None:
        """Draw a straight line."""
        self.parts.append(
            f'<line x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}" '
            f'class="{css}"/>'
        )

    def rect(
        self, x: float, y: float, width: float, height: float, css: str, tip: str = ""
    ) -> None:
        """Draw a filled rectangle, with a tip that appears under the mouse."""
        title = f"<title>{escape(clean(tip))}</title>" if tip else ""
        self.parts.append(
            f'<rect x="{number(x)}" y="{number(y)}" width="{number(max(width, 0))}" '
            f'height="{number(max(height, 0))}" class="{css}">{title}</rect>'
        )

    def dot(self, x: float, y: float, css: str, tip: str = "", radius: float = 3) -> None:
        """Draw a filled circle, with a tip that appears under the mouse."""
        title = f"<title>{escape(clean(tip))}</title>" if tip else ""
        self.parts.append(
            f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" class="{css}">'
            f"{title}</circle>"
        )

    def curve(self, points: Sequence[tuple[float, float]], css: str) -> None:
        """Draw a line through points."""
        path = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" class="{css}"/>')

    def finish(self, title: str, finding: str) -> Markup:
        """Return the picture, with its title and finding as text for screen readers."""
        size = f"{number(self.width)} {number(self.height)}"
        # Markup means "already escaped": the methods above have escaped every text.
        return Markup(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img" '
            f'width="{number(self.width)}" height="{number(self.height)}" '
            f'aria-labelledby="{self.key}-title {self.key}-desc">'
            f'<title id="{self.key}-title">{escape(clean(title))}</title>'
            f'<desc id="{self.key}-desc">{escape(clean(finding))}</desc>'
            f"{''.join(self.parts)}</svg>"
        )


def clean(text: str) -> str:
    """Replace the characters that an XML or UTF-8 file cannot contain."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def shorten(text: str, chars: int) -> str:
    """Cut a text to a number of characters, by leaving out its middle.

    Folders and file names differ at their ends, labels mostly at their beginnings.
    """
    if len(text) <= chars:
        return text
    head = (chars - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (chars - 1 - head) :]}"


def number(value: float) -> str:
    """Return a coordinate as text, rounded to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def percent(share: float, digits: int = 1) -> str:
    """Return a share as text, for example `12.5 %`, with a space that does not break."""
    return f"{share * 100:.{digits}f}\N{NO-BREAK SPACE}%"


def compact(value: float) -> str:
    """Return a number short enough for a tick, for example 1,200 or 25k or 3.5M."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):,.3g}{unit}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def duration(sec: float) -> str:
    """Return seconds as text, in hours or minutes if there are many."""
    if sec >= 7200:
        return f"{sec / 3600:,.1f}\N{NO-BREAK SPACE}h"
    if sec >= 120:
        return f"{sec / 60:,.1f}\N{NO-BREAK SPACE}min"
    return f"{sec:,.1f}\N{NO-BREAK SPACE}s" if sec >= 1 else f"{sec:.2f}\N{NO-BREAK SPACE}s"


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Return round numbers in equal steps that cover `low` to `high`.

    Args:
        about: Number of steps to aim for.
    """
    if high <= low:
        high = low + 1
    exact_step = (high - low) / about
    size = 10.0 ** math.floor(math.log10(exact_step))
    # 0.999 and 1e-9 allow for rounding errors, which would give a step or a tick too many.
    step = next(size * factor for factor in _TICK_STEPS if size * factor >= exact_step * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [position * step for position in range(first, last + 1)]


def spread_labels(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels apart so that none covers another.

    A first pass pushes labels up to the gap, from the lowest to the highest position. A second pass
    pushes back what went beyond `high`, from the highest to the lowest.

    Args:
        positions: Wanted position of each label, in pixels.
        gap: Least distance of two labels.
        low: Least position.
        high: Greatest position, if there is room for all labels.

    Returns:
        New positions, in the order of `positions`.
    """
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    placed = [0.0] * len(positions)
    least = low
    for index in order:
        placed[index] = max(positions[index], least)
        least = placed[index] + gap
    greatest = high
    for index in reversed(order):
        placed[index] = max(low, min(placed[index], greatest))
        greatest = placed[index] - gap
    return placed
