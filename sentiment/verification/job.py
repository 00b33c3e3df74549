"""Verifies an output from its files alone, and reports every problem; changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from sentiment.errors import VerificationError
from sentiment.ledger.record import told_ledger
from sentiment.logs import printable
from sentiment.output.columns import read_columns
from sentiment.output.folder import Output
from sentiment.settings.jobs import VerifyConfig
from sentiment.source.options import ReadOptions
from sentiment.source.settings import read_options
from sentiment.storage import in_threads
from sentiment.verification.contents import Contents, Problem, folder_of, list_contents
from sentiment.verification.footers import DataFile, Examined, examine
from sentiment.verification.shards import (
    by_source,
    digest_problems,
    folder_problems,
    record_problems,
    reject_problems,
    shard_problems,
    without_copies,
)
from sentiment.verification.sources import source_problems

# Problems in the report; the others are counted.
_SHOWN = 20

# Width of the report where it is not printed to a terminal.
_LOG_WIDTH_CHARS = 120


@dataclass(frozen=True)
class Verification:
    """The result of verifying an output.

    Attributes:
        location: The output, as an absolute path or URI.
        files: Data files, those with problems included.
        labelled: Labelled rows by the footers; copies of a file count once.
        rejected: Rejected rows by the footers.
        excluded: Excluded rows by the footers.
        shards: Source files of these rows.
        folders_complete: Folders with data and `_SUCCESS`.
        folders_incomplete: Folders with data but without `_SUCCESS`.
        temporary: Temporary files that a killed process left behind. Readers skip them.
        deep: Whether rows were read, or only metadata.
        problems: Everything that is wrong; empty for a good output.
    """

    location: str
    files: int
    labelled: int
    rejected: int
    excluded: int
    shards: int
    folders_complete: int
    folders_incomplete: int
    temporary: int
    deep: bool
    problems: tuple[Problem, ...]

    @property
    def rows(self) -> int:
        """Source rows that the output accounts for."""
        return self.labelled + self.rejected + self.excluded


def verify(config: VerifyConfig) -> Verification:
    """Verify an output, print a report, and raise an error if anything is wrong.

    Returns:
        The result, if nothing is wrong.

    Raises:
        OutputError: There is no such output, it cannot be listed, or it holds no data files.
        SourceError: `config.source` cannot be listed or has no text column.
        VerificationError: Something is wrong; all of it is in the report.
    """
    output = Output.open(config.output)
    result = check(output, deep=config.deep, sources=config.source, options=read_options(config))
    if not config.quiet:
        print_verification(result)
    if result.problems:
        first = result.problems[0]
        count = len(result.problems)
        raise VerificationError(
            f"{result.location}: {count:,} {'problem' if count == 1 else 'problems'}, "
            f"the first: {first.path}: {first.what}; delete files that are damaged or do not "
            "belong there, and run the same `sentiment score` again: it scores what is missing"
        )
    return result


def check(
    output: Output, *, deep: bool, sources: Sequence[str] | None, options: ReadOptions
) -> Verification:
    """Verify an output without a report.

    Args:
        output: The output.
        deep: Whether to read rows, too.
        sources: Files, folders or globs whose rows must all be in the output; None to check the
            output only.
        options: How the sources are read.

    Raises:
        OutputError: There is no such output, it cannot be listed, or it holds no data files.
        SourceError: The sources cannot be listed or have no text column.
    """
    contents = list_contents(output)

    def one_file(path: str) -> Examined:
        return examine(output, path, contents.rejects, deep=deep)

    # Threads serve --deep as well: Arrow decodes without Python's global lock.
    examined = in_threads(one_file, contents.data)
    files = without_copies(one.file for one in examined if one.file is not None)
    shards = by_source(files)
    problems = [problem for one in examined for problem in one.problems]
    problems += shard_problems(shards, read_columns(output))
    problems += digest_problems(files)
    problems += reject_problems(contents, files)
    problems += folder_problems(contents)
    problems += record_problems(output, contents, files)
    if sources:
        problems += source_problems(sources, options, shards)
    return _result(output, contents, files, len(shards), deep, problems)


def _result(
    output: Output,
    contents: Contents,
    files: Sequence[DataFile],
    shards: int,
    deep: bool,
    problems: Sequence[Problem],
) -> Verification:
    folders = {folder_of(path) for path in contents.data}
    return Verification(
        location=output.location,
        files=len(contents.data),
        labelled=sum(one.footer.labelled for one in files),
        rejected=sum(one.footer.rejected for one in files),
        excluded=sum(one.footer.excluded for one in files),
        shards=shards,
        folders_complete=len(folders & contents.complete),
        folders_incomplete=len(folders - contents.complete),
        temporary=contents.temporary,
        deep=deep,
        # Two checks may report the same problem in the same words.
        problems=tuple(dict.fromkeys(problems)),
    )


def print_verification(result: Verification, console: Console | None = None) -> None:
    """Print the result, with at most 20 problems.

    Args:
        result: The result.
        console: Where to print; standard output by default.
    """
    if console is None:
        console = Console(width=None if sys.stdout.isatty() else _LOG_WIDTH_CHARS)
    for line in _lines(result):
        # No line breaks within paths, even on a narrow terminal, so that they can be copied.
        console.print(line, soft_wrap=True)


def _lines(result: Verification) -> list[Text]:
    ledger = Text()
    ledger.append(f"{result.rows:,} rows", style="bold")
    ledger.append(f" = {told_ledger(result.labelled, result.rejected, None, result.excluded)}")
    lines = [Text(), ledger, Text()]
    lines += [Text(f"files     {result.files:,}"), Text(f"shards    {result.shards:,}")]
    folders = Text(f"folders   {result.folders_complete:,} complete")
    if result.folders_incomplete:
        folders.append(f", {result.folders_incomplete:,} incomplete", style="yellow")
    lines.append(folders)
    if result.temporary:
        left_over = f"left over {result.temporary:,} temporary files of killed processes"
        lines.append(Text(f"{left_over}; readers skip them"))
    depth = "rows and metadata" if result.deep else "metadata; --deep reads the rows, too"
    lines += [Text(f"checked   {depth}"), Text("output    " + printable(result.location)), Text()]
    if not result.problems:
        return [*lines, Text("no problems", style="green")]
    count = len(result.problems)
    lines.append(Text(f"{count:,} {'problem' if count == 1 else 'problems'}", style="bold red"))
    for problem in result.problems[:_SHOWN]:
        lines.append(Text("  " + printable(f"{problem.path}: {problem.what}")))
    if count > _SHOWN:
        lines.append(Text(f"  and {count - _SHOWN:,} more", style="dim"))
    return lines
