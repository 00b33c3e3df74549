"""Which rows a run scores, if the user does not want all of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sentiment.errors import SourceError
from sentiment.source.selection.conditions import split
from sentiment.source.selection.partitions import partition_of
from sentiment.source.selection.selection import Selection
from sentiment.source.selection.sql import parse_condition
from sentiment.source.shards import Shard, ShardIndex


def chosen_rows(selection: Selection, shards: Sequence[Shard]) -> list[str]:
    """Return what decides which rows of a file are scored, beside the choice of files."""
    folders = {shard.folder for shard in shards}
    keys = [set(partition_of(folder)) for folder in folders]
    return selection.of_rows(set.intersection(*keys) if keys else set())


def joined_choice(conditions: Sequence[str | None], partition_keys: Collection[str]) -> str | None:
    """Return a condition that chooses what any of several runs into one output chose.

    Args:
        conditions: Of each run, one at least. On rows of files they agree, or the output would have
            refused one.
        partition_keys: Keys of the partitions of the output.

    Raises:
        ConfigError: A condition cannot be parsed.
    """
    parts = [
        split(None if one is None else parse_condition(one), partition_keys) for one in conditions
    ]
    of_files = [files for files, _ in parts]
    chosen = list(parts[-1][1])
    if all(of_files):
        nights = dict.fromkeys(" AND ".join(f"({one})" for one in some) for some in of_files)
        chosen.append(" OR ".join(f"({night})" for night in nights))
    return " AND ".join(f"({one})" for one in chosen) or None


def check_choice(selection: Selection, indexes: Sequence[ShardIndex]) -> None:
    """Refuse a condition on a column that no source has.

    Raises:
        SourceError: Names the column.
    """
    if any(index.is_known for index in indexes):
        return  # it was checked when the files were scored
    for name in selection.columns():
        if not any(has_column(index, name) for index in indexes):
            raise SourceError(
                f"--where: no source has a column {name!r}; "
                + (_alike(indexes, name) or "texts stand in single quotes")
            )


def _alike(indexes: Sequence[ShardIndex], name: str) -> str:
    """Return a hint at a column of another case."""
    names = {one for index in indexes if index.columns is not None for one in index.columns.names}
    names |= {key for index in indexes for key in partition_of(index.shard.folder)}
    found = sorted(one for one in names if one.lower() == name.lower())
    return f"did you mean {found[0]!r}?" if found else ""


def has_column(index: ShardIndex, name: str) -> bool:
    """Whether a shard has a column, or lies in a partition with such a key."""
    if name in partition_of(index.shard.folder):
        return True
    return index.columns is not None and name in index.columns.names
