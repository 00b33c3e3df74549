"""The process that holds a lease, and how another process knows whether it is alive.

A process of the same machine that no longer exists is dead. The machine is its host name, boot and
process id namespace: containers on one host have process ids of their own. The operating system
uses process ids again, so that the start time of the process is compared as well.
"""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = "/proc/self/ns/pid"
_DEAD_STATES = ("Z", "X")  # it has ended, but its parent did not ask for its exit status yet


@dataclass(frozen=True)
class Holder:
    """The content of a lease file.

    Attributes:
        run_id: The run that holds the lease.
        token: Random; tells this lease from every other one.
        host: Host name.
        machine: Boot and process id namespace; None if the system does not tell them.
        pid: Process id.
        process_start: Start of the process in clock ticks since boot; None if unknown.
        started_at: When the lease was taken, in UTC by the clock of the holder.
        renewed_at: When it was last renewed, by the same clock.
        renewals: Number of renewals: two contents of the file are never the same.
        epoch: Grows with every run that takes the lease. The files of a run carry it, so that they
            tell which of two runs came later.
        released: Whether the run has ended and left the lease to the next one.
    """

    run_id: str
    token: str
    host: str
    machine: str | None
    pid: int
    process_start: int | None
    started_at: str
    renewed_at: str
    renewals: int = 0
    epoch: int = 0
    released: bool = False

    @classmethod
    def this_process(cls, run_id: str) -> Holder:
        """Describe the running process, which holds nothing yet."""
        pid, now = os.getpid(), timestamp()
        state = process_state(pid)
        start = state[1] if state else None
        host = socket.gethostname()
        return cls(run_id, uuid4().hex, host, _machine(), pid, start, now, now)

    @classmethod
    def from_bytes(cls, data: bytes | None) -> Holder | None:
        """Parse a lease file; return None if there is no file or it is damaged."""
        try:
            values = json.loads(data or b"")
            # Earlier versions wrote neither an epoch nor whether the lease is released.
            known = {"epoch": 0, "released": False, **values}
            holder = cls(**{field.name: known[field.name] for field in fields(cls)})
            holder.idle_sec()  # raises if the time does not parse
            is_sound = type(holder.pid) is int and 0 < holder.pid < 2**31
            return holder if is_sound and type(holder.epoch) is int else None
        except (ValueError, KeyError, TypeError):
            return None

    def to_bytes(self) -> bytes:
        """Inverse of `from_bytes`."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"

    def succeeds(self, earlier: Holder | None) -> Holder:
        """Return this holder with an epoch above that of an earlier one.

        It is the time in seconds where that is higher. So epochs grow also over a lease file that
        was damaged or deleted.
        """
        return replace(self, epoch=max(int(time.time()), earlier.epoch + 1 if earlier else 0))

    def is_here(self) -> bool:
        """Whether it runs on this machine, so that its process id and its clock can be used."""
        machine = _machine()
        return machine is not None and (self.host, self.machine) == (socket.gethostname(), machine)

    def is_gone(self) -> bool:
        """Whether it was a process of this machine and certainly does not exist any more."""
        if not self.is_here():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # it exists and belongs to another user
        state = process_state(self.pid)
        if state is None or self.process_start is None:
            return False
        return state[0] in _DEAD_STATES or state[1] != self.process_start

    def idle_sec(self) -> float:
        """Return the seconds since it last renewed the lease; only valid if `is_here`."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.renewed_at)).total_seconds()

    def __str__(self) -> str:
        return (
            f"run {self.run_id} (host {self.host}, pid {self.pid}, since {self.started_at}, "
            f"last alive {self.renewed_at})"
        )


def _machine() -> str | None:
    """Identify the boot and process id namespace of this process; None if that is impossible."""
    try:
        return f"{_BOOT_ID.read_text().strip()} {os.readlink(_PID_NAMESPACE)}"
    except OSError:
        return None


def process_state(pid: int) -> tuple[str, int] | None:
    """Read the state of a process of this machine.

    Returns:
        Its state letter and its start time in clock ticks since boot; None if they are unknown.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # The name of the program stands in brackets and may itself hold brackets and spaces.
        values = text.rpartition(")")[2].split()
        return values[0], int(values[19])
    except (OSError, ValueError, IndexError):
        return None


def timestamp() -> str:
    """Return the time in UTC, as lease files and diaries hold it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
