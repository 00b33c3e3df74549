"""Footers survive the way into a Parquet file and out of it."""

from __future__ import annotations

from sentiment.output.receipt import Footer


def test_a_footer_survives_parquet_metadata() -> None:
    footer = Footer("u", "f", "fp", 0, 9, 8, 2, "m", "c", "v", {"labels": {"ä": {"rows": 8}}})
    assert Footer.from_metadata(footer.to_metadata()) == footer
    assert footer.rows == 10
    assert Footer.from_metadata(None) is None
    assert Footer.from_metadata({b"pandas": b"{}"}) is None
