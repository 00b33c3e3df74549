"""Checks all data files together: every row is in exactly one of them.

Also checks that they were made by the same model and settings, and that folders and records of runs
agree with them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from sentiment.ledger.runs import read_partitions
from sentiment.output.folder import Output
from sentiment.output.layout import RUNS_FOLDER, unit_of_reject_file
from sentiment.output.receipt import rejects_of
from sentiment.storage import STORAGE_THREADS
from sentiment.verification.contents import Contents, Problem, folder_of
from sentiment.verification.footers import DataFile

_DIGEST_CHARS = 12


def without_copies(files: Iterable[DataFile]) -> list[DataFile]:
    """Return one file per unit: of a file and its copies the one with the right path."""
    by_unit: dict[str, DataFile] = {}
    for one in sorted(files, key=lambda file: (file.path != file.footer.unit_id, file.path)):
        by_unit.setdefault(one.footer.unit_id, one)
    return sorted(by_unit.values(), key=lambda file: file.path)


def by_source(files: Iterable[DataFile]) -> dict[str, list[DataFile]]:
    """Group files by the URI of their source."""
    grouped: dict[str, list[DataFile]] = defaultdict(list)
    for one in files:
        grouped[one.footer.source_file].append(one)
    return dict(grouped)


def end_of(files: Iterable[DataFile]) -> int:
    """Return the number of the row after the last one that the files of a source cover."""
    return max((one.footer.last_row + 1 for one in files if not one.rowless), default=0)


def shard_problems(
    shards: Mapping[str, Sequence[DataFile]], recorded: pa.Schema | None
) -> Iterator[Problem]:
    """Check that the files of a source cover its rows once, and are of the same version of it.

    Args:
        shards: Data files by source.
        recorded: Columns of the output, if they are known.
    """
    known = frozenset(f"{one.name} {one.type}" for one in recorded or ())
    for source, files in shards.items():
        yield from _gaps_and_overlaps(source, files)
        yield from _rowless_problems(files)
        for name, values in (
            ("version of the source", {one.footer.fingerprint: one.path for one in files}),
            ("set of source columns", _unlike(files, known)),
        ):
            if len(values) > 1:
                first, other = list(values.values())[:2]
                yield Problem(other, f"was made from another {name} than {first}")


def _unlike(files: Sequence[DataFile], known: frozenset[str]) -> dict[frozenset[str], str]:
    """Return a file of each set of columns, but for those that are a part of another one.

    A run that goes on after another may know of more columns: those of new files.

    Args:
        files: Data files of one source.
        known: Columns of the output.
    """
    found = {frozenset(one.columns.split("\n")): one.path for one in files}
    return {
        columns: path
        for columns, path in found.items()
        if not any(columns < others <= known for others in found)
    }


def _gaps_and_overlaps(source: str, files: Sequence[DataFile]) -> Iterator[Problem]:
    """Check that the row ranges follow one another from row 0."""
    end, before = 0, ""
    ranges = [(one.footer.first_row, one.footer.last_row, one.path) for one in files]
    for first, last, path in sorted(ranges):
        if last < first:
            continue
        if first > end:
            yield Problem(source, f"no data file holds {span(end, first - 1)}")
        elif first < end:
            shared = span(first, min(last, end - 1))
            yield Problem(path, f"shares {shared} of {source} with {before}")
        if last >= end:
            end, before = last + 1, path


def _rowless_problems(files: Sequence[DataFile]) -> Iterator[Problem]:
    """Check that there is one file without rows at most, and that it stands where the rows end."""
    rowless = [one for one in files if one.rowless]
    end = end_of(files)
    for one in rowless:
        first = one.footer.first_row
        if not one.footer.rejected and (end or first):
            yield Problem(one.path, "says that its source is empty, but other files hold its rows")
        elif first != end:
            yield Problem(
                one.path, f"stands for damage from row {first} on, but rows end before {end}"
            )
    for one in rowless[1:]:
        yield Problem(one.path, f"stands for the end of a source, and so does {rowless[0].path}")


def digest_problems(files: Sequence[DataFile]) -> Iterator[Problem]:
    """Check that all files have the same model and configuration."""
    for name in ("model_digest", "config_digest"):
        example: dict[str, str] = {}
        count: Counter[str] = Counter()
        for one in files:
            digest = getattr(one.footer, name)
            example.setdefault(digest, one.path)
            count[digest] += 1
        most, *others = (digest for digest, _ in count.most_common())
        for other in others:
            yield Problem(
                example[other],
                f"has {name.replace('_', ' ')} {other[:_DIGEST_CHARS]}, but {example[most]} "
                f"has {most[:_DIGEST_CHARS]}; score again with --on-change rescore",
            )


def reject_problems(contents: Contents, files: Iterable[DataFile]) -> Iterator[Problem]:
    """Check that every reject file is named by a data file."""
    named = {rejects_of(one.footer) for one in files}
    # A data file that cannot be read is a problem of its own, and may have named it.
    unreadable = set(contents.data).difference(one.path for one in files)
    for path in sorted(contents.rejects.difference(named)):
        if unit_of_reject_file(path) not in unreadable:
            yield Problem(path, "is named by no data file")


def folder_problems(contents: Contents) -> Iterator[Problem]:
    """Check that a folder has `_SUCCESS` if and only if it holds data."""
    folders = {folder_of(path) for path in contents.data}
    for folder in sorted(folders - contents.complete):
        yield Problem(folder or ".", "is incomplete: it holds data files but no _SUCCESS")
    for folder in sorted(contents.complete - folders):
        yield Problem(folder or ".", "says _SUCCESS, but holds no data file")


def record_problems(
    output: Output, contents: Contents, files: Iterable[DataFile]
) -> Iterator[Problem]:
    """Check that complete folders hold at least as many rows as the last run counted in them.

    The files of a shard do not say where the shard ends. If the last one is deleted, only the
    record of the run shows that rows are missing. A folder may hold more rows than that, because a
    run may have scored some shards of a folder only.
    """
    held: Counter[str] = Counter()
    for one in files:
        held[folder_of(one.path)] += one.footer.labelled + one.footer.rejected
    unchecked = set(contents.complete)
    with ThreadPoolExecutor(STORAGE_THREADS) as threads:
        for start in range(0, len(contents.records), STORAGE_THREADS):
            if not unchecked:
                break
            paths = contents.records[start : start + STORAGE_THREADS]
            for path, counted in zip(
                paths, threads.map(lambda one: _counted(output, one), paths), strict=True
            ):
                if isinstance(counted, Problem):
                    yield counted
                    continue
                for folder in sorted(unchecked.intersection(counted)):
                    if held[folder] < counted[folder]:
                        yield Problem(
                            folder or ".",
                            f"holds {held[folder]:,} rows, but {path} counts {counted[folder]:,}: "
                            "data files are missing",
                        )
                unchecked.difference_update(counted)


def _counted(output: Output, path: str) -> dict[str, int] | Problem:
    """Rows by folder as a run has counted them, rejects included."""
    run_id = path.removeprefix(f"{RUNS_FOLDER}/").partition("/")[0]
    try:
        partitions = read_partitions(output, run_id)
    except ValueError as error:
        return Problem(path, f"cannot be read ({error})")
    return {one.name: one.labelled + one.rejected for one in partitions}


def span(first: int, last: int) -> str:
    """Return a row range in words."""
    return f"row {first}" if first == last else f"rows {first} to {last}"
