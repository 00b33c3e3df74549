"""Completes folders of an output: removes superseded files, then writes `_SUCCESS`.

`_SUCCESS` tells readers that a folder holds all rows of its shards, and no row of an older version.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from sentiment.output.folder import Output
from sentiment.output.layout import REJECTED_FOLDER, SUCCESS_FILE, data_files
from sentiment.output.plan import Plan, ShardPlan
from sentiment.output.receipt import Footer


def mark_incomplete(output: Output, plan: Plan) -> None:
    """Remove `_SUCCESS` from every folder that this run will change.

    Raises:
        OutputError: A file cannot be removed.
    """
    for folder, shards in plan.folders.items():
        if any(not shard.done or shard.superseded for shard in shards):
            output.delete(_in(folder, SUCCESS_FILE))


def finish(output: Output, plan: Plan, committed_now: Mapping[str, Footer]) -> list[str]:
    """Complete every folder in which all units are committed.

    Args:
        output: The output.
        plan: The plan of the run.
        committed_now: Footers that this run has committed, by unit id.

    Returns:
        Folders that stay incomplete.

    Raises:
        OutputError: A file cannot be written or removed.
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
    """Remove reject files without a data file, which a crash between the two left behind.

    The run after the crash may cut the shard into other units, and then it does not overwrite them.

    Args:
        output: The output.
        folder: One of its folders.
        staying: Units that are committed. The data file of such a unit may be missing for a moment,
            while a late second attempt of the same task writes it again.
    """
    committed = staying | set(data_files(output, folder))
    rejected = f"{REJECTED_FOLDER}/{folder}".rstrip("/")
    for path in data_files(output, rejected):
        if path.removeprefix(f"{REJECTED_FOLDER}/") not in committed:
            output.delete(path)


def _has_rowless(shard: ShardPlan, committed_now: Mapping[str, Footer]) -> bool:
    uri = shard.index.shard.uri
    return any(footer.source_file == uri and footer.rowless for footer in committed_now.values())


def _in(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
