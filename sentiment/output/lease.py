"""Keeps two runs from writing to one output at the same time, by a lease file in it.

A run writes the file before it does anything else, renews it every few seconds, and marks it as
released at the end. The file stays: its epoch grows with every run. A second run that finds a lease
decides:

- If it is released, the second run takes it at once.
- If the holder is a process of this machine that no longer exists, it is dead (see `holder.py`).
  The second run takes the lease over at once.
- If it is a process of this machine that exists and has renewed its lease lately, it is alive. The
  second run stops with an error.
- In all other cases the second run watches the file. If it changes, the holder is alive. If it does
  not change for `stale_sec`, measured by the clock of the second run, that run takes the lease
  over. Clocks of different hosts are never compared.

On local disks every change of the file happens under a lock on its folder (see `lock.py`). A new
file appears by a hard link: the link fails if the file exists, even on network filesystems where
locks do not reach other hosts (NFS). Object stores have neither locks nor links. There a run writes
the file, waits for `settle_sec` and reads it again; if it finds another run in it, it stops. That
is not quite safe, but a run notices before its next write that the lease is another's (see
`fence.py`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from uuid import uuid4

from pyarrow import fs

from sentiment.errors import OutputError
from sentiment.output.fence import Fence
from sentiment.output.folder import Output
from sentiment.output.holder import Holder, timestamp
from sentiment.output.layout import LEASE_FILE, PRIVATE_FOLDER
from sentiment.output.lock import lock_lease

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaseTimes:
    """The times of the lease protocol.

    Attributes:
        renew_sec: Between two renewals by the holder.
        stale_sec: Without a renewal before another run takes over.
        settle_sec: From writing the file to reading it again, where writing is not exclusive.
        poll_sec: Between two reads of the lease of another run.
    """

    renew_sec: float = 10.0
    stale_sec: float = 60.0
    settle_sec: float = 2.0
    poll_sec: float = 1.0


class Lease:
    """A lease that this process holds and renews in a thread; made by `hold`.

    Attributes:
        lost: Whether another run took the lease over, because this one did not renew it in time.
        fence: Refuses every change of the output from then on.
    """

    def __init__(self, output: Output, holder: Holder, times: LeaseTimes) -> None:
        self.lost = False
        self.fence = Fence(holder.run_id, holder.token, holder.epoch)
        self._output = output
        self._holder = holder
        self._times = times
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name="lease", daemon=True)
        self._thread.start()

    def _keep_alive(self) -> None:
        while not self.lost and not self._ended.wait(self._times.renew_sec):
            try:
                self._renew()
            except Exception as error:  # any error of any filesystem: the run can do without
                _log.warning("the lease could not be renewed, will try again: %s", error)

    def _renew(self) -> None:
        with lock_lease(self._output):
            current = Holder.from_bytes(self._output.read(LEASE_FILE))
            # If the file is gone or damaged, no other run holds the lease: write it again.
            if current is None or current.token == self._holder.token:
                renewals = self._holder.renewals + 1
                self._holder = replace(self._holder, renewed_at=timestamp(), renewals=renewals)
                self._output.write(LEASE_FILE, self._holder.to_bytes())
                return
        self.lost = True
        _log.warning(
            "%s: %s took over while run %s gave no sign of life; this run stops before it writes "
            "again",
            self._output.location,
            current,
            self._holder.run_id,
        )

    def release(self) -> None:
        """End the renewals, and leave the file to the next run if it is still that of this run."""
        self._ended.set()
        self._thread.join()
        try:
            with lock_lease(self._output):
                current = Holder.from_bytes(self._output.read(LEASE_FILE))
                if current is not None and current.token == self._holder.token:
                    released = replace(current, released=True, renewals=current.renewals + 1)
                    self._output.write(LEASE_FILE, released.to_bytes())
        except (OutputError, OSError) as error:  # the work is done, and the lease becomes stale
            _log.warning("the lease could not be released: %s", error)

    def withdraw(self) -> None:
        """Take an output away again that holds nothing but this lease.

        For a run that stops before it has written anything, such as one of a source that does not
        exist: no mistake of the user should leave a trace. Nobody needs the epoch of such an
        output.
        """
        try:
            with lock_lease(self._output):
                if self._output.list_tree("") == [LEASE_FILE]:
                    self._output.delete(LEASE_FILE)
                    self._remove_empty_folders()
        except (OutputError, OSError) as error:  # the next run takes the lease over
            _log.warning("the lease could not be removed: %s", error)

    def _remove_empty_folders(self) -> None:
        if isinstance(self._output.filesystem, fs.LocalFileSystem):
            with suppress(OSError):  # another process is about to use them
                os.rmdir(self._output.path(PRIVATE_FOLDER))
                os.rmdir(self._output.root)


@contextmanager
def hold(output: Output, run_id: str, times: LeaseTimes | None = None) -> Iterator[Lease]:
    """Hold the lease of an output while the body runs; create the folder if there is none.

    Args:
        output: The output.
        run_id: Names this run in messages of other runs.
        times: Shorter times for tests.

    Raises:
        OutputError: Another run holds the output, or the lease cannot be written.
    """
    times = times or LeaseTimes()
    holder, earlier = _acquire(output, Holder.this_process(run_id), times)
    lease = Lease(output, holder, times)
    try:
        yield lease
    except BaseException:
        lease.release()
        if earlier is None:
            lease.withdraw()
        raise
    lease.release()


def _acquire(output: Output, holder: Holder, times: LeaseTimes) -> tuple[Holder, bytes | None]:
    """Write the lease file for a holder.

    Returns:
        The holder with its epoch, and the content that the file had before.
    """
    while True:
        current = output.read(LEASE_FILE)
        if current is not None:
            current = _await_end(output, current, times)
        earlier = Holder.from_bytes(current)
        holder = holder.succeeds(earlier)
        # Another run may have replaced the file in the meantime: then start again with its lease.
        if _replace_lease(output, current, holder.to_bytes(), times):
            break
    if earlier is not None and not earlier.released:
        _log.warning(
            "%s: takes over from %s, which gives no sign of life", output.location, earlier
        )
    return holder, current


def _await_end(output: Output, current: bytes, times: LeaseTimes) -> bytes | None:
    """Wait until a lease may be replaced: it is released, gone or stale, or its holder is dead.

    Returns:
        The content that may be replaced; None when the file is gone.

    Raises:
        OutputError: Its holder is alive.
    """
    holder = Holder.from_bytes(current)
    if holder is not None and (holder.released or holder.is_gone()):
        return current
    if holder is not None and holder.is_here() and 0 <= holder.idle_sec() < times.stale_sec:
        raise _held(output, holder, times)
    _log.warning(
        "%s: waits up to %.0f seconds for a sign of life of %s",
        output.path(LEASE_FILE),
        times.stale_sec,
        holder or "whoever wrote it; it is damaged",
    )
    deadline = time.monotonic() + times.stale_sec
    while time.monotonic() < deadline:
        time.sleep(times.poll_sec)
        latest = output.read(LEASE_FILE)
        if latest is None:
            return None
        if latest != current:
            other = Holder.from_bytes(latest)
            if other is not None and other.released:
                return latest
            raise _held(output, other, times)
    return current


def _held(output: Output, holder: Holder | None, times: LeaseTimes) -> OutputError:
    return OutputError(
        f"--output {output.location}: {holder or 'an unknown process'} is writing to it (see "
        f"{LEASE_FILE}); wait until it has ended or, if it is dead, run the same command again "
        f"after {times.stale_sec:.0f} seconds"
    )


def _replace_lease(output: Output, expected: bytes | None, data: bytes, times: LeaseTimes) -> bool:
    """Replace the content of the lease file, if it is still the expected one.

    Returns:
        False if another run replaced it first.
    """
    with lock_lease(output) as locked:
        if output.read(LEASE_FILE) != expected:
            return False
        if expected is None and isinstance(output.filesystem, fs.LocalFileSystem):
            if not _create(output, data):
                return False
        else:
            output.write(LEASE_FILE, data)
    if locked:
        return True
    time.sleep(times.settle_sec)
    return output.read(LEASE_FILE) == data


def _create(output: Output, data: bytes) -> bool:
    """Create the lease file with all of its content; return False if it exists.

    A hard link is the one operation that never replaces a file, on NFS too.
    """
    draft = f"{PRIVATE_FOLDER}/.lease.{uuid4().hex}"
    output.write(draft, data)
    try:
        os.link(output.path(draft), output.path(LEASE_FILE))
    except FileExistsError:
        # A file server may make the link, lose its answer, and make it again on a retry: then the
        # link that exists is ours.
        return output.read(LEASE_FILE) == data
    except OSError:  # this filesystem has no hard links
        output.write(LEASE_FILE, data)
    finally:
        output.delete(draft)
    return True
