"""Which runs of an output nobody has judged yet, by their epochs.

A run that dies leaves rows that no comparison has seen, and one that finds drift leaves rows that
somebody has to look at. The next run reuses them; without a record it would compare only what it
scored itself, and the retry that every orchestrator makes would end well. So an epoch is recorded
before the first row of its run is committed, and goes when a run ends well that has these rows in
its account.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from sentiment.output.folder import Output
from sentiment.output.layout import UNJUDGED_FILE

# Epochs of runs that died before they committed anything stay; the oldest ones go.
_MOST: Final = 1000


def read_unjudged(output: Output) -> frozenset[int]:
    """Read the epochs of the runs that are not judged; none if the record is damaged.

    Raises:
        OutputError: The storage does not answer.
    """
    try:
        return frozenset(int(epoch) for epoch in json.loads(output.read(UNJUDGED_FILE) or b"[]"))
    except (ValueError, TypeError):
        return frozenset()


def add_unjudged(output: Output, epoch: int) -> None:
    """Record a run that is about to commit its first row.

    Raises:
        OutputError: The record cannot be written.
    """
    _write(output, read_unjudged(output) | {epoch})


def settle_unjudged(output: Output, epochs: Iterable[int]) -> None:
    """Take runs off the record whose rows are judged.

    Raises:
        OutputError: The record cannot be written.
    """
    before = read_unjudged(output)
    left = before.difference(epochs)
    if left != before:
        _write(output, left)


def _write(output: Output, epochs: Iterable[int]) -> None:
    output.write(UNJUDGED_FILE, json.dumps(sorted(epochs)[-_MOST:]).encode() + b"\n")
