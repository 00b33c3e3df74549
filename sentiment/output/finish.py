"""Completes folders of an output: compares each with the account of the run, writes `_SUCCESS`.

`_SUCCESS` tells readers that a folder holds all rows of its shards, and no row of an older version.
What workers report is not enough for that: they may have written to a disk that nobody else sees.
So the folder is listed, and the files of this run's shards must be exactly those that the run has
committed or reused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sentiment.output.committed import find_footer, find_footers, source_of
from sentiment.output.folder import Output
from sentiment.output.layout import (
    SUCCESS_FILE,
    data_files,
    reject_files,
    source_hash_in,
    unit_of_reject_file,
)
from sentiment.output.plan import Plan, ShardPlan
from sentiment.output.receipt import Footer, rejects_of
from sentiment.source.shards import hash_of


@dataclass(frozen=True)
class Incomplete:
    """A folder that gets no `_SUCCESS`.

    Attributes:
        folder: The folder, relative to the output.
        reason: Why, with the name of a file and a remedy.
        is_ours: Whether rows of this run are missing. If not, another source of the folder is
            unfinished, and this run has done all it should.
    """

    folder: str
    reason: str
    is_ours: bool = True


def mark_incomplete(output: Output, plan: Plan) -> None:
    """Remove `_SUCCESS` from every folder that this run will change.

    Raises:
        OutputError: A file cannot be removed.
    """
    for folder, shards in plan.folders.items():
        if any(not shard.done or shard.superseded for shard in shards):
            output.delete(_in(folder, SUCCESS_FILE))


def finish(
    output: Output,
    folder: str,
    shards: Sequence[ShardPlan],
    committed_now: Mapping[str, Sequence[Footer]],
    *,
    was_complete: bool = False,
    left: Mapping[str, str] | None = None,
) -> Incomplete | None:
    """Complete a folder, if all rows of its shards are there.

    Args:
        output: The output.
        folder: A folder of the plan.
        shards: The plans of its shards.
        committed_now: Footers that this run has committed, by the identity of their source.
        was_complete: Whether the folder had `_SUCCESS` when the run began. Then the files of other
            sources in it are complete.
        left: By unit id, why a unit was left to the next run.

    Returns:
        None if it is complete.

    Raises:
        OutputError: A file cannot be written or removed.
        LeaseLostError: Another run has taken the output over.
    """
    if (reason := _missing(shards, committed_now, left or {})) is not None:
        return Incomplete(folder, reason)
    if left_rows := sum(shard.left_rows for shard in shards):
        what = f"--limit left {left_rows:,} of its rows to another run"
        return Incomplete(folder, what, is_ours=False)
    if was_complete and not any(shard.to_commit or shard.superseded for shard in shards):
        return None  # as it was listed
    expected = {
        footer.unit_id: footer
        for shard in shards
        for footer in (*shard.reused, *committed_now.get(shard.index.shard.identity, ()))
    }
    present = {
        path
        for one in {folder, *(footer.folder for footer in expected.values())}
        for path in data_files(output, one)
    }
    lost = sorted(expected.keys() - present)
    if lost:
        output.check_fence()  # another run may have superseded them
        return Incomplete(
            folder,
            f"{len(lost):,} files that were committed are not in the output, first "
            f"{output.path(lost[0])}; is --output storage that every node sees?",
        )
    _delete_superseded(output, shards, expected, present)
    others = _files_of_others(output, folder, shards)
    if not output.exists(_in(folder, SUCCESS_FILE)):
        _delete_stray_rejects(output, folder, expected, others)
        if not was_complete and (reason := _unfinished(output, others)):
            return Incomplete(folder, reason, is_ours=False)
        output.write(_in(folder, SUCCESS_FILE), b"")
    return None


def _missing(
    shards: Sequence[ShardPlan],
    committed_now: Mapping[str, Sequence[Footer]],
    left: Mapping[str, str],
) -> str | None:
    """Return why rows of these shards are not committed; None if all are."""
    unavailable = [one.index.unavailable for one in shards if one.index.unavailable is not None]
    if unavailable:
        return unavailable[0]
    missing = [
        one
        for shard in shards
        for one in shard.missing(committed_now.get(shard.index.shard.identity, ()))
    ]
    if not missing:
        return None
    why = left.get(missing[0])
    first = f"first {missing[0]}" + (f" ({why})" if why else "")
    return f"{len(missing):,} units are not committed, {first}"


def _delete_superseded(
    output: Output,
    shards: Sequence[ShardPlan],
    expected: Mapping[str, Footer],
    present: Collection[str],
) -> None:
    """Delete the files of these shards that are not part of the account.

    Some are known since the plan was made. Others appeared later: a process of an earlier run may
    have written them before it noticed that its lease was lost.
    """
    known = {footer.unit_id: footer for shard in shards for footer in shard.superseded}
    hashes = {hash_of(shard.index.shard.identity) for shard in shards}
    late = [
        path
        for path in sorted(present)
        if path not in expected and path not in known and source_hash_in(path) in hashes
    ]
    known.update((path, footer) for path in late if (footer := find_footer(output, path)))
    for path, footer in known.items():
        if path not in expected:
            output.delete(path)
            if (rejects := rejects_of(footer)) is not None:
                output.delete(rejects)


def _files_of_others(output: Output, folder: str, shards: Sequence[ShardPlan]) -> list[str]:
    """List the data files of a folder that belong to sources which are not part of this run."""
    hashes = {hash_of(shard.index.shard.identity) for shard in shards}
    ours = {footer.unit_id for shard in shards for footer in shard.reused}
    return [
        path
        for path in data_files(output, folder)
        if source_hash_in(path) not in hashes and path not in ours
    ]


def _unfinished(output: Output, paths: Sequence[str]) -> str | None:
    """Return what is wrong with the sources of these files; None if each is whole."""
    by_source: dict[str, list[Footer]] = {}
    for _, footer in find_footers(output, paths):
        by_source.setdefault(source_of(footer), []).append(footer)
    for source, files in sorted(by_source.items()):
        if (problem := _problem(files)) is not None:
            return (
                f"{source} was left half-done, {problem}; score it again or, if it is gone, remove "
                "its rows with --on-deleted retire"
            )
    return None


def _problem(files: Sequence[Footer]) -> str | None:
    """Return what keeps the files of one source from holding each of its rows once."""
    if len({(one.fingerprint, one.config_digest) for one in files}) > 1:
        return "some of its files are of an earlier version or of other settings"
    end = 0
    ranged = [one for one in files if not one.rowless]
    for footer in sorted(ranged, key=lambda one: one.first_row):
        if footer.first_row < end:
            return f"row {footer.first_row} is in two files"
        if footer.first_row > end:
            break
        end = footer.last_row + 1
    ends = [one.first_row for one in files if one.rowless]
    if len(ends) > 1 or any(first < end for first in ends):
        return f"rows should end before {min(ends)}"
    # Files of earlier versions do not tell how many rows their shard has.
    rows = max((one.shard_rows or 0 for one in files), default=0)
    return f"row {end} is in no file" if end < rows else None


def _delete_stray_rejects(
    output: Output, folder: str, expected: Mapping[str, Footer], others: Collection[str]
) -> None:
    """Remove the reject files that no data file names, which a crash or a second commit leaves.

    Two attempts of a unit may reject for other reasons or in other words, and then have reject
    files of different names. If the attempt that reported was not the one that wrote last, the data
    file tells which of them counts.

    Args:
        output: The output.
        folder: One of its folders.
        expected: Footers of the data files of this run, by their paths.
        others: Data files of other sources. Their rejects stay.
    """
    by_unit: dict[str, list[str]] = defaultdict(list)
    for path in reject_files(output, folder):
        by_unit[unit_of_reject_file(path)].append(path)
    named = {rejects_of(footer) for footer in expected.values()}
    doubtful = {
        unit_id: paths
        for unit_id, paths in by_unit.items()
        if unit_id not in others and (len(paths) > 1 or paths[0] not in named)
    }
    written = dict(find_footers(output, sorted(expected.keys() & doubtful.keys())))
    named = {rejects_of(footer) for footer in {**expected, **written}.values()}
    for unit_id, paths in doubtful.items():
        if unit_id in expected and unit_id not in written:
            continue  # its footer cannot be read now
        for path in paths:
            if path not in named:
                output.delete(path)


def _in(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
