"""Completing a folder: superseded files are deleted, then `_SUCCESS` is written."""

from __future__ import annotations

from collections.abc import Mapping, Set

from sentiment.output.folder import Output
from sentiment.output.layout import REJECTED_FOLDER, SUCCESS_FILE, data_files
from sentiment.output.plan import Plan, ShardPlan
from sentiment.output.receipt import Footer


def mark_incomplete(output: Output, plan: Plan) -> None:
    """Remove `_SUCCESS` from every folder this run is going to write into."""
    for folder, shards in plan.folders.items():
        if any(not shard.done or shard.superseded for shard in shards):
            output.delete(_in(folder, SUCCESS_FILE))


def finish(output: Output, plan: Plan, committed_now: Mapping[str, Footer]) -> list[str]:
    """Remove superseded files, then write `_SUCCESS` into every folder that is fully covered.

    Args:
        committed_now: Footers this run has committed, by unit id.

    Returns:
        Folders that are not covered.
    """
    incomplete = []
    for folder, shards in plan.folders.items():
        covered = all(
            all(unit.unit_id in committed_now for unit in shard.units)
            and (not shard.rowless or _has_rowless(shard, committed_now))
            for shard in shards
        )
        if not covered:
            incomplete.append(folder)
            continue
        for shard in shards:
            for footer in shard.superseded:
                if footer.unit_id not in committed_now:
                    output.delete(footer.unit_id)
                    output.delete(f"{REJECTED_FOLDER}/{footer.unit_id}")
        if not output.exists(_in(folder, SUCCESS_FILE)):
            reused = {footer.unit_id for shard in shards for footer in shard.reused}
            _delete_stray_rejects(output, folder, reused | committed_now.keys())
            output.write(_in(folder, SUCCESS_FILE), b"")
    return incomplete


def _delete_stray_rejects(output: Output, folder: str, staying: Set[str]) -> None:
    """Remove reject files without a data file: a crash came between the two.

    The run that goes on may cut the shard into other units, and so never write them again.

    Args:
        staying: Units that are committed, also while a late second attempt rewrites one.
    """
    there = staying | set(data_files(output, folder))
    rejected = f"{REJECTED_FOLDER}/{folder}".rstrip("/")
    for path in data_files(output, rejected):
        if path.removeprefix(f"{REJECTED_FOLDER}/") not in there:
            output.delete(path)


def _has_rowless(shard: ShardPlan, committed_now: Mapping[str, Footer]) -> bool:
    uri = shard.index.shard.uri
    return any(footer.source_file == uri and footer.rowless for footer in committed_now.values())


def _in(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
