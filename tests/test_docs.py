"""Written pages agree with the code, and links between them lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from sentiment.block import REASONS
from sentiment.monitor.account import Account
from sentiment.monitor.phases import PHASES
from sentiment.monitor.prometheus import METRICS
from sentiment.output.layout import added_columns

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    if path.is_file()
)


def test_the_configuration_page_is_what_the_models_say() -> None:
    spec = importlib.util.spec_from_file_location(
        "build_configuration", ROOT / "docs" / "build_configuration.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == module.page()


def test_the_output_page_names_every_column_and_reason() -> None:
    text = (ROOT / "docs" / "output.md").read_text(encoding="utf-8")
    for name in [*added_columns("sentiment").names, *REASONS]:
        assert f"`{name}`" in text, name


def test_the_observability_page_has_every_metric_with_its_kind_and_tags() -> None:
    text = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    for metric in METRICS:
        tags = " ".join(f"`{tag}`" for tag in metric.tags)
        row = f"| `{metric.name}` | {metric.kind} | {tags} |".replace("|  |", "| |")
        assert row in text, row
    named = set(re.findall(r"^\| `(sentiment_\w+)`", text, flags=re.MULTILINE))
    assert named == {metric.name for metric in METRICS}


def test_the_observability_page_has_every_phase_and_field_of_the_account() -> None:
    text = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    for name in [*PHASES, *Account().to_json()]:
        assert f"| `{name}` |" in text, name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
