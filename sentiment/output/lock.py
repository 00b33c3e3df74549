"""Locks the lease of an output between processes, where its filesystem has locks.

A run takes the lease under an exclusive lock. A process that changes the output holds a shared lock
from its look at the lease until the change is done. So no other run can take the lease in between,
not even while the process is suspended.

Object stores have no locks, and some network filesystems do not lock folders.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pyarrow import fs

from sentiment.errors import OutputError
from sentiment.output.folder import Output
from sentiment.output.layout import PRIVATE_FOLDER

# Longest wait for another process. It holds the lock for milliseconds, unless it is suspended.
PATIENCE_SEC: Final = 60.0
_POLL_SEC = 0.005


@contextmanager
def lock_lease(output: Output, *, shared: bool = False) -> Iterator[bool]:
    """Lock the lease of an output against other processes while the body runs.

    Args:
        output: The output. The folder of the lease is made if there is none.
        shared: Whether other processes may hold it at the same time, if they share it as well.

    Yields:
        False where locks are not possible.

    Raises:
        OutputError: The folder cannot be opened, or another process keeps its lock.
    """
    if not isinstance(output.filesystem, fs.LocalFileSystem):
        yield False
        return
    path = output.path(PRIVATE_FOLDER)
    try:
        os.makedirs(path, exist_ok=True)
        folder = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise OutputError(f"{path}: cannot be opened ({error.strerror or error})") from error
    try:
        yield _lock(folder, path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    finally:
        os.close(folder)  # and with it the lock


def _lock(folder: int, path: str, kind: int) -> bool:
    deadline = time.monotonic() + PATIENCE_SEC
    while True:
        try:
            fcntl.flock(folder, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                return False  # NFS and some others lock no folders
        else:
            return True
        if time.monotonic() > deadline:
            raise OutputError(
                f"{path}: another process has kept its lock for {PATIENCE_SEC:.0f} seconds, so it "
                "may be suspended; let it go on or end it (`fuser` on that folder names it), then "
                "run the same command again"
            )
        time.sleep(_POLL_SEC)
