"""One writer per output: who is refused, who takes over from whom, and what happens meanwhile."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from sentiment.errors import LeaseLostError, OutputError
from sentiment.output import lease, lock
from sentiment.output.folder import Output
from sentiment.output.holder import Holder, process_state
from sentiment.output.layout import LEASE_FILE
from sentiment.output.lease import LeaseTimes, hold

QUICK = LeaseTimes(renew_sec=0.02, stale_sec=0.2, settle_sec=0.2, poll_sec=0.02)
PATIENT = LeaseTimes(renew_sec=0.02, stale_sec=60, settle_sec=0.2, poll_sec=0.02)
RACERS = 3

HOLD_FOR_EVER = """
import sys, time
from sentiment.output.lease import hold
from sentiment.output.folder import Output
with hold(Output.open(sys.argv[1]), "doomed"):
    print("holds", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output.open(str(tmp_path / "out"))


@pytest.fixture
def store(tmp_path: Path) -> Output:
    """Stands in for an object store: neither locks nor links."""
    (tmp_path / "out" / "_sentiment").mkdir(parents=True)
    return Output("mock://", fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "out")


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(_: float) -> None:
        raise AssertionError("waited")

    monkeypatch.setattr(time, "sleep", sleep)


def holder_of(output: Output) -> Holder | None:
    return Holder.from_bytes(output.read(LEASE_FILE))


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "never happened"
        time.sleep(0.01)


def leave(output: Output, **changes: Any) -> Holder:
    """A lease that nobody renews, as this process would have written it but for the changes."""
    holder = replace(Holder.this_process("other"), **changes)
    output.write(LEASE_FILE, holder.to_bytes())
    return holder


@contextmanager
def renewing(output: Output, holder: Holder, clock: str) -> Iterator[None]:
    """Another host's run that renews its lease, with the time its clock shows."""
    ended = threading.Event()

    def renew() -> None:
        renewals = 0
        while not ended.wait(0.05):
            renewals += 1
            alive = replace(holder, renewed_at=clock, renewals=renewals)
            output.write(LEASE_FILE, alive.to_bytes())

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_the_file_says_who_holds_the_output(output: Output) -> None:
    with hold(output, "first"):
        holder = holder_of(output)
    assert holder is not None
    assert (holder.run_id, holder.pid) == ("first", os.getpid())
    assert holder.started_at.endswith("+00:00")


def test_a_second_run_is_refused_and_told_of_the_first(output: Output, no_waiting: None) -> None:
    with hold(output, "first"):
        holder = holder_of(output)
        assert holder is not None
        with pytest.raises(OutputError) as caught, hold(output, "second"):
            pass
        assert holder_of(output) == holder
    message = str(caught.value)
    for fact in (
        output.location,
        "run first",
        f"host {holder.host}",
        f"pid {os.getpid()}",
        f"since {holder.started_at}",
        f"last alive {holder.renewed_at}",
        "after 60 seconds",
    ):
        assert fact in message


def is_released(output: Output) -> bool:
    holder = holder_of(output)
    assert holder is not None
    return holder.released


def test_a_released_output_is_free_and_its_epoch_grows(output: Output, no_waiting: None) -> None:
    epochs = []
    for run_id in ("first", "second", "third"):
        with hold(output, run_id) as mine:
            assert not is_released(output)
            epochs.append(mine.fence.epoch)
        assert output.list_files("_sentiment") == ["lease.json"]
        assert is_released(output)
    assert epochs == sorted(set(epochs))


def test_an_epoch_grows_over_a_clock_that_went_back(output: Output, no_waiting: None) -> None:
    ahead = int(time.time()) + 10**6
    leave(output, released=True, epoch=ahead)
    with hold(output, "first") as mine:
        assert mine.fence.epoch == ahead + 1


def test_a_lease_of_an_earlier_version_is_understood(output: Output, no_waiting: None) -> None:
    values = json.loads(Holder.this_process("other").to_bytes())
    del values["epoch"], values["released"]
    output.write(LEASE_FILE, json.dumps(values).encode())
    with pytest.raises(OutputError, match="run other"):
        hold(output, "second").__enter__()


def test_a_failed_run_releases_too(output: Output) -> None:
    output.write("data.parquet", b"x")
    with pytest.raises(ZeroDivisionError), hold(output, "first"):
        raise ZeroDivisionError
    assert is_released(output)


def test_a_run_that_fails_before_it_writes_leaves_no_trace(output: Output) -> None:
    with pytest.raises(ZeroDivisionError), hold(output, "first"):
        raise ZeroDivisionError
    assert not Path(output.root).exists()
    with hold(output, "second"):
        pass
    with pytest.raises(ZeroDivisionError), hold(output, "third"):
        raise ZeroDivisionError
    assert is_released(output), "the epoch of an output that was used must not be forgotten"


# What a run may do that has lost its lease.


def test_a_run_that_lost_its_lease_changes_nothing(output: Output) -> None:
    output.write("data.parquet", b"theirs")
    with hold(output, "first", PATIENT) as mine:
        fenced = output.fenced(mine.fence)
        fenced.write("ours.parquet", b"ours")
        other = leave(output, host="elsewhere")
        for change in (
            lambda: fenced.write("data.parquet", b"ours"),
            lambda: fenced.write("late.parquet", b"ours"),
            lambda: fenced.delete("data.parquet"),
            lambda: fenced.delete_folder("_sentiment"),
        ):
            with pytest.raises(LeaseLostError, match=r"run other .*took over while run first"):
                change()
    assert output.read("data.parquet") == b"theirs"
    assert not output.exists("late.parquet")
    assert holder_of(output) == other


def test_a_released_lease_of_a_later_run_is_another_s(output: Output) -> None:
    with hold(output, "first", PATIENT) as mine:
        leave(output, released=True)
        with pytest.raises(LeaseLostError):
            output.fenced(mine.fence).write("late.parquet", b"x")


def test_a_fence_travels_to_workers(output: Output) -> None:
    with hold(output, "first", PATIENT) as mine:
        fence = pickle.loads(pickle.dumps(mine.fence))
        output.fenced(fence).write("a.parquet", b"x")
        leave_by_run(output, "second")
        with pytest.raises(LeaseLostError):
            output.fenced(fence).write("b.parquet", b"x")


def test_nobody_takes_over_between_the_look_at_the_lease_and_the_change(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process is suspended there, for longer than a lease lives."""
    monkeypatch.setattr(lock, "PATIENCE_SEC", 0.1)
    rename, refused = os.replace, []

    def suspended(source: str, target: str) -> None:
        if target.endswith("data.parquet"):
            with pytest.raises(OutputError, match=r"kept its lock .* suspended") as caught:
                leave_by_run(output, "second")
            refused.append(caught.value)
        rename(source, target)

    monkeypatch.setattr(os, "replace", suspended)
    with hold(output, "first", PATIENT) as mine:
        output.fenced(mine.fence).write("data.parquet", b"x")
    assert len(refused) == 1
    leave_by_run(output, "second")


def leave_by_run(output: Output, run_id: str) -> None:
    """Take the lease over as a run does, whoever holds it."""
    current = output.read(LEASE_FILE)
    holder = Holder.this_process(run_id).succeeds(Holder.from_bytes(current))
    assert lease._replace_lease(output, current, holder.to_bytes(), QUICK)


def test_outputs_do_not_mind_each_other(tmp_path: Path, no_waiting: None) -> None:
    with (
        hold(Output.open(str(tmp_path / "a")), "first"),
        hold(Output.open(str(tmp_path / "b")), "second"),
    ):
        pass


def test_the_lease_is_renewed(output: Output) -> None:
    with hold(output, "first", QUICK):
        first = holder_of(output)
        assert first is not None
        until(lambda: (now := holder_of(output)) and now.renewals >= 2)
        now = holder_of(output)
        assert now is not None
        assert replace(now, renewals=0, renewed_at=first.renewed_at) == replace(first, renewals=0)
    assert "lease" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("reaped", [True, False])
def test_the_same_command_goes_on_at_once_after_a_kill(
    output: Output, reaped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    command = [sys.executable, "-c", HOLD_FOR_EVER, output.location]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "holds\n"
            with pytest.raises(OutputError, match=f"run doomed .*pid {process.pid}"):
                hold(output, "second").__enter__()
        finally:
            process.send_signal(signal.SIGKILL)
        if reaped:
            process.wait()
        else:  # its parent may be busy, or not care
            until(lambda: (state := process_state(process.pid)) and state[0] == "Z")
        started = time.monotonic()
        with hold(output, "second"):
            assert time.monotonic() - started < LeaseTimes().stale_sec / 2
            holder = holder_of(output)
    assert holder is not None
    assert holder.run_id == "second"
    assert "takes over from run doomed" in caplog.text


def test_a_reused_process_id_holds_nothing(output: Output, no_waiting: None) -> None:
    start = Holder.this_process("").process_start
    assert start is not None
    leave(output, process_start=start)
    with pytest.raises(OutputError, match="run other"):
        hold(output, "second").__enter__()
    leave(output, process_start=start - 1)
    with hold(output, "second"):
        pass


def test_without_a_start_time_a_process_id_proves_nothing(output: Output) -> None:
    leave(output, process_start=None, pid=os.getppid())
    with pytest.raises(OutputError, match="run other"):
        hold(output, "second", PATIENT).__enter__()


def test_a_process_of_this_host_that_hangs_is_watched_and_replaced(output: Output) -> None:
    leave(output, renewed_at="2026-01-01T00:00:00+00:00")
    started = time.monotonic()
    with hold(output, "second", QUICK):
        assert time.monotonic() - started >= QUICK.stale_sec


@pytest.mark.parametrize("where", [{"host": "elsewhere"}, {"machine": "another boot"}])
@pytest.mark.parametrize("clock", ["2026-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"])
def test_a_stale_lease_is_taken_over_whatever_its_clock_says(
    output: Output, where: dict[str, str], clock: str, caplog: pytest.LogCaptureFixture
) -> None:
    leave(output, renewed_at=clock, **where)
    started = time.monotonic()
    with hold(output, "second", QUICK):
        assert time.monotonic() - started >= QUICK.stale_sec
        holder = holder_of(output)
    assert holder is not None
    assert holder.run_id == "second"
    assert "takes over from run other" in caplog.text


@pytest.mark.parametrize("clock", ["2026-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"])
def test_a_run_on_another_host_lives_as_long_as_it_renews(output: Output, clock: str) -> None:
    # Its process id says nothing here, and its clock may be wrong.
    other = leave(output, host="elsewhere", pid=2**22 + 1, renewed_at=clock)
    with (
        renewing(output, other, clock),
        pytest.raises(OutputError, match=r"run other .*host elsewhere"),
    ):
        hold(output, "second", PATIENT).__enter__()


def test_who_waits_goes_on_once_the_output_is_released(output: Output) -> None:
    leave(output, host="elsewhere")
    timer = threading.Timer(0.1, output.delete, [LEASE_FILE])
    timer.start()
    with hold(output, "second", PATIENT):
        timer.join()


def test_who_waits_goes_on_once_the_lease_is_released(output: Output) -> None:
    other = leave(output, host="elsewhere", epoch=7)
    released = replace(other, released=True, renewals=1)
    timer = threading.Timer(0.1, output.write, [LEASE_FILE, released.to_bytes()])
    timer.start()
    with hold(output, "second", PATIENT) as mine:
        timer.join()
        assert mine.fence.epoch > 7


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b'{"pid": 1}', b"\xff\xfe"])
def test_a_damaged_lease_is_watched_and_replaced(output: Output, data: bytes) -> None:
    output.write(LEASE_FILE, data)
    started = time.monotonic()
    with hold(output, "second", QUICK):
        assert time.monotonic() - started >= QUICK.stale_sec


def test_a_damaged_lease_whose_holder_lives_is_repaired(output: Output) -> None:
    with hold(output, "first", PATIENT):
        output.write(LEASE_FILE, b"{")
        until(lambda: holder_of(output))
        output.delete(LEASE_FILE)
        until(lambda: holder_of(output))
        with pytest.raises(OutputError, match="run first"):
            hold(output, "second", PATIENT).__enter__()
    assert is_released(output)


def test_a_lost_lease_is_told_once_and_the_run_goes_on(
    output: Output, caplog: pytest.LogCaptureFixture
) -> None:
    with hold(output, "first", QUICK) as mine:
        assert not mine.lost
        other = leave(output, host="elsewhere")
        until(lambda: mine.lost)
        time.sleep(5 * QUICK.renew_sec)
    assert holder_of(output) == other, "the other's lease was touched"
    [record] = caplog.records
    assert "run other (host elsewhere" in record.message
    assert "run first gave no sign of life" in record.message


@pytest.mark.parametrize("error", [OutputError("away"), OSError("away"), RuntimeError("away")])
def test_a_failed_renewal_is_told_and_tried_again(
    output: Output,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = []
    write = Output.write

    def failing(self: Output, relative: str, data: bytes) -> None:
        if len(failures) < 3:
            failures.append(relative)
            raise error
        write(self, relative, data)

    with hold(output, "first", QUICK) as mine:
        monkeypatch.setattr(Output, "write", failing)
        until(lambda: (now := holder_of(output)) and len(failures) == 3 and now.renewals > 0)
        assert not mine.lost
    assert "could not be renewed, will try again: away" in caplog.text


def test_a_lease_that_cannot_be_released_is_no_failure(
    output: Output, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OutputError("away")

    with hold(output, "first"):
        monkeypatch.setattr(Output, "write", fail)
    assert "could not be released: away" in caplog.text


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "_sentiment").write_bytes(b"")
    with pytest.raises(OutputError, match="_sentiment"):
        hold(Output.open(str(tmp_path)), "first").__enter__()


def race(location: str, rank: int, rounds: int, barrier: Any, wins: Any) -> None:
    """Try to hold an output at the same time as the others, round by round."""
    output = Output.open(location)
    for number in range(rounds):
        barrier.wait(60)
        if rank == 0 and number % 2:  # every other time there is a dead lease to take over
            leave(output, process_start=1)
        barrier.wait(60)
        try:
            with hold(output, f"{number} of {rank}"):
                wins.put(number)
                barrier.wait(60)
        except OutputError:
            barrier.wait(60)


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
def test_one_of_racing_threads_wins(
    output: Output, locks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = 60
    if not locks:  # as on NFS: hard links alone must do, which create a new file only

        def flock(*_: object) -> None:
            raise OSError(errno.EBADF, "Bad file descriptor")

        monkeypatch.setattr(fcntl, "flock", flock)
        monkeypatch.setattr(lease, "LeaseTimes", lambda: replace(QUICK, settle_sec=0, stale_sec=60))
        rounds = 1
    for number in range(1 if locks else 30):
        barrier, wins = threading.Barrier(RACERS), queue.Queue[int]()
        place = f"{output.location}-{number}"
        threads = [
            threading.Thread(target=race, args=(place, rank, rounds, barrier, wins))
            for rank in range(RACERS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(wins.queue) == list(range(rounds))


def test_one_of_racing_processes_wins(output: Output) -> None:
    rounds = 100
    spawn = multiprocessing.get_context("spawn")
    barrier, wins = spawn.Barrier(RACERS), spawn.Queue()
    racers = [
        spawn.Process(target=race, args=(output.location, rank, rounds, barrier, wins))
        for rank in range(RACERS)
    ]
    for racer in racers:
        racer.start()
    found = [wins.get(timeout=60) for _ in range(rounds)]
    for racer in racers:
        racer.join(60)
        assert racer.exitcode == 0
    assert sorted(found) == list(range(rounds))
    assert wins.empty()
    assert output.list_files("_sentiment") == ["lease.json"]


def test_a_disk_without_hard_links_will_do(
    output: Output, monkeypatch: pytest.MonkeyPatch, no_waiting: None
) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with hold(output, "first"):
        assert output.list_files("_sentiment") == ["lease.json"]
        with pytest.raises(OutputError, match="run first"):
            hold(output, "second").__enter__()


def test_a_link_that_was_made_but_reported_as_failed_is_ours(
    output: Output, monkeypatch: pytest.MonkeyPatch, no_waiting: None
) -> None:
    link = os.link

    def asked_again(source: str, target: str) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", asked_again)
    with hold(output, "first"):
        holder = holder_of(output)
    assert holder is not None
    assert holder.run_id == "first"


def test_on_an_object_store_a_second_run_is_refused(store: Output) -> None:
    with hold(store, "first", PATIENT):
        until(lambda: (now := holder_of(store)) and now.renewals > 0)
        with pytest.raises(OutputError, match="run first"):
            hold(store, "second", PATIENT).__enter__()
    with hold(store, "second", PATIENT):
        pass
    assert is_released(store)


def test_on_an_object_store_a_dead_lease_is_taken_over(store: Output) -> None:
    leave(store, process_start=1)
    with hold(store, "second", PATIENT):
        holder = holder_of(store)
    assert holder is not None
    assert holder.run_id == "second"


def test_on_an_object_store_who_is_not_in_the_file_stops(
    store: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier, seen, read = threading.Barrier(2), threading.local(), Output.read

    def both_see_nothing(output: Output, relative: str) -> bytes | None:
        found = read(output, relative)
        seen.times = getattr(seen, "times", 0) + 1
        if seen.times == 2:  # just before writing
            assert found is None
            barrier.wait(60)
        return found

    monkeypatch.setattr(Output, "read", both_see_nothing)
    done, outcomes = threading.Barrier(2), queue.Queue[str]()

    def run(name: str) -> None:
        try:
            with hold(store, name, replace(PATIENT, settle_sec=1)):
                outcomes.put(f"{name} writes")
                done.wait(60)
        except OutputError as error:
            outcomes.put(f"{name} stops: {error}")
            done.wait(60)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stopped, writes = sorted((outcomes.get(), outcomes.get()), key=lambda text: "writes" in text)
    assert f"stops: --output mock://: run {writes[0]} " in stopped
