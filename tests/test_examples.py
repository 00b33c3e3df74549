"""The shipped example: it is what its script builds, and it is fit to judge labels by."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SHIPPED = EXAMPLES / "reviews"
PARQUET_FILES = ("dt=2026-11-18/part-0.parquet", "dt=2026-11-19/part-0.parquet")
CSV_FILE = "dt=2026-11-20/part-0.csv"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_reviews", EXAMPLES / "build_reviews.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reviews() -> list[dict[str, Any]]:
    lines = (EXAMPLES / "reviews.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


def csv_records() -> list[list[str]]:
    # Invalid bytes become lone surrogates, so that they can be told from valid text.
    text = (SHIPPED / CSV_FILE).read_bytes().decode("utf-8", "surrogateescape")
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def as_shipped(review: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: review[name] for name in names}


def test_rebuilding_gives_the_shipped_files(script: ModuleType, tmp_path: Path) -> None:
    built = {path.relative_to(tmp_path).as_posix() for path in script.build(tmp_path)}
    shipped = {p.relative_to(SHIPPED).as_posix() for p in SHIPPED.rglob("*") if p.is_file()}
    assert built == shipped == {*PARQUET_FILES, CSV_FILE}
    assert (tmp_path / CSV_FILE).read_bytes() == (SHIPPED / CSV_FILE).read_bytes()
    for name in PARQUET_FILES:
        # `partitioning=None`: the dt= folder must not turn into a column.
        fresh = pq.read_table(tmp_path / name, partitioning=None)
        assert fresh.equals(pq.read_table(SHIPPED / name, partitioning=None))


def test_two_builds_give_the_same_bytes(script: ModuleType, tmp_path: Path) -> None:
    for first, second in zip(
        script.build(tmp_path / "a"), script.build(tmp_path / "b"), strict=True
    ):
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        (PARQUET_FILES[0], {41: ("x0001", None), 97: ("x0002", " \t\n ")}),
        (PARQUET_FILES[1], {73: ("x0003", "")}),
    ],
)
def test_parquet_holds_the_reviews_and_the_bad_rows(
    script: ModuleType,
    reviews: list[dict[str, Any]],
    name: str,
    bad: dict[int, tuple[str, str | None]],
) -> None:
    with pq.ParquetFile(SHIPPED / name) as file:
        assert file.schema_arrow.equals(script.SCHEMA)
        assert file.num_row_groups == 2
        assert file.metadata.row_group(0).column(4).compression == "ZSTD"
        rows = file.read().to_pylist()
    day = name[3:13]
    names = script.SCHEMA.names
    assert {n: (rows[n]["review_id"], rows[n]["text"]) for n in bad} == bad
    good = [row for n, row in enumerate(rows) if n not in bad]
    assert good == [as_shipped(review, names) for review in reviews if review["day"] == day]


def test_csv_holds_the_reviews_and_the_bad_records(
    script: ModuleType, reviews: list[dict[str, Any]]
) -> None:
    header, *records = csv_records()
    assert header == script.SCHEMA.names
    bad = {n: r for n, r in enumerate(records) if r[0].startswith("x")}
    assert {n: record[0] for n, record in bad.items()} == {12: "x0004", 33: "x0005", 50: "x0006"}
    assert len(bad[12]) == 4
    assert "\udce9" in bad[33][4]
    assert bad[50][4] == ""
    good = [record for n, record in enumerate(records) if n not in bad]
    expected = [review for review in reviews if review["day"] == "2026-11-20"]
    assert good == [[str(review[name]) for name in header] for review in expected]


def test_csv_needs_a_real_reader() -> None:
    texts = [record[4] for record in csv_records() if len(record) == 5]
    assert any("," in text for text in texts)
    assert any('"' in text for text in texts)
    assert any("\n" in text for text in texts)


def test_every_row_is_accounted_for(reviews: list[dict[str, Any]]) -> None:
    parquet_rows = sum(pq.read_metadata(SHIPPED / name).num_rows for name in PARQUET_FILES)
    total = parquet_rows + len(csv_records()) - 1
    assert (len(reviews), total) == (320, 326)
    assert (total - len(reviews)) / total < 0.02


def test_ids_and_texts_are_unique(reviews: list[dict[str, Any]]) -> None:
    assert [r["review_id"] for r in reviews] == [f"r{n:04d}" for n in range(1, len(reviews) + 1)]
    texts = Counter(" ".join(review["text"].casefold().split()) for review in reviews)
    assert [text for text, count in texts.items() if count > 1] == []


def test_values_are_in_range(reviews: list[dict[str, Any]]) -> None:
    for review in reviews:
        where = review["review_id"]
        assert review["domain"] in {"product", "film", "restaurant", "service"}, where
        assert review["text"] == review["text"].strip(), where
        assert 8 <= len(review["text"].split()) <= 70, where
        assert isinstance(review["hard"], bool), where
        stars = {"positive": {3, 4, 5}, "negative": {1, 2, 3}}[review["label"]]
        assert review["stars"] in stars, where


def test_labels_are_balanced(reviews: list[dict[str, Any]]) -> None:
    for day in sorted({review["day"] for review in reviews}):
        labels = Counter(review["label"] for review in reviews if review["day"] == day)
        assert 0.4 <= labels["positive"] / labels.total() <= 0.6, day
    for domain in sorted({review["domain"] for review in reviews}):
        labels = Counter(review["label"] for review in reviews if review["domain"] == domain)
        assert min(labels["positive"], labels["negative"]) >= 20, domain


def test_some_reviews_are_hard(reviews: list[dict[str, Any]]) -> None:
    hard = Counter(review["label"] for review in reviews if review["hard"])
    assert 0.12 <= hard.total() / len(reviews) <= 0.20
    assert min(hard["positive"], hard["negative"]) >= 15
