"""Made-up lives of an output, and what is true in them.

Night after night shards come, change, vanish and come back, units grow and shrink, models change,
the power fails, a store answers with an error, a source cannot be read for one night, a run is
suspended and wakes up while the next one is at work. What reading and scoring would give is made
up here, a pure function of shard, row and model.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
from hypothesis import strategies as st
from memory_output import Moment

from sentiment.block import (
    CARRIER_FIELDS,
    DETAIL,
    LABEL,
    OFF_LABEL,
    RAW,
    READ_SEC,
    REASON,
    ROW,
    ROW_END,
    SCORE,
    SCORE_SEC,
    STAGE,
    TOKENISE_SEC,
    TOKENS,
    TRUNCATED,
    UNIT,
)
from sentiment.source.shards import Damage, Shard, ShardIndex, Unit

COLUMNS = pa.schema([("text", pa.string())])
PLACES = [("dt=1", "a.parquet"), ("dt=1", "b.csv"), ("dt=2", "c.jsonl"), ("", "d.parquet")]
URIS = [f"/lake/{folder}/{name}" if folder else f"/lake/{name}" for folder, name in PLACES]
FOLDERS = sorted({folder for folder, _ in PLACES})
VERSIONS = 2
MODELS = 2

# Row number to what became of it: a label, or the reason of its reject. DAMAGED stands at the row
# where damage starts, and at row 0 where it is the whole shard: that differs in words only.
DAMAGED = ("reject", "damage")
Answers = dict[int, tuple[str, str]]


@dataclass(frozen=True)
class Version:
    """What a shard holds at one time. Its number is its fingerprint."""

    rows: int
    cut_rows: int
    damaged: bool


@dataclass(frozen=True)
class State:
    """A shard in one night: which version, and whether the file can be opened at all."""

    version: int
    readable: bool = True


Lake = tuple[State | None, ...]


@dataclass(frozen=True)
class Night:
    """One run over the lake.

    Attributes:
        lake: The state of each place; None where there is no shard.
        order: Seed of the order in which units are scored.
        retire: Whether the output of shards that are gone is removed.
        fails_after: Storage operations until one fails; None for never.
        fault: What happens then: the power fails, or the store answers with an error, once.
        moment: What has happened of that operation.
        unread: Seed of the units that cannot be read in this night; None if all can.
        late: Seed of the units that are committed a second time, by an attempt that was taken for
            dead; None if there are no such attempts.
        sleeps_after: Storage operations until the run is suspended, and the next one takes over;
            None for never.
        wakes_after: Storage operations of the next run until this one wakes up. It wakes up at the
            latest when the next one ends.
    """

    lake: Lake
    model: int
    unit_rows: int
    order: int
    retire: bool
    fails_after: int | None
    moment: Moment
    fault: Literal["power cut", "error"] = "power cut"
    unread: int | None = None
    late: int | None = None
    sleeps_after: int | None = None
    wakes_after: int = 0

    def cannot_read(self, unit: Unit) -> bool:
        """Whether reading a unit fails in this night."""
        name = f"{unit.unit_id} {self.unread}"
        return self.unread is not None and zlib.crc32(name.encode()) % 4 == 0


@dataclass(frozen=True)
class Life:
    """The life of an output. After its nights comes one more like the last, and all goes well."""

    versions: tuple[tuple[Version, ...], ...]
    nights: tuple[Night, ...]


@st.composite
def lives(draw: st.DrawFn) -> Life:
    version = st.builds(Version, st.integers(0, 9), st.integers(1, 4), st.booleans())
    versions = [draw(st.tuples(*[version] * VERSIONS)) for _ in PLACES]
    states = [State(version) for version in range(VERSIONS)]
    state = st.sampled_from([None, *states, *states, State(0, readable=False)])
    nights: list[Night] = []
    for _ in range(draw(st.integers(1, 6))):
        before = nights[-1] if nights else None
        fresh = st.tuples(*[state] * len(PLACES)).filter(any)
        # Mostly the same command again: that is where a run goes on from what another left.
        lake = st.just(before.lake) | fresh if before else fresh
        model = st.just(before.model) | st.integers(0, MODELS - 1) if before else st.just(0)
        size = st.just(before.unit_rows) | st.integers(1, 6) if before else st.integers(1, 6)
        nights.append(
            Night(
                lake=draw(lake),
                model=draw(model),
                unit_rows=draw(size),
                order=draw(st.integers(0, 3)),
                retire=draw(st.booleans()),
                fails_after=draw(st.none() | st.integers(0, 40)),
                moment=draw(st.sampled_from(["before", "torn", "after"])),
                fault=draw(st.sampled_from(["power cut", "error"])),
                unread=draw(st.none() | st.integers(0, 3)),
                late=draw(st.none() | st.integers(0, 3)),
                sleeps_after=draw(st.none() | st.integers(0, 40)),
                wakes_after=draw(st.integers(0, 60)),
            )
        )
    return Life(tuple(versions), tuple(nights))


def shard_at(place: int, state: State, version: Version) -> Shard:
    folder, name = PLACES[place]
    # Permissions change neither size nor time: an unreadable shard keeps its fingerprint.
    fingerprint = f"v{state.version}"
    return Shard(URIS[place], folder, name, fingerprint, 10 * version.rows)


def index_of(shard: Shard, state: State, version: Version) -> ShardIndex:
    if not state.readable:
        return ShardIndex(shard, 0, None, damage=Damage(-1, "unreadable_file", "not permitted"))
    damage = Damage(version.rows, "unreadable_rows", "torn") if version.damaged else None
    cuts: tuple[tuple[int, int | None], ...] = ((0, None),)
    if not shard.name.endswith(".parquet"):
        starts = range(0, max(1, version.rows), version.cut_rows)
        cuts = tuple((row, 7 + 10 * row) for row in starts)
    return ShardIndex(shard, version.rows, COLUMNS, cuts, damage)


def indexes_of(life: Life, lake: Lake) -> list[ShardIndex]:
    found = []
    for place, state in enumerate(lake):
        if state is not None:
            version = life.versions[place][state.version]
            found.append(index_of(shard_at(place, state, version), state, version))
    return found


def answer(shard: Shard, row: int, model: int) -> tuple[str, str]:
    """What becomes of a row: some cannot be read, some this model fails on."""
    key = f"{shard.uri} {shard.fingerprint}"
    if zlib.crc32(f"{key} {row // 3}".encode()) % 7 == 0:
        return "reject", "unreadable_rows"
    chance = zlib.crc32(f"{key} {row} {model}".encode()) % 12
    if chance < 3:
        return "reject", ("null_text", "empty_text", "scoring_error")[chance]
    return "label", f"{'positive' if chance < 8 else 'negative'} {shard.fingerprint} {model}"


def truth(index: ShardIndex, model: int) -> Answers:
    """What an uninterrupted run makes of a shard."""
    answers = {row: answer(index.shard, row, model) for row in range(index.rows)}
    if index.damage is not None:
        answers[max(0, index.damage.first_row)] = DAMAGED
    return answers


def scored(unit: Unit, model: int, attempt: int = 1) -> pa.Table:
    """A block as the scorer would leave it; rows that are lost together share one reject.

    Args:
        attempt: Stands in the details of rejects, so that those of two attempts differ.
    """
    records: list[dict[str, Any]] = []
    for row in range(unit.first_row, unit.last_row + 1):
        kind, said = answer(unit.shard, row, model)
        last = records[-1] if records else None
        if last and said == last[REASON] == "unreadable_rows" and last[ROW_END] == row - 1:
            last[ROW_END] = row
            continue
        good = kind == "label"
        records.append(
            {
                "text": f"row {row}" if good else None,
                ROW: row,
                ROW_END: row,
                STAGE: None if good else "score",
                REASON: None if good else said,
                DETAIL: None if good else f"attempt {attempt}",
                RAW: None,
                READ_SEC: 0.0,
                TOKENS: 3,
                TRUNCATED: False,
                TOKENISE_SEC: 0.0,
                LABEL: said if good else None,
                SCORE: 0.75 if good else None,
                OFF_LABEL: 0.125 if good else None,
                SCORE_SEC: 0.0,
            }
        )
    fields = [field for field in CARRIER_FIELDS if field.name != UNIT]
    schema = pa.schema(
        [
            *COLUMNS,
            *fields,
            pa.field(TOKENS, pa.int32()),
            pa.field(TRUNCATED, pa.bool_()),
            pa.field(TOKENISE_SEC, pa.float32()),
            pa.field(LABEL, pa.string()),
            pa.field(SCORE, pa.float32()),
            pa.field(OFF_LABEL, pa.float32()),
            pa.field(SCORE_SEC, pa.float32()),
        ]
    )
    block = pa.Table.from_pylist(records, schema)
    units = pa.DictionaryArray.from_arrays(
        pa.array([0] * len(records), pa.int32()), pa.array([unit.to_json()])
    )
    return block.append_column(UNIT, units)
