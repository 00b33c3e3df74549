"""Label scoring against plain transformers, same weights, same reviews, same process.

What most people write is `generate` on padded batches in the order of the file, in float32. The
engine sorts by length, cuts by tokens, asks for label probabilities in one decoder pass, and
multiplies in bfloat16 where the processor can. Each step of the way is timed on its own.

    python benchmarks/engine_cpu.py [--model FOLDER] [--reviews FILE] [--rows N] [--rounds N]

Prints a Markdown table: median reviews per second over the rounds, spread, ratio to the first line,
and how many labels differ from it.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import transformers

from sentiment.engine import Engine, Ids
from sentiment.tokenise import Tokeniser
from sentiment.weights import find_model, load_network

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "reviews.jsonl"
PEER_BATCH_ROWS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--reviews", type=Path, default=EXAMPLES, help="Parquet or JSON Lines")
    parser.add_argument("--rows", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    card = find_model(options.model)
    tokeniser = Tokeniser(card.folder, card.template, card.max_source_tokens, card.long_text)
    ids = [item.ids for item in tokeniser.encode(texts(options.reviews, options.rows))]
    network = load_network(card.folder, device=torch.device("cpu"))
    label_ids = [tokeniser.label_ids(label) for label in card.labels]

    def engine(precision: str) -> Callable[[list[Ids]], list[int]]:
        made = Engine(network, label_ids, precision=precision, batch_tokens=4096)  # type: ignore[arg-type]
        return lambda rows: made.score(rows).best_N.tolist()

    def generate(rows: list[Ids]) -> list[int]:
        answers = []
        for start in range(0, len(rows), PEER_BATCH_ROWS):
            ids_BS, mask_BS = padded(rows[start : start + PEER_BATCH_ROWS])
            with torch.no_grad():
                out_BT = network.generate(input_ids=ids_BS, attention_mask=mask_BS, max_length=2)
            answers += [first_token_label(row, label_ids) for row in out_BT[:, 1].tolist()]
        return answers

    def sorted_generate(rows: list[Ids]) -> list[int]:
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        answers = np.zeros(len(rows), dtype=int)
        answers[order] = generate([rows[row] for row in order])
        return answers.tolist()

    candidates: dict[str, Callable[[list[Ids]], list[int]]] = {
        f"transformers fp32, padded batches of {PEER_BATCH_ROWS}, `generate`": generate,
        "same, sorted by length": sorted_generate,
        "engine, fp32": engine("fp32"),
        "engine, bf16": engine("bf16"),
    }
    report(measure(candidates, ids, options.rounds), len(ids))
    lengths = [len(row) for row in ids]
    print(
        f"\n{len(ids)} reviews of mean {np.mean(lengths):.0f} tokens, {options.threads} threads, "
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}"
    )


def texts(path: Path, rows: int) -> list[str]:
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_json(path, lines=True)
    return table["text"].head(rows).tolist()


def padded(rows: list[Ids]) -> tuple[torch.Tensor, torch.Tensor]:
    ids_BS = torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(row.astype(np.int64)) for row in rows], batch_first=True
    )
    return ids_BS, (ids_BS != 0).long()


def first_token_label(token: int, label_ids: list[tuple[int, ...]]) -> int:
    return next((k for k, label in enumerate(label_ids) if label[0] == token), -1)


def measure(
    candidates: dict[str, Callable[[list[Ids]], list[int]]], ids: list[Ids], rounds: int
) -> dict[str, tuple[list[float], list[int]]]:
    """Seconds per round and the labels; candidates take turns, so that drift hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    labels = {name: run(ids) for name, run in candidates.items()}  # warm-up
    for _ in range(rounds):
        for name, run in candidates.items():
            started = time.perf_counter()
            run(ids)
            seconds[name].append(time.perf_counter() - started)
    return {name: (seconds[name], labels[name]) for name in candidates}


def report(results: dict[str, tuple[list[float], list[int]]], rows: int) -> None:
    base_sec, base_labels = next(iter(results.values()))
    print("| variant | reviews/s (median) | range | ratio | labels that differ |")
    print("|---|---|---|---|---|")
    for name, (seconds, labels) in results.items():
        ratio = statistics.median(b / s for b, s in zip(base_sec, seconds, strict=True))
        differ = sum(one != other for one, other in zip(base_labels, labels, strict=True))
        print(
            f"| {name} | {rows / statistics.median(seconds):.1f} "
            f"| {rows / max(seconds):.1f} to {rows / min(seconds):.1f} | {ratio:.2f} | {differ} |"
        )


if __name__ == "__main__":
    main()
