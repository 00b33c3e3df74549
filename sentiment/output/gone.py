"""Finds the data files of shards that no longer exist, and removes them on request.

Only files of the sources of this run count: an output may hold files of other sources as well.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sentiment.output.committed import UNREADABLE, read_footer
from sentiment.output.folder import Output
from sentiment.output.layout import REJECTED_FOLDER, SUCCESS_FILE, data_files, is_data_file, key_of
from sentiment.output.receipt import Footer
from sentiment.source.coverage import Coverage
from sentiment.source.shards import Shard


def find_gone(output: Output, sources: Sequence[str], shards: Sequence[Shard]) -> list[Footer]:
    """Find the data files whose shard would belong to the sources, but does not exist any more.

    Args:
        output: The output.
        sources: Sources, as the user named them.
        shards: The shards that they hold now.

    Returns:
        The footers of these files, in the order of their paths.

    Raises:
        OutputError: The output cannot be listed.
    """
    known, uris = {shard.key for shard in shards}, {shard.uri for shard in shards}
    covers = [Coverage.of(source) for source in sources]
    paths: set[str] = set()
    for folder in {cover.folder for cover in covers}:
        paths.update(path for path in output.list_tree(folder) if is_data_file(path))
    gone = []
    for path in sorted(paths):
        footer = None if key_of(path) in known else _footer(output, path)
        if footer is None or footer.source_file in uris:
            continue
        if any(cover.holds(footer.source_file) for cover in covers):
            gone.append(footer)
    return gone


def retire(output: Output, gone: Sequence[Footer]) -> None:
    """Remove data files and their reject files, and `_SUCCESS` from folders that hold no others.

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
        staying = set(data_files(output, folder)) - {footer.unit_id for footer in footers}
        if not staying:
            output.delete(f"{folder}/{SUCCESS_FILE}" if folder else SUCCESS_FILE)
        for footer in footers:
            # The data file first: if only the reject file were gone and the source came back, the
            # data file would count as a complete unit. A reject file that a crash leaves behind is
            # removed when the folder is completed.
            output.delete(footer.unit_id)
            output.delete(f"{REJECTED_FOLDER}/{footer.unit_id}")


def gone_facts(gone: Sequence[Footer], on_deleted: str) -> dict[str, Any]:
    """Return the facts about these files that `run.json` holds."""
    return {
        "sources": len({footer.source_file for footer in gone}),
        "files": len(gone),
        "rows": sum(footer.rows for footer in gone),
        "retired": bool(gone) and on_deleted == "retire",
    }


def _footer(output: Output, path: str) -> Footer | None:
    """Read the footer of a file; return None if it has none or cannot be read."""
    try:
        return read_footer(output, path)
    except UNREADABLE:
        return None
