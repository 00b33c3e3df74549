"""`report.html`: written by every run, and again from its files alone.

Takes an output, gives the place of the page. Needs no model, no cluster and no source.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from pyarrow import fs

from sentiment.errors import OutputError, SentimentError
from sentiment.ledger.record import Run
from sentiment.ledger.runs import Partition, read_partitions, read_runs
from sentiment.output.folder import Output
from sentiment.output.layout import REPORT_FILE, RUNS_FOLDER, file_of_run
from sentiment.report.page import render
from sentiment.settings.jobs import ReportConfig
from sentiment.storage import descendant_uri, is_uri

NIGHTS = 365  # as `ReportConfig.nights` has it; the run itself does not ask

_log = logging.getLogger(__name__)


def report(config: ReportConfig) -> str:
    """Write the page about a run, and print where it is.

    Returns:
        Location of the page.

    Raises:
        OutputError: There is no such run, its `run.json` cannot be read, or the page cannot be
            written.
    """
    output = Output.open(config.output)
    run, html = _page(output, config.run, config.nights)
    if config.to is None:
        location = _write(output, run.run_id, html)
    else:
        location = _write_local(config.to, html)
    print(f"report  {location}")
    return location


def write_page(output: Output, run_id: str, nights: int = NIGHTS) -> None:
    """Write the page of a run that has just written its `run.json`.

    A page is no reason for a run to fail: whatever goes wrong here is a warning.

    Args:
        nights: Most runs to show side by side.
    """
    try:
        _, html = _page(output, run_id, nights)
        _write(output, run_id, html)
    except Exception as error:
        _log.warning(
            "%s was not written (%s); the run is complete without it, "
            "`sentiment report` writes it later",
            REPORT_FILE,
            # Other messages may quote what they stumbled over.
            error if isinstance(error, SentimentError) else type(error).__name__,
        )


def _page(output: Output, run_id: str | None, nights: int) -> tuple[Run, bytes]:
    """The run that was asked for, by default the last, and its page."""
    runs = read_runs(output, nights, run_id)
    if run_id is not None and run_id in runs.damaged:
        raise OutputError(
            f"{output.path(f'{RUNS_FOLDER}/{run_id}')}: {runs.damaged[run_id]}; "
            "ask for another run with --run"
        )
    if not runs.runs:
        what = (
            f"none of its {runs.total} runs can be read" if runs.total else "no run has been here"
        )
        raise OutputError(f"{output.location}: {what}; score into it with `sentiment score`")
    run = next((one for one in runs.runs if one.run_id == run_id), runs.runs[-1])
    html = render(run, runs, _partitions(output, run.run_id), nights=nights)
    return run, html.encode("utf-8")


def _partitions(output: Output, run_id: str) -> list[Partition] | None:
    """Return the rows of each folder; None where the run's table cannot be read."""
    try:
        return read_partitions(output, run_id)
    except ValueError:
        return None


def _write(output: Output, run_id: str, html: bytes) -> str:
    relative = file_of_run(run_id, REPORT_FILE)
    output.write(relative, html)
    return descendant_uri(output.location, relative)


def _write_local(to: str, html: bytes) -> str:
    if is_uri(to):
        raise OutputError(f"--to {to}: is no local file; leave it out to write into the output")
    path = Path(to).expanduser().resolve()
    if path.is_dir():
        raise OutputError(f"--to {to}: is a folder; name a file in it")
    folder = os.fspath(path.parent)
    Output(folder, fs.LocalFileSystem(), folder.rstrip("/")).write(path.name, html)
    return os.fspath(path)
