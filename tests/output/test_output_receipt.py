"""Footers survive the way into a Parquet file and out of it, and are small in memory."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest

from sentiment.output.receipt import Footer

FOOTER = Footer("u", "f", "fp", 0, 9, 8, 2, "m", "c", "v", {"labels": {"ä": {"rows": 8}}})


def test_a_footer_survives_parquet_metadata() -> None:
    assert Footer.from_metadata(FOOTER.to_metadata()) == FOOTER
    assert FOOTER.rows == 10
    assert Footer.from_metadata(None) is None
    assert Footer.from_metadata({b"pandas": b"{}"}) is None


def test_counts_survive_every_copy() -> None:
    for copy in (replace(FOOTER, epoch=3), pickle.loads(pickle.dumps(FOOTER))):
        assert copy.metrics == {"labels": {"ä": {"rows": 8}}}
    assert Footer("u", "f", "fp", 0, 9, 8, 2, "m", "c", "v").metrics == {}


def test_counts_that_are_read_are_a_copy() -> None:
    FOOTER.metrics["labels"] = {}
    assert FOOTER.metrics == {"labels": {"ä": {"rows": 8}}}


def test_what_is_no_count_stays_what_it_is() -> None:
    """So that `sentiment verify` can tell of it."""
    values = {**json.loads(FOOTER.to_json()), "metrics": None}
    assert Footer.from_json(json.dumps(values)).metrics is None


def test_footers_share_their_words() -> None:
    texts = [replace(FOOTER, unit_id=f"u{n}").to_json().encode() for n in range(2)]
    path = "".join(["u", "0"])
    first, second = Footer.from_many(texts, [{"unit_id": path}, {"unit_id": "another"}])
    assert first == replace(FOOTER, unit_id="u0")
    assert second == replace(FOOTER, unit_id="u1")
    assert first.unit_id is path
    assert first.config_digest is second.config_digest


@pytest.mark.parametrize("text", [b"5", b"[]", b"null", b'{"unit_id": "u"}', b"{}, {}"])
def test_what_is_no_footer_is_an_error(text: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        Footer.from_many([text], [{"unit_id": "u"}])
