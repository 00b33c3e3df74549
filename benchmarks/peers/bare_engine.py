"""The engine alone: one process reads, tokenises and scores, without Ray and without output files.

What the whole job is held against. Everything is scored in one call, which is the best case for
sorting by length, and labels stay in memory. 16 reviews warm it up before the clock starts.

    python benchmarks/peers/bare_engine.py CORPUS --model builtin --threads 2 --report FILE
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import pyarrow.parquet as pq
import torch

from sentiment.engine.devices import default_batch_tokens, limit_threads, resolve_precision
from sentiment.engine.labels import Engine
from sentiment.model.find import find_model
from sentiment.model.load import load_t5

WARM_UP_ROWS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="folder of Parquet files")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--report", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args()
    limit_threads(options.threads)
    model = find_model(options.model)
    tokeniser = model.tokeniser()
    precision = resolve_precision(options.precision, "cpu")
    network = load_t5(model.folder, device=torch.device("cpu"), precision=precision)
    label_ids = [tokeniser.label_ids(label) for label in model.labels]
    engine = Engine(network, label_ids, batch_tokens=default_batch_tokens("cpu"))
    first = tokeniser.encode(read_texts(options.corpus)[:WARM_UP_ROWS])
    engine.score([row.ids for row in first])
    first_row_at = time.time()

    started = time.perf_counter()
    ids = [row.ids for row in tokeniser.encode(read_texts(options.corpus))]
    tokenised = time.perf_counter()
    scores = engine.score(ids)
    labels = scores.best_N
    scored = time.perf_counter()
    if scores.errors:
        raise SystemExit(f"{len(scores.errors)} reviews failed: {set(scores.errors.values())}")
    # The job scores equal sequences of a unit once: equal ones here would be work it skips.
    if len({row.tobytes() for row in ids}) < len(ids):
        raise SystemExit("some reviews of the corpus are the same to the model; use other texts")
    report = {
        "rows": len(labels),
        "precision": precision,
        "mean_tokens": sum(map(len, ids)) / len(ids),
        "first_row_at": first_row_at,
        "tokenise_sec": tokenised - started,
        "score_sec": scored - tokenised,
    }
    options.report.write_text(json.dumps(report), encoding="utf-8")


def read_texts(corpus: Path) -> list[str]:
    return pq.read_table(corpus, columns=["text"]).column("text").to_pylist()


if __name__ == "__main__":
    main()
