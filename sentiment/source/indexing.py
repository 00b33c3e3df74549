"""Indexing many shards in this process, in threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from sentiment.errors import SourceError
from sentiment.source.index import index_shard
from sentiment.source.shards import Shard, ShardIndex
from sentiment.storage import WAITING_THREADS


def index_shards(shards: Sequence[Shard], text_column: str) -> Iterator[ShardIndex]:
    """Index shards in parallel threads: Parquet footers, and delimited text from end to end.

    Args:
        shards: As listed.
        text_column: The column to score.

    Returns:
        Their indexes in the order of the shards, each as soon as it and those before it are there.

    Raises:
        SourceError: A shard cannot be planned (see `index_shard`), or the storage does not answer.
            Storage that fails says nothing about a file, so this is no damage of the shard.
    """
    with ThreadPoolExecutor(WAITING_THREADS) as threads:
        try:
            yield from threads.map(partial(index_shard, text_column=text_column), shards)
        except OSError as error:
            threads.shutdown(wait=False, cancel_futures=True)
            raise SourceError(
                f"a source stopped answering while it was read: {error}; run the same command again"
            ) from error
