"""Fixtures of the fault tests, and the account of what was killed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, fields
from pathlib import Path

import harness
import pytest


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """Logs and Ray's sockets, under a path short enough for those."""
    with harness.scratch_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus. Read only."""
    return harness.write_corpus(tmp_path_factory.mktemp("faults") / "lake")


@pytest.fixture(scope="session")
def undisturbed(
    lake: Path, tiny_model: Path, scratch: Path, tmp_path_factory: pytest.TempPathFactory
) -> harness.Contents:
    """What a run that nobody disturbs makes of the corpus."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    rows = harness.UNDISTURBED_UNIT_ROWS
    harness.Job(lake, output, tiny_model, scratch, unit_rows=rows).finish()
    return harness.read_output(output)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The kills of this session, whatever came of them."""
    if not harness.TALLIES:
        return
    terminalreporter.section(f"kills (SENTIMENT_TEST_SEED={harness.SEED})")
    names = [field.name for field in fields(harness.Tally)]
    terminalreporter.write_line("".join(f"{name:>10}" for name in names))
    for tally in harness.TALLIES.values():
        values = [
            f"{value:.0f}" if isinstance(value, float) else str(value) for value in astuple(tally)
        ]
        terminalreporter.write_line("".join(f"{value:>10}" for value in values))
