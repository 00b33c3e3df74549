"""Hold out validation rows, and let a teacher label what has no labels.

The built-in model learns from more than the labelled rows. Two logistic regressions over words,
word pairs and triples, trained on the labelled rows that are not held out, tell how probably a text
is positive: of the unlabelled reviews, and of passages cut at random from all reviews but the
held-out ones. The student gets these probabilities, not just labels.

    python examples/builtin-model/prepare.py --train train.parquet --unlabelled unsup.parquet \
        --output prepared/

The second regression weighs features by their naive Bayes log-count ratio (Wang and Manning,
Baselines and Bigrams: Simple, Good Sentiment and Topic Classification, ACL 2012).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

VALIDATION_ROWS = 2500
PASSAGES = 2  # of each review
PASSAGE_WORDS = (20, 120)
SEED = 42


class Teacher:
    """Two linear models of different features; the mean of their standardised margins decides."""

    def __init__(self) -> None:
        features = {
            "sublinear_tf": True,
            "strip_accents": "unicode",
            "token_pattern": r"\w+|[!?]",
            "dtype": np.float32,
        }
        self._pairs = TfidfVectorizer(ngram_range=(1, 2), min_df=3, **features)
        self._triples = TfidfVectorizer(ngram_range=(1, 3), min_df=2, **features)
        self._models: list[LogisticRegression] = []
        self._scales = np.ones(2)
        self._temperature = 1.0

    def fit(self, texts: pd.Series, positive_N: np.ndarray) -> None:
        """Learn from labelled texts."""
        pairs = self._pairs.fit_transform(texts)
        triples = self._triples.fit_transform(texts)
        self._ratios = _log_count_ratios(triples, positive_N)
        for rows in (pairs, triples.multiply(self._ratios).tocsr()):
            model = LogisticRegression(C=30, solver="liblinear", dual=True, random_state=SEED)
            self._models.append(model.fit(rows, positive_N))

    def calibrate(self, texts: pd.Series, positive_N: np.ndarray) -> float:
        """Scale margins to probabilities on held-out rows; the accuracy there."""
        margins = self._margins(texts)
        self._scales = margins.std(axis=1)
        margin = self._margin(texts)
        found = minimize_scalar(
            lambda scale: log_loss(positive_N, expit(margin * scale)), bounds=(0.1, 20)
        )
        self._temperature = 1 / found.x
        return float(((margin > 0) == positive_N).mean())

    def probability(self, texts: pd.Series) -> np.ndarray:
        """Of being positive."""
        return expit(self._margin(texts) / self._temperature)

    def _margin(self, texts: pd.Series) -> np.ndarray:
        return (self._margins(texts) / self._scales[:, None]).mean(axis=0)

    def _margins(self, texts: pd.Series) -> np.ndarray:
        pairs = self._pairs.transform(texts)
        triples = self._triples.transform(texts).multiply(self._ratios).tocsr()
        rows = (pairs, triples)
        return np.array(
            [model.decision_function(own) for model, own in zip(self._models, rows, strict=True)]
        )


def _log_count_ratios(rows: Any, positive_N: np.ndarray) -> np.ndarray:
    present = (rows > 0).astype(np.float32)
    counts = [np.asarray(present[positive_N == side].sum(axis=0)).ravel() + 1 for side in (1, 0)]
    positive, negative = (count / count.sum() for count in counts)
    ratios: np.ndarray = np.log(positive / negative).astype(np.float32)
    return ratios


def passages(texts: pd.Series) -> Iterator[str]:
    """Runs of words cut at random from texts longer than a passage."""
    random = np.random.default_rng(SEED)
    for text in texts:
        words = text.split()
        for length in random.integers(*PASSAGE_WORDS, size=PASSAGES):
            if len(words) > length:
                start = random.integers(len(words) - length + 1)
                yield " ".join(words[start : start + length])


def taught(texts: pd.Series, teacher: Teacher) -> pd.DataFrame:
    """Texts with the teacher's label and how probable it thinks it."""
    positive_N = teacher.probability(texts)
    return pd.DataFrame(
        {
            "text": texts,
            "label": np.where(positive_N > 0.5, "positive", "negative"),
            "confidence": np.maximum(positive_N, 1 - positive_N),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", required=True, type=Path, help="Parquet: text, label")
    parser.add_argument("--unlabelled", required=True, type=Path, help="Parquet: text")
    parser.add_argument("--output", required=True, type=Path, help="Folder for two Parquet files")
    options = parser.parse_args()

    labelled = pd.read_parquet(options.train, columns=["text", "label"])
    # A text that stands twice must not stand on both sides of the split.
    labelled = labelled.drop_duplicates("text").sample(frac=1, random_state=SEED)
    held = min(VALIDATION_ROWS, len(labelled) // 4)
    validation, train = labelled[:held], labelled[held:]
    unlabelled = pd.read_parquet(options.unlabelled, columns=["text"])["text"].drop_duplicates()
    unlabelled = unlabelled[~unlabelled.isin(labelled["text"])]

    teacher = Teacher()
    teacher.fit(train["text"], (train["label"] == "positive").to_numpy())
    accuracy = teacher.calibrate(validation["text"], (validation["label"] == "positive").to_numpy())
    cut = pd.Series(list(passages(pd.concat([train["text"], unlabelled]))))
    rows = pd.concat([train, taught(unlabelled, teacher), taught(cut, teacher)])

    options.output.mkdir(parents=True, exist_ok=True)
    validation.to_parquet(options.output / "validation.parquet", index=False)
    # Last, and under its name only when it is whole: `make` takes it for a sign that all is there.
    whole = options.output / "train.parquet"
    rows.to_parquet(whole.with_suffix(".new"), index=False)
    whole.with_suffix(".new").rename(whole)
    print(f"teacher accuracy on {len(validation):,} held-out rows: {accuracy:.4f}")
    print(
        f"{len(train):,} labelled reviews, {len(unlabelled):,} taught ones and {len(cut):,} taught "
        f"passages in {whole}"
    )


if __name__ == "__main__":
    main()
