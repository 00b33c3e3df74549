"""Our engine on one GPU against transformers on the same GPU, the same weights and token ids.

    python benchmarks/gpu.py [--shape NAME | --model FOLDER] [--lengths MEDIAN:SIGMA:LONGEST]
                             [--reviews-file FILE] [--reviews N] [--rounds N] [--json PATH]
                             [--profile] [--parts]

Needs torch, transformers and Triton, for a model or a reviews file what tokenising needs as well,
and no Ray. Without a model the weights are made from a seed, without reviews the token ids: lengths
are then log-normal, cut off at the longest.

* `engine`: ours in bf16, with its kernels.
* `engine-padded`: ours in bf16 on a node without Triton.
* `transformers-bf16`: encoder and one decoder step, fused attention, reviews sorted by length and
  padded per batch; of several batch sizes the one that was fastest on some of the reviews.
* `transformers-fp32`: the same in float32, on every eighth review. It is the reference of the
  labels and probabilities too.

All get token ids on the host and give probabilities on the host. After a round that is not counted
variants take turns, round by round; figures are medians. TFLOP/s counts what the encoder must
compute for real tokens, so padding earns nothing; the share is of what the same card makes of a
bf16 product of 8192 x 8192 x 8192. Memory is what a variant takes on top of all weights.

`--profile` adds the operators of one batch of the engine by the time they take. `--parts` times
attention and norm cut in other ways, and each product, and leaves the rest out.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from peers.batching import cut_by_tokens, padded
from peers.first_step import FirstStep
from peers.gpu_parts import describe_parts, matmul_tflops
from peers.machine import machine
from peers.protocol import Ids
from peers.shapes import SHAPES, shape_of
from transformers import T5ForConditionalGeneration
from transformers.utils import logging as transformers_logging

from sentiment.engine.batching import TokenBatcher
from sentiment.t5 import encoder
from sentiment.t5.decoder import LabelTrie
from sentiment.t5.gpu_padded import PaddedOperations
from sentiment.t5.linear import compute_dtype
from sentiment.t5.network import T5
from sentiment.t5.shape import T5Shape

CUDA = torch.device("cuda")
SEED = 0
BASELINE = "transformers-bf16"
REFERENCE = "transformers-fp32"
REFERENCE_STEP = 8

# "negative" and "positive" in T5's own vocabulary.
SEEDED_LABELS = [2841, 1465]

# Padded tokens of a batch that transformers may choose from, and the reviews it chooses by.
BUDGETS_TOKENS = (8192, 16384, 32768, 65536)
TRIAL_REVIEWS = 512

# Token ids of N reviews to probabilities (N, K) of the labels among the labels.
Answer = Callable[[Sequence[Ids]], NDArray[np.float32]]


def main() -> None:
    options = parse()
    if not torch.cuda.is_available():
        print("benchmarks/gpu.py is left out: there is no CUDA device")
        return
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    network, label_ids, ids = workload(options)
    lengths = [len(row) for row in ids]
    report: dict[str, Any] = {
        "cuda": torch.version.cuda,
        "machine": machine(torch.get_num_threads(), packages()),
        "command": " ".join(sys.argv),
        "model": options.model or options.shape,
        "reviews": len(ids),
        "mean_tokens": round(statistics.mean(lengths), 1),
        "rounds": options.rounds,
        "batch_tokens": options.batch_tokens,
        "matmul_tflops": matmul_tflops(),
    }
    print(headline(report))
    if options.parts:
        shape = T5Shape.from_config(network.config.to_dict())
        report["parts"] = describe_parts(shape, first_batch(lengths, options.batch_tokens))
    else:
        variants, batching = build(network, label_ids, ids, options.batch_tokens)
        report["transformers_batch_tokens"] = batching
        report["variants"] = measure(variants, network.config, ids, options.rounds)
        report["matmul_tflops_after"] = matmul_tflops()
        print_table(report)
        if options.profile:
            print_profile(variants["engine"], ids, options.batch_tokens)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1), encoding="utf-8")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="t5-base", help="weights from a seed")
    parser.add_argument("--model", help="folder or hub id, instead of --shape")
    parser.add_argument("--tokenizer", type=Path, help="folder; of --reviews-file with --shape")
    parser.add_argument("--reviews-file", type=Path, help="Parquet or JSON Lines, column `text`")
    parser.add_argument("--lengths", default="225:0.6:512", help="of reviews made up, in tokens")
    parser.add_argument("--reviews", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-tokens", type=int, default=65536, help="of the engine")
    parser.add_argument("--json", type=Path, help="also write everything there")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--parts", action="store_true")
    # What `make bench` passes to every script; a GPU does not care.
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reviews_file and not (options.model or options.tokenizer):
        parser.error("--reviews-file needs --model or --tokenizer")
    return options


def packages() -> set[str]:
    return {"torch", "transformers", *(["triton"] if torch.version.cuda else [])}


def workload(
    options: argparse.Namespace,
) -> tuple[T5ForConditionalGeneration, list[int], list[Ids]]:
    """transformers' network in float32 on the GPU, the token of each label, and the reviews."""
    label_ids, tokeniser = SEEDED_LABELS, None
    if options.model:
        from sentiment.model.find import find_model
        from sentiment.model.load import load_network

        model = find_model(options.model)
        tokeniser = model.tokeniser()
        label_ids = [tokeniser.label_ids(label)[0] for label in model.labels]
        network = load_network(model.folder, device=CUDA)
    else:
        torch.manual_seed(SEED)
        with CUDA:
            network = T5ForConditionalGeneration(shape_of(options.shape)).eval()
        if not network.config.scale_decoder_outputs:
            # transformers ties them all the same, and would give logits of some hundred.
            head_VD = network.shared.weight.detach() * network.config.d_model**-0.5
            network.lm_head.weight = torch.nn.Parameter(head_VD)
    if not options.reviews_file:
        return network, label_ids, random_ids(options.lengths, options.reviews)
    # What reads and tokenises text needs more than a GPU machine may have.
    from peers.workload import encode, read_texts, spread

    if tokeniser is None:
        from sentiment.model.tokenizer import Tokeniser

        tokeniser = Tokeniser(options.tokenizer, "{text}", 512, "head")
    texts = read_texts(options.reviews_file)
    chosen, _ = spread(len(texts), options.reviews)
    return network, label_ids, encode(tokeniser, [texts[row] for row in chosen])


def random_ids(lengths: str, reviews: int) -> list[Ids]:
    """Token ids of reviews whose lengths are log-normal, from `MEDIAN:SIGMA:LONGEST`."""
    median, sigma, longest = (float(part) for part in lengths.split(":"))
    random = np.random.default_rng(SEED)
    drawn_N = random.lognormal(math.log(median), sigma, reviews).round().clip(2, longest)
    return [random.integers(3, 32000, int(length)).astype(np.int32) for length in drawn_N]


def first_batch(lengths: Sequence[int], batch_tokens: int) -> list[int]:
    """Lengths of a batch as the engine makes them, from the middle of the reviews."""
    ordered = sorted(lengths, reverse=True)
    picked = ordered[len(ordered) // 4 :]
    total_N = np.cumsum(picked)
    return picked[: max(1, int((total_N <= batch_tokens).sum()))]


# --- variants -------------------------------------------------------------------------------------


def build(
    network: T5ForConditionalGeneration,
    label_ids: list[int],
    ids: Sequence[Ids],
    batch_tokens: int,
) -> tuple[dict[str, Answer], int]:
    """All variants, and the padded tokens of a batch that suit transformers."""
    shape = T5Shape.from_config(network.config.to_dict())
    weights = network.state_dict()

    def ours() -> Answer:
        made = T5(shape, weights, precision="bf16", device=CUDA)
        return engine(made, label_ids, batch_tokens)

    def without_triton(shape: T5Shape, weight_KH: torch.Tensor, precision: Any) -> Any:
        return PaddedOperations(shape, weight_KH, compute_dtype(precision))

    with mock.patch.object(encoder, "suited_operations", without_triton):
        padded_engine = ours()
    rounded = copy.deepcopy(network).to(torch.bfloat16)
    rounded.set_attn_implementation("sdpa")
    budget = fastest_budget(rounded, label_ids, ids)
    variants = {
        "engine": ours(),
        "engine-padded": padded_engine,
        BASELINE: transformers(rounded, label_ids, budget),
        REFERENCE: transformers(network, label_ids, min(budget, 16384)),
    }
    return variants, budget


def engine(network: T5, label_ids: Sequence[int], batch_tokens: int) -> Answer:
    """Our engine, as `sentiment.engine.labels` runs it, without what that needs besides torch."""
    trie = LabelTrie.build([(token,) for token in label_ids], network.shape.start_id)
    decoder = network.decoder(trie)

    def answer(ids: Sequence[Ids]) -> NDArray[np.float32]:
        among_NK = np.empty((len(ids), len(label_ids)), np.float32)

        def keep(picked: list[int], values: Any) -> None:
            among_NK[picked] = values[:, 1]

        failed = TokenBatcher(batch_tokens).run(
            [len(row) for row in ids],
            lambda picked: network.label_log_probs([ids[row] for row in picked], decoder),
            keep,
        )
        if failed:
            raise SystemExit(f"{len(failed)} reviews failed: {set(failed.values())}")
        return np.exp(among_NK)

    return answer


def transformers(
    network: T5ForConditionalGeneration, label_ids: Sequence[int], budget_tokens: int
) -> Answer:
    """transformers' own forward over sorted, padded batches."""
    first_step = FirstStep(network)

    @torch.inference_mode()
    def answer(ids: Sequence[Ids]) -> NDArray[np.float32]:
        parts, order = [], []
        for rows in cut_by_tokens([len(row) for row in ids], budget_tokens):
            ids_BS, mask_BS = (
                tensor.pin_memory().to(CUDA, non_blocking=True)
                for tensor in padded([ids[row] for row in rows])
            )
            parts.append(first_step(ids_BS, mask_BS)[:, list(label_ids)].float())
            order += rows
        logits_NK = np.empty((len(ids), len(label_ids)), np.float32)
        logits_NK[order] = torch.cat(parts).cpu().numpy()
        return among_labels(logits_NK)

    return answer


def among_labels(logits_NK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities that add up to 1."""
    weight_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
    return np.asarray(weight_NK / weight_NK.sum(axis=1, keepdims=True))


def fastest_budget(
    network: T5ForConditionalGeneration, label_ids: Sequence[int], ids: Sequence[Ids]
) -> int:
    """Padded tokens of a batch that suit transformers best, on reviews of all lengths."""
    trial = ids[:: max(1, len(ids) // TRIAL_REVIEWS)]
    trial = [row for row in trial for _ in range(4)]  # so that the largest batches are full
    took: dict[int, float] = {}
    for budget in BUDGETS_TOKENS:
        answer = transformers(network, label_ids, budget)
        try:
            answer(trial)
            took[budget] = timed(answer, trial)[0]
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
    return min(took, key=lambda budget: took[budget])


# --- measuring ------------------------------------------------------------------------------------


def timed(answer: Answer, ids: Sequence[Ids]) -> tuple[float, NDArray[np.float32]]:
    """Seconds from ids on the host to probabilities on the host, and those."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    probabilities_NK = answer(ids)
    return time.perf_counter() - started, probabilities_NK


def measure(
    variants: dict[str, Answer], config: Any, ids: Sequence[Ids], rounds: int
) -> dict[str, dict[str, Any]]:
    """Time the variants in turn, and compare what they say with float32."""
    inputs = {name: ids[::REFERENCE_STEP] if name == REFERENCE else ids for name in variants}
    found: dict[str, dict[str, Any]] = {}
    answers = {}
    for name, answer in variants.items():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before_bytes = torch.cuda.memory_allocated()
        answers[name] = answer(inputs[name])
        peak_bytes = torch.cuda.max_memory_allocated() - before_bytes
        found[name] = {"peak_mib": round(peak_bytes / 2**20), "round_sec": []}
    for _ in range(rounds):
        for name, answer in variants.items():
            found[name]["round_sec"].append(timed(answer, inputs[name])[0])
    exact_nK = answers[REFERENCE]
    for name, figures in found.items():
        tokens = sum(map(len, inputs[name]))
        sec = statistics.median(figures["round_sec"])
        said_nK = answers[name] if name == REFERENCE else answers[name][::REFERENCE_STEP]
        flips_n = said_nK.argmax(axis=1) != exact_nK.argmax(axis=1)
        rates = [len(inputs[name]) / one for one in figures["round_sec"]]
        figures |= {
            "reviews_per_sec": len(inputs[name]) / sec,
            "reviews_per_sec_range": [min(rates), max(rates)],
            "tokens_per_sec": tokens / sec,
            "tflops": encoder_flop(config, [len(row) for row in inputs[name]]) / sec / 1e12,
            "reviews_compared": len(exact_nK),
            "label_flips": int(flips_n.sum()),
            "largest_drift": float(np.abs(said_nK - exact_nK).max()),
        }
    for figures in found.values():
        figures["ratio"] = figures["reviews_per_sec"] / found[BASELINE]["reviews_per_sec"]
    return found


def encoder_flop(config: Any, lengths: Sequence[int]) -> float:
    """Operations of the encoder's products over real tokens, two for each multiplication."""
    attention_width = config.num_heads * config.d_kv
    products = 3 if config.is_gated_act else 2
    weights = config.d_model * (4 * attention_width + products * config.d_ff)
    per_layer = sum(2 * length * weights + 4 * length**2 * attention_width for length in lengths)
    return float(config.num_layers * per_layer)


def print_profile(answer: Answer, ids: Sequence[Ids], batch_tokens: int) -> None:
    """The operators of one batch by the time they take on the GPU."""
    ordered = sorted(ids, key=len, reverse=True)[len(ids) // 4 :]
    batch = ordered[: len(first_batch([len(row) for row in ids], batch_tokens))]
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    answer(batch)
    with torch.profiler.profile(activities=activities) as profile:
        answer(batch)
    table = profile.key_averages().table(
        sort_by="self_cuda_time_total", row_limit=25, max_name_column_width=60
    )
    print(f"\nOne batch, {len(batch)} reviews of {sum(map(len, batch))} tokens\n{table}")


# --- words ----------------------------------------------------------------------------------------


def headline(report: dict[str, Any]) -> str:
    """What is measured on what, on one line."""
    versions = ", ".join(f"{name} {v}" for name, v in report["machine"]["versions"].items())
    return (
        f"{report['model']}, {report['reviews']} reviews of mean {report['mean_tokens']} tokens, "
        f"{report['machine']['gpu']} (bf16 product {report['matmul_tflops']:.0f} TFLOP/s), CUDA "
        f"{report['cuda']}, {versions}, {report['machine']['date']}\n"
    )


def print_table(report: dict[str, Any]) -> None:
    """The variants as Markdown."""
    print(
        f"| variant | reviews/s (range) | tokens/s | × {BASELINE} | TFLOP/s (share) | memory MiB "
        "| label flips | largest drift |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, found in report["variants"].items():
        least, most = found["reviews_per_sec_range"]
        print(
            f"| {name} | {found['reviews_per_sec']:.0f} ({least:.0f} to {most:.0f}) "
            f"| {found['tokens_per_sec']:,.0f} | {found['ratio']:.2f} "
            f"| {found['tflops']:.0f} ({found['tflops'] / report['matmul_tflops']:.0%}) "
            f"| {found['peak_mib']} | {found['label_flips']} of {found['reviews_compared']} "
            f"| {found['largest_drift']:.4f} |"
        )
    print(
        f"\n{report['rounds']} rounds. transformers chose batches of "
        f"{report['transformers_batch_tokens']} padded tokens."
    )


if __name__ == "__main__":
    main()
