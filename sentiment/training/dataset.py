"""Reading labelled files, and their texts as token ids.

The ids are ragged arrays that are memory-mapped from disk, so that training workers share them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from itertools import repeat
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sentiment.block import DETAIL, EXCLUDED, REASON, ROW, empty_table
from sentiment.errors import SourceError
from sentiment.metrics.truth import label_text
from sentiment.model.tokenizer import Tokeniser
from sentiment.source.cut import cut_into_units
from sentiment.source.index import index_shard, outage_as_source_error
from sentiment.source.listing import list_shards
from sentiment.source.options import ReadOptions
from sentiment.source.read import ShardReader
from sentiment.source.selection.partitions import partition_of, with_partition
from sentiment.source.shards import Shard

# Rows read at a time.
_UNIT_ROWS = 65536


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with the index of their label among the sorted target texts.

    Attributes:
        confidence: Probability that each label is the right one.
        dropped: Rows left out because text or label was null or blank.
    """

    texts: list[str]
    labels: list[int]
    confidence: list[float]
    dropped: int


@dataclass(frozen=True)
class TokenRows:
    """N token sequences and their labels.

    Attributes:
        ids: All sequences after one another, int32.
        offsets: Where each starts; N + 1 numbers.
        labels: Index of the label of each row, int64.
        confidence: Probability that it is the right one, float32.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64]
    confidence: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row."""
        return np.diff(self.offsets)

    @classmethod
    def encode(cls, rows: LabelledTexts, tokeniser: Tokeniser) -> TokenRows:
        """Tokenise texts as scoring does."""
        encoded = [item.ids for item in tokeniser.encode(rows.texts)]
        lengths = [len(ids) for ids in encoded]
        return cls(
            ids=np.concatenate(encoded) if encoded else np.zeros(0, dtype=np.int32),
            offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
            labels=np.array(rows.labels, dtype=np.int64),
            confidence=np.array(rows.confidence, dtype=np.float32),
        )

    def save(self, folder: Path) -> None:
        """Write one `.npy` file per array, which `load` maps."""
        folder.mkdir(parents=True, exist_ok=True)
        for array in fields(self):
            np.save(folder / f"{array.name}.npy", getattr(self, array.name))

    @classmethod
    def load(cls, folder: Path) -> TokenRows:
        """Inverse of `save`. Pages are read from disk when they are used."""
        return cls(*(np.load(folder / f"{a.name}.npy", mmap_mode="r") for a in fields(cls)))


def read_labelled(
    sources: Sequence[str],
    *,
    options: ReadOptions,
    label_column: str,
    confidence_column: str | None,
    label_texts: Mapping[str, str],
) -> LabelledTexts:
    """Read texts and labels from files of any format that scoring reads.

    Args:
        confidence_column: Column with the probability of each label; none in it means 1. Without
            such a column all labels are taken as certain.

    Raises:
        SourceError: Nothing found, a file or column is missing or damaged, a label has no target
            text, or a confidence is no probability.
    """
    targets = target_texts(label_texts)
    known = {label_text(name): text for name, text in label_texts.items()}
    found = LabelledTexts([], [], [], dropped=0)
    dropped = 0
    for shard in list_shards(sources, options).shards:
        table = _load(shard, options)
        for column in filter(None, (label_column, confidence_column)):
            if column not in table.column_names:
                names = ", ".join(name for name in table.column_names if name != ROW)
                raise SourceError(f"{shard.uri}: no column {column!r}; it has {names}")
        texts = options.texts.read(table.column_names, table.__getitem__)
        sure = table[confidence_column] if confidence_column else repeat(None, len(table))
        rows = zip(table[ROW], texts, table[label_column], sure, strict=True)
        for row, text, value, confidence in rows:
            label = label_text(value)
            if not isinstance(text, str) or not text.strip() or not label:
                dropped += 1
                continue
            if label not in known:
                raise SourceError(
                    f"{shard.uri}, row {row}: label {label!r} has no target text; "
                    f"--label-texts knows {', '.join(label_texts)}"
                )
            found.texts.append(text)
            found.labels.append(targets.index(known[label]))
            found.confidence.append(_probability(confidence, f"{shard.uri}, row {row}"))
    return replace(found, dropped=dropped)


def _probability(value: object, place: str) -> float:
    if isinstance(value, str):  # delimited text knows no numbers
        with suppress(ValueError):
            value = float(value) if value.strip() else None
    if value is None or value != value:
        return 1.0
    if not isinstance(value, int | float) or not 0 < value <= 1:
        raise SourceError(f"{place}: confidence {value!r} is no number above 0 and up to 1")
    return float(value)


def _load(shard: Shard, options: ReadOptions) -> datasets.Dataset:
    """Load a file by the reader that scoring uses: every value is as it stands there.

    Other readers guess types, and take the words `NA`, `null` and `None` for missing values.

    Raises:
        SourceError: The file is damaged, or a record cannot be read.
    """
    with outage_as_source_error():
        index = index_shard(shard, options)
        if index.damage is not None:
            place = f"row {index.damage.first_row}: " if index.damage.first_row >= 0 else ""
            raise SourceError(f"{shard.uri}: {place}{index.damage.detail}; repair the file")
        assert index.columns is not None
        with ShardReader(index.shard, index.columns, options) as reader:
            blocks = [reader.read(unit) for unit in cut_into_units(index, _UNIT_ROWS)]
    for block in blocks:
        bad = block.filter(pc.not_equal(block.column(REASON), EXCLUDED))
        if bad.num_rows:
            row, reason, detail = (bad.column(name)[0].as_py() for name in (ROW, REASON, DETAIL))
            raise SourceError(f"{shard.uri}, row {row}: {reason}, {detail}; repair the file")
    tables = [
        block.filter(pc.is_null(block.column(REASON))).select([*index.columns.names, ROW])
        for block in blocks
    ]
    columns = index.columns.append(pa.field(ROW, pa.int64()))
    table = pa.concat_tables([empty_table(columns), *(one.cast(columns) for one in tables)])
    table = with_partition(table, shard.folder, tuple(partition_of(shard.folder)))
    return datasets.Dataset(datasets.table.InMemoryTable(table))


def target_texts(label_texts: Mapping[str, str]) -> list[str]:
    """Return the distinct target texts, in the order of label indices."""
    return sorted(set(label_texts.values()))


def split_off(
    rows: LabelledTexts, fraction: float, seed: int
) -> tuple[LabelledTexts, LabelledTexts]:
    """Split rows at random into (rest, held-out). The same seed returns the same split."""
    order = np.random.default_rng(seed).permutation(len(rows.texts))
    held = max(1, round(len(order) * fraction))

    def take(picked: NDArray[np.int64]) -> LabelledTexts:
        return LabelledTexts(
            [rows.texts[i] for i in picked],
            [rows.labels[i] for i in picked],
            [rows.confidence[i] for i in picked],
            dropped=0,
        )

    return take(order[held:]), take(order[:held])
