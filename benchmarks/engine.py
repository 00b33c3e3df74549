"""Our engine against everything else that runs the same T5 weights, in one process.

    python benchmarks/engine.py [--reviews N] [--threads N] [--rounds N] [--variants NAME,...]
                                [--model FOLDER] [--tokenizer FOLDER] [--reviews-file FILE]

The peers are listed in VARIANTS; needs the `bench` extra, and leaves out what is not installed.
All variants stay loaded together, which takes 16 GB of memory for T5-base.
All get the same token ids; tokenising, converting and quantising are not timed. Variants take turns
round by round, so that a drift of the machine hits all alike, after one round that is not counted.

Each peer gets its best batching, tried on 16 reviews before the measurement: ONNX Runtime, OpenVINO
and CTranslate2 take the fastest of one review at a time and length-sorted batches of 1024 or 4096
padded tokens, `transformers-bf16-sorted` the faster of the two budgets. `transformers-card` and
`transformers-fp32-padded` are what people write, so they stay as they are.

Prints a Markdown table and then, as the last line, the same and more as JSON. The logits error is
the relative Frobenius norm against transformers in float32, over the whole vocabulary at the first
decoder step, on at most 32 of the reviews. Labels agree when the best label is that of transformers
in float32. `linears-bf16` is no scorer: it multiplies with the encoder's linear layers and stops
there, which is the time that no engine built on the same products can beat.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from peers.batching import BatchedPeer, by_tokens
from peers.first_step import FirstStep
from peers.machine import described, machine
from peers.protocol import Ids, Peer, Unavailable, Workload, relative_error
from peers.workload import add_options, default_model, make_workload
from transformers.utils import logging as transformers_logging

BASELINE = "transformers-bf16-sorted"
FLOOR = "linears-bf16"
LOGITS_REVIEWS = 32


class Variant(NamedTuple):
    """A module of `peers` and the packages it imports, by the names that pip knows them under."""

    module: str
    packages: tuple[str, ...] = ()


ONNX = ("onnx", "onnxruntime", "onnxscript")
VARIANTS = {
    "engine-fp32": Variant("engine_variants"),
    "engine-bf16": Variant("engine_variants"),
    "engine-int8": Variant("engine_variants"),
    "transformers-card": Variant("transformers_peers"),
    "transformers-fp32-padded": Variant("transformers_peers"),
    "transformers-bf16-sorted": Variant("transformers_peers"),
    "ctranslate2-float32": Variant("ctranslate2_peer", ("ctranslate2",)),
    "ctranslate2-int8": Variant("ctranslate2_peer", ("ctranslate2",)),
    "onnxruntime-fp32": Variant("onnxruntime_peer", ONNX),
    "onnxruntime-int8": Variant("onnxruntime_peer", ONNX),
    "openvino-bf16": Variant("openvino_peer", ("openvino",)),
    "openvino-int8": Variant("openvino_peer", ("openvino", "nncf")),
    "linears-bf16": Variant("engine_variants"),
}


def main() -> None:
    options = parse()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    model = options.model or default_model(options.tokenizer)
    with tempfile.TemporaryDirectory(prefix="sentiment-benchmark-") as scratch:
        work = make_workload(
            model,
            options.reviews_file,
            options.reviews,
            threads=options.threads,
            scratch=Path(scratch),
        )
        peers = build(options.variants, work)
        results = measure(peers, work, options.rounds)
    packages = {"torch", "transformers", *(p for name in peers for p in VARIANTS[name].packages)}
    report = {
        "variants": results,
        "machine": machine(options.threads, packages),
        "model": model,
        "reviews": len(work.ids),
        "mean_tokens": round(float(np.mean([len(row) for row in work.ids])), 1),
        "rounds": options.rounds,
        "engine_bf16_of_linears": speed_ratio(results, "engine-bf16", FLOOR),
    }
    print_table(report)
    print(json.dumps(report))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, "test.parquet")
    parser.add_argument("--reviews", type=int, default=96, help="reviews to score")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--variants",
        type=lambda text: text.split(","),
        help=f"of {', '.join(VARIANTS)}; default: all that are installed",
    )
    options = parser.parse_args()
    unknown = set(options.variants or ()) - set(VARIANTS)
    if unknown:
        parser.error(f"--variants: unknown {', '.join(sorted(unknown))}, see --help")
    return options


def build(names: list[str] | None, work: Workload) -> dict[str, Peer]:
    """Make the variants; what is missing is left out with a line, or an error where it was named.

    Raises:
        SystemExit: A variant that was asked for by name cannot be built.
    """
    # With its telemetry package in reach, OpenVINO reports each import to its makers.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    peers: dict[str, Peer] = {}
    for name in names or VARIANTS:
        variant = VARIANTS[name]
        missing = [p for p in variant.packages if importlib.util.find_spec(p) is None]
        try:
            if missing:
                raise Unavailable(f"pip install {' '.join(missing)}")
            peers[name] = importlib.import_module(f"peers.{variant.module}").make(name, work)
        except Unavailable as reason:
            if names:
                raise SystemExit(f"--variants {name}: {reason}") from reason
            print(f"{name} is left out: {reason}")
    return peers


def measure(peers: dict[str, Peer], work: Workload, rounds: int) -> dict[str, dict[str, Any]]:
    """Time the variants in turn and compare their answers with transformers in float32."""
    reference = reference_peer(work)
    labels = reference.labels(work.ids)
    logits_NV = reference.logits(work.ids[:LOGITS_REVIEWS])
    found = {name: quality(peer, work.ids, labels, logits_NV) for name, peer in peers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name, peer in peers.items():
            started = time.perf_counter()
            peer.labels(work.ids)
            seconds[name].append(time.perf_counter() - started)
    results = {}
    for name, peer in peers.items():
        speeds = [len(work.ids) / sec for sec in seconds[name]]
        results[name] = {
            "reviews_per_sec": statistics.median(speeds),
            "reviews_per_sec_min": min(speeds),
            "reviews_per_sec_max": max(speeds),
            "round_sec": seconds[name],
            "batching": peer.batching,
            **found[name],
        }
    for name in results:
        results[name]["ratio"] = speed_ratio(results, name, BASELINE)
    return results


def reference_peer(work: Workload) -> BatchedPeer:
    """transformers in float32, one forward pass."""
    first_step = FirstStep(work.network)

    def forward(ids_BS: torch.Tensor, mask_BS: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return first_step(ids_BS, mask_BS)

    return BatchedPeer(forward, by_tokens(4096), work.label_ids)


def quality(
    peer: Peer, ids: list[Ids], wanted: list[int | None], wanted_NV: torch.Tensor
) -> dict[str, float | None]:
    """Logits error and share of labels that agree; the passes also warm the variant up."""
    labels = peer.labels(ids)
    logits_NV = peer.logits(ids[: len(wanted_NV)])
    answers = None not in labels
    agree = sum(one == other for one, other in zip(labels, wanted, strict=True))
    return {
        "logits_rel_error": None if logits_NV is None else relative_error(logits_NV, wanted_NV),
        "label_agreement": agree / len(ids) if answers else None,
    }


def speed_ratio(results: dict[str, dict[str, Any]], name: str, other: str) -> float | None:
    """Median over the rounds of how many times as fast `name` was as `other` in the same round."""
    if name not in results or other not in results:
        return None
    pairs = zip(results[name]["round_sec"], results[other]["round_sec"], strict=True)
    return statistics.median(theirs / ours for ours, theirs in pairs)


def print_table(report: dict[str, Any]) -> None:
    """The report as Markdown."""
    print(
        f"{report['reviews']} reviews of mean {report['mean_tokens']} tokens, {report['rounds']} "
        f"rounds, {described(report['machine'])}\n"
    )
    print(f"| variant | reviews/s (range) | × {BASELINE} | logits error | labels agree | batches |")
    print("|---|---|---|---|---|---|")
    for name, found in report["variants"].items():
        print(
            f"| {name} | {found['reviews_per_sec']:.2f} ({found['reviews_per_sec_min']:.2f} to "
            f"{found['reviews_per_sec_max']:.2f}) | {shown(found['ratio'], '.2f')} "
            f"| {shown(found['logits_rel_error'], '.1e')} "
            f"| {shown(found['label_agreement'], '.1%')} | {found['batching']} |"
        )
    if report["engine_bf16_of_linears"] is not None:
        share = report["engine_bf16_of_linears"]
        print(f"\nThe engine in bf16 runs at {share:.0%} of the speed of its encoder's linears.")


def shown(value: float | None, form: str) -> str:
    """A figure, or a dash where there is none."""
    return "–" if value is None else format(value, form)


if __name__ == "__main__":
    main()
