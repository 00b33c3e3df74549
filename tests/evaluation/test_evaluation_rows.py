"""The rows of an evaluation whose labels were given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentiment.errors import SourceError
from sentiment.evaluation.rows import given_rows
from sentiment.settings.evaluate import EvaluateConfig
from sentiment.source import index
from sentiment.source.shards import Shard, ShardIndex


def test_storage_that_stops_answering_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "a.csv"
    source.write_text("label,said\npositive,positive\n")

    def fails(shard: Shard, *_: object, **__: object) -> ShardIndex:
        raise OSError(f"{shard.uri}: connection reset")

    monkeypatch.setattr(index, "index_shard", fails)
    config = EvaluateConfig(
        sources=[str(source)], output=str(tmp_path / "out"), prediction_column="said"
    )
    with pytest.raises(SourceError, match=r"stopped answering .*a\.csv: connection reset"):
        given_rows(config)


SAID = ["positive", "positive", "positive", "negative", "negative", "negative"]


def evaluated(tmp_path: Path, labels: pa.Array, **settings: Any) -> list[str | None]:
    """True labels as an evaluation of given labels sees them."""
    pq.write_table(pa.table({"said": SAID, "label": labels}), tmp_path / "a.parquet")
    config = EvaluateConfig(
        sources=[str(tmp_path / "a.parquet")],
        output=str(tmp_path / "out"),
        prediction_column="said",
        **settings,
    )
    return list(given_rows(config)["truth"])


P, N = "positive", "negative"


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (pa.array([1, None, 1, 0, None, 0]), [P, None, P, N, None, N]),
        (pa.array(["pos", None, "pos", "neg", None, "neg"]), [P, None, P, N, None, N]),
        (pa.array(["pos", "", "pos", "neg", " ", "neg"]), [P, None, P, N, None, N]),
        (pa.array([1.0, float("nan"), 1.0, 0.0, float("nan"), 0.0]), [P, None, P, N, None, N]),
        (pa.array([b"pos", None, b"pos", b"neg", b"", b"neg"]), [P, None, P, N, None, N]),
        (pa.array([True, None, True, False, None, False]), [P, None, P, N, None, N]),
        (pa.array(["1.0", "nan", "1.0", "0.0", "", "0.0"]), [P, None, P, N, None, N]),
        (pa.array([5, 1, 4, 1, 2, 3]), ["5", "1", "4", "1", "2", "3"]),
    ],
    ids=["nulls", "words", "blanks", "nan", "bytes", "booleans", "text", "stars"],
)
def test_missing_labels_are_no_labels(
    tmp_path: Path, labels: pa.Array, expected: list[str | None]
) -> None:
    assert evaluated(tmp_path, labels) == expected


def test_stars_are_read_by_a_map(tmp_path: Path) -> None:
    stars = {"1": N, "2": N, "4": P, "5": P}
    found = evaluated(tmp_path, pa.array([5.0, 4.0, 3.0, 2.0, None, 1.0]), label_map=stars)
    assert found == [P, P, None, N, None, N]


def test_titles_that_were_taken_for_labels_are_one_class(tmp_path: Path) -> None:
    rows = 60
    table = pa.table({"said": SAID * 10, "label": [f"a title {n}" for n in range(rows)]})
    pq.write_table(table, tmp_path / "a.parquet")
    config = EvaluateConfig(
        sources=[str(tmp_path / "a.parquet")], output=str(tmp_path / "o"), prediction_column="said"
    )
    assert set(given_rows(config)["truth"]) == {"(other)"}


def test_true_labels_may_be_keys_of_partitions(tmp_path: Path) -> None:
    for label in ("pos", "neg"):
        folder = tmp_path / "lake" / f"label={label}"
        folder.mkdir(parents=True)
        (folder / "a.csv").write_text("said,body,n\npositive,text,1\nnegative,other,2\n")
    config = EvaluateConfig(
        sources=[str(tmp_path / "lake")],
        output=str(tmp_path / "out"),
        prediction_column="said",
        text_column="text,body",
        show_text=True,
        where="n = 2 or label = 'pos'",
    )
    rows = given_rows(config)
    assert list(rows["truth"]) == ["negative", "positive", "positive"]
    assert list(rows["row"]) == [1, 0, 1]
    assert list(rows["text"]) == ["other", "text", "other"]
