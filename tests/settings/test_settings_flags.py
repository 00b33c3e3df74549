"""The help of every command: every setting under a heading, in the user's words."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from sentiment.cli import COMMANDS
from sentiment.settings.finetune import ArchitectureConfig
from sentiment.settings.jobs import ScoreConfig
from sentiment.settings.load import JobConfig

SETTINGS = [command.settings for command in COMMANDS.values()]
SCREEN_LINES = 24
TYPES = re.compile(r" (str|int|float|bool|Path|list\[|dict\[)")


def names_of(settings: type[BaseModel]) -> Iterator[str]:
    for name in settings.model_fields:
        if name == "architecture":
            yield from (f"architecture.{inner}" for inner in ArchitectureConfig.model_fields)
        else:
            yield name


def help_of(settings: type[JobConfig], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        settings.load(["--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda one: one.command)
def test_every_setting_stands_under_one_heading(settings: type[JobConfig]) -> None:
    placed = [name for names in settings.groups.values() for name in names]
    assert len(placed) == len(set(placed))
    assert set(placed) == set(names_of(settings))


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda one: one.command)
def test_help_names_values_and_fits_a_screen_per_heading(
    settings: type[JobConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(settings, capsys)
    assert text.startswith(f"usage: sentiment {settings.command}")
    assert text.partition("\n\n")[0].count("\n") == 0  # the usage is one line
    assert "(default: None)" not in text
    parts = re.split(r"\n\n(?=[a-z][\w -]*:\n)", text)
    titles = [part.partition(":")[0] for part in parts[1:]]
    assert titles == ["options", *settings.groups]
    for part in parts:
        assert part.count("\n") < SCREEN_LINES, part.partition(":")[0]
        assert max(map(len, part.splitlines())) <= 80
    for line in text.splitlines():
        if line.startswith("  --"):
            assert not TYPES.search(line.partition("   ")[0]), line


def test_what_most_people_need_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    flags = re.findall(r"^  (--[\w-]+)", help_of(ScoreConfig, capsys), flags=re.MULTILINE)
    first = ["--output", "--model", "--text-column", "--label-column", "--config"]
    assert [flag for flag in flags if flag != "--version"][:5] == first


def test_a_switch_can_be_turned_off_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTIMENT_QUIET", "true")
    assert ScoreConfig.load(["in", "--output", "out"]).quiet
    assert not ScoreConfig.load(["in", "--output", "out", "--no-quiet"]).quiet


def test_help_answers_without_the_heavy_libraries() -> None:
    code = (
        "import sys; from sentiment.cli import main\n"
        "try: main(['score', '--help'])\nexcept SystemExit: pass\n"
        "sys.exit(str({'torch', 'ray', 'transformers', 'pandas', 'pyarrow', 'numpy'} "
        "& set(sys.modules) or 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "0"
