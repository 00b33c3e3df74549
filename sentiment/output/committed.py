"""Reads the footers of the data files that an output holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq

from sentiment.errors import OutputError
from sentiment.output.folder import Output
from sentiment.output.layout import data_files, key_of
from sentiment.output.receipt import Footer
from sentiment.storage import STORAGE_THREADS, is_outage, one_line

# What `read_footer` raises if a file is damaged or cannot be read.
UNREADABLE = (OSError, pa.ArrowException, ValueError, TypeError)


def read_committed(
    output: Output, folders: Iterable[str], keys: set[str]
) -> dict[str, list[Footer]]:
    """Read the footers of all committed files that belong to these shards.

    Args:
        output: The output.
        folders: Output folders to list.
        keys: Shard keys; files of other shards are not opened.

    Returns:
        Footers by shard key.

    Raises:
        OutputError: The footer of a file whose name is that of a data file cannot be read.
    """
    paths = [
        path
        for folder in sorted(set(folders))
        for path in data_files(output, folder)
        if key_of(path) in keys
    ]
    by_key: dict[str, list[Footer]] = defaultdict(list)
    with ThreadPoolExecutor(STORAGE_THREADS) as pool:
        for path, footer in zip(paths, pool.map(lambda p: _footer(output, p), paths), strict=True):
            by_key[key_of(path)].append(footer)
    return dict(by_key)


def read_footer(output: Output, path: str) -> Footer | None:
    """Read the footer of a data file; return None if another program wrote the file.

    Raises:
        OSError, pyarrow.ArrowException, ValueError, TypeError: The file cannot be read or is
            damaged, or its footer has other fields. UNREADABLE has all of them.
    """
    with output.filesystem.open_input_file(output.path(path)) as file:
        return Footer.from_metadata(pq.ParquetFile(file).metadata.metadata)


def _footer(output: Output, path: str) -> Footer:
    try:
        footer = read_footer(output, path)
    except UNREADABLE as error:
        if is_outage(str(error)):
            raise OutputError(
                f"{output.path(path)}: the store failed while it was read "
                f"({one_line(error)}); run the same command again"
            ) from error
        raise OutputError(
            f"{output.path(path)}: its footer cannot be read ({type(error).__name__}); "
            "delete the file and run again, its rows will be scored anew"
        ) from error
    if footer is None:
        raise OutputError(
            f"{output.path(path)}: was not written by sentiment; use another --output"
        )
    return footer
