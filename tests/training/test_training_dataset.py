"""Labelled files to token rows, and token rows to batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny_models
from hypothesis import given
from hypothesis import strategies as st

from sentiment.errors import SourceError
from sentiment.model.tokenizer import Tokeniser
from sentiment.source.options import ReadOptions
from sentiment.source.selection.selection import Selection
from sentiment.source.selection.sql import parse_condition
from sentiment.texts import TextColumns
from sentiment.training.dataset import (
    LabelledTexts,
    TokenRows,
    read_labelled,
    split_off,
    target_texts,
)

TEXTS = {"negative": "negative", "positive": "positive"}
ROWS = [
    ("A fine film, from start to end", "positive"),
    ('Two lines\nand a "quote"', "negative"),
    ("bad, bad, bad", "negative"),
]


def read(
    *sources: Path,
    label_texts: dict[str, str] = TEXTS,
    label_column: str = "label",
    confidence_column: str | None = None,
) -> LabelledTexts:
    return read_labelled(
        [str(source) for source in sources],
        options=ReadOptions(),
        label_column=label_column,
        confidence_column=confidence_column,
        label_texts=label_texts,
    )


def write(path: Path, rows: list[tuple[Any, Any]] = ROWS) -> Path:
    frame = pd.DataFrame(rows, columns=["text", "label"])
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif ".jsonl" in path.name:
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, index=False, sep="\t" if ".tsv" in path.name else ",")
    return path


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.tsv", "a.jsonl", "a.csv.gz"])
def test_every_format_reads_alike(tmp_path: Path, name: str) -> None:
    rows = read(write(tmp_path / name))
    assert rows.texts == [text for text, _ in ROWS]
    assert rows.labels == [1, 0, 0]
    assert rows.dropped == 0


def test_several_sources_add_up(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.csv"), write(tmp_path / "b.parquet", ROWS[:1])
    assert read(first, second).labels == [1, 0, 0, 1]
    assert len(read(tmp_path).texts) == 4


def test_rows_without_text_or_label_are_counted(tmp_path: Path) -> None:
    rows = [*ROWS, (None, "positive"), ("  ", "positive"), ("fine", None)]
    for name in ("a.parquet", "a.jsonl"):
        found = read(write(tmp_path / name, rows))
        assert (len(found.texts), found.dropped) == (3, 3)


@pytest.mark.parametrize("name", ["a.parquet", "a.csv"])
@pytest.mark.parametrize("missing", [False, True])
def test_numbers_are_labels_too(tmp_path: Path, name: str, missing: bool) -> None:
    """A missing number makes pandas turn the column into floats."""
    rows = [("bad", 0), ("good", 1), *([("?", None)] if missing else [])]
    texts = {"0": "negative", "1": "positive"}
    found = read(write(tmp_path / name, rows), label_texts=texts)
    assert found.labels == [0, 1]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz"])
def test_words_for_nothing_are_texts(tmp_path: Path, name: str) -> None:
    """Readers that guess take them for missing values, and `007` for a number."""
    rows = [(text, "positive") for text in ("NA", "null", "None", "nan", "N/A", "007", "1e3")]
    found = read(write(tmp_path / name, rows))
    assert found.texts == [text for text, _ in rows]
    assert found.dropped == 0


def test_a_confidence_may_stand_in_delimited_text(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label,sure\na,positive,0.9\nb,negative,\nc,negative,1\n")
    assert read(path, confidence_column="sure").confidence == [0.9, 1.0, 1.0]
    path.write_text("text,label,sure\na,positive,high\n")
    with pytest.raises(SourceError, match=r"a\.csv, row 0: confidence"):
        read(path, confidence_column="sure")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"text,label\nfine,positive\nsecret,too,many\n", "row 1: malformed_record"),
        (b"text,label\nfine,positive\nse\xe9cret\x81,positive\n", "row 1: undecodable_text"),
        (b'text,label\nfine,positive\n"secret,positive\n', "row 1: a quote is opened"),
    ],
)
def test_a_damaged_text_file_is_named_with_its_row(
    tmp_path: Path, content: bytes, place: str
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(SourceError, match=rf"a\.csv.*{place}.*repair the file") as caught:
        read(tmp_path / "a.csv")
    assert "cret" not in str(caught.value)


def test_several_labels_may_share_a_target_text(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [("x", 1), ("y", 2), ("z", 5)])
    texts = {"1": "low", "2": "low", "5": "high"}
    assert target_texts(texts) == ["high", "low"]
    assert read(path, label_texts=texts).labels == [1, 1, 0]


def test_an_unknown_label_is_named_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [*ROWS, ("secret words", "neutral")])
    with pytest.raises(SourceError, match=r"a\.csv, row 3: label 'neutral'") as caught:
        read(path)
    assert "secret" not in str(caught.value)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no column 'stars'; it has text, label"):
        read(write(tmp_path / "a.csv"), label_column="stars")


def taught(folder: Path, *confidence: object) -> Path:
    path = folder / "a.jsonl"
    frame = pd.DataFrame(ROWS, columns=["text", "label"])
    frame.assign(sure=list(confidence)).to_json(path, orient="records", lines=True)
    return path


def test_a_teacher_says_how_sure_it_is(tmp_path: Path) -> None:
    path = taught(tmp_path, 0.9, 1, None)
    assert read(path, confidence_column="sure").confidence == [0.9, 1.0, 1.0]
    assert read(path).confidence == [1.0, 1.0, 1.0]
    with pytest.raises(SourceError, match="no column 'surely'"):
        read(path, confidence_column="surely")


@pytest.mark.parametrize("value", [0, 1.01, -0.5])
def test_a_confidence_is_a_probability(tmp_path: Path, value: float) -> None:
    path = taught(tmp_path, 1.0, value, 0.5)
    with pytest.raises(SourceError, match=r"a\.jsonl, row 1: confidence"):
        read(path, confidence_column="sure")


def test_an_unreadable_file_is_a_source_error(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(SourceError, match=r"a\.parquet"):
        read(tmp_path / "a.parquet")


@given(rows=st.integers(2, 200), fraction=st.floats(0.01, 0.5), seed=st.integers(0, 5))
def test_the_split_is_fixed_disjoint_and_whole(rows: int, fraction: float, seed: int) -> None:
    whole = LabelledTexts(
        [str(n) for n in range(rows)],
        [n % 2 for n in range(rows)],
        [1 - n / 1000 for n in range(rows)],
        dropped=0,
    )
    rest, held = split_off(whole, fraction, seed)
    assert sorted(rest.texts + held.texts, key=int) == whole.texts
    assert len(held.texts) == max(1, round(rows * fraction))
    assert all(int(text) % 2 == label for text, label in zip(held.texts, held.labels, strict=True))
    for part in (rest, held):
        assert part.confidence == [1 - int(text) / 1000 for text in part.texts]
    assert (rest, held) == split_off(whole, fraction, seed)
    if len(held.texts) >= 8:  # of a few rows, two seeds may draw the same
        assert held.texts != split_off(whole, fraction, seed + 1)[1].texts


def test_token_rows_survive_the_disk(vocabulary: Path, tmp_path: Path) -> None:
    texts = tiny_models.example_texts()[:9]
    tokeniser = Tokeniser(vocabulary, "{text}", 12, "head_tail")
    rows = TokenRows.encode(LabelledTexts(texts, [0, 1, 0] * 3, [1.0, 0.5, 0.25] * 3, 0), tokeniser)
    rows.save(tmp_path / "rows")
    loaded = TokenRows.load(tmp_path / "rows")
    assert len(loaded) == 9
    expected = [item.ids.tolist() for item in tokeniser.encode(texts)]
    assert [loaded[row].tolist() for row in range(9)] == expected
    assert loaded.lengths.tolist() == [len(ids) for ids in expected]
    assert loaded.labels.tolist() == [0, 1, 0] * 3
    assert loaded.confidence.tolist() == [1.0, 0.5, 0.25] * 3
    assert len(TokenRows.encode(LabelledTexts([], [], [], 0), tokeniser)) == 0


def test_rows_are_chosen_texts_joined_and_labels_taken_from_partitions(tmp_path: Path) -> None:
    for label in ("positive", "negative", "__HIVE_DEFAULT_PARTITION__"):
        folder = tmp_path / "lake" / f"label={label}"
        folder.mkdir(parents=True)
        (folder / "a.csv").write_text(f"title,body,n\nT,{label},1\nU,other,2\nV,more,3\n")
    options = ReadOptions(
        texts=TextColumns(("title", "body"), "{title}: {body}"),
        selection=Selection(parse_condition("n <> 2 and label = 'positive' or n = 2")),
    )
    rows = read_labelled(
        [str(tmp_path / "lake")],
        options=options,
        label_column="label",
        confidence_column=None,
        label_texts=TEXTS,
    )
    assert rows.texts == ["U: other", "T: positive", "U: other", "V: more"]
    assert rows.labels == [0, 1, 1, 1]
    assert rows.dropped == 1
    with pytest.raises(SourceError, match="row 2: label 'negative' has no target text"):
        read_labelled(
            [str(tmp_path / "lake" / "label=negative")],
            options=ReadOptions(
                texts=TextColumns(("body",)), selection=Selection(parse_condition("n = 3"))
            ),
            label_column="label",
            confidence_column=None,
            label_texts={"positive": "positive"},
        )
