"""The digest of a value."""

from __future__ import annotations

from sentiment.digest import digest


def test_a_digest_depends_on_values_not_on_key_order() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
