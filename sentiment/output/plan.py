"""Plans a run: which units to score, which committed files to keep, and which to remove.

The plan follows from the indexes of the shards and the footers of the committed files. There is no
other state, so that a run can be stopped at any time and started again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from sentiment.errors import OutputError
from sentiment.output.receipt import Footer
from sentiment.source.cut import cut_into_units
from sentiment.source.shards import Shard, ShardIndex, Unit


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """The plan for one shard.

    Attributes:
        index: The shard, as indexed.
        units: Units to read and score.
        reused: Footers of committed files that are kept.
        superseded: Footers of committed files of an earlier fingerprint or configuration. They are
            removed when the folder is completed.
        rowless: Whether a file without rows is still to be committed, because the shard is empty or
            damaged.
        left_rows: Rows that a limit leaves to another run.
    """

    index: ShardIndex
    units: tuple[Unit, ...]
    reused: tuple[Footer, ...]
    superseded: tuple[Footer, ...]
    rowless: bool
    left_rows: int = 0

    @property
    def to_commit(self) -> list[str]:
        """Ids of the units that this run has to commit."""
        ids = [unit.unit_id for unit in self.units]
        return [*ids, rowless_unit(self.index).unit_id] if self.rowless else ids

    def missing(self, committed_now: Sequence[Footer]) -> list[str]:
        """Return the ids of units whose rows are not committed, or of what is left of them.

        A reader may end a unit early and go on with another one, so the rows decide, not the names.

        Args:
            committed_now: Footers of the files of this shard that the run has committed.
        """
        ids = {footer.unit_id for footer in committed_now}
        ranged = [footer for footer in committed_now if not footer.rowless]
        missing = []
        for unit in self.units:
            if unit.unit_id in ids:
                continue
            for first, last in _gaps(ranged, unit.first_row, unit.last_row + 1):
                missing.append(replace(unit, first_row=first, last_row=last).unit_id)
        if self.rowless and (one := rowless_unit(self.index).unit_id) not in ids:
            missing.append(one)
        return missing

    @property
    def expected(self) -> int:
        """Rows that the ledger must account for; damage counts as one.

        Of a shard that is unavailable, nobody knows how many rows it has now.
        """
        if self.index.unavailable is not None:
            return sum(footer.rows for footer in self.reused)
        return self.index.rows + (1 if self.index.damage else 0)

    @property
    def done(self) -> bool:
        """Whether nothing is left to score or commit."""
        return not self.units and not self.rowless


@dataclass(frozen=True)
class Plan:
    """The plan of a run.

    Attributes:
        shards: The plans of all shards, in the order of the indexes.
    """

    shards: tuple[ShardPlan, ...]

    @property
    def units(self) -> list[Unit]:
        """All units to score, shard by shard."""
        return [unit for shard in self.shards for unit in shard.units]

    @property
    def folders(self) -> dict[str, list[ShardPlan]]:
        """Plans of shards by output folder."""
        grouped: dict[str, list[ShardPlan]] = defaultdict(list)
        for shard in self.shards:
            grouped[shard.index.shard.folder].append(shard)
        return dict(grouped)


def plan_run(
    indexes: Sequence[ShardIndex],
    committed: Mapping[str, Sequence[Footer]],
    *,
    config_digest: str,
    unit_rows: int,
    on_change: str,
    again: Collection[str] = (),
) -> Plan:
    """Plan a run: all rows of the shards that no committed file holds are to be scored.

    A committed file counts if it has the fingerprint of the shard and the configuration of this
    run. All other files of the shard are superseded: their rows are scored again.

    Args:
        indexes: The shards, as indexed.
        committed: Footers of the committed files of each shard by its identity, from
            `read_committed`.
        config_digest: Digest of the settings of this run.
        unit_rows: Most rows of a unit.
        on_change: What to do with files of another configuration: `refuse` or `rescore`.
        again: Reasons of rejects whose units are scored again.

    Raises:
        OutputError: A file has another configuration and `on_change` is `refuse`.
    """
    plans = []
    for index in indexes:
        footers = committed.get(index.shard.identity, ())
        if index.unavailable is not None:
            plans.append(ShardPlan(index, (), tuple(footers), (), rowless=False))
            continue
        if on_change == "refuse":
            _refuse_other_configuration(footers, config_digest)
        starts = {row for row, offset in index.cuts if offset is not None}
        current = [
            footer
            for footer in footers
            if footer.config_digest == config_digest and _is_current(footer, index, starts)
        ]
        if again:
            current = [one for one in current if one.rowless or not rejected_for(one, again)]
        plans.append(_plan_shard(index, footers, _without_overlaps(current), unit_rows))
    return Plan(tuple(plans))


def limited(plan: Plan, rows: int) -> Plan:
    """Return a plan that scores so many rows at most; the others are left to another run."""
    plans = []
    for shard in plan.shards:
        units = []
        for unit in shard.units:
            taken = min(unit.rows, rows)
            rows -= taken
            if taken:
                units.append(replace(unit, last_row=unit.first_row + taken - 1))
        left = sum(unit.rows for unit in shard.units) - sum(unit.rows for unit in units)
        rowless = shard.rowless and not left
        plans.append(replace(shard, units=tuple(units), rowless=rowless, left_rows=left))
    return Plan(tuple(plans))


def rejected_for(footer: Footer, reasons: Collection[str]) -> bool:
    """Whether a unit has rows that were rejected for one of these reasons."""
    if not reasons or not footer.rejected:
        return False
    return any(reason in reasons for reason in footer.metrics.get("rejected", ()))


def index_from_files(shard: Shard, footers: Sequence[Footer]) -> ShardIndex | None:
    """Index a shard from the footers of its files, if these cover all of its rows.

    Damage is looked at again in every run: a file that could not be opened for lack of a permission
    keeps its fingerprint when it can.

    Returns:
        None if rows are missing, the shard has changed or is damaged, or the files are of an
        earlier version, which did not write how many rows a shard has.
    """
    current = [footer for footer in footers if footer.fingerprint == shard.fingerprint]
    totals = {footer.shard_rows for footer in current}
    if len(totals) != 1 or any(footer.rowless and footer.rejected for footer in current):
        return None
    rows = totals.pop()
    ranged = [footer for footer in current if not footer.rowless]
    if rows is None or any(True for _ in _gaps(ranged, 0, rows)) or not (rows or current):
        return None
    return ShardIndex(shard, rows, columns=None, is_known=True)


def _refuse_other_configuration(footers: Sequence[Footer], config_digest: str) -> None:
    for footer in footers:
        if footer.config_digest != config_digest:
            raise OutputError(
                f"{footer.unit_id}: was scored with another model or other settings "
                f"(config digest {footer.config_digest[:12]}, now {config_digest[:12]}); "
                "use another --output, or --on-change rescore to replace it"
            )


def _plan_shard(
    index: ShardIndex, footers: Sequence[Footer], kept: Sequence[Footer], unit_rows: int
) -> ShardPlan:
    """Plan one shard.

    Args:
        index: The shard, as indexed.
        footers: Footers of all of its committed files.
        kept: Those that are kept; no two of them share a row.
        unit_rows: Most rows of a unit.
    """
    ranged = [footer for footer in kept if not footer.rowless]
    units = tuple(cut_into_units(index, unit_rows, _gaps(ranged, 0, index.rows)))
    # A file whose unit is scored again is overwritten, so it must not be removed at the end.
    staying = {footer.unit_id for footer in kept} | {unit.unit_id for unit in units}
    return ShardPlan(
        index,
        units,
        reused=tuple(kept),
        superseded=tuple(footer for footer in footers if footer.unit_id not in staying),
        rowless=_needs_rowless(index) and len(ranged) == len(kept),
    )


def rowless_unit(index: ShardIndex) -> Unit:
    """Return the unit without rows that stands for an empty shard, or for its damage."""
    first = max(0, index.damage.first_row) if index.damage else 0
    return Unit(index.shard, first, first - 1, None, index.rows)


def _needs_rowless(index: ShardIndex) -> bool:
    """Whether a shard needs a file without rows."""
    return index.damage is not None or index.rows == 0


def _is_current(footer: Footer, index: ShardIndex, starts: Set[int]) -> bool:
    """Whether a data file agrees with the index of its shard.

    An equal fingerprint is not always enough: a file that could not be opened for lack of a
    permission has the same one when it can, and another release may find other records in the same
    bytes.

    Args:
        footer: The footer of the file.
        index: The shard, as indexed now.
        starts: Rows of a text shard at which reading can start; empty for Parquet.
    """
    if footer.fingerprint != index.shard.fingerprint:
        return False
    if footer.rowless:
        damage = index.damage
        return (
            _needs_rowless(index)
            and footer.first_row == (max(0, damage.first_row) if damage else 0)
            and footer.rejected == (1 if damage else 0)
        )
    if footer.last_row >= index.rows:
        return False
    ends = {footer.first_row, footer.last_row + 1} - {index.rows}
    return not starts or ends <= starts


def _gaps(footers: Sequence[Footer], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the first and last rows of all ranges between two rows that no footer covers."""
    for footer in sorted(footers, key=lambda one: one.first_row):
        if footer.first_row >= end:
            break
        if footer.first_row > start:
            yield start, footer.first_row - 1
        start = max(start, footer.last_row + 1)
    if start < end:
        yield start, end - 1


def _without_overlaps(footers: Sequence[Footer]) -> list[Footer]:
    """Choose files that share no row: of two that do, the one that starts first or is longer."""
    kept: list[Footer] = []
    end = -1
    for footer in sorted(footers, key=lambda one: (one.first_row, -one.last_row)):
        if footer.first_row > end or footer.rowless:
            kept.append(footer)
            end = max(end, footer.last_row)
    return kept
