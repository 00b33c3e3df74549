"""What a run refuses before it scores anything: places and names that readers would mix up."""

from __future__ import annotations

from collections.abc import Sequence, Set

from sentiment.errors import ConfigError, SourceError
from sentiment.output.layout import added_columns
from sentiment.scoring.choice import check_choice, has_column
from sentiment.settings.jobs import ScoreConfig
from sentiment.source.coverage import Coverage
from sentiment.source.index import check_some_usable, unusable, with_text
from sentiment.source.settings import read_options, texts_of
from sentiment.source.shards import ShardIndex
from sentiment.storage import identity_of, is_below

# Paths of data files in an output, to find out whether a glob would match them.
_DATA_FILES = ("x.parquet", "key=value/x.parquet", "key=value/key=value/x.parquet")


def check_places(sources: Sequence[str], output: str) -> None:
    """Refuse an output inside a source, and a source inside the output.

    The next run would take the labelled files for reviews.

    Raises:
        ConfigError: One lies in the other.
        SourceError: A source cannot be opened.
    """
    place = identity_of(output)
    for source in sources:
        coverage = Coverage.of(source)
        if any(coverage.holds(f"{place}/{path}") for path in _DATA_FILES):
            raise ConfigError(
                f"--output {output}: lies inside the source {source!r}, so the next run would "
                "score what this one writes; choose a folder beside it"
            )
        if is_below(coverage.root, place):
            raise ConfigError(
                f"source {source!r} lies inside --output {output}; choose an output beside it"
            )


def check_columns(
    indexes: Sequence[ShardIndex], config: ScoreConfig, *, is_known: bool
) -> list[ShardIndex]:
    """Find shards whose columns or partitions would clash with added columns.

    Many readers do not tell upper and lower case apart. They prefer the key of a partition to a
    column of the same name, and so would replace the label.

    Args:
        indexes: The shards.
        config: The settings of the run.
        is_known: Whether the output has columns already, the text column among them.

    Returns:
        The indexes; a shard whose columns clash is damaged as a whole.

    Raises:
        SourceError: A partition clashes, no shard at all has usable columns, or none has the label
            column.
    """
    added = {name.lower() for name in added_columns(config.prefix).names}
    checked = [_checked(index, added) for index in indexes]
    checked = with_text(checked, texts_of(config), is_known=is_known)
    check_some_usable(checked)
    # A shard that is not read again was checked when it was committed.
    wanted = [("--label-column", config.label_column)] if config.label_column else []
    wanted += [("--group-by", name) for name in config.group_by]
    for flag, name in wanted:
        if not any(one.is_known or has_column(one, name) for one in checked):
            raise SourceError(f"{flag} {name}: no source has such a column")
    check_choice(read_options(config).selection, checked)
    return checked


def _checked(index: ShardIndex, added: Set[str]) -> ShardIndex:
    """Return the index of a shard; of one whose columns clash, as unusable.

    Raises:
        SourceError: The key of a partition clashes: its output folder would be misread.
    """
    keys = [part.partition("=")[0] for part in index.shard.folder.split("/") if "=" in part]
    for key in keys:
        if key.lower() in added:
            raise SourceError(_clash(index, "a partition", key))
    for name in sorted(index.columns.names if index.columns is not None else ()):
        if name.lower() in added:
            return unusable(index.shard, _clash(index, "a column", name))
    return index


def _clash(index: ShardIndex, kind: str, name: str) -> str:
    return (
        f"{index.shard.uri}: already has {kind} {name!r}; choose another first word for the added "
        "columns with --prefix"
    )
