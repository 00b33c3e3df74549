"""Our training step against padding every review to 512 tokens, as model cards do.

    python benchmarks/finetune.py [--rows N] [--rounds N] [--variants NAME,...] [--loss-steps N]
                                  [--model FOLDER] [--tokenizer FOLDER] [--reviews-file FILE]

Runs on a GPU where there is one. First, cost: all variants train the same network on the same rows
in batches of 8, under bf16 autocast. Every variant is a process of its own, so that its peak memory
is its own; they take turns round by round, and the first step of each is not counted. `padded-512`
is a plain loop around transformers; the others are the fine-tune job's steps.

Then, what was learned: the built-in model learns new label texts from the same rows with padding
and with batches of similar length, for three seeds. Loss is the mean of the last quarter of the
steps; accuracy is measured on rows held out.

Prints two Markdown tables and then, as the last line, the same and more as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers.machine import described, machine
from peers.workload import add_options, default_model, read_table, spread
from transformers import T5ForConditionalGeneration
from transformers.utils import logging as transformers_logging

from sentiment.engine.devices import default_batch_tokens, default_device, peak_memory_mib
from sentiment.engine.labels import Engine
from sentiment.model.find import find_model
from sentiment.model.load import load_network
from sentiment.model.tokenizer import Tokeniser
from sentiment.settings.finetune import FinetuneConfig
from sentiment.training.batches import Rows, epoch_batches
from sentiment.training.dataset import LabelledTexts, TokenRows
from sentiment.training.network import for_scoring, recompute_activations, set_dropout
from sentiment.training.step import LabelLoss, Trainer

BASELINE = "padded-512"
VARIANTS: dict[str, dict[str, Any]] = {
    BASELINE: {"length_grouped": False},
    "shuffled": {"length_grouped": False},
    "shuffled-in-4-pieces": {"length_grouped": False, "gradient_accumulation_steps": 4},
    "grouped": {},
    "grouped-checkpointing": {"gradient_checkpointing": True},
}
PADDED_TOKENS = 512
SEEDS = (42, 43, 44)
HELD_OUT = 1000

Step = Callable[[int, Rows], float]


def main() -> None:
    options = parse()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    if options.child:
        print(json.dumps(cost(options.child, options)))
        return
    rounds = [
        {name: in_a_process(name) for name in options.variants} for _ in range(options.rounds)
    ]
    report = {
        "cost": {name: summarised(name, rounds) for name in options.variants},
        "learned": learned(options) if options.loss_steps else None,
        "rows": options.rows,
        "rounds": options.rounds,
        "machine": machine(options.threads, {"torch", "transformers"}),
    }
    print_tables(report)
    print(json.dumps(report))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, "train.parquet")
    parser.add_argument("--rows", type=int, default=64, help="reviews of a round, 8 a step")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--loss-steps", type=int, default=400, help="of the second table; 0: none")
    parser.add_argument("--variants", type=lambda text: text.split(","), default=list(VARIANTS))
    parser.add_argument("--child", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = set(options.variants) - set(VARIANTS)
    if unknown:
        parser.error(f"--variants: unknown {', '.join(sorted(unknown))}, see --help")
    return options


def in_a_process(name: str) -> dict[str, Any]:
    """The cost of a variant, measured by this script in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--child", name],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(name, done.stdout.splitlines()[-1], file=sys.stderr, flush=True)  # minutes lie between
    return found


def cost(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds, tokens and peak memory of one pass over the rows, after a step to warm up."""
    model = options.model or default_model(options.tokenizer)
    card = find_model(model)
    rows = read(options.reviews_file, card.tokeniser(), options.rows)
    labels = [card.tokeniser().label_ids(label) for label in card.labels[:2]]
    device = default_device()
    network = load_network(card.folder, device=device)
    config = config_of(name)
    step = step_of(name, network, rows, config, labels, total=1000)
    batches = list(epoch_batches(rows.lengths, config, 0))
    longest = max(batches, key=lambda batch: int(rows.lengths[batch].max()))
    step(0, longest)
    started = time.perf_counter()
    for number, batch in enumerate(batches, start=1):
        step(number, batch)  # which reads the loss, and so waits for a GPU
    return {
        "seconds": time.perf_counter() - started,
        "steps": len(batches),
        "rows": len(rows),
        "tokens": int(rows.lengths.sum()),
        "peak_mib": peak_memory_mib(device),
    }


def config_of(name: str, **changes: Any) -> FinetuneConfig:
    """The published recipe with a variant's settings."""
    settings = {"preset": "t5-base-imdb", "precision": "bf16", **VARIANTS[name], **changes}
    return FinetuneConfig(train=["rows"], output="nowhere", **settings)


def read(path: Path, tokeniser: Tokeniser, count: int) -> TokenRows:
    """Rows spread evenly over a file with the columns `text` and `label`."""
    table = read_table(path)
    table = table[table["label"].isin(["negative", "positive"])]
    chosen, _ = spread(len(table), count)
    table = table.iloc[chosen]
    texts = table["text"].tolist()
    labels = (table["label"] == "positive").astype(int).tolist()
    return TokenRows.encode(LabelledTexts(texts, labels, [1.0] * len(texts), dropped=0), tokeniser)


def step_of(
    name: str,
    network: T5ForConditionalGeneration,
    rows: TokenRows,
    config: FinetuneConfig,
    labels: list[list[int]],
    *,
    total: int,
) -> Step:
    """What trains on one batch and returns its loss."""
    set_dropout(network, config.dropout, attention=config.dropout)
    network.train()
    if name == BASELINE:
        return padded_step(network, rows, config, labels, total)
    if config.gradient_checkpointing:
        recompute_activations(network)
    loss = LabelLoss(network, labels, eos_id=1)
    trainer = Trainer(
        loss,
        rows,
        config,
        total=total,
        learning_rates=(config.learning_rate, config.learning_rate),
        autocast=config.precision == "bf16",
        draws=(config.seed,),
    )
    return trainer.step


def padded_step(
    network: T5ForConditionalGeneration,
    rows: TokenRows,
    config: FinetuneConfig,
    labels: list[list[int]],
    total: int,
) -> Step:
    """A plain loop around transformers with `padding="max_length"`."""
    torch.manual_seed(config.seed)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, eps=config.adam_epsilon, weight_decay=0.0
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: max(0.0, 1 - step / total))
    longest = max(map(len, labels)) + 1
    targets = torch.tensor([[*label, 1] + [-100] * (longest - len(label) - 1) for label in labels])
    device = network.device

    def step(_: int, batch: Rows) -> float:
        ids = torch.zeros(len(batch), PADDED_TOKENS, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(batch):
            tokens = torch.from_numpy(rows[row].astype(np.int64))
            ids[place, : len(tokens)] = tokens
            mask[place, : len(tokens)] = 1
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = network(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                labels=targets[rows.labels[batch]].to(device),
            ).loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.max_grad_norm)
        optimiser.step()
        schedule.step()
        return float(loss.detach())

    return step


def learned(options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Loss and held-out accuracy of the built-in model on new label texts, for each seed."""
    model, device = find_model("builtin"), default_device()
    tokeniser = Tokeniser(model.folder, "{text}", PADDED_TOKENS, "head")
    steps = options.loss_steps
    rows = read(options.reviews_file, tokeniser, 8 * steps + HELD_OUT)
    held = max(1, min(HELD_OUT, len(rows) // 4))
    order = np.random.default_rng(0).permutation(len(rows))
    test, train = order[:held], part(rows, order[held:])
    labels = [tokeniser.label_ids(text) for text in ("0", "1")]
    found: dict[str, list[dict[str, float]]] = {}
    for name in (BASELINE, "grouped"):
        for seed in SEEDS:
            network = load_network(model.folder, device=device)
            config = config_of(name, seed=seed)
            step = step_of(name, network, train, config, labels, total=steps)
            losses: list[float] = []
            epoch = 0
            while len(losses) < steps:
                for batch in epoch_batches(train.lengths, config, epoch):
                    losses.append(step(len(losses), batch))
                    if len(losses) == steps:
                        break
                epoch += 1
            engine = Engine(
                for_scoring(network, "fp32", device),
                labels,
                batch_tokens=default_batch_tokens(device.type),
            )
            best = engine.score([rows[row] for row in test]).best_N
            found.setdefault(name, []).append(
                {
                    "seed": seed,
                    "loss": float(np.mean(losses[-steps // 4 :])),
                    "accuracy": float((best == rows.labels[test]).mean()),
                }
            )
    return found


def part(rows: TokenRows, chosen: Rows) -> TokenRows:
    """Some of the rows."""
    ids = [rows[row] for row in chosen]
    offsets = np.cumsum([0, *map(len, ids)])
    return TokenRows(np.concatenate(ids), offsets, rows.labels[chosen], rows.confidence[chosen])


def summarised(name: str, rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Medians over the rounds; the ratio is of rows a second in the same round."""
    own = [found[name] for found in rounds]
    base = [found[BASELINE] for found in rounds if BASELINE in found]
    return {
        "sec_per_step": statistics.median(one["seconds"] / one["steps"] for one in own),
        "rows_per_sec": statistics.median(one["rows"] / one["seconds"] for one in own),
        "tokens_per_sec": statistics.median(one["tokens"] / one["seconds"] for one in own),
        "ratio": statistics.median(
            b["seconds"] / o["seconds"] for b, o in zip(base, own, strict=True)
        )
        if base
        else None,
        "peak_mib": max(one["peak_mib"] for one in own),
        "round_sec": [one["seconds"] for one in own],
    }


def print_tables(report: dict[str, Any]) -> None:
    """The report as Markdown."""
    print(
        f"{report['rows']} reviews in batches of 8, {report['rounds']} rounds, "
        f"{described(report['machine'])}\n"
    )
    print(f"| variant | s/step | reviews/s | × {BASELINE} | peak memory, MiB |")
    print("|---|---|---|---|---|")
    for name, found in report["cost"].items():
        ratio = "–" if found["ratio"] is None else f"{found['ratio']:.2f}"
        print(
            f"| {name} | {found['sec_per_step']:.2f} | {found['rows_per_sec']:.2f} | {ratio} "
            f"| {found['peak_mib']:,} |"
        )
    if report["learned"]:
        print("\n| variant | loss | accuracy |\n|---|---|---|")
        for name, runs in report["learned"].items():
            losses = ", ".join(f"{run['loss']:.4f}" for run in runs)
            accuracies = ", ".join(f"{run['accuracy']:.4f}" for run in runs)
            print(f"| {name} | {losses} | {accuracies} |")


if __name__ == "__main__":
    main()
