"""Compares sources with an output: every row that they hold now must be in it.

To count the rows it reads the footers of Parquet and all of text shards, as a scoring run does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

from pyarrow import fs

from sentiment.source.coverage import Coverage
from sentiment.source.index import check_some_usable, index_shards, with_text
from sentiment.source.listing import list_shards
from sentiment.source.options import ReadOptions
from sentiment.source.shards import ShardIndex
from sentiment.storage import in_threads, open_filesystem
from sentiment.verification.contents import Problem
from sentiment.verification.footers import DataFile
from sentiment.verification.shards import end_of, span

_log = logging.getLogger(__name__)


def source_problems(
    sources: Sequence[str], options: ReadOptions, shards: Mapping[str, Sequence[DataFile]]
) -> list[Problem]:
    """Compare sources with the output.

    Args:
        sources: Files, folders or globs, as for a scoring run.
        options: How they are read.
        shards: Data files by the URI of their source.

    Raises:
        SourceError: Nothing to read, no text column, or the storage does not answer.
    """
    listing = list_shards(sources, options)
    for path in listing.skipped:
        _log.warning("%s: skipped: neither name nor content say that it holds records", path)
    problems: list[Problem] = []
    indexes = index_shards(listing.shards, options, keep_going=True)
    indexes = with_text(indexes, options.texts, is_known=bool(shards))
    check_some_usable(indexes)
    for index in indexes:
        problems += _compare(index, shards.get(index.shard.identity, ()))
    covers = [Coverage.of(source) for source in sources]
    listed = {shard.identity for shard in listing.shards}
    missing = [uri for uri in shards if uri not in listed and any(one.holds(uri) for one in covers)]
    for uri, gone in zip(missing, in_threads(_is_gone, missing), strict=True):
        if gone:
            what = f"is gone, but the output holds its rows, for example {shards[uri][0].path}"
            problems.append(Problem(uri, what))
    return problems


def _compare(index: ShardIndex, files: Sequence[DataFile]) -> Iterator[Problem]:
    """Compare the rows of a shard with those of its data files."""
    uri, end = index.shard.identity, end_of(files)
    if index.unavailable is not None:
        yield Problem(uri, index.unavailable)
    elif not files:
        yield Problem(uri, "no data file stands for it: it was never scored, or they were deleted")
    elif any(one.footer.fingerprint != index.shard.fingerprint for one in files):
        yield Problem(
            uri, f"changed since it was scored: {index.rows:,} rows now, {end:,} in the output"
        )
    elif end < index.rows:
        yield Problem(uri, f"no data file holds {span(end, index.rows - 1)}")
    elif end > index.rows:
        yield Problem(
            uri, f"the output holds {span(index.rows, end - 1)}, which the source has not"
        )
    else:
        yield from _compare_ends(index, [one for one in files if one.rowless])


def _compare_ends(index: ShardIndex, rowless: Sequence[DataFile]) -> Iterator[Problem]:
    """Check that there is a file without rows if and only if the shard is empty or damaged."""
    uri = index.shard.identity
    if index.damage is not None:
        if not any(one.footer.rejected for one in rowless):
            yield Problem(uri, f"is damaged from row {index.rows} on, which no data file says")
    elif index.rows == 0 and not rowless:
        yield Problem(uri, "is empty, which no data file says")
    for one in rowless:
        if one.footer.rejected and index.damage is None:
            yield Problem(one.path, "stands for damage, but its source can be read to its end")


def _is_gone(uri: str) -> bool:
    """Whether a file does not exist; False if that cannot be found out."""
    try:
        filesystem, path = open_filesystem(uri)
        return bool(filesystem.get_file_info(path).type == fs.FileType.NotFound)
    except OSError:
        return False
