"""The pen of the charts: text, lines and shapes as SVG, and the scales they are placed by.

Takes positions in CSS pixels and texts from anywhere, gives escaped SVG. Knows no run.

Colours are CSS classes: the page defines them for light, dark and paper, see `page.css`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

# Average advance of a character at the charts' font size; labels are laid out before any browser
# has measured them.
CHAR_PX = 6.9

# What XML cannot hold, escaped or not: control characters and lone surrogates.
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Chart:
    """A finished chart.

    Attributes:
        title: What it shows.
        finding: What there is to see in it, as a sentence.
        svg: For a narrow screen, and for every screen where there is no `wide`.
        wide: The same for a wide screen.
        legend: Class and name of each series, where they are not named in the chart itself.
        note: What was left out or summed up.
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
        key: Prefix of its ids, unique on the page; never from data.
    """

    key: str
    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, text: str, css: str = "tick", anchor: str = "start") -> None:
        """One line of text, its baseline at y."""
        self.parts.append(
            f'<text x="{number(x)}" y="{number(y)}" class="{css}" text-anchor="{anchor}">'
            f"{escape(clean(text))}</text>"
        )

    def up(self, x: float, y: float, text: str) -> None:
        """The title of a vertical axis, read from below."""
        self.parts.append(
            f'<text transform="translate({number(x)} {number(y)}) rotate(-90)" class="axis" '
            f'text-anchor="middle">{escape(clean(text))}</text>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str = "grid") -> None:
        """A straight line."""
        self.parts.append(
            f'<line x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}" '
            f'class="{css}"/>'
        )

    def rect(
        self, x: float, y: float, width: float, height: float, css: str, tip: str = ""
    ) -> None:
        """A filled rectangle, with a tip that shows under the mouse."""
        inside = f"<title>{escape(clean(tip))}</title>" if tip else ""
        self.parts.append(
            f'<rect x="{number(x)}" y="{number(y)}" width="{number(max(width, 0))}" '
            f'height="{number(max(height, 0))}" class="{css}">{inside}</rect>'
        )

    def dot(self, x: float, y: float, css: str, tip: str = "", radius: float = 3) -> None:
        """A filled circle."""
        inside = f"<title>{escape(clean(tip))}</title>" if tip else ""
        self.parts.append(
            f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" class="{css}">'
            f"{inside}</circle>"
        )

    def curve(self, points: Sequence[tuple[float, float]], css: str) -> None:
        """A line through points."""
        path = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" class="{css}"/>')

    def finish(self, title: str, finding: str) -> Markup:
        """The picture, with its title and finding as accessible text."""
        size = f"{number(self.width)} {number(self.height)}"
        # Every text in it was escaped above.
        return Markup(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img" '
            f'width="{number(self.width)}" height="{number(self.height)}" '
            f'aria-labelledby="{self.key}-title {self.key}-desc">'
            f'<title id="{self.key}-title">{escape(clean(title))}</title>'
            f'<desc id="{self.key}-desc">{escape(clean(finding))}</desc>'
            f"{''.join(self.parts)}</svg>"
        )


def clean(text: str) -> str:
    """Text without what an XML or UTF-8 file cannot hold."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def shorten(text: str, chars: int) -> str:
    """Text of at most so many characters; what is left out comes from its middle."""
    if len(text) <= chars:
        return text
    head = (chars - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (chars - 1 - head) :]}"


def number(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def percent(share: float, digits: int = 1) -> str:
    """A share as people write it; the space before the sign does not break."""
    return f"{share * 100:.{digits}f}\N{NO-BREAK SPACE}%"


def compact(value: float) -> str:
    """A number short enough for a tick: 1,200 or 25k or 3.5M."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):,.3g}{unit}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def duration(sec: float) -> str:
    """Seconds as people say them."""
    if sec >= 7200:
        return f"{sec / 3600:,.1f}\N{NO-BREAK SPACE}h"
    if sec >= 120:
        return f"{sec / 60:,.1f}\N{NO-BREAK SPACE}min"
    return f"{sec:,.1f}\N{NO-BREAK SPACE}s" if sec >= 1 else f"{sec:.2f}\N{NO-BREAK SPACE}s"


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers from `low` to at least `high`.

    Args:
        about: How many steps to aim for.
    """
    if high <= low:
        high = low + 1
    raw = (high - low) / about
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in _STEPS if size * factor >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [position * step for position in range(first, last + 1)]


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels apart until none covers another, each as near to its place as can be.

    Args:
        gap: Least distance between two.
        low: Least position of all.
        high: Greatest position of all, where there is room.
    """
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    placed = [0.0] * len(positions)
    least = low
    for index in order:
        placed[index] = max(positions[index], least)
        least = placed[index] + gap
    most = high
    for index in reversed(order):
        placed[index] = max(low, min(placed[index], most))
        most = placed[index] - gap
    return placed
