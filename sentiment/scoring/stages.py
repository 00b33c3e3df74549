"""What the task workers of Ray run: reading a unit, tokenising a block, committing a block.

A worker imports the module of the function that it runs. This one imports neither torch nor
transformers, which would cost every worker seconds and hundreds of megabytes.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sentiment.block import (
    IDS,
    REASON,
    SCORER,
    STAGE_TOKENISE,
    TOKENISE_SEC,
    TOKENS,
    TRUNCATED,
    UNKNOWN,
    reject_rows,
)
from sentiment.model.tokenizer import Tokeniser
from sentiment.output.apart import call_apart
from sentiment.output.attempts import (
    Attempts,
    clear_marker,
)
from sentiment.output.commit import Stamp, commit_block
from sentiment.output.fence import Fence
from sentiment.output.folder import Output
from sentiment.output.receipt import ActorNote, Footer, Receipt
from sentiment.scoring.reading import Deferred, deferred_in
from sentiment.texts import TEXT, TextColumns

# White space and what nobody sees: control characters, soft hyphens, marks that join or direct
# others, fillers of Hangul and Braille, tags. These are Unicode's Default_Ignorable_Code_Point with
# its white space and controls. https://www.unicode.org/reports/tr44/#Default_Ignorable_Code_Point
_UNSEEN = re.compile(
    r"[\s\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    r"\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]*"
)

# The column of what the commit stage returns: one JSON object per unit.
RESULT: Final = "result"


@dataclass(frozen=True)
class Tokenise:
    """The tokenise stage.

    Attributes:
        tokeniser: The model's.
        texts: The columns to score.
        location: The output, where markers of crashes are kept.
        run_token: Token of the run, which the markers carry.
    """

    tokeniser: Tokeniser
    texts: TextColumns
    location: str
    run_token: str

    def __call__(self, block: pa.Table) -> pa.Table:
        attempts = Attempts(Output.open(self.location), self.run_token, STAGE_TOKENISE)
        return attempts.run_on_rows(block, self._tokenise, self._tokenise_apart, "tokenising_error")

    def _tokenise(self, rows: pa.Table) -> pa.Table:
        return tokenise_block(rows, self.tokeniser, self.texts)

    def _tokenise_apart(self, rows: pa.Table) -> pa.Table:
        return call_apart(tokenise_block, rows, self.tokeniser, self.texts)


@dataclass(frozen=True)
class Commit:
    """The commit stage: writes the files of a scored block and returns receipts for the driver.

    Attributes:
        location: The output.
        stamp: Facts of the run that go into its files.
        fence: Stops a run that has lost the output to another one.
    """

    location: str
    stamp: Stamp
    fence: Fence

    def __call__(self, block: pa.Table) -> pa.Table:
        started = time.perf_counter()
        output = Output.open(self.location).fenced(self.fence)
        if (deferred := deferred_in(block)) is not None:
            clear_marker(output, deferred.unit.unit_id)
            return pa.table({RESULT: [json.dumps({"deferred": deferred.to_json()})]})
        footers = commit_block(output, self.stamp, block)
        for footer in footers:
            clear_marker(output, footer.unit_id)
        # A block is one unit, but for those that Ray hands over without rows.
        write_sec = (time.perf_counter() - started) / max(1, len(footers))
        note = _note(block)
        results = [
            json.dumps({"footer": footer.to_json(), "write_sec": write_sec, "note": note})
            for footer in footers
        ]
        return pa.table({RESULT: pa.array(results, pa.string())})


def results_of(committed: pa.Table) -> list[Receipt | Deferred]:
    """Return what the commit stage says of the units of a block."""
    results: list[Receipt | Deferred] = []
    for text in committed.column(RESULT).to_pylist():
        values = json.loads(text)
        if "deferred" in values:
            results.append(Deferred.from_json(values["deferred"]))
            continue
        note = None if values["note"] is None else ActorNote.from_json(values["note"])
        results.append(Receipt(Footer.from_json(values["footer"]), values["write_sec"], note))
    return results


def _note(block: pa.Table) -> str | None:
    if not block.num_rows or SCORER not in block.column_names:
        return None
    return str(block.column(SCORER)[0].as_py())


def tokenise_block(block: pa.Table, tokeniser: Tokeniser, columns: TextColumns = TEXT) -> pa.Table:
    """Attach token ids to the good rows of a block; reject rows that hold no text.

    Args:
        block: Rows as read, with the read carriers.

    Returns:
        The same rows with IDS, TOKENS, TRUNCATED, UNKNOWN and TOKENISE_SEC.
    """
    started = time.perf_counter()
    texts, problems = _usable_texts(block, columns)
    known = block.column(REASON).to_pylist()
    # A row that the reader rejected keeps that reason.
    unusable = {
        row: problem
        for row, problem in enumerate(problems)
        if problem is not None and known[row] is None
    }
    good = [row for row, reason in enumerate(known) if reason is None and row not in unusable]
    encoded = tokeniser.encode([texts[row] for row in good])
    for row, item in zip(good, encoded, strict=True):
        if item.unknown and tokeniser.is_unknown(texts[row]):
            unusable[row] = "unknown_text"
    ids: list[NDArray[np.int32] | None] = [None] * block.num_rows
    tokens: list[int | None] = [None] * block.num_rows
    truncated: list[bool | None] = [None] * block.num_rows
    unknown: list[int | None] = [None] * block.num_rows
    for row, item in zip(good, encoded, strict=True):
        if row not in unusable:
            ids[row], tokens[row], unknown[row] = item.ids, item.tokens, item.unknown
            truncated[row] = item.tokens > len(item.ids)
    rejected = sorted(unusable)
    reasons = [unusable[row] for row in rejected]
    block = reject_rows(block, rejected, STAGE_TOKENISE, reasons, [None] * len(rejected))
    seconds = (time.perf_counter() - started) / max(1, block.num_rows)
    return (
        block.append_column(IDS, pa.array(ids, pa.list_(pa.int32())))
        .append_column(TOKENS, pa.array(tokens, pa.int32()))
        .append_column(TRUNCATED, pa.array(truncated, pa.bool_()))
        .append_column(UNKNOWN, pa.array(unknown, pa.int32()))
        .append_column(TOKENISE_SEC, pa.array([seconds] * block.num_rows, pa.float32()))
    )


def _usable_texts(block: pa.Table, columns: TextColumns) -> tuple[list[str], list[str | None]]:
    """Return the text of every row, and the reason if a row has none."""
    names = columns.of(block.column_names)
    parts = {name: _texts_of(block.column(name)) for name in names}
    if columns.template is None:
        return parts[names[0]]
    texts: list[str] = []
    problems: list[str | None] = []
    for row in range(block.num_rows):
        found = {name: parts[name][1][row] for name in names}
        values = {
            name: None if found[name] == "null_text" else parts[name][0][row] for name in names
        }
        texts.append(columns.join(values) or "")
        problems.append(_problem_of_all(list(found.values())))
    return texts, problems


def _problem_of_all(problems: Sequence[str | None]) -> str | None:
    """Return why a row has no text whose columns are joined, from what is wrong with each."""
    of_values = [one for one in problems if one not in (None, "null_text", "empty_text")]
    if of_values:
        return of_values[0]
    if None in problems:
        return None
    return "empty_text" if "empty_text" in problems else "null_text"


def _texts_of(column: pa.ChunkedArray) -> tuple[list[str], list[str | None]]:
    """Return the text of every row of a column, and the reason if it has none."""
    if pa.types.is_dictionary(column.type):
        column = pc.cast(column, column.type.value_type)
    texts: list[str] = []
    problems: list[str | None] = []
    for found in column.to_pylist():
        value = _decoded(found) if isinstance(found, bytes) else found
        texts.append(value if isinstance(value, str) else "")
        problems.append(_problem(value))
    return texts, problems


def _decoded(value: bytes) -> str | bytes:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value


def _problem(value: object) -> str | None:
    if value is None:
        return "null_text"
    if isinstance(value, bytes):
        return "undecodable_text"
    if not isinstance(value, str):
        return "text_not_string"
    return "empty_text" if _UNSEEN.fullmatch(value) else None
