"""Finds the data files of shards that no longer exist, and removes them on request.

Only files of the sources of this run count: an output may hold files of other sources as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sentiment.output.committed import Committed, find_footers, source_of
from sentiment.output.folder import Output
from sentiment.output.layout import SUCCESS_FILE, data_files, source_hash_in
from sentiment.output.receipt import Footer, rejects_of
from sentiment.source.coverage import Coverage
from sentiment.source.selection.selection import EVERY_ROW, Selection
from sentiment.source.shards import Shard, hash_of
from sentiment.storage import is_below


def find_gone(
    output: Output,
    committed: Committed,
    sources: Sequence[str],
    shards: Sequence[Shard],
    selection: Selection = EVERY_ROW,
) -> list[Footer]:
    """Find the data files whose shard would belong to the sources, but does not exist any more.

    Args:
        output: The output.
        committed: What it held when this run began.
        sources: Sources, as the user named them.
        shards: The shards that they hold now.
        selection: Which rows are wanted. What lies in other partitions was not looked for.

    Returns:
        The footers of these files, in the order of their paths.
    """
    known = {shard.identity for shard in shards}
    hashes = {hash_of(identity) for identity in known}
    covers = [Coverage.of(source) for source in sources]
    paths = [
        path
        for path in committed.data_files
        if source_hash_in(path) not in hashes
        and any(is_below(f"/{path}", f"/{cover.folder}") for cover in covers)
    ]
    return [
        replace(footer, unit_id=path)
        for path, footer in find_footers(output, paths)
        if source_of(footer) not in known
        and any(cover.holds(footer.source_file) for cover in covers)
        and not selection.excludes_folder(footer.folder)
    ]


def retire(output: Output, gone: Sequence[Footer]) -> None:
    """Remove data files and their reject files.

    A folder has no `_SUCCESS` meanwhile, as it holds a part of these sources only. It gets it back
    if there are other files in it.

    Args:
        output: The output.
        gone: Footers of the files to remove.

    Raises:
        OutputError: A file cannot be removed.
    """
    by_folder: dict[str, list[Footer]] = defaultdict(list)
    for footer in gone:
        by_folder[footer.folder].append(footer)
    for folder, footers in by_folder.items():
        leaving = {footer.unit_id for footer in footers}
        present = set(data_files(output, folder))
        if not leaving & present:
            continue  # removed before the folder was completed
        success = f"{folder}/{SUCCESS_FILE}" if folder else SUCCESS_FILE
        was_complete = output.exists(success)
        output.delete(success)
        for footer in footers:
            # The data file first: if only the reject file were gone and the source came back, the
            # data file would count as a complete unit. A reject file that a crash leaves behind is
            # removed when the folder is completed.
            output.delete(footer.unit_id)
            if (rejects := rejects_of(footer)) is not None:
                output.delete(rejects)
        if was_complete and present - leaving:
            output.write(success, b"")


def gone_facts(gone: Sequence[Footer], on_deleted: str) -> dict[str, Any]:
    """Return the facts about these files that `run.json` holds."""
    return {
        "sources": len({footer.source_file for footer in gone}),
        "files": len(gone),
        "rows": sum(footer.rows for footer in gone),
        "retired": bool(gone) and on_deleted == "retire",
    }
