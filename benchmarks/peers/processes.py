"""Start a variant of a benchmark, follow all of its processes, sum up their memory. Linux only.

Takes a command, gives its wall time and the peak of its memory: the proportional set size (PSS,
memory that processes share counted once) of all its processes together.

Ray's daemons outlive the calls that start them and may leave the tree of processes, and other Rays
may run on the machine. So a variant is started with a mark in its environment, which everything it
starts inherits, and a process counts if it, or its parent, carries the mark.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

MARK = "SENTIMENT_BENCH_ID"

# How long the daemons of a variant may take to go.
_STOP_SEC = 30.0

# What a failed variant is quoted with.
_TAIL_LINES = 30


@dataclass(frozen=True)
class Watched:
    """A variant that ran to its end.

    Attributes:
        started_at: Seconds since the epoch, to compare with the times of files.
        wall_sec: From the start of its first process to the end of that process.
        peak_pss_bytes: Largest sampled sum over all its processes.
    """

    started_at: float
    wall_sec: float
    peak_pss_bytes: int


def run_watched(
    command: Sequence[str],
    *,
    cores: Sequence[int],
    environment: Mapping[str, str],
    sample_sec: float,
    log: Path,
) -> Watched:
    """Run a command on these cores until it ends.

    Args:
        command: Program and arguments.
        cores: Numbers of the only cores that it and all it starts may use.
        environment: Its environment; the mark is added.
        sample_sec: Time between samples of its memory. Reading PSS costs about five milliseconds of
            CPU a process, which the variant could use.
        log: File for all it prints.

    Raises:
        SystemExit: It failed; the message quotes the end of its log.
    """
    mark = uuid4().hex
    pinned, pin_child = _pinned(command, cores)
    peak_pss_bytes = 0
    with log.open("wb") as file:
        started_at, started = time.time(), time.perf_counter()
        process = subprocess.Popen(
            pinned,
            env={**environment, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=pin_child,
        )
        try:
            while not _ends_within(process, sample_sec):
                peak_pss_bytes = max(peak_pss_bytes, sum(map(pss_bytes, marked_processes(mark))))
            wall_sec = time.perf_counter() - started
        finally:
            stop_all(mark)
    if process.returncode:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
        raise SystemExit("\n".join([*tail, f"failed ({process.returncode}): {' '.join(pinned)}"]))
    return Watched(started_at, wall_sec, peak_pss_bytes)


def marked_processes(mark: str) -> set[int]:
    """Ids of the living processes that carry the mark, and of all that descend from them."""
    parents = {pid: _parent(pid) for pid in _all_processes()}
    alive = {pid for pid, parent in parents.items() if parent is not None}
    # A process that renames itself may write over its environment: its parent still tells.
    found = {pid for pid in alive if _carries(pid, mark)}
    while more := {pid for pid in alive - found if parents[pid] in found}:
        found |= more
    return found


def pss_bytes(pid: int) -> int:
    """Proportional set size of a process; 0 if it is gone or belongs to somebody else."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def stop_all(mark: str) -> None:
    """Wait until nothing that carries the mark is alive; after a while, end it.

    Ray's daemons need seconds to go, and the next variant shall have the cores for itself.
    """
    deadline = time.monotonic() + _STOP_SEC
    while left := marked_processes(mark):
        if time.monotonic() > deadline:
            for pid in left:
                _kill(pid)
        time.sleep(0.2)


def _pinned(
    command: Sequence[str], cores: Sequence[int]
) -> tuple[list[str], Callable[[], None] | None]:
    """The command under `taskset`, or as it is with a function for the child that does the same."""
    if shutil.which("taskset"):
        return ["taskset", "-c", ",".join(map(str, cores)), *command], None
    return list(command), partial(os.sched_setaffinity, 0, cores)


def _ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _all_processes() -> list[int]:
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]


def _parent(pid: int) -> int | None:
    """Id of the parent; None for a process that has ended, waited for or not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name of the program stands in brackets and may hold anything.
    state, parent = stat.rpartition(")")[2].split()[:2]
    return None if state in "ZX" else int(parent)


def _carries(pid: int, mark: str) -> bool:
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"{MARK}={mark}".encode() in entries


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
