"""What Ray's task workers run: read a unit, tokenise a block, commit a block.

Takes units and blocks, gives blocks. A module of its own because a worker imports the module of
what it runs: here that is neither torch nor transformers, which would cost every worker seconds
and hundreds of megabytes. Knows no Ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from sentiment.output import Output
from sentiment.schema import Unit
from sentiment.sink import Stamp, commit_block
from sentiment.source.index import read_unit
from sentiment.tokenise import Tokeniser, tokenise_block

# The one column of what the commit stage gives: footers as JSON.
FOOTER: Final = "footer"


def read_block(unit: Unit, columns: pa.Schema, text_column: str) -> list[pa.Table]:
    """Read one unit as one block."""
    return [read_unit(unit, columns, text_column)]


@dataclass(frozen=True)
class Tokenise:
    """The tokenise stage."""

    tokeniser: Tokeniser
    text_column: str

    def __call__(self, block: pa.Table) -> pa.Table:
        return tokenise_block(block, self.tokeniser, self.text_column)


@dataclass(frozen=True)
class Commit:
    """The commit stage: a scored block becomes files, its footers travel back to the driver."""

    output: str
    stamp: Stamp

    def __call__(self, block: pa.Table) -> pa.Table:
        footers = commit_block(Output.open(self.output), self.stamp, block)
        return pa.table({FOOTER: pa.array([footer.to_json() for footer in footers], pa.string())})
