"""The lease of an output: a file that says which run writes to it, so that there is one writer.

The holder renews the file every few seconds. Another run decides as follows whether the holder is
alive:

- A process of this machine that no longer exists is dead. "This machine" means the same host
  name, boot and process id namespace. The start time of the process guards against a reused
  process id.
- A process of this machine that exists and has renewed its lease recently is alive.
- In every other case the file is watched. A lease is taken over if it does not change for
  `stale_sec` by the clock of the watching process. Clocks of different hosts are never compared.

On local disks all changes of the file are made under a lock on its folder, and the file is created
by a hard link. A link is exclusive even where locks of other hosts are not seen (NFS). Object
stores have neither. There the lease is advisory: a run writes the file, waits, and reads it again,
and stops if it finds another run in it. If two runs write at the same time all the same, they write
the same files.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from pyarrow import fs

from sentiment.errors import OutputError
from sentiment.output.folder import Output
from sentiment.output.layout import LEASE_FILE, PRIVATE_FOLDER

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = "/proc/self/ns/pid"
_DEAD_STATES = ("Z", "X")  # killed, but not yet reaped by its parent

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaseTimes:
    """How patient a lease is."""

    renew_sec: float = 10.0  # between two signs of life of the holder
    stale_sec: float = 60.0  # without a sign of life before another run may take over
    settle_sec: float = 2.0  # from writing to reading again, where writing is not exclusive
    poll_sec: float = 1.0  # between two looks at somebody else's lease


@dataclass(frozen=True)
class Holder:
    """What the lease file says of a run; times are UTC by its own clock."""

    run_id: str
    token: str  # unlike that of every other lease
    host: str
    machine: str | None  # boot and process id namespace; None where they cannot be told
    pid: int
    process_start: int | None  # clock ticks since boot; None where they cannot be told
    started_at: str
    renewed_at: str
    renewals: int = 0  # so that a renewed file always differs

    @classmethod
    def this_process(cls, run_id: str) -> Holder:
        """The running process as a holder."""
        pid, now = os.getpid(), _now()
        state = _process_state(pid)
        start = state[1] if state else None
        host = socket.gethostname()
        return cls(run_id, uuid4().hex, host, _machine(), pid, start, now, now)

    @classmethod
    def from_bytes(cls, data: bytes | None) -> Holder | None:
        """Read a lease file; None when there is none or it makes no sense."""
        try:
            values = json.loads(data or b"")
            holder = cls(**{field.name: values[field.name] for field in fields(cls)})
            holder.idle_sec()
            return holder if type(holder.pid) is int and 0 < holder.pid < 2**31 else None
        except (ValueError, KeyError, TypeError):
            return None

    def to_bytes(self) -> bytes:
        """Inverse of `from_bytes`."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"

    def is_here(self) -> bool:
        """Whether its process id and its clock mean the same to this process."""
        machine = _machine()
        return machine is not None and (self.host, self.machine) == (socket.gethostname(), machine)

    def is_gone(self) -> bool:
        """Whether it was a process of this machine and surely exists no more."""
        if not self.is_here():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # it exists and is somebody else's
        state = _process_state(self.pid)
        if state is None or self.process_start is None:
            return False
        return state[0] in _DEAD_STATES or state[1] != self.process_start

    def idle_sec(self) -> float:
        """Seconds since its last sign of life, if its clock is ours."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.renewed_at)).total_seconds()

    def __str__(self) -> str:
        return (
            f"run {self.run_id} (host {self.host}, pid {self.pid}, since {self.started_at}, "
            f"last alive {self.renewed_at})"
        )


class Lease:
    """The lease of a run that is working; made by `hold`.

    Attributes:
        lost: Another run took the lease over while this one was suspended.
    """

    def __init__(self, output: Output, holder: Holder, times: LeaseTimes) -> None:
        self.lost = False
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
            except Exception as error:  # of any filesystem; the run does not depend on it
                _log.warning("the lease could not be renewed, will try again: %s", error)

    def _renew(self) -> None:
        with _exclusively(self._output):
            found = Holder.from_bytes(_read(self._output))
            # A file that is gone or damaged is nobody's: it is written again.
            if found is None or found.token == self._holder.token:
                renewals = self._holder.renewals + 1
                self._holder = replace(self._holder, renewed_at=_now(), renewals=renewals)
                self._output.write(LEASE_FILE, self._holder.to_bytes())
                return
        self.lost = True
        _log.warning(
            "%s: %s took over while run %s gave no sign of life; both go on, and as the same rows "
            "become the same files nothing is lost, but work is done twice",
            self._output.location,
            found,
            self._holder.run_id,
        )

    def release(self) -> None:
        """End the renewals and remove the file, if it is still ours."""
        self._ended.set()
        self._thread.join()
        try:
            with _exclusively(self._output):
                found = Holder.from_bytes(_read(self._output))
                if found is not None and found.token == self._holder.token:
                    self._output.delete(LEASE_FILE)
        except (OutputError, OSError) as error:  # the work is done; the lease will go stale
            _log.warning("the lease could not be removed: %s", error)


@contextmanager
def hold(output: Output, run_id: str, times: LeaseTimes | None = None) -> Iterator[Lease]:
    """Be the only run that writes to an output; creates its folder where there is none.

    Args:
        run_id: Names this run to others.
        times: For tests.

    Raises:
        OutputError: Another run holds the output, or the lease cannot be written.
    """
    times = times or LeaseTimes()
    holder = Holder.this_process(run_id)
    _acquire(output, holder, times)
    lease = Lease(output, holder, times)
    try:
        yield lease
    finally:
        lease.release()


def _acquire(output: Output, holder: Holder, times: LeaseTimes) -> None:
    while True:
        found = _read(output)
        if found is not None:
            found = _await_end(output, found, times)
        # Whoever else saw the same chance may have been quicker: then look at their lease.
        if _swap(output, found, holder.to_bytes(), times):
            break
    dead = Holder.from_bytes(found)
    if dead is not None:
        _log.warning("%s: takes over from %s, which gives no sign of life", output.location, dead)


def _await_end(output: Output, found: bytes, times: LeaseTimes) -> bytes | None:
    """Find a lease dead, or watch it until it goes or has not changed for `stale_sec`.

    Returns:
        The content that may be replaced; None when the file is gone.

    Raises:
        OutputError: Its holder lives.
    """
    holder = Holder.from_bytes(found)
    if holder is not None and holder.is_gone():
        return found
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
        now = _read(output)
        if now is None:
            return None
        if now != found:
            raise _held(output, Holder.from_bytes(now), times)
    return found


def _held(output: Output, holder: Holder | None, times: LeaseTimes) -> OutputError:
    return OutputError(
        f"--output {output.location}: {holder or 'an unknown process'} is writing to it (see "
        f"{LEASE_FILE}); wait until it has ended or, if it is dead, run the same command again "
        f"after {times.stale_sec:.0f} seconds"
    )


def _swap(output: Output, expected: bytes | None, data: bytes, times: LeaseTimes) -> bool:
    """Put our lease in the place of what was found there.

    Returns:
        False when somebody else was quicker.
    """
    with _exclusively(output) as locked:
        if _read(output) != expected:
            return False
        if expected is None and isinstance(output.filesystem, fs.LocalFileSystem):
            if not _create(output, data):
                return False
        else:
            output.write(LEASE_FILE, data)
    if locked:
        return True
    time.sleep(times.settle_sec)
    return _read(output) == data


def _create(output: Output, data: bytes) -> bool:
    """Make the file appear whole where there is none: a hard link replaces nothing."""
    draft = f"{PRIVATE_FOLDER}/.lease.{uuid4().hex}"
    output.write(draft, data)
    try:
        os.link(output.path(draft), output.path(LEASE_FILE))
    except FileExistsError:
        # A server may make the link, lose its answer and be asked again.
        return _read(output) == data
    except OSError:  # this filesystem has no hard links
        output.write(LEASE_FILE, data)
    finally:
        output.delete(draft)
    return True


def _read(output: Output) -> bytes | None:
    path = output.path(LEASE_FILE)
    try:
        with output.filesystem.open_input_stream(path) as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror or error})") from error


@contextmanager
def _exclusively(output: Output) -> Iterator[bool]:
    """Keep others from changing the lease meanwhile; False where that is not possible."""
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
        locked = True
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
        except OSError:  # NFS and some others lock no folders
            locked = False
        yield locked
    finally:
        os.close(folder)  # and with it the lock


def _machine() -> str | None:
    """This boot of this machine, as far as process ids reach; None where it cannot be told."""
    try:
        return f"{_BOOT_ID.read_text().strip()} {os.readlink(_PID_NAMESPACE)}"
    except OSError:
        return None


def _process_state(pid: int) -> tuple[str, int] | None:
    """State letter and start time (clock ticks since boot) of a process; None if not to be had."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # The name in brackets may hold anything, brackets and spaces too.
        values = text.rpartition(")")[2].split()
        return values[0], int(values[19])
    except (OSError, ValueError, IndexError):
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
