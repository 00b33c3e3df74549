"""Indexes shards, whatever their format.

Damaged data is no error here: an index says what cannot be read.
Errors are for sources that cannot be scored at all, and for storage that does not answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pyarrow as pa

from sentiment.block import CARRIER_PREFIX, UNUSABLE_COLUMNS
from sentiment.errors import SourceChangedError, SourceError, UnusableShardError
from sentiment.source.content import NoDataError, layout_of
from sentiment.source.formats.delimited_index import index_delimited
from sentiment.source.formats.groups import index_groups
from sentiment.source.formats.json_columns import index_json
from sentiment.source.formats.lines import CorruptError, DamageError
from sentiment.source.layout import Layout
from sentiment.source.options import BY_DEFAULT, ReadOptions
from sentiment.source.selection.compare import IncomparableError
from sentiment.source.shards import Damage, Shard, ShardIndex
from sentiment.source.state import check_unchanged, had_footer
from sentiment.storage import in_threads, is_outage
from sentiment.texts import TextColumns

# Messages must not show review text, and in a CSV file without a header the "column names" are a
# review. So they show short names of plain characters only.
_PLAIN_NAME = re.compile(r"[\w \t.,:;|/#@$%&+()\[\]-]{0,40}")
_NAMES_SHOWN = 30


def index_shards(
    shards: Sequence[Shard], options: ReadOptions = BY_DEFAULT, *, keep_going: bool = False
) -> list[ShardIndex]:
    """Index shards, several at a time.

    Args:
        shards: Shards, as listed.
        options: How to read them.
        keep_going: Return an empty index, which says why, for a shard that is gone or changed since
            it was listed, or whose columns cannot be used.

    Returns:
        Their indexes, in the order of the shards.

    Raises:
        SourceError: A shard cannot be scored as it is (see `index_shard`), or the storage does not
            answer.
    """

    def index(shard: Shard) -> ShardIndex:
        try:
            return index_shard(shard, options, may_lack_text=keep_going)
        except SourceChangedError as error:
            if not keep_going:
                raise
            return ShardIndex(shard, 0, columns=None, unavailable=str(error))
        except UnusableShardError as error:
            if not keep_going:
                raise
            return unusable(shard, str(error))

    with outage_as_source_error():
        return in_threads(index, shards)


def with_text(
    indexes: Sequence[ShardIndex], texts: TextColumns, *, is_known: bool
) -> list[ShardIndex]:
    """Decide on files without a text column: their rows are null, or the files are unusable.

    Args:
        indexes: Indexes of all shards.
        texts: The columns to score.
        is_known: Whether the output has a text column.

    Returns:
        The indexes. If no other file has such a column, a file without is damaged as a whole.
    """
    is_known = is_known or any(
        one.is_known
        or (one.columns is not None and not one.lacks_text and bool(texts.of(one.columns.names)))
        for one in indexes
    )
    if is_known:
        return list(indexes)
    return [
        unusable(one.shard, _no_text(one.shard, one.columns, texts)) if one.lacks_text else one
        for one in indexes
    ]


def unusable(shard: Shard, detail: str) -> ShardIndex:
    """Return the index of a shard whose columns cannot be used: it is one reject."""
    return ShardIndex(shard, 0, columns=None, damage=Damage(-1, UNUSABLE_COLUMNS, detail))


def check_some_usable(indexes: Sequence[ShardIndex]) -> None:
    """Refuse shards of which not one has columns that can be used.

    Raises:
        SourceError: Says what is wrong with the first.
    """
    unusable = [
        one.damage.detail
        for one in indexes
        if one.damage is not None and one.damage.reason == UNUSABLE_COLUMNS
    ]
    if unusable and len(unusable) == len(indexes):
        raise SourceError(unusable[0])


@contextmanager
def outage_as_source_error() -> Iterator[None]:
    """Turn an outage of the storage into an error that a user can act on.

    The read stage does not use it: an OSError there fails the task, and so no row is rejected for
    an outage.

    Raises:
        SourceError: The storage stopped answering.
    """
    try:
        yield
    except OSError as error:
        raise SourceError(
            f"a source stopped answering while it was read: {error}; run the same command again"
        ) from error


def index_shard(
    shard: Shard, options: ReadOptions = BY_DEFAULT, *, may_lack_text: bool = False
) -> ShardIndex:
    """Index a shard: find out how to read it, its rows, columns and where units may start.

    Binary formats need a read of the footer, text a read of the whole file.

    Args:
        shard: The shard, as listed.
        options: How to read it.
        may_lack_text: Whether JSON without the text column is taken, see `with_text`.

    Returns:
        Its index. Its shard knows the layout, if there is one. If the file is damaged, the index
        covers the rows before the damage and describes it.

    Raises:
        UnusableShardError: The text column is absent, two columns share a name, a column has a name
            that is reserved, or is of a type that cannot be compared as the user wants.
        SourceChangedError: The file is gone or changed since it was listed.
        OSError: The storage does not answer.
    """
    index = _index(shard, options)
    if index.damage is not None:
        if is_outage(index.damage.detail):
            raise OSError(f"{shard.uri}: {index.damage.detail}")
        check_unchanged(shard)  # raises if the storage does not answer: the file may be good
    if index.columns is not None:
        names = index.columns.names
        if index.lacks_text and not may_lack_text:
            names = [name for name in names if name != options.texts.names[0]]
        _check_columns(shard, names, options.texts)
        try:
            options.selection.check(index.columns, shard.folder)
        except IncomparableError as error:
            raise UnusableShardError(f"{shard.uri}: --where: {error}") from error
    return index


def _index(shard: Shard, options: ReadOptions) -> ShardIndex:
    try:
        # On an object store, looking at the start of a file as well would cost a request more.
        is_parquet = options.format is None and shard.member is None and had_footer(shard)
        layout = Layout("parquet") if is_parquet else layout_of(shard, options)
    except DamageError as error:
        return ShardIndex(shard, 0, None, damage=Damage(-1, "unreadable_file", str(error)))
    except NoDataError as error:
        # It was listed because it could not be opened then.
        raise SourceChangedError(
            f"{shard.uri}: could not be read when it was listed; run the same command again"
        ) from error
    shard = replace(shard, layout=layout)
    if shard.is_binary:
        return index_groups(shard)
    try:
        if layout.format in ("json", "jsonl"):
            return index_json(shard, options.texts)
        return index_delimited(shard, options)
    except CorruptError as error:
        return ShardIndex(shard, 0, None, damage=Damage(-1, "unreadable_file", str(error)))


def _check_columns(shard: Shard, names: list[str], texts: TextColumns) -> None:
    for name in names:
        if name.startswith(CARRIER_PREFIX):
            raise UnusableShardError(
                f"{shard.uri}: column {name!r} starts with {CARRIER_PREFIX!r}, which is reserved; "
                "rename the column"
            )
    spellings = Counter(name.lower() for name in names)
    alike = sorted(name for name in set(names) if spellings[name.lower()] > 1)
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise UnusableShardError(f"{shard.uri}: two columns are named {_shown(twice)}; rename one")
    if alike:
        raise UnusableShardError(
            f"{shard.uri}: columns {_shown(alike)} differ in case only, and many readers take them "
            "for one; rename one"
        )
    if not texts.of(names):
        raise UnusableShardError(_no_text(shard, names, texts))


def _no_text(shard: Shard, columns: pa.Schema | Sequence[str] | None, texts: TextColumns) -> str:
    names = columns.names if isinstance(columns, pa.Schema) else list(columns or ())
    shown = _shown([name for name in names if name not in texts.names])
    wanted = " or ".join(map(repr, texts.names))
    return (
        f"{shard.uri}: there is no column {wanted} among {shown}; "
        "name the column of the text with --text-column"
    )


def _shown(names: list[str]) -> str:
    if not names:
        return "none"
    shown = [
        repr(name) if _PLAIN_NAME.fullmatch(name) else f"a name of {len(name)} characters"
        for name in names[:_NAMES_SHOWN]
    ]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
