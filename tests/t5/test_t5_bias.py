"""The two tables of the relative position bias, and the index arrays that lengths become."""

from __future__ import annotations

import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import given
from hypothesis import strategies as st

from sentiment.t5.bias import DistanceBias, RelativeBias
from sentiment.t5.lengths import rounded_up, rows_of_tokens, starts_of, to_device
from sentiment.t5.shape import T5Shape

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def shape() -> T5Shape:
    return T5Shape.from_config(tiny_models.untied_of(40).config.to_dict())


def test_both_tables_say_the_same(shape: T5Shape) -> None:
    weight_KH = torch.randn(shape.buckets, shape.heads)
    square, by_distance = (
        RelativeBias(shape, weight_KH, torch.float32),
        DistanceBias(shape, weight_KH, factor=2.0, step=16),
    )
    for length in (1, 16, 17, 300, 5):  # grows, and serves a shorter one after a longer
        table_HS = by_distance(length)
        assert table_HS.is_contiguous()
        middle = table_HS.shape[1] // 2
        assert middle + 1 >= length
        assert (middle + 1) % 16 == 0
        position_S = torch.arange(length)
        distance_SS = position_S[None, :] - position_S[:, None]
        assert torch.equal(table_HS[:, middle + distance_SS], 2 * square(length))


@given(lengths=LENGTHS)
def test_rows_of_tokens_are_those_of_a_padded_batch(lengths: list[int]) -> None:
    parts = [np.arange(length) + row * max(lengths) for row, length in enumerate(lengths)]
    padded = [max(lengths)] * len(lengths)
    assert rows_of_tokens(lengths, padded).tolist() == np.concatenate(parts).tolist()
    assert starts_of(lengths).tolist() == [sum(lengths[:row]) for row in range(len(lengths))]


def test_rounding_up_goes_no_further_than_it_must() -> None:
    assert [rounded_up(length, 16) for length in (1, 15, 16, 17, 32)] == [16, 16, 16, 32, 32]


def test_what_is_sent_arrives() -> None:
    values = np.arange(6).reshape(2, 3)
    assert to_device(values, torch.device("cpu")).tolist() == values.tolist()
