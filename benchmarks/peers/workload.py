"""The model and the reviews of a benchmark: a folder given, or T5-base weights made from a seed.

Takes paths, gives a `Workload`. Untrained weights show speed and how far logits are from the
reference; whether labels survive is a question for a trained model.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import T5ForConditionalGeneration

from peers.protocol import Ids, Workload
from peers.shapes import shape_of
from sentiment.model.declaration import LABELS_FILE
from sentiment.model.find import find_model
from sentiment.model.locate import TOKENIZER_FILES
from sentiment.model.tokenizer import Tokeniser

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "reviews.jsonl"
DATA = ROOT.parent / "shared" / "data"
TOKENIZER = DATA / "t5-tokenizer"

SEED = 0
SEEDED_MODEL = {"labels": ["negative", "positive"], "max_source_tokens": 512, "long_text": "head"}

CALIBRATION_REVIEWS = 32


def seeded_model(tokenizer: Path) -> Path:
    """Folder of T5-base with weights from a seed, in the system's temporary folder, made once."""
    folder = Path(tempfile.gettempdir()) / f"sentiment-benchmark-t5-base-seed-{SEED}"
    if folder.is_dir():
        return folder
    # Under another name until it is whole, so that an interrupted run leaves nothing to trip over.
    made = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    torch.manual_seed(SEED)
    T5ForConditionalGeneration(shape_of("t5-base")).save_pretrained(made)
    for pattern in TOKENIZER_FILES:
        for file in tokenizer.glob(pattern):
            shutil.copyfile(file, made / file.name)
    (made / LABELS_FILE).write_text(json.dumps(SEEDED_MODEL), encoding="utf-8")
    made.rename(folder)
    return folder


def default_model(tokenizer: Path) -> str:
    """T5-base from a seed where there is a tokenizer for it, else the model of the package."""
    if tokenizer.is_dir():
        return str(seeded_model(tokenizer))
    print(f"No tokenizer in {tokenizer}: the built-in model stands in for T5-base.")
    return "builtin"


def add_options(parser: argparse.ArgumentParser, part: str) -> None:
    """Options for the model, its reviews and the threads.

    Args:
        part: File of IMDB to take reviews from where it is at hand.
    """
    reviews = DATA / "imdb" / part
    parser.add_argument("--model", help="folder or hub id; default: T5-base from a seed")
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER, help="for T5-base from a seed")
    parser.add_argument(
        "--reviews-file", type=Path, default=reviews if reviews.exists() else EXAMPLES
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())


def read_table(path: Path) -> pd.DataFrame:
    """A Parquet or JSON Lines file."""
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_json(path, lines=True)


def make_workload(
    model: str, reviews_file: Path, reviews: int, *, threads: int, scratch: Path
) -> Workload:
    """Load a model and tokenise reviews.

    Args:
        model: What `--model` of the command line takes.
        reviews: How many to score.
        threads: Threads a variant may use.
        scratch: An empty folder for converted models.

    Raises:
        SystemExit: The labels cannot be told apart by one token each.
    """
    card = find_model(model)
    tokeniser = card.tokeniser()
    labels = [tokeniser.label_ids(label) for label in card.labels]
    if any(len(label) > 1 for label in labels):
        raise SystemExit(f"--model {model}: its labels take more than one decoder step")
    texts = read_texts(reviews_file)
    chosen, others = spread(len(texts), reviews)
    ids = encode(tokeniser, [texts[row] for row in chosen])
    network = T5ForConditionalGeneration.from_pretrained(
        str(card.folder), dtype=torch.float32, local_files_only=True
    )
    return Workload(
        folder=card.folder,
        network=network.eval(),
        label_ids=[label[0] for label in labels],
        ids=ids,
        calibration_ids=encode(tokeniser, [texts[row] for row in others]) or ids,
        threads=threads,
        scratch=scratch,
    )


def encode(tokeniser: Tokeniser, texts: list[str]) -> list[Ids]:
    """Token ids of texts."""
    return [item.ids for item in tokeniser.encode(texts)]


def read_texts(path: Path) -> list[str]:
    """The column `text` of a Parquet or JSON Lines file."""
    texts: list[str] = read_table(path)["text"].tolist()
    return texts


def spread(rows: int, wanted: int) -> tuple[list[int], list[int]]:
    """Rows to score, evenly spaced (files are often sorted by label), and others to calibrate with.

    Fewer rows than wanted give all of them; none left over gives nothing to calibrate with.
    """
    chosen = np.unique(np.linspace(0, rows - 1, min(rows, wanted)).astype(int)).tolist()
    left = np.setdiff1d(np.arange(rows), chosen)
    if not len(left):
        return chosen, []
    picks = np.linspace(0, len(left) - 1, min(len(left), CALIBRATION_REVIEWS)).astype(int)
    return chosen, left[picks].tolist()
