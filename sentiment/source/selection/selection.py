"""Which rows of the sources a user wants: a condition, and a share of them drawn at random."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sentiment.block import empty_table
from sentiment.source.selection.conditions import Condition, conjuncts, split
from sentiment.source.selection.partitions import key_column, partition_of, with_partition
from sentiment.source.selection.statistics import Statistics, never_holds


@dataclass(frozen=True)
class Selection:
    """Which rows are wanted. All others are excluded: they are counted, and not scored.

    Attributes:
        where: A condition that holds in them; None for all.
        sample: The share of them to draw, from 0 to 1; None for all. A row is drawn or not for its
            place in its file, whatever other rows there are.
    """

    where: Condition | None = None
    sample: float | None = None

    def __bool__(self) -> bool:
        return self.where is not None or self.sample is not None

    def excludes_folder(self, folder: str) -> bool:
        """Whether no row below a folder is wanted, as the keys in its path tell.

        Args:
            folder: Relative to the output, `/`-separated. Further keys may follow below it.
        """
        keys = partition_of(folder)
        row = pa.table({key: key_column(value, 1) for key, value in keys.items()})
        return any(
            keys.keys() >= set(one.columns()) and one.holds(row)[0].as_py() is not True
            for one in conjuncts(self.where)
        )

    def excludes_group(self, folder: str, statistics: Mapping[str, Statistics]) -> bool:
        """Whether no row of a group is wanted, as its statistics tell.

        Args:
            folder: Folder of its file.
            statistics: What is known of its columns, by their names.
        """
        if self.where is None:
            return False
        keys = {
            key: Statistics(key_column(value, 2), value is None, value is None)
            for key, value in partition_of(folder).items()
        }
        return never_holds(self.where, {**statistics, **keys})

    def wanted(
        self, identity: str, folder: str, rows: pa.Table, numbers: Sequence[int]
    ) -> NDArray[np.bool_]:
        """Return of N rows N booleans: whether they are wanted.

        Args:
            identity: Identity of their file.
            folder: Its folder.
            rows: The rows, with all source columns.
            numbers: Their numbers in the file.

        Raises:
            IncomparableError: A column cannot be compared as the condition has it.
        """
        found = np.ones(len(numbers), np.bool_)
        if self.where is not None:
            holds = self.where.holds(with_partition(rows, folder, self.columns()))
            found &= pc.fill_null(holds, False).to_numpy(zero_copy_only=False)
        if self.sample is not None:
            found &= drawn(identity, np.asarray(numbers, np.uint64), self.sample)
        return found

    def columns(self) -> list[str]:
        """Return the columns and keys that the condition names."""
        return sorted(set(self.where.columns())) if self.where is not None else []

    def check(self, columns: pa.Schema, folder: str) -> None:
        """Check that the columns of a file can be compared as the condition has it.

        Raises:
            IncomparableError: One cannot.
        """
        if self.where is not None:
            self.where.holds(with_partition(empty_table(columns), folder, self.columns()))

    def of_rows(self, partition_keys: Collection[str]) -> list[str]:
        """Return what decides which rows of a file are wanted, beside the choice of files.

        Args:
            partition_keys: Keys that all files have. A condition on these alone chooses files, as
                naming other sources would, and may be another one every night.
        """
        _, found = split(self.where, partition_keys)
        return sorted(found) + ([] if self.sample is None else [f"sample {self.sample!r}"])


EVERY_ROW: Final = Selection()

_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)


def drawn(identity: str, numbers: NDArray[np.uint64], share: float) -> NDArray[np.bool_]:
    """Draw rows of a file at random, the same ones each time.

    A row is drawn if a hash of its number and of its file is small enough. The hash is the
    finaliser of SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", https://doi.org/10.1145/2714064.2660195

    Args:
        identity: Identity of the file.
        numbers: N row numbers.
        share: The share to draw, from 0 to 1.

    Returns:
        N booleans.
    """
    seed = np.frombuffer(hashlib.sha256(identity.encode()).digest()[:8], "<u8")[0]
    mixed = (numbers + np.uint64(1)) * _GOLDEN + seed
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    # 53 bits make a float from 0 to 1 without rounding.
    found: NDArray[np.bool_] = (mixed >> np.uint64(11)) < share * 2.0**53
    return found
