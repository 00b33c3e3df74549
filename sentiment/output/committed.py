"""Finds the data files that an output holds of some sources, wherever in the output they lie."""

from __future__ import annotations

import gc
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

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
    shards = list(shards)
    identities = {shard.identity for shard in shards}
    by_hash = {hash_of(shard.identity): shard for shard in shards}
    files, complete = [], set()
    for path in output.list_tree(""):
        folder, _, name = path.rpartition("/")
        if is_data_file(path):
            files.append(path)
        elif name == SUCCESS_FILE and is_data_file(f"{folder}/x.parquet"):
            complete.add(folder)
    # In files of earlier versions the hash is that of the location as it was typed. Nobody can tell
    # it from that of another source, so all of their footers are read.
    if any(len(source_hash_in(path) or "") == EARLIER_HASH_DIGITS for path in files):
        by_hash.update([(one[:EARLIER_HASH_DIGITS], by_hash[one]) for one in by_hash])
    ours = [
        (path, by_hash.get(found))
        for path in files
        if (found := source_hash_in(path)) is not None
        and (found in by_hash or len(found) == EARLIER_HASH_DIGITS)
    ]

    with _collector_paused():
        found_footers = parts_in_threads(partial(_footers, output), ours)
    footers: dict[str, list[Footer]] = defaultdict(list)
    for (path, _), footer in zip(ours, found_footers, strict=True):
        if footer is not None and (identity := source_of(footer)) in identities:
            placed = footer if footer.unit_id == path else replace(footer, unit_id=path)
            footers[identity].append(placed)
    return Committed(dict(footers), files, frozenset(complete))


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Let Python not look for cycles while many objects are made that stay: a tenth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


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


def _footers(output: Output, files: Sequence[tuple[str, Shard | None]]) -> list[Footer | None]:
    """Read footers; equal words in them share their memory.

    Args:
        output: The output.
        files: Data files, each with the source that its name says. A file that is damaged and has
            none is passed over.

    Raises:
        OutputError: One cannot be read and must be, or the storage does not answer.
    """
    try:
        texts = [_metadata(output, path).get(FOOTER_KEY) for path, _ in files]
        if None not in texts:
            at_hand = [_at_hand(path, source) for path, source in files]
            return [*Footer.from_many([text for text in texts if text is not None], at_hand)]
    except UNREADABLE:
        pass
    # Something is wrong with one of them.
    return [_footer(output, path, must_read=source is not None) for path, source in files]


def _at_hand(path: str, source: Shard | None) -> dict[str, str]:
    """Return what the footer of a file should say."""
    known = {"unit_id": path}
    if source is not None:
        known |= {"source_file": source.identity, "fingerprint": source.fingerprint}
    return known


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
