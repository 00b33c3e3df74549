"""Write `report.html`: at the end of every run, and again by `sentiment report`.

Both read the files that the run left in the output. No model, cluster or source is needed.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from pyarrow import fs

from sentiment.errors import OutputError, SentimentError
from sentiment.ledger.record import Run
from sentiment.ledger.runs import Partition, read_partitions, read_runs
from sentiment.output.folder import Output
from sentiment.output.layout import REPORT_FILE, RUNS_FOLDER, file_of_run
from sentiment.report.page import render
from sentiment.settings.jobs import ReportConfig
from sentiment.storage import descendant_uri, is_uri

# The setting of `sentiment report` has the default; a scoring run has no such setting.
_DEFAULT_NIGHTS: Final[int] = ReportConfig.model_fields["nights"].default

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


def write_page(output: Output, run_id: str) -> None:
    """Write the page of a run that has just written its `run.json`.

    A missing page must not fail a run, so every exception becomes a warning.
    """
    try:
        _, html = _page(output, run_id, _DEFAULT_NIGHTS)
        _write(output, run_id, html)
    except Exception as error:
        _log.warning(
            "%s was not written (%s); the run is complete without it, "
            "`sentiment report` writes it later",
            REPORT_FILE,
            # Our own messages quote no values; messages of other exceptions may quote review text.
            error if isinstance(error, SentimentError) else type(error).__name__,
        )


def _page(output: Output, run_id: str | None, nights: int) -> tuple[Run, bytes]:
    """Return a run, by default the one that finished last, and its page as UTF-8."""
    runs = read_runs(output, nights, run_id)
    if run_id is not None and run_id in runs.damaged:
        raise OutputError(
            f"{output.path(f'{RUNS_FOLDER}/{run_id}')}: {runs.damaged[run_id]}; "
            "ask for another run with --run"
        )
    if not runs.runs:
        problem = (
            f"none of its {runs.total} runs can be read" if runs.total else "no run has been here"
        )
        raise OutputError(f"{output.location}: {problem}; score into it with `sentiment score`")
    by_id = {one.run_id: one for one in runs.runs}
    run = runs.runs[-1] if run_id is None else by_id[run_id]
    html = render(run, runs, _partitions(output, run.run_id), nights=nights)
    return run, html.encode("utf-8")


def _partitions(output: Output, run_id: str) -> list[Partition] | None:
    """Return the rows of each folder; None where the run's table cannot be read."""
    try:
        return read_partitions(output, run_id)
    except ValueError:
        return None


def _write(output: Output, run_id: str, html: bytes) -> str:
    """Write the page into the folder of its run; return its location."""
    relative = file_of_run(run_id, REPORT_FILE)
    output.write(relative, html)
    return descendant_uri(output.location, relative)


def _write_local(to: str, html: bytes) -> str:
    """Write the page to a local file; return its absolute path."""
    if is_uri(to):
        raise OutputError(f"--to {to}: is no local file; leave it out to write into the output")
    path = Path(to).expanduser().resolve()
    if path.is_dir():
        raise OutputError(f"--to {to}: is a folder; name a file in it")
    folder = os.fspath(path.parent)
    Output(folder, fs.LocalFileSystem(), folder.rstrip("/")).write(path.name, html)
    return os.fspath(path)
