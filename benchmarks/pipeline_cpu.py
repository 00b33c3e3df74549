"""A whole `sentiment score` run: reviews per second and peak memory of all its processes.

    python benchmarks/pipeline_cpu.py [--source FILE] [--model FOLDER] [--label-column NAME]

Runs the command into a temporary folder, samples the proportional set size (PSS, memory shared
between processes counted once) of the process tree every two seconds, and prints what `run.json`
says beside it. Needs the `bench` extra.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "reviews"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default=str(EXAMPLES))
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--label-column", default="label")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as output:
        command = [
            sys.executable, "-m", "sentiment", "score", options.source, "--output", output,
            "--model", options.model, "--label-column", options.label_column,
            "--max-rejected", "0.05",
        ]  # fmt: skip
        started = time.perf_counter()
        peak_bytes = watch(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        wall_sec = time.perf_counter() - started
        run_file = next(Path(output).glob("_sentiment/runs/*/run.json"))
        run = json.loads(run_file.read_text(encoding="utf-8"))
    ledger, stages = run["ledger"], run["counts"]["stage_sec"]
    print(f"ledger      {ledger}")
    if run["quality"]:
        print(f"accuracy    {run['quality']['accuracy']:.4f}")
    print(f"wall        {wall_sec:.1f} s from start of the process to its end")
    print(f"throughput  {run['rows_per_sec']:.0f} reviews/s, start-up included")
    print("stages      " + ", ".join(f"{name} {sec:.1f} s" for name, sec in stages.items()))
    print(f"precision   {run['precision']}, pool {run['pool']}")
    print(f"peak memory {peak_bytes / 2**20:,.0f} MiB (PSS of all processes)")


def watch(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process and return the peak memory of its tree in bytes.

    Ray's daemons leave the tree when it starts them, so processes are also found by their session.
    """
    root = psutil.Process(process.pid)
    before = set(psutil.pids())
    peak = 0
    while process.poll() is None:
        members = {root, *root.children(recursive=True)}
        members |= {p for p in psutil.process_iter() if p.pid not in before and is_ray(p)}
        peak = max(peak, sum(memory_of(member) for member in members))
        time.sleep(2)  # reading PSS costs CPU that the run could use
    if process.returncode:
        raise SystemExit(process.returncode)
    return peak


def is_ray(process: psutil.Process) -> bool:
    try:
        return any("ray" in part for part in process.cmdline()[:2])
    except psutil.Error:
        return False


def memory_of(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


if __name__ == "__main__":
    main()
