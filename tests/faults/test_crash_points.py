"""The commit protocol, stopped at every point where a process can die, hang or meet an error.

Whole lives of an output, see `made_up_lives.py`. The planning, the commits, the fence and the order
of writes are the real ones.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from found_in_output import data_file, half_done, problems, strays, success
from hypothesis import HealthCheck, example, given, settings
from made_up_lives import (
    COLUMNS,
    FOLDERS,
    PLACES,
    URIS,
    Lake,
    Life,
    Night,
    State,
    Version,
    indexes_of,
    lives,
    scored,
)
from memory_output import FragileOutput, Fuse, MemoryFiles, PowerCut, Process

from sentiment.errors import LeaseLostError, OutputError
from sentiment.output.commit import Stamp, commit_rowless, commit_unit
from sentiment.output.committed import read_committed
from sentiment.output.fence import Fence
from sentiment.output.finish import finish, mark_incomplete
from sentiment.output.folder import Output
from sentiment.output.gone import retire
from sentiment.output.holder import Holder
from sentiment.output.layout import LEASE_FILE, unit_of_reject_file
from sentiment.output.plan import plan_run
from sentiment.output.receipt import Footer
from sentiment.source.shards import Shard, ShardIndex, Unit


@dataclass
class Run:
    """A run as `sentiment.scoring.job` goes about it; units are committed in random order.

    Attributes:
        left: Units that could not be read.
        incomplete: Folders that were not completed for that reason.
        seen: What happened.
    """

    store: MemoryFiles
    fuse: Fuse
    fence: Fence
    indexes: Sequence[ShardIndex]
    night: Night
    places: Sequence[str] = ()
    left: dict[str, str] = field(default_factory=dict)
    incomplete: set[str] = field(default_factory=set)
    seen: Counter[str] = field(default_factory=Counter)

    def __call__(self) -> None:
        night = self.night
        self.output = FragileOutput.over(self.store, self.fuse).fenced(self.fence)
        self.stamp = Stamp(
            f"model {night.model}",
            f"config {night.model}",
            "0.1.0",
            "sentiment",
            epoch=self.fence.epoch,
        )
        shards = [index.shard for index in self.indexes]
        self.committed = read_committed(self.output, shards)
        self.plan = plan_run(
            self.indexes,
            self.committed.footers,
            config_digest=self.stamp.config_digest,
            unit_rows=night.unit_rows,
            on_change="rescore",
        )
        uris = {shard.uri for shard in shards}
        there = committed_files(self.store)
        self.gone = [one for one in there if one.source_file in set(self.places) - uris]
        self.done: dict[str, list[Footer]] = defaultdict(list)
        mark_incomplete(self.output, self.plan)
        self._score()
        if night.retire:
            retire(self.output, self.gone)
        if not self.left:
            reused = [footer for one in self.plan.shards for footer in one.reused]
            counted = sum(one.rows for some in [*self.done.values(), reused] for one in some)
            assert counted == sum(one.expected for one in self.plan.shards)

    def _score(self) -> None:
        for one in self.plan.shards:
            if one.rowless:
                footer = commit_rowless(self.output, self.stamp, one.index)
                self.done[footer.source_file].append(footer)
        units = self.plan.units
        missing = Counter(unit.shard.folder for unit in units)
        for folder in self.plan.folders:
            if not missing[folder]:
                self._complete(folder)
        Random(self.night.order).shuffle(units)
        for number, unit in enumerate(units):
            if self.night.cannot_read(unit):
                self.left[unit.unit_id] = "not read"
            else:
                self._commit(unit)
                self._commit_late(units[: number + 1], missing)
            missing[unit.shard.folder] -= 1
            if not missing[unit.shard.folder]:
                self._complete(unit.shard.folder)

    def _commit(self, unit: Unit) -> None:
        rows = scored(unit, self.night.model)
        try:
            footer = commit_unit(self.output, self.stamp, unit, rows)
        except LeaseLostError:
            raise
        except OutputError:  # as Ray does, which tries a block again
            self.seen["commits tried again"] += 1
            footer = commit_unit(self.output, self.stamp, unit, rows)
        self.done[footer.source_file].append(footer)

    def _commit_late(self, units: Sequence[Unit], missing: Counter[str]) -> None:
        """An attempt of an earlier unit that was taken for dead, and may die as it writes."""
        if self.night.late is None:
            return
        chance = Random(f"{self.night.late} {len(units)}")
        unit = chance.choice(units)
        if unit.unit_id in self.left or not missing[unit.shard.folder] or chance.random() < 0.5:
            return
        fuse = Fuse(chance.randrange(8), self.night.moment)
        output = FragileOutput.over(self.store, fuse).fenced(self.fence)
        try:
            commit_unit(output, self.stamp, unit, scored(unit, self.night.model, attempt=2))
            self.seen["late attempts"] += 1
        except PowerCut:
            self.seen["late attempts that died"] += 1

    def _complete(self, folder: str) -> None:
        if self.night.retire:
            retire(self.output, [footer for footer in self.gone if footer.folder == folder])
        found = finish(
            self.output,
            folder,
            self.plan.folders[folder],
            self.done,
            was_complete=folder in self.committed.complete,
            left=self.left,
        )
        if found is not None and found.is_ours:
            assert self.left
            self.incomplete.add(folder)


def take_over(store: MemoryFiles, run_id: str) -> Fence:
    """Take the lease, as a run does that finds it stale."""
    output = Output("memory:out", FragileOutput.over(store, Fuse()).filesystem, "out")
    holder = Holder.this_process(run_id).succeeds(Holder.from_bytes(output.read(LEASE_FILE)))
    output.write(LEASE_FILE, holder.to_bytes())
    return Fence(run_id, holder.token, holder.epoch)


def committed_files(store: MemoryFiles) -> list[Footer]:
    """Footers of all data files; costs no storage operation that could fail."""
    return [
        data_file(data)[0]
        for path, data in sorted(store.files.items())
        if path.endswith(".parquet") and not path.startswith("out/_") and "/." not in path
    ]


@dataclass
class Living:
    """An output, night after night.

    Attributes:
        complete: For each folder, the night that it was complete with when `_SUCCESS` was written.
        asleep: A run that is suspended, and when it wakes up.
        seen: How often what happened, to see that the interesting things do.
    """

    life: Life
    store: MemoryFiles = field(default_factory=MemoryFiles)
    complete: dict[str, Night] = field(default_factory=dict)
    asleep: tuple[Process, Night] | None = None
    seen: Counter[str] = field(default_factory=Counter)

    def spend(self, number: int, night: Night) -> None:
        """Run, and check what the run, whole or not, has left."""
        fault = PowerCut if night.fault == "power cut" else OutputError
        fuse = Fuse(night.fails_after, night.moment, fault)
        fence = take_over(self.store, f"night {number}")
        indexes = indexes_of(self.life, night.lake)
        run = Run(self.store, fuse, fence, indexes, night, URIS, seen=self.seen)
        process, sleeper = Process(run), self.asleep
        self.asleep = None
        if night.sleeps_after is not None:
            fuse.before[night.sleeps_after] = process.suspend
        if sleeper is not None:
            wakes_after = sleeper[1].wakes_after
            if wakes_after == night.sleeps_after:
                wakes_after += 1
            fuse.before[wakes_after] = lambda: self.wake(sleeper[0])
        process.go_on()
        if sleeper is not None:
            self.wake(sleeper[0])
        if process.ended:
            self._ended(number, run, process.error)
        else:
            self.asleep = (process, night)
            self.seen["suspended runs"] += 1
        self._look(number, night)

    def wake(self, process: Process) -> None:
        """Let a run go on that another one has taken over from.

        All it may do is to take a file back whose rows the other one has committed as well.
        """
        if process.ended:
            return
        before = dict(self.store.files)
        process.go_on()
        assert process.ended
        after = self.store.files
        assert after.items() <= before.items()
        footers = {one.unit_id: one for one in committed_files(self.store)}
        for path in before.keys() - after.keys():
            self.seen["files taken back"] += 1
            unit_id = unit_of_reject_file(path.removeprefix("out/"))
            lost, _ = data_file(before[f"out/{unit_id}"])
            assert unit_id not in footers
            assert any(
                one.source_file == lost.source_file
                and one.epoch > lost.epoch
                and one.overlaps(lost)
                for one in footers.values()
            )
        if isinstance(process.error, LeaseLostError):
            self.seen["runs that noticed that the lease was lost"] += 1
        elif process.error is not None and not isinstance(process.error, (PowerCut, OutputError)):
            raise process.error

    def _ended(self, number: int, run: Run, error: BaseException | None) -> None:
        night = run.night
        if error is not None:
            if type(error) not in (PowerCut, OutputError):
                raise error
            self.seen[f"runs that ended with {type(error).__name__}"] += 1
            return
        self.seen["runs that ended"] += 1
        if night.retire:
            assert strays(self.store.files, self.life, night) == [], f"night {number}"
        for folder in run.incomplete:
            self.seen["folders with units that could not be read"] += 1
            assert not success(self.store.files, folder), f"night {number}: {folder}"
        for folder in set(FOLDERS) - run.incomplete:
            if not (due := due_in(self.life, night, folder)):
                continue
            assert problems(self.store.files, folder, due) == [], f"night {number}"
            there = {index.shard.uri for index, _ in due}
            left = half_done(self.store.files, folder, there)
            assert success(self.store.files, folder) == (not left), f"night {number}: {folder}"
            self.seen["folders beside half-done work"] += bool(left)
            if not left:
                self.complete[folder] = night

    def _look(self, number: int, night: Night) -> None:
        """A folder with `_SUCCESS` is whole: with this night's shards, or with an earlier one's."""
        for folder in FOLDERS:
            if not success(self.store.files, folder):
                continue
            told = [problems(self.store.files, folder, due_in(self.life, night, folder))]
            if folder in self.complete and told != [[]]:
                due = due_in(self.life, self.complete[folder], folder)
                told.append(problems(self.store.files, folder, due))
            assert [] in told, f"night {number}: {folder} has _SUCCESS, but {told}"
            if told[0] == []:
                self.complete[folder] = night


def due_in(life: Life, night: Night, folder: str) -> list[tuple[ShardIndex, int]]:
    """What a folder holds once a night's run is through."""
    indexes = indexes_of(life, night.lake)
    return [(index, night.model) for index in indexes if index.shard.folder == folder]


def live(life: Life) -> Counter[str]:
    """Run every night, and after the last one more like it, in which all goes well."""
    living = Living(life)
    last = replace(life.nights[-1], fails_after=None, unread=None, late=None, sleeps_after=None)
    for number, night in enumerate([*life.nights, last]):
        living.spend(number, night)
    return living.seen


@pytest.fixture(autouse=True, scope="module")
def _quick_counts() -> Iterator[None]:
    """Metrics are not what is tested here, and pandas takes most of the time of a small unit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sentiment.output.commit.count_unit", lambda **_: {})
        yield


def _lives(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


# Power cuts that once lost or doubled rows, or would have: between the reject file of a unit and
# its data file, and while the output of a shard that comes back was removed.
SHARD = ((Version(9, 4, False), Version(3, 4, False)),) * len(PLACES)
ALONE: Lake = (None, None, None, State(0))
WITH_ANOTHER: Lake = (State(0), State(0), None, None)
ANOTHER: Lake = (None, State(0), None, None)
QUIET = Night(ALONE, 0, 5, 0, retire=False, fails_after=None, moment="before")
UNITS_CHANGE = Life(
    SHARD,
    tuple(
        replace(QUIET, unit_rows=size, fails_after=cut) for cut in range(4, 20) for size in (5, 3)
    ),
)
MODEL_COMES_BACK = Life(
    SHARD,
    tuple(
        replace(QUIET, model=model, fails_after=cut)
        for cut in range(4, 20)
        for model, cut in ((0, None), (1, cut))
    ),
)
SHARD_COMES_BACK = Life(
    SHARD,
    tuple(
        replace(QUIET, lake=lake, retire=True, fails_after=cut)
        for cut in range(1, 20)
        for lake, cut in ((WITH_ANOTHER, None), (ANOTHER, cut))
    ),
)
# A shard is gone, and its rows are being removed from a folder in which another one stays.
RETIRED_BESIDE_ANOTHER = Life(
    SHARD,
    tuple(
        replace(QUIET, lake=lake, retire=cut is not None, fails_after=cut)
        for cut in range(1, 12)
        for lake, cut in ((WITH_ANOTHER, None), (ANOTHER, cut), (ANOTHER, None))
    ),
)


@example(RETIRED_BESIDE_ANOTHER)
@example(SHARD_COMES_BACK)
@example(UNITS_CHANGE)
@example(MODEL_COMES_BACK)
@_lives(40)
@given(lives())
def test_every_row_is_there_once_whatever_died_when(life: Life) -> None:
    live(life)


@pytest.mark.faults
@pytest.mark.timeout(3600)
@_lives(int(os.environ.get("SENTIMENT_TEST_LIVES", "10000")))
@given(lives())
def test_every_row_is_there_once_in_thousands_of_lives(life: Life) -> None:
    live(life)


def test_shards_that_share_a_key_keep_their_own_files(monkeypatch: pytest.MonkeyPatch) -> None:
    # 64 bits: nobody will see it happen, and nothing may depend on that.
    for module in ("source.shards", "output.committed", "output.finish"):
        monkeypatch.setattr(f"sentiment.{module}.hash_of", lambda identity: "0" * 16)
    shards = [
        Shard(f"/lake/day={day}/part-0.parquet", f"day={day}", "part-0.parquet", "v0", 9)
        for day in (1, 2)
    ]
    assert shards[0].key == shards[1].key
    indexes = [ShardIndex(one, 9, COLUMNS) for one in shards]
    store = MemoryFiles()
    for _ in range(2):
        Run(store, Fuse(), take_over(store, "one"), indexes, QUIET)()
        for index in indexes:
            assert problems(store.files, index.shard.folder, [(index, 0)]) == []
