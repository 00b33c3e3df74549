"""Hooks of the docs site: pages that are files of the repository's root, and links out of docs/."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

# Pages whose text is a file of the root, where code hosts look for it.
FROM_ROOT = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
}

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Put in the text of a root file, and turn links to files that the site lacks into text."""
    source = DOCS / page.file.src_uri
    name = FROM_ROOT.get(page.file.src_uri)
    if name is not None:
        source = ROOT / name
        markdown = source.read_text(encoding="utf-8")

    def shown(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        path = (source.parent / target).resolve()
        if path.is_relative_to(DOCS) and path.suffix in (".md", ".png"):
            inside = target if name is None else path.relative_to(DOCS).as_posix()
            return f"[{text}]({inside}{anchor})"
        # A file of the repository: the site has no address for it.
        place = path.relative_to(ROOT).as_posix()
        return f"`{place}`" if text.strip("`") in (place, path.name) else f"{text} (`{place}`)"

    return LINK.sub(shown, markdown)
