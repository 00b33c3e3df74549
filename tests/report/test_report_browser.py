"""The page as a browser shows it: quiet, self-contained, on a phone, in the dark and on paper.

Set SENTIMENT_SCREENSHOTS to a folder to keep the pictures.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_up_runs
import pytest
from browser import CHROMIUM, Browser

from sentiment.report.job import report
from sentiment.settings.jobs import ReportConfig

CSS = Path(__file__).parents[2] / "sentiment" / "report" / "page.css"
PHONE_PX, DESKTOP_PX = 375, 1280
LEAST_CONTRAST = 4.5  # WCAG 2.2, level AA, for text of any size

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

# The elements that reach beyond the window, apart from what scrolls in a box of its own.
TOO_WIDE = """
[...document.querySelectorAll('body *')].filter(one =>
  !one.closest('.scroll, pre') && !one.closest('svg') &&
  one.getBoundingClientRect().right > innerWidth + 0.5).map(one => one.outerHTML.slice(0, 200))
"""

# Texts of one picture that overlap another text of it.
OVERLAPS = """
[...document.querySelectorAll('figure svg')].flatMap(svg => {
  const boxes = [...svg.querySelectorAll('text')].map(one => [one, one.getBoundingClientRect()])
    .filter(([_, box]) => box.width);
  return boxes.flatMap(([one, a], place) => boxes.slice(place + 1)
    .filter(([_, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
      Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3)
    .map(([other]) => one.textContent + ' | ' + other.textContent));
})
"""

# Texts that stick out of their picture.
CUT = """
[...document.querySelectorAll('figure svg')].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(one => {
    const box = one.getBoundingClientRect();
    return box.width && (box.left < frame.left - 1 || box.right > frame.right + 1 ||
      box.top < frame.top - 1 || box.bottom > frame.bottom + 1);
  }).map(one => one.textContent);
})
"""


def long_names(output: Path) -> None:
    """A run with very long names, and with more of everything than a page shows."""
    labels = {f"an uncommonly long label {n}": 5_000 - 400 * n for n in range(10)}
    names = list(labels)
    matrix = [[900 if row == column else 11 for column in range(10)] for row in range(10)]
    values = made_up_runs.full_run(
        3,
        counts=made_up_runs.counts(labels, {"unheard_of_" * 9: 7}),
        quality={"accuracy": 0.9, "labels": names, "confusion_matrix": matrix},
    )
    values["model"] |= {"name": "models/" + "x" * 300, "labels": names}
    values["config"] |= {"sources": ["s3://" + "bucket" * 60]}
    values["scored"] = values["counts"]
    for night in range(3):
        made_up_runs.save(output, made_up_runs.full_run(night))
    made_up_runs.save(output, values, {f"country={'x' * 90}/dt={n}": labels for n in range(30)})


def usual(output: Path) -> None:
    for night in range(40):
        made_up_runs.save(output, made_up_runs.full_run(night))


def plain(output: Path) -> None:
    made_up_runs.save(output, made_up_runs.run())


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for make in (usual, plain, long_names):
        output = tmp_path_factory.mktemp(make.__name__)
        make(output)
        found[make.__name__] = Path(report(ReportConfig(output=str(output))))
    return found


@needs_chromium
@pytest.mark.parametrize("name", ["usual", "plain", "long_names"])
@pytest.mark.parametrize(
    ("width", "how"),
    [
        (PHONE_PX, {}),
        (PHONE_PX, {"dark": True}),
        (DESKTOP_PX, {}),
        (DESKTOP_PX, {"dark": True}),
        (768, {}),
        (DESKTOP_PX, {"media": "print", "dark": True}),
    ],
    ids=["phone", "phone dark", "desktop", "desktop dark", "tablet", "paper"],
)
def test_a_browser_reports_no_problem(
    browser: Browser,
    pages: dict[str, Path],
    tmp_path: Path,
    name: str,
    width: int,
    how: dict[str, Any],
) -> None:
    browser.open(pages[name], width=width, **how)
    kept = Path(os.environ.get("SENTIMENT_SCREENSHOTS") or tmp_path)
    kept.mkdir(parents=True, exist_ok=True)
    looks = "-".join(["dark" if how.get("dark") else "light", how.get("media", "screen")])
    browser.screenshot(kept / f"{name}-{width}-{looks}.png")
    assert browser.complaints == []
    assert browser.requests == [pages[name].resolve().as_uri()]
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(TOO_WIDE) == []
    assert browser.value(OVERLAPS) == []
    assert browser.value(CUT) == []


@needs_chromium
def test_a_browser_does_report_problems(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    page.write_text(
        "<!DOCTYPE html><body style='width: 2000px'>x<figure><svg width='90' height='40'>"
        "<text x='0' y='20'>one</text><text x='5' y='20'>two</text><text x='80' y='20'>three</text>"
        "</svg></figure><img src='missing.png'><script>console.error('no')</script>"
    )
    browser.open(page, width=PHONE_PX)
    assert any("missing.png" in url for url in browser.requests)
    assert len(browser.complaints) >= 1
    assert browser.value("document.documentElement.scrollWidth") > PHONE_PX
    assert browser.value(TOO_WIDE)
    assert browser.value(OVERLAPS) == ["one | two"]
    assert browser.value(CUT) == ["three"]


@needs_chromium
def test_dark_and_light_and_paper_look_different(browser: Browser, pages: dict[str, Path]) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    seen = []
    for how in ({}, {"dark": True}, {"dark": True, "media": "print"}):
        browser.open(pages["plain"], width=DESKTOP_PX, **how)
        seen.append(browser.value(paper))
    assert seen == ["rgb(252, 251, 248)", "rgb(22, 23, 25)", "rgb(255, 255, 255)"]


def themes() -> list[dict[str, str]]:
    """Colours by name: light, dark, print."""
    css = CSS.read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in blocks]


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours. Source: WCAG 2.2, relative luminance."""
    lights = sorted(map(_luminance, (one, other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", range(3), ids=["light", "dark", "print"])
def test_all_text_can_be_read(theme: int) -> None:
    colours = themes()[theme]
    pairs = [(name, "paper") for name in ("ink", "soft", "good", "look", "bad", "open")]
    pairs += [("ink", "sunk"), ("soft", "sunk")]
    pairs += [("on", f"s{number}") for number in range(8)]
    pairs += [(f"s{number}", "paper") for number in range(8)]
    pairs += [("onq-low", f"q{level}") for level in range(3)]
    pairs += [("onq-high", f"q{level}") for level in range(3, 5)]
    poor = [pair for pair in pairs if contrast(*map(colours.get, pair)) < LEAST_CONTRAST]  # type: ignore[arg-type]
    assert poor == []
