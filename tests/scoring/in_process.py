"""Runs `score` with its stages one after another in this process, so that faults can be put in.

Takes the words of a command line, gives the summary or the error. Everything but Ray is the
project's own.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment.errors import SentimentError
from sentiment.ledger.summary import RunSummary
from sentiment.output.attempts import unit_of_block
from sentiment.output.layout import is_data_file
from sentiment.output.receipt import Receipt
from sentiment.scoring import job
from sentiment.scoring.actor import Scorer
from sentiment.scoring.pipeline import ReviewShards, Work
from sentiment.scoring.reading import Deferred
from sentiment.scoring.stages import Commit, Tokenise, results_of
from sentiment.settings.jobs import ScoreConfig
from sentiment.source.shards import Unit

GOOD = (
    "A wonderful film, I loved it.",
    "Terrible, a waste of time.",
    "Fine acting, a great story.",
)


class Kill(BaseException):
    """The driver is gone: whatever it would have done afterwards does not happen."""


@dataclass
class InProcess:
    """Runs of `score`, with faults.

    Attributes:
        model: Folder of the model.
        before_unit: Called before each unit is read, with its number and the unit.
        commit_to: Where workers find the output, if not where the driver does.
        units: Units read by all runs.
    """

    model: Path
    before_unit: Callable[[int, Unit], None] | None = None
    commit_to: str | None = None
    units: int = 0

    def pipeline(self, work: Work, callback: Any = None) -> Iterator[Receipt | Deferred]:
        """Stands in for `run_pipeline`."""
        location, token = self.commit_to or work.location, work.fence.token
        shards = ReviewShards(work)
        scorer = Scorer(replace(work.scorer, threads=1), location, token)
        tokenise = Tokenise(work.scorer.tokeniser, work.options.texts, location, token)
        commit = Commit(location, work.stamp, work.fence)
        number = 0
        for units, columns in work.passes:
            blocks = iter(replace(shards.reader(units, columns), location=location)())
            at = units[0].first_row
            while at <= units[-1].last_row:
                if self.before_unit is not None:
                    self.before_unit(number, next(u for u in units if u.last_row >= at))
                number += 1
                self.units += 1
                block = next(blocks)
                at = unit_of_block(block).last_row + 1
                yield from results_of(commit(scorer(tokenise(block))))

    def run(self, *words: object, again: Collection[str] = ()) -> RunSummary:
        """Run the command `score`."""
        config = ScoreConfig.load([*map(str, words), *self._settings(words), "--quiet"])
        return job.score(config, again=again)

    def _settings(self, words: Sequence[object]) -> list[str]:
        defaults = {"--model": str(self.model), "--precision": "fp32", "--drift-runs": "0"}
        left = [item for item in defaults.items() if item[0] not in words]
        return [word for item in left for word in item]

    def failing(self, *words: object) -> SentimentError:
        """Run the command `score`, which has to end with an error."""
        with pytest.raises(SentimentError) as caught:
            self.run(*words)
        return caught.value


def write_csv(path: Path, texts: Sequence[str | Sequence[str]], header: str = "text") -> Path:
    """Write a CSV shard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        writer.writerows([text] if isinstance(text, str) else text for text in texts)
    return path


def write_parquet(path: Path, texts: Sequence[str], **options: Any) -> Path:
    """Write a Parquet shard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": texts}), path, **options)
    return path


def data_files(output: Path) -> list[Path]:
    """The files with labelled rows that a reader finds."""
    paths = (path for path in output.rglob("*.parquet") if path.is_file())
    return sorted(path for path in paths if is_data_file(str(path.relative_to(output))))


def labels_in(output: Path) -> Counter[tuple[str, int, str]]:
    """What a reader of the output sees: source file, row and label, with how often it is there."""
    names = ("sentiment_source_file", "sentiment_source_row", "sentiment")
    found: Counter[tuple[str, int, str]] = Counter()
    for path in data_files(output):
        table = pq.read_table(path, columns=list(names), partitioning=None)
        found.update(zip(*(table[name].to_pylist() for name in names), strict=True))
    return found


def rejects_in(output: Path) -> list[dict[str, Any]]:
    """All rows of all reject files."""
    found: list[dict[str, Any]] = []
    for path in sorted((output / "_sentiment" / "rejected").rglob("*.pq")):
        found.extend(pq.read_table(path, partitioning=None).to_pylist())
    return found


def assert_every_row_once(output: Path, rows: int) -> None:
    """No row is doubled, and there are so many, labelled or rejected."""
    labels = labels_in(output)
    doubled = [key for key, times in labels.items() if times > 1]
    assert doubled == []
    places = {(file, row) for file, row, _ in labels}
    assert len(places) == len(labels), "a row has two labels"
    rejected = sum(
        (one["source_row_end"] if one["source_row_end"] is not None else one["source_row"])
        - one["source_row"]
        + 1
        for one in rejects_in(output)
    )
    assert len(labels) + rejected == rows


def is_complete(output: Path, folder: str = "") -> bool:
    """Whether a folder of the output has `_SUCCESS`."""
    return (output / folder / "_SUCCESS").exists()
