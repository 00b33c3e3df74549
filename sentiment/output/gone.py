"""Output of sources that are gone: found, and retired where that is asked for.

Takes sources and an output; gives the footers of committed files whose shard those sources would
hold but do not. Files of other sources are never looked at. Knows no models and no cluster.
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
    """Footers of committed files whose shard is not among those that the sources hold now.

    Args:
        sources: What the user named.
        shards: What they hold.

    Raises:
        OutputError: The output cannot be listed.
    """
    known, uris = {shard.key for shard in shards}, {shard.uri for shard in shards}
    covers = [Coverage.of(source) for source in sources]
    paths: set[str] = set()
    for folder in {cover.folder for cover in covers}:
        paths.update(path for path in output.list_tree(folder) if is_data_file(path))
    found = []
    for path in sorted(paths):
        footer = None if key_of(path) in known else _footer(output, path)
        if footer is None or footer.source_file in uris:
            continue
        if any(cover.holds(footer.source_file) for cover in covers):
            found.append(footer)
    return found


def retire(output: Output, gone: Sequence[Footer]) -> None:
    """Remove these files and their rejects; a folder left without data is no longer complete.

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
            # The data file first: without its rejects it would pass for whole if the source came
            # back. Rejects that a crash leaves behind go when the folder is completed again.
            output.delete(footer.unit_id)
            output.delete(f"{REJECTED_FOLDER}/{footer.unit_id}")


def gone_facts(gone: Sequence[Footer], on_deleted: str) -> dict[str, Any]:
    """What `run.json` tells of them."""
    return {
        "sources": len({footer.source_file for footer in gone}),
        "files": len(gone),
        "rows": sum(footer.rows for footer in gone),
        "retired": bool(gone) and on_deleted == "retire",
    }


def _footer(output: Output, path: str) -> Footer | None:
    """The footer of a file; None where it is not ours, or says nothing that can be read."""
    try:
        return read_footer(output, path)
    except UNREADABLE:
        return None
