"""What a lease file may hold: whatever it is, reading it is no error."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sentiment.output.holder import Holder


@given(st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(
    lambda value: json.dumps(value).encode()
))  # fmt: skip
def test_no_content_of_the_file_is_an_error(data: bytes) -> None:
    assert Holder.from_bytes(data) is None


FIELDS = sorted(Holder.__dataclass_fields__)


@given(st.sampled_from(FIELDS), st.none() | st.text() | st.floats() | st.integers())
def test_no_value_in_the_file_is_an_error(name: str, value: Any) -> None:
    values = {**json.loads(Holder.this_process("other").to_bytes()), name: value}
    holder = Holder.from_bytes(json.dumps(values).encode())
    assert holder is None or holder.is_gone() in (True, False)
