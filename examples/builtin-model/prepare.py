"""Hold out validation rows and let a linear teacher label the unlabelled reviews.

The built-in model learns from more rows than have labels. A logistic regression over tf-idf words
and word pairs, trained on the labelled rows that are not held out, labels the unlabelled ones, and
those it is sure about join the training data.

    python examples/builtin-model/prepare.py --train train.parquet --unlabelled unsup.parquet \
        --output prepared/
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

VALIDATION_ROWS = 2500
SEED = 42


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", required=True, type=Path, help="Parquet: text, label")
    parser.add_argument("--unlabelled", required=True, type=Path, help="Parquet: text")
    parser.add_argument("--output", required=True, type=Path, help="Folder for two Parquet files")
    parser.add_argument("--margin", type=float, default=0.1, help="Least distance of P from 0.5")
    options = parser.parse_args()

    columns = ["text", "label"]
    labelled = pd.read_parquet(options.train, columns=columns)
    # A text that stands twice must not stand on both sides of the split.
    labelled = labelled.drop_duplicates("text").sample(frac=1, random_state=SEED)
    validation, train = labelled[:VALIDATION_ROWS], labelled[VALIDATION_ROWS:]
    unlabelled = pd.read_parquet(options.unlabelled, columns=["text"]).drop_duplicates("text")
    unlabelled = unlabelled[~unlabelled["text"].isin(labelled["text"])]

    words = TfidfVectorizer(
        ngram_range=(1, 2),
        min_df=3,
        sublinear_tf=True,
        strip_accents="unicode",
        token_pattern=r"\w+|[!?]",
    )
    teacher = LogisticRegression(C=30, solver="liblinear", dual=True, random_state=SEED)
    teacher.fit(words.fit_transform(train["text"]), train["label"])
    accuracy = teacher.score(words.transform(validation["text"]), validation["label"])
    probability = teacher.predict_proba(words.transform(unlabelled["text"]))
    sure = abs(probability[:, 1] - 0.5) > options.margin
    taught = pd.DataFrame(
        {
            "text": unlabelled["text"][sure],
            "label": teacher.classes_[probability[sure].argmax(axis=1)],
        }
    )
    options.output.mkdir(parents=True, exist_ok=True)
    validation.to_parquet(options.output / "validation.parquet", index=False)
    pd.concat([train, taught]).to_parquet(options.output / "train.parquet", index=False)
    print(f"teacher accuracy on {len(validation):,} held-out rows: {accuracy:.4f}")
    print(f"{len(train):,} labelled and {len(taught):,} taught training rows in {options.output}")


if __name__ == "__main__":
    main()
