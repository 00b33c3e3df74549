"""What an output already holds and what a run still has to do.

Takes shard indexes and the footers of committed files; gives the units to score, the rows to reuse
and the files to remove. Knows no models and no cluster. The committed files are the only state.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from sentiment.errors import OutputError
from sentiment.output.receipt import Footer
from sentiment.source.cut import cut_into_units
from sentiment.source.shards import ShardIndex, Unit


@dataclass(frozen=True)
class ShardPlan:
    """What is left to do for one shard.

    Attributes:
        units: Row ranges to read and score.
        reused: Footers of committed files that stay.
        superseded: Committed files of an earlier fingerprint or configuration, removed at the end.
        rowless: The shard (or its damaged rest) still needs its file without rows.
    """

    index: ShardIndex
    units: tuple[Unit, ...]
    reused: tuple[Footer, ...]
    superseded: tuple[Footer, ...]
    rowless: bool

    @property
    def expected(self) -> int:
        """Rows the ledger must account for; damage counts as one."""
        return self.index.rows + (1 if self.index.damage else 0)

    @property
    def done(self) -> bool:
        """Whether nothing is left to score or commit."""
        return not self.units and not self.rowless


@dataclass(frozen=True)
class Plan:
    """The work of a run."""

    shards: tuple[ShardPlan, ...]

    @property
    def units(self) -> list[Unit]:
        """All units to score."""
        return [unit for shard in self.shards for unit in shard.units]

    @property
    def folders(self) -> dict[str, list[ShardPlan]]:
        """Shards by output folder."""
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
    replay: bool = False,
) -> Plan:
    """Subtract what is committed from what the shards hold.

    A committed file counts when its fingerprint and configuration are this run's. Files of another
    fingerprint are superseded: their rows are scored again and the files go when that is done.

    Args:
        committed: Footers of committed files by shard key, from `read_committed`.
        replay: Files of units with rejected rows do not count either.

    Raises:
        OutputError: Files were made by another configuration and `on_change` is `refuse`.
    """
    plans = []
    for index in indexes:
        # Among many thousands of shards of one name, two share the eight digits of their keys.
        footers = [
            footer
            for footer in committed.get(index.shard.key, ())
            if footer.source_file == index.shard.uri
        ]
        for footer in footers:
            if footer.config_digest != config_digest and on_change == "refuse":
                raise OutputError(
                    f"{footer.unit_id}: was scored with another model or other settings "
                    f"(config digest {footer.config_digest[:12]}, now {config_digest[:12]}); "
                    "use another --output, or --on-change rescore to replace it"
                )
        starts = {row for row, offset in index.cuts if offset is not None}
        current = [
            footer
            for footer in footers
            if footer.config_digest == config_digest and _still_true(footer, index, starts)
        ]
        if replay:
            current = [footer for footer in current if footer.rowless or not footer.rejected]
        kept = _without_overlaps(current)
        ranged = [footer for footer in kept if not footer.rowless]
        units = tuple(cut_into_units(index, unit_rows, _gaps(ranged, index.rows)))
        # What is scored again under its old name is overwritten, not removed.
        staying = {footer.unit_id for footer in kept} | {unit.unit_id for unit in units}
        plans.append(
            ShardPlan(
                index,
                units,
                reused=tuple(kept),
                superseded=tuple(one for one in footers if one.unit_id not in staying),
                rowless=_needs_rowless(index) and len(ranged) == len(kept),
            )
        )
    return Plan(tuple(plans))


def _needs_rowless(index: ShardIndex) -> bool:
    return index.damage is not None or index.rows == 0


def _still_true(footer: Footer, index: ShardIndex, starts: Set[int]) -> bool:
    """Whether a file says of the shard what its index says now.

    The fingerprint tells nearly always; not when permissions were at fault, or when another release
    found other records in the same bytes.

    Args:
        starts: Rows of delimited text where reading can start; empty for Parquet.
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


def _gaps(footers: Sequence[Footer], rows: int) -> Iterator[tuple[int, int]]:
    """Inclusive row ranges of [0, rows) that no footer covers."""
    start = 0
    for footer in sorted(footers, key=lambda one: one.first_row):
        if footer.first_row > start:
            yield start, footer.first_row - 1
        start = max(start, footer.last_row + 1)
    if start < rows:
        yield start, rows - 1


def _without_overlaps(footers: Sequence[Footer]) -> list[Footer]:
    """Keep files that share no row with a kept one; of two, the one that starts first, longest."""
    kept: list[Footer] = []
    end = -1
    for footer in sorted(footers, key=lambda one: (one.first_row, -one.last_row)):
        if footer.first_row > end or footer.rowless:
            kept.append(footer)
            end = max(end, footer.last_row)
    return kept
