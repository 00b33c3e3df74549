"""Keeps a run that lost its lease from changing the output.

A run can hang for minutes: its machine is suspended, or its storage does not answer. Another run
then takes the lease over. If the first one wakes up, it must not write what it had at hand, nor
delete what it takes for superseded. So every process of a run reads the lease file before it
changes anything, and where the filesystem has locks, no other run can take the lease until the
change is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sentiment.errors import LeaseLostError
from sentiment.output.folder import Output
from sentiment.output.holder import Holder
from sentiment.output.layout import LEASE_FILE
from sentiment.output.lock import lock_lease


@dataclass(frozen=True)
class Fence:
    """The check that a run still holds the lease of its output. Small: every worker gets one.

    Attributes:
        run_id: The run, for messages.
        token: Of its lease.
        epoch: Of its lease; the footers of the run carry it.
    """

    run_id: str
    token: str
    epoch: int

    @contextmanager
    def __call__(self, output: Output) -> Iterator[None]:
        """Check that the lease is held, and keep it while the body runs.

        On object stores, which have no locks, it may be lost in the body.

        Raises:
            LeaseLostError: Another run holds the lease, or held it after this one.
            OutputError: The lease cannot be read or locked.
        """
        with lock_lease(output, shared=True):
            self.check(output)
            yield

    def check(self, output: Output) -> None:
        """Check that the lease is held. A missing or damaged file is no other run's.

        Raises:
            LeaseLostError: Another run holds the lease, or held it after this one.
            OutputError: The lease cannot be read.
        """
        current = Holder.from_bytes(output.read(LEASE_FILE))
        if current is not None and current.token != self.token:
            raise LeaseLostError(
                f"--output {output.location}: {current} took over while run {self.run_id} gave no "
                "sign of life; this run stops, and its rows are safe. Run the same command again "
                "when the other run has ended"
            )
