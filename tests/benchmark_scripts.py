"""Benchmarks run as their users run them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def lines_of(script: str, *words: str) -> list[str]:
    """What a script prints about the built-in model and the example reviews, on one thread."""
    given = ("--model", "builtin", "--reviews-file", "examples/reviews.jsonl")
    return output_of(script, *words, "--threads", "1", *given)


def output_of(script: str, *words: str) -> list[str]:
    """The lines that a script prints."""
    done = subprocess.run(
        [sys.executable, f"benchmarks/{script}", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
