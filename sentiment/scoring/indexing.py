"""Indexes the shards of a run, from their files in the output where these tell enough."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence, Set
from typing import Any

from sentiment.cluster import LazyCluster
from sentiment.output.committed import Committed
from sentiment.output.plan import index_from_files, rejected_for
from sentiment.scoring.tasks import index_on_cluster
from sentiment.settings.jobs import ScoreConfig
from sentiment.source.index import index_shards
from sentiment.source.layout import BINARY_FORMATS, format_named
from sentiment.source.listing import told_files
from sentiment.source.options import ReadOptions
from sentiment.source.settings import read_options
from sentiment.source.shards import Shard, ShardIndex
from sentiment.source.state import was_missing

# Looks at a damaged shard, after the first one.
_LOOKS = 3

# Text up to this size is indexed in this process: starting a cluster takes longer.
_LOCAL_INDEX_BYTES = 64 * 2**20


def index_sources(
    shards: Sequence[Shard],
    committed: Committed,
    config: ScoreConfig,
    cluster: LazyCluster,
    *,
    again: Collection[str],
) -> list[ShardIndex]:
    """Index shards; keep their order.

    A shard whose files cover all of its rows is not opened: the footers tell all there is to know.
    Others are: Parquet in this process, much text on the cluster.

    Args:
        shards: Shards, in the folders in which their files lie.
        committed: What the output holds.
        config: The settings of the run.
        cluster: Started if there is much text to index.
        again: Reasons of rejects whose units are scored again.

    Raises:
        SourceError: A shard cannot be scored as it is, or the storage does not answer.
    """
    options = read_options(config)
    found: dict[Shard, ShardIndex] = {}
    if config.on_change == "refuse":
        for shard in shards:
            footers = committed.footers.get(shard.identity, ())
            if any(rejected_for(footer, again) for footer in footers):
                continue
            if (known := index_from_files(shard, footers)) is not None:
                found[shard] = known
    # A guess from the name, which decides no more than where a shard is looked at.
    text = [
        shard
        for shard in shards
        if format_named(shard.name) not in BINARY_FORMATS and shard not in found
    ]
    if sum(shard.size_bytes for shard in text) > _LOCAL_INDEX_BYTES:
        cluster.get()
        found.update(zip(text, index_on_cluster(text, options), strict=True))
    here = [shard for shard in shards if shard not in found]
    found.update(zip(here, index_shards(here, options, keep_going=True), strict=True))
    indexes = [found[shard] for shard in shards]
    indexes = _with_confirmed_damage(indexes, options, cluster, by_driver=frozenset(here))
    return [_not_lost(index, committed) for index in indexes]


def layout_facts(indexes: Sequence[ShardIndex]) -> list[dict[str, Any]]:
    """Return how the files were read that this run has indexed, for `run.json`."""
    files: dict[str, list[str]] = defaultdict(list)
    for index in indexes:
        if index.shard.layout is not None:
            files[index.shard.layout.told()].append(index.shard.uri)
    return [{"layout": layout, **told_files(uris)} for layout, uris in sorted(files.items())]


def _not_lost(index: ShardIndex, committed: Committed) -> ShardIndex:
    """Keep the labels of a link that leads nowhere tonight: a mount may be missing."""
    shard = index.shard
    footers = committed.footers.get(shard.identity, ())
    if not was_missing(shard) or not any(footer.labelled for footer in footers):
        return index
    why = f"{shard.uri}: leads nowhere now; its labels stay. Mount what it leads to, or delete it"
    return ShardIndex(shard, 0, columns=None, unavailable=why)


def _with_confirmed_damage(
    indexes: Sequence[ShardIndex],
    options: ReadOptions,
    cluster: LazyCluster,
    *,
    by_driver: Set[Shard],
) -> list[ShardIndex]:
    """Look at damaged shards again until two looks agree: a fault that passes is no damage.

    Args:
        by_driver: Shards that this process has indexed. If a cluster is up, it looks next.
    """
    found = {index.shard: index for index in indexes}
    doubted = [index.shard for index in indexes if index.damage is not None]
    for look in range(_LOOKS):
        if not doubted:
            break
        on_cluster = cluster.is_up and (look % 2 == 0) == (doubted[0] in by_driver)
        again = (
            index_on_cluster(doubted, options)
            if on_cluster
            else index_shards(doubted, options, keep_going=True)
        )
        differing = [index for index in again if _seen(index) != _seen(found[index.shard])]
        found.update((index.shard, index) for index in again)
        doubted = [index.shard for index in differing if index.damage is not None]
    for shard in doubted:
        reason = f"{shard.uri}: answers differently each time it is read"
        found[shard] = ShardIndex(shard, 0, columns=None, unavailable=reason)
    return [found[index.shard] for index in indexes]


def _seen(index: ShardIndex) -> tuple[int, int, str] | None:
    """Return what two looks at a damaged shard have to agree on."""
    if index.damage is None:
        return None
    return index.rows, index.damage.first_row, index.damage.reason
