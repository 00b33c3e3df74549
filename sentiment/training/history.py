"""Printing the progress of training on standard error, one line per validation.

The first worker rewrites a history file at every validation; the driver reads it.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_POLL_SEC = 1.0


def write_history(path: Path, history: Sequence[dict[str, Any]]) -> None:
    """Replace the history file in one step, so that a reader never sees half of it."""
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(list(history)), encoding="utf-8")
    temporary.replace(path)


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return all validations so far; none before the first."""
    if not path.exists():
        return []
    history: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return history


@contextmanager
def follow_history(path: Path) -> Iterator[None]:
    """Print new validations while the block runs. Those of an earlier start are not repeated."""
    finished = threading.Event()
    printed = len(read_history(path))

    def follow() -> None:
        nonlocal printed
        ended = False
        while not ended:
            # The file is read once more after the end, so that no validation is missed.
            ended = finished.wait(_POLL_SEC)
            history = read_history(path)
            for metrics in history[printed:]:
                print(line(metrics), file=sys.stderr, flush=True)
            printed = max(printed, len(history))

    thread = threading.Thread(target=follow, name="history", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def line(metrics: dict[str, Any]) -> str:
    """Return one validation as one line."""
    return (
        f"{metrics['phase']:<8} step {metrics['step']:,} of {metrics['steps']:,}  "
        f"epoch {metrics['epoch']:g}  loss {metrics['train_loss']:.4f}  "
        f"validation accuracy {metrics['validation_accuracy']:.4f}"
    )
