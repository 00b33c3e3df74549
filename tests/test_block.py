"""Rows of a block are rejected, and no others change."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sentiment.block import DETAIL, REASON, STAGE, STAGE_SCORE, STAGES, reject_rows


def block_of(*reasons: str | None) -> pa.Table:
    stages = [reason and "read" for reason in reasons]
    details = [reason and "torn" for reason in reasons]
    columns = {STAGE: stages, REASON: reasons, DETAIL: details}
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def test_only_the_given_rows_are_rejected() -> None:
    block = block_of(None, "malformed_record", None, None)
    rejected = reject_rows(block, [0, 3], STAGE_SCORE, ["scoring_error"] * 2, ["it failed", None])
    assert rejected.column(STAGE).to_pylist() == ["score", "read", None, "score"]
    assert rejected.column(REASON).to_pylist() == [
        "scoring_error",
        "malformed_record",
        None,
        "scoring_error",
    ]
    assert rejected.column(DETAIL).to_pylist() == ["it failed", "torn", None, None]
    assert rejected.schema == block.schema


@pytest.mark.parametrize("rows", [0, 3])
def test_no_row_to_reject_changes_nothing(rows: int) -> None:
    block = block_of(*[None] * rows)
    assert reject_rows(block, [], STAGE_SCORE, [], []).equals(block)


def test_the_stages_are_the_names_in_the_files() -> None:
    assert STAGES == ("read", "tokenise", "score", "write")
