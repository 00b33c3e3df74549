"""The whole job against its peers: the same reviews, the same cores, one after another.

    python benchmarks/pipeline.py [--model FOLDER] [--source FILE] [--rows N] [--cores 0,1]
        [--unit-rows N] [--precision auto|fp32|bf16|int8] [--rounds N] [--memory-curve]
        [--variants job,bare-engine,ray-transformers-fp32,ray-transformers-bf16]

- `job`: `sentiment score` as users run it.
- `bare-engine`: our engine in one process, no Ray, no output (`peers/bare_engine.py`).
- `ray-transformers-fp32`, `-bf16`: what most people would write (`peers/ray_transformers_job.py`).

Prints Markdown tables, then one line of JSON. A rate of the whole run counts from the start of the
first process to its end; after warm-up, from the first commit of the job, the first batch of the
transformers job, the sixteenth review of the bare engine. The first labelled row is the first file
in the output, where there is an output. Memory is the peak of the summed PSS of all processes;
`--memory-curve` adds the job's over 1, 4 and 16 times as many reviews, with the built-in model.

The job has steady speed only once all its worker processes are up, which takes as long as a small
run: take enough reviews for some minutes. Linux only.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from peers.corpus import numbered, read_texts, write_corpus
from peers.machine import machine
from peers.processes import Watched, run_watched
from peers.rates import Commits, Figures, commits_of, summarised, warm_rate

from sentiment.model.find import Model, find_model
from sentiment.scoring.pool import resolve_pool
from sentiment.settings.jobs import ScoreConfig

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples" / "reviews.jsonl"
SHARDS = 4
UNITS_PER_SHARD = 4  # enough of them that a rate after the first means something
MOST_UNIT_ROWS = 1024  # the default on CPUs
GROWTH = (1, 4, 16)
PACKAGES = {"sentiment", "ray", "torch", "transformers", "pyarrow"}

# Of 1x of the curve. Ray starts a dozen processes of hundreds of MiB over the first units; the
# curve is to show what grows after them.
CURVE_UNITS = 32

# A sample of the memory of a dozen processes costs some 60 ms of CPU: rarely while we take times,
# often while we look for the peak.
TIMED_SAMPLE_SEC = 4.0
CURVE_SAMPLE_SEC = 1.0

# Names of a ratio, its two variants, the figure, and what we aim at.
RATIOS = (
    ("job / bare engine, warm", "job", "bare-engine", "rows_per_sec_warm", "at least 0.90"),
    ("job / transformers fp32", "job", "ray-transformers-fp32", "rows_per_sec", "at least 8"),
    ("job / transformers fp32, warm", "job", "ray-transformers-fp32", "rows_per_sec_warm", ""),
    ("job / transformers bf16", "job", "ray-transformers-bf16", "rows_per_sec", ""),
    ("job / transformers bf16, warm", "job", "ray-transformers-bf16", "rows_per_sec_warm", ""),
)


@dataclass(frozen=True)
class Setup:
    """What all variants of a run share.

    Attributes:
        precision: Of our engine, as of `sentiment score`.
        corpus: Folder of Parquet shards.
        rows: Reviews in it.
        unit_rows: Reviews that the job commits as one.
        cores: Numbers of the cores to run on.
        sample_sec: Time between samples of memory.
        scratch: An empty folder for outputs and logs.
    """

    model: Model
    precision: str
    corpus: Path
    rows: int
    unit_rows: int
    cores: Sequence[int]
    sample_sec: float
    scratch: Path

    def callback(self, *command: object) -> Watched:
        """Run a Python program on the cores, without GPUs, clusters or model hubs."""
        others = ("RAY_ADDRESS", "SENTIMENT_")  # would join a cluster, would change the job alone
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(others)
        }
        environment |= {
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HUB_OFFLINE": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        return run_watched(
            [sys.executable, *map(str, command)],
            cores=self.cores,
            environment=environment,
            sample_sec=self.sample_sec,
            log=self.scratch / "log.txt",
        )


def run_job(setup: Setup) -> Figures:
    """`sentiment score`; every file it commits has its time."""
    output = setup.scratch / "output"
    watched = setup.callback(
        *("-m", "sentiment", "score", setup.corpus, "--output", output),
        *("--model", setup.model.name, "--precision", setup.precision),
        *("--unit-rows", setup.unit_rows),
        *pool_flags(setup.cores),
    )
    [run_file] = output.glob("_sentiment/runs/*/run.json")
    run = json.loads(run_file.read_text(encoding="utf-8"))
    commits = commits_of(output)
    # Every actor has a first unit; what they do after those is the steady state.
    warm = warm_rate(commits, first=run["pool"]["actors_max"])
    settled = {"precision": run["precision"], "unit_rows": setup.unit_rows}
    return figures(setup, watched, commits, warm) | settled


def run_bare_engine(setup: Setup) -> Figures:
    """The engine in one process."""
    report_file = setup.scratch / "report.json"
    watched = setup.callback(
        *(HERE / "peers" / "bare_engine.py", setup.corpus, "--report", report_file),
        *("--model", setup.model.name, "--precision", setup.precision),
        *("--threads", len(setup.cores)),
    )
    report = json.loads(report_file.read_text(encoding="utf-8"))
    rows, score_sec = report["rows"], report["score_sec"]
    warm = rows / (report["tokenise_sec"] + score_sec)
    return figures(setup, watched, [(report["first_row_at"], rows)], warm) | {
        "engine_rows_per_sec": rows / score_sec,
        "mean_tokens": report["mean_tokens"],
        "precision": report["precision"],
    }


def run_ray_transformers(setup: Setup, precision: str) -> Figures:
    """Ray Data and `generate`; the journal has the time of every batch."""
    output, journal = setup.scratch / "output", setup.scratch / "journal.jsonl"
    model = setup.model
    watched = setup.callback(
        *(HERE / "peers" / "ray_transformers_job.py", setup.corpus, "--output", output),
        *("--model", model.folder, "--labels", *model.labels, "--template", model.template),
        *("--max-source-tokens", model.max_source_tokens, "--precision", precision),
        *("--cpus", len(setup.cores), "--journal", journal),
    )
    batches = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    found = figures(setup, watched, commits_of(output), warm_rate(batches))
    return found | {"first_batch_sec": batches[0][0] - watched.started_at}


VARIANTS: dict[str, Callable[[Setup], Figures]] = {
    "job": run_job,
    "bare-engine": run_bare_engine,
    "ray-transformers-fp32": lambda setup: run_ray_transformers(setup, "fp32"),
    "ray-transformers-bf16": lambda setup: run_ray_transformers(setup, "bf16"),
}


def main() -> None:
    options = arguments()
    model = find_model(options.model)
    rounds: dict[str, list[Figures]] = {name: [] for name in options.variants}
    shape = {"rows": options.rows, "shards": SHARDS, "unit_rows": options.unit_rows}
    # Variants take turns, so that drift of the machine hits all alike.
    for _ in range(options.rounds):
        for name in options.variants:
            with prepared(model, options, **shape, sample_sec=TIMED_SAMPLE_SEC) as setup:
                rounds[name].append(VARIANTS[name](setup))
    results = {name: summarised(found) for name, found in rounds.items()}
    memory = memory_curve(options) if options.memory_curve else {}
    found_ratios = ratios(results)
    about = {
        **machine(len(options.cores), PACKAGES),
        "model": options.model,
        "source": options.source.name,
        "rows": options.rows,
        "pinned_to": options.cores,
        "rounds": options.rounds,
    }
    print_tables(results, found_ratios, memory)
    print("\n" + ", ".join(f"{name} {value}" for name, value in about.items()), end="\n\n")
    report = {"variants": results, "ratios": found_ratios, "memory": memory, "machine": about}
    print(json.dumps(report))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="builtin", help="builtin, or a folder")
    parser.add_argument("--precision", default="auto", help="of our engine")
    parser.add_argument("--source", type=Path, default=EXAMPLES, help="Parquet or JSON Lines")
    parser.add_argument("--rows", type=int, default=320, help="reviews to score")
    parser.add_argument("--cores", type=core_numbers, default=sorted(os.sched_getaffinity(0)))
    parser.add_argument("--variants", type=variant_names, default=list(VARIANTS))
    parser.add_argument("--unit-rows", type=int, help="of the job; default: 16 units in all")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--memory-curve", action="store_true")
    parser.add_argument("--memory-rows", type=int, default=512, help="reviews at 1x of the curve")
    return parser.parse_args()


def core_numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def variant_names(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    unknown = set(names) - set(VARIANTS)
    if unknown:
        raise argparse.ArgumentTypeError(f"no variants: {', '.join(sorted(unknown))}")
    return names


@contextmanager
def prepared(
    model: Model,
    options: argparse.Namespace,
    *,
    rows: int,
    shards: int,
    unit_rows: int | None,
    sample_sec: float,
) -> Iterator[Setup]:
    """A corpus and an empty folder for one variant, gone afterwards."""
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(scratch) / "corpus"
        write_corpus(corpus, numbered(read_texts(options.source), rows), shards)
        units = shards * UNITS_PER_SHARD
        yield Setup(
            model=model,
            precision=options.precision,
            corpus=corpus,
            rows=rows,
            unit_rows=unit_rows or min(MOST_UNIT_ROWS, math.ceil(rows / units)),
            cores=options.cores,
            sample_sec=sample_sec,
            scratch=Path(scratch),
        )


def pool_flags(cores: Sequence[int]) -> list[str]:
    """Pool settings for some cores of a machine: what the defaults were if it had no others."""
    if len(cores) == os.cpu_count():
        return []
    defaults = ScoreConfig(sources=["corpus"], output="output")
    pool = resolve_pool(defaults, node_cpus=[len(cores)], gpus=0, can_grow=False)
    return ["--cpus-per-actor", str(pool.cpus), "--actors-max", str(pool.actors_max)]


def figures(setup: Setup, watched: Watched, commits: Commits, warm: float | None) -> Figures:
    """What is told of every variant.

    Raises:
        SystemExit: Not all rows came out.
    """
    rows = sum(row_count for _, row_count in commits)
    if rows != setup.rows:
        raise SystemExit(f"{rows} of {setup.rows} reviews came out: the figures mean nothing")
    return {
        "rows_per_sec": rows / watched.wall_sec,
        "rows_per_sec_warm": warm,
        "first_row_sec": min(at for at, _ in commits) - watched.started_at,
        "peak_pss_bytes": watched.peak_pss_bytes,
        "wall_sec": watched.wall_sec,
    }


def memory_curve(options: argparse.Namespace) -> dict[str, int]:
    """Peak memory of the job, in bytes, over corpora that grow; shards grow in number."""
    model = find_model("builtin")
    peaks = {}
    for factor in GROWTH:
        shape = {"rows": factor * options.memory_rows, "shards": factor * SHARDS}
        unit_rows = math.ceil(options.memory_rows / CURVE_UNITS)
        with prepared(
            model, options, **shape, unit_rows=unit_rows, sample_sec=CURVE_SAMPLE_SEC
        ) as setup:
            peaks[str(factor)] = run_job(setup)["peak_pss_bytes"]
    return peaks


def ratios(results: dict[str, Figures]) -> dict[str, float]:
    """Every ratio of `RATIOS` whose figures are there."""
    found = {}
    for name, ours, theirs, figure, _ in RATIOS:
        above = results.get(ours, {}).get(figure)
        below = results.get(theirs, {}).get(figure)
        if above and below:
            found[name] = above / below
    return found


def print_tables(
    results: dict[str, Figures], found_ratios: dict[str, float], memory: dict[str, int]
) -> None:
    if results:
        print("| variant | reviews/s | warm | range | first row, s | wall, s | peak, MiB |")
        print("|---|---|---|---|---|---|---|")
    for name, found in results.items():
        warm = found["rows_per_sec_warm"]
        low, high = found.get("rows_per_sec_warm_range", (0.0, 0.0))
        print(
            f"| {name} | {found['rows_per_sec']:.2f} | {f'{warm:.2f}' if warm else '–'} "
            f"| {low:.2f} to {high:.2f} | {found['first_row_sec']:.1f} | {found['wall_sec']:.1f} "
            f"| {found['peak_pss_bytes'] / 2**20:,.0f} |"
        )
    if found_ratios:
        print("\n| ratio | measured | aim |\n|---|---|---|")
    for name, *_, aim in RATIOS:
        if name in found_ratios:
            print(f"| {name} | {found_ratios[name]:.2f} | {aim} |")
    if memory:
        print("\n| corpus | peak memory, MiB | against 1x |\n|---|---|---|")
    for factor, peak_bytes in memory.items():
        ratio = peak_bytes / memory["1"]
        print(f"| {factor}x | {peak_bytes / 2**20:,.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
