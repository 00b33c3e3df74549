"""Finds the data files that an output holds of some sources, wherever in the output they lie."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.parquet as pq

from sentiment.errors import OutputError
from sentiment.output.folder import Output
from sentiment.output.layout import SUCCESS_FILE, is_data_file, source_hash_in
from sentiment.output.receipt import FOOTER_KEY, Footer
from sentiment.source.shards import EARLIER_HASH_DIGITS, Shard, hash_of
from sentiment.storage import identity_of, in_threads, is_outage, one_line, parts_in_threads

# What `read_footer` raises if a file is damaged or cannot be read.
UNREADABLE = (OSError, pa.ArrowException, ValueError, TypeError)


@dataclass(frozen=True)
class Committed:
    """What an output holds, as listed once.

    Attributes:
        footers: Footers of the data files of each source of this run, by its identity. `unit_id` is
            where the file lies now, also if somebody moved it.
        data_files: Paths of all data files, also of other sources.
        complete: Folders with `_SUCCESS`.
    """

    footers: Mapping[str, Sequence[Footer]] = field(default_factory=dict)
    data_files: Sequence[str] = ()
    complete: frozenset[str] = frozenset()

    def placed(self, shard: Shard) -> Shard:
        """Return a shard with the folder in which most of its rows are committed, if any are.

        A source has one place in an output, however the user names it: `lake` and `lake/en` lead to
        different folders.
        """
        rows: Counter[str] = Counter()
        for footer in self.footers.get(shard.identity, ()):
            rows[footer.folder] += 1 + footer.rows
        if not rows or (shard.folder in rows and rows[shard.folder] == max(rows.values())):
            return shard
        return replace(shard, folder=max(sorted(rows), key=lambda folder: rows[folder]))


def read_committed(output: Output, shards: Iterable[Shard]) -> Committed:
    """List an output, and read the footers of all data files that belong to these shards.

    Raises:
        OutputError: The output cannot be listed, or the footer of a file whose name is that of one
            of these shards cannot be read.
    """
    identities = {shard.identity for shard in shards}
    hashes = {hash_of(identity) for identity in identities}
    hashes |= {one[:EARLIER_HASH_DIGITS] for one in hashes}
    files, complete = [], set()
    for path in output.list_tree(""):
        folder, _, name = path.rpartition("/")
        if is_data_file(path):
            files.append(path)
        elif name == SUCCESS_FILE and is_data_file(f"{folder}/x.parquet"):
            complete.add(folder)
    # In files of earlier versions the hash is that of the location as it was typed. Nobody can tell
    # it from that of another source, so all of their footers are read.
    ours = [
        path
        for path in files
        if (found := source_hash_in(path)) in hashes or len(found or "") == EARLIER_HASH_DIGITS
    ]

    def read(paths: Sequence[str]) -> list[Footer | None]:
        return _footers(output, paths, must_read=hashes)

    footers: dict[str, list[Footer]] = defaultdict(list)
    for path, footer in zip(ours, parts_in_threads(read, ours), strict=True):
        if footer is not None and (identity := source_of(footer)) in identities:
            placed = footer if footer.unit_id == path else replace(footer, unit_id=path)
            footers[identity].append(placed)
    return Committed(dict(footers), files, frozenset(complete))


def source_of(footer: Footer) -> str:
    """Return the identity of the source of a file.

    Earlier versions wrote the location as it was typed, with links and a query.
    """
    if len(source_hash_in(footer.unit_id) or "") == EARLIER_HASH_DIGITS:
        return identity_of(footer.source_file)
    return footer.source_file


def read_footer(output: Output, path: str) -> Footer | None:
    """Read the footer of a data file; return None if another program wrote the file.

    Raises:
        OSError, pyarrow.ArrowException, ValueError, TypeError: The file cannot be read or is
            damaged, or its footer has other fields. UNREADABLE has all of them.
    """
    return Footer.from_metadata(_metadata(output, path))


def _metadata(output: Output, path: str) -> dict[bytes, bytes]:
    with output.filesystem.open_input_file(output.path(path)) as file:
        return pq.ParquetFile(file).metadata.metadata or {}


def find_footer(output: Output, path: str) -> Footer | None:
    """Read a footer; None if another program wrote the file, or it is damaged or cannot be read."""
    try:
        return read_footer(output, path)
    except UNREADABLE:
        return None


def find_footers(output: Output, paths: Sequence[str]) -> list[tuple[str, Footer]]:
    """Read the footers of many files; leave out those that have none that can be read.

    Returns:
        Paths with their footers, in the order of the paths.
    """
    footers = in_threads(lambda path: find_footer(output, path), paths)
    found = zip(paths, footers, strict=True)
    return [(path, footer) for path, footer in found if footer is not None]


def _footers(
    output: Output, paths: Sequence[str], *, must_read: Collection[str]
) -> list[Footer | None]:
    """Read footers; equal words in them share their memory.

    Args:
        output: The output.
        paths: Data files.
        must_read: Hashes of this run's sources. A file that is damaged, and whose name says that it
            is of another source, is passed over.

    Raises:
        OutputError: One cannot be read and must be, or the storage does not answer.
    """
    try:
        texts = [_metadata(output, path).get(FOOTER_KEY) for path in paths]
        footers = Footer.from_many([text for text in texts if text is not None])
        if len(footers) == len(paths):
            return [*footers]
    except UNREADABLE:
        pass
    # Something is wrong with one of them.
    return [_footer(output, path, must_read=source_hash_in(path) in must_read) for path in paths]


def _footer(output: Output, path: str, *, must_read: bool) -> Footer | None:
    """Read a footer.

    Args:
        must_read: Whether the name of the file says that it holds rows of this run's sources. If
            not, a file that is damaged is passed over.

    Raises:
        OutputError: It cannot be read and must be, or the storage does not answer.
    """
    try:
        footer = read_footer(output, path)
    except UNREADABLE as error:
        if is_outage(str(error)):
            raise OutputError(
                f"{output.path(path)}: the store failed while it was read "
                f"({one_line(error)}); run the same command again"
            ) from error
        if not must_read:
            return None
        raise OutputError(
            f"{output.path(path)}: its footer cannot be read ({type(error).__name__}); "
            "delete the file and run again, its rows will be scored anew"
        ) from error
    if footer is None and must_read:
        raise OutputError(
            f"{output.path(path)}: was not written by sentiment; use another --output"
        )
    return footer
