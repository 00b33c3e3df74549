"""Labelled files to token ids, and token ids to the batches of an epoch.

Takes sources, gives `TokenRows`: ragged id arrays that map from disk, so that training workers
share them. Knows no network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
from numpy.typing import NDArray

from sentiment.errors import SourceError
from sentiment.finetune.config import FinetuneConfig
from sentiment.schema import Shard
from sentiment.source.listing import list_shards
from sentiment.tokenise import Tokeniser

_BUILDERS = {"parquet": "parquet", "csv": "csv", "tsv": "csv", "jsonl": "json"}

# Rows that are sorted by length together: wide enough for batches without much padding, narrow
# enough that an epoch is still shuffled.
_SORT_WINDOW_ROWS = 4096


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with the index of their label among the sorted target texts.

    Attributes:
        dropped: Rows left out because text or label was null or blank.
    """

    texts: list[str]
    labels: list[int]
    dropped: int


@dataclass(frozen=True)
class TokenRows:
    """N token sequences and their labels.

    Attributes:
        ids: All sequences after one another, int32.
        offsets: Where each starts; N + 1 numbers.
        labels: Index of the label of each row, int64.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64]

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
        """Tokenise texts as scoring will."""
        encoded = [item.ids for item in tokeniser.encode(rows.texts)]
        lengths = [len(ids) for ids in encoded]
        return cls(
            ids=np.concatenate(encoded) if encoded else np.zeros(0, dtype=np.int32),
            offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
            labels=np.array(rows.labels, dtype=np.int64),
        )

    def save(self, folder: Path) -> None:
        """Write three `.npy` files that `load` maps."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("ids", "offsets", "labels"):
            np.save(folder / f"{name}.npy", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> TokenRows:
        """Inverse of `save`; pages come from disk as they are touched."""
        return cls(
            *(np.load(folder / f"{n}.npy", mmap_mode="r") for n in ("ids", "offsets", "labels"))
        )


def read_labelled(
    sources: Sequence[str],
    *,
    text_column: str,
    label_column: str,
    label_texts: Mapping[str, str],
    cache_folder: Path,
) -> LabelledTexts:
    """Read texts and labels from Parquet, CSV, TSV or JSON Lines.

    Raises:
        SourceError: Nothing found, a file or column is missing or damaged, or a label has no target
            text.
    """
    targets = target_texts(label_texts)
    texts: list[str] = []
    labels: list[int] = []
    dropped = 0
    for shard in list_shards(sources).shards:
        table = _load(shard, cache_folder)
        for column in (text_column, label_column):
            if column not in table.column_names:
                raise SourceError(
                    f"{shard.uri}: no column {column!r}; it has {', '.join(table.column_names)}"
                )
        for row, (text, value) in enumerate(
            zip(table[text_column], table[label_column], strict=True)
        ):
            label = _spelt(value)
            if not isinstance(text, str) or not text.strip() or label is None:
                dropped += 1
                continue
            if label not in label_texts:
                raise SourceError(
                    f"{shard.uri}, row {row}: label {label!r} has no target text; "
                    f"--label-texts knows {', '.join(label_texts)}"
                )
            texts.append(text)
            labels.append(targets.index(label_texts[label]))
    return LabelledTexts(texts, labels, dropped)


def _load(shard: Shard, cache_folder: Path) -> datasets.Dataset:
    options = {"delimiter": "\t"} if shard.format == "tsv" else {}
    try:
        return datasets.load_dataset(
            _BUILDERS[shard.format],
            data_files=shard.uri,
            split="train",
            cache_dir=str(cache_folder),
            **options,
        )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise SourceError(f"{shard.uri}: cannot be read ({type(error).__name__})") from error


def _spelt(label: object) -> str | None:
    """A label as `--label-texts` spells it: where one is missing, pandas reads 1 as 1.0."""
    if label is None or label != label:
        return None
    whole = isinstance(label, float) and label.is_integer()
    return str(int(label) if whole else label)  # type: ignore[call-overload]


def target_texts(label_texts: Mapping[str, str]) -> list[str]:
    """Distinct target texts in the order label indices refer to."""
    return sorted(set(label_texts.values()))


def split_off(
    rows: LabelledTexts, fraction: float, seed: int
) -> tuple[LabelledTexts, LabelledTexts]:
    """Random (rest, held-out) split; the same seed gives the same split."""
    order = np.random.default_rng(seed).permutation(len(rows.texts))
    held = max(1, round(len(order) * fraction))

    def take(picked: NDArray[np.int64]) -> LabelledTexts:
        return LabelledTexts(
            [rows.texts[i] for i in picked], [rows.labels[i] for i in picked], dropped=0
        )

    return take(order[held:]), take(order[:held])


def epoch_batches(
    lengths: NDArray[np.int64], config: FinetuneConfig, epoch: int
) -> Iterator[NDArray[np.int64]]:
    """Row numbers of each batch of one epoch, in an order fixed by seed and epoch.

    With a row budget the batches are plain shuffled rows, as in the published recipe. With a token
    budget, rows are sorted by length inside a window and batches are shuffled again.
    """
    random = np.random.default_rng((config.seed, epoch))
    order = random.permutation(len(lengths))
    if config.batch_tokens is None:
        rows = config.batch_rows or 1
        for start in range(0, len(order), rows):
            yield order[start : start + rows]
        return
    for start in range(0, len(order), _SORT_WINDOW_ROWS):
        window = order[start : start + _SORT_WINDOW_ROWS]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches = list(_cut_by_tokens(window, lengths, config.batch_tokens))
        for number in random.permutation(len(batches)):
            yield batches[number]


def _cut_by_tokens(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], budget: int
) -> Iterator[NDArray[np.int64]]:
    """Cut rows sorted by ascending length so that rows × longest stays within the budget."""
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or (end - start + 1) * lengths[rows[end]] > budget:
            yield rows[start:end]
            start = end
