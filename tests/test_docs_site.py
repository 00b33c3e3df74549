"""The docs site: it builds without a warning, names everything public, and leads nowhere wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import sentiment

pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install -e '.[docs]'")

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
LOADED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("link", "href")}
# Addresses for search engines and the like, which a browser does not load.
NOT_LOADED = {"canonical", "next", "prev", "alternate"}


class Page(HTMLParser):
    """The links, the loaded addresses and the anchors of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors.update(value for name, value in values.items() if name in ("id", "name"))
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        for name, value in values.items():
            if (tag, name) in LOADED and values.get("rel") not in NOT_LOADED:
                self.loaded.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return {path: Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}


def folder_of(site: dict[Path, Page]) -> Path:
    return min(site, key=lambda path: len(path.parts)).parent


def test_every_page_of_docs_is_on_the_site(site: dict[Path, Page]) -> None:
    home = next(page for path, page in site.items() if path == folder_of(site) / "index.html")
    for source in DOCS.rglob("*.md"):
        name = source.relative_to(DOCS).with_suffix("").as_posix()
        address = name.removesuffix("README").removesuffix("index").rstrip("/")
        assert any(link.strip("/.") == address for link in home.links), name


def test_the_python_page_has_every_public_name(site: dict[Path, Page]) -> None:
    [page] = [page for path, page in site.items() if path.parent.name == "api"]
    for name in sentiment.__all__:
        assert f"sentiment.{name}" in page.anchors, name


def test_every_link_leads_somewhere(site: dict[Path, Page]) -> None:
    for path, page in site.items():
        if path.name == "404.html":
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), f"{path}: {link}"
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in site[target].anchors | {"__skip"}, link


def test_no_page_loads_anything_from_another_host(site: dict[Path, Page]) -> None:
    assert any(page.loaded for page in site.values())
    for path, page in site.items():
        for address in page.loaded:
            assert not urlsplit(address).netloc, f"{path}: {address}"
