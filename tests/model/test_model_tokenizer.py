"""Text to ids as transformers would, and blocks in which some rows hold no text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from sentiment.block import DETAIL, IDS, REASON, REASONS, STAGE, TOKENISE_SEC, TOKENS, TRUNCATED
from sentiment.errors import ModelError
from sentiment.model.tokenizer import Tokeniser, truncate
from sentiment.scoring.stages import tokenise_block

EOS = 1
ODD_TEXTS = [
    "",
    " ",
    "good",
    "  good  movie \n\n of the\tyear ",
    "naïve café — déjà vu",
    "映画は最高でした 😀👍🏽",
    "a" * 500,
    "no " * 300,
    "<pad> is not </s> the end <unk>",
    "zero\u200bwidth \u0000 null \ufeff mark",
    "ﬁne ① Ⅳ",
]


@pytest.fixture(scope="module")
def theirs(vocabulary: Path) -> Any:
    return AutoTokenizer.from_pretrained(str(vocabulary))


def block_of(texts: pa.Array, **columns: list[str | None]) -> pa.Table:
    nothing: list[str | None] = [None] * len(texts)
    values = {STAGE: nothing, REASON: nothing, DETAIL: nothing, **columns}
    return pa.table(
        {
            "n": pa.array(range(len(texts))),
            "text": texts,
            **{name: pa.array(column, pa.string()) for name, column in values.items()},
        }
    )


def tokenised(vocabulary: Path, block: pa.Table, limit: int = 16) -> pa.Table:
    return tokenise_block(block, Tokeniser(vocabulary, "{text}", limit, "head"), "text")


@pytest.mark.parametrize("limit", [2, 3, 16, 512])
def test_ids_equal_the_tokenizers_own(vocabulary: Path, theirs: Any, limit: int) -> None:
    texts = [*ODD_TEXTS, *tiny_models.example_texts()[:60]]
    ours = Tokeniser(vocabulary, "{text}", limit, "head").encode(texts)
    for text, item in zip(texts, ours, strict=True):
        assert item.ids.tolist() == theirs(text, truncation=True, max_length=limit)["input_ids"]
        assert item.tokens == len(theirs(text)["input_ids"])
        assert item.ids.dtype == np.int32


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=120), limit=st.integers(2, 40))
def test_any_text_equals_the_tokenizers_own(
    vocabulary: Path, theirs: Any, text: str, limit: int
) -> None:
    (item,) = Tokeniser(vocabulary, "{text}", limit, "head").encode([text])
    assert item.ids.tolist() == theirs(text, truncation=True, max_length=limit)["input_ids"]


def test_there_is_one_end_of_sequence_and_it_is_last(vocabulary: Path) -> None:
    tokeniser = Tokeniser(vocabulary, "{text}", 16, "head")
    assert tokeniser.eos_id == EOS
    for item in tokeniser.encode(tiny_models.example_texts()[:40]):
        assert item.ids.tolist().count(EOS) == 1
        assert item.ids[-1] == EOS


def test_more_texts_than_one_chunk_keep_their_order(
    vocabulary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokeniser = Tokeniser(vocabulary, "{text}", 16, "head")
    texts = tiny_models.example_texts()[:23]
    whole = [item.ids.tolist() for item in tokeniser.encode(texts)]
    monkeypatch.setattr("sentiment.model.tokenizer._CHUNK_ROWS", 5)
    assert [item.ids.tolist() for item in tokeniser.encode(texts)] == whole


@given(
    ids=st.lists(st.integers(), max_size=30),
    limit=st.integers(1, 20),
)
def test_head_and_tail_keep_both_ends(ids: list[int], limit: int) -> None:
    head, both = truncate(ids, limit, "head"), truncate(ids, limit, "head_tail")
    assert len(head) == len(both) == min(len(ids), limit)
    assert head == ids[:limit]
    tail = limit // 2 if len(ids) > limit else 0
    assert both[: len(both) - tail] == ids[: len(both) - tail]
    assert both[len(both) - tail :] == ids[len(ids) - tail :]


def test_head_tail_counts_all_tokens(vocabulary: Path, theirs: Any) -> None:
    text = max(tiny_models.example_texts(), key=len)
    full = theirs(text)["input_ids"]
    (item,) = Tokeniser(vocabulary, "{text}", 10, "head_tail").encode([text])
    assert item.ids.tolist() == [*full[:5], *full[-5:]]
    assert item.tokens == len(full) > 10


def test_the_template_surrounds_the_text(vocabulary: Path, theirs: Any) -> None:
    tokeniser = Tokeniser(vocabulary, "review: {text} verdict:", 64, "head")
    (item,) = tokeniser.encode(["a {text} of its own"])
    expected = theirs("review: a {text} of its own verdict:")["input_ids"]
    assert item.ids.tolist() == expected


def test_labels_are_spelt_without_end_and_decode_back(vocabulary: Path) -> None:
    tokeniser = Tokeniser(vocabulary, "{text}", 8, "head")
    for label in ("positive", "negative", "very good"):
        ids = tokeniser.label_ids(label)
        assert EOS not in ids
        assert tokeniser.decode([0, *ids, EOS]) == label


def test_a_folder_without_tokenizer_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(ModelError, match="tokenizer"):
        Tokeniser(tmp_path, "{text}", 8, "head")


def test_a_broken_tokenizer_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (folder / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(ModelError, match="tokenizer"):
        Tokeniser(folder, "{text}", 8, "head")


def test_a_block_keeps_its_rows_and_gains_ids(vocabulary: Path) -> None:
    texts = tiny_models.example_texts()[:5]
    out = tokenised(vocabulary, block_of(pa.array(texts)))
    assert out.column("n").to_pylist() == list(range(5))
    assert out.column("text").to_pylist() == texts
    assert out.schema.field(IDS).type == pa.list_(pa.int32())
    expected = Tokeniser(vocabulary, "{text}", 16, "head").encode(texts)
    assert out.column(IDS).to_pylist() == [item.ids.tolist() for item in expected]
    assert out.column(TOKENS).to_pylist() == [item.tokens for item in expected]
    assert out.column(TRUNCATED).to_pylist() == [item.tokens > 16 for item in expected]
    assert len(set(out.column(TOKENISE_SEC).to_pylist())) == 1


@pytest.mark.parametrize(
    ("texts", "reasons"),
    [
        (pa.array(["fine", None, "", " \n\t\u00a0"]),
         [None, "null_text", "empty_text", "empty_text"]),
        (pa.array([1, None]), ["text_not_string", "null_text"]),
        (pa.array([[1], None], pa.list_(pa.int8())), ["text_not_string", "null_text"]),
        (pa.array([True]), ["text_not_string"]),
        (pa.nulls(2), ["null_text", "null_text"]),
        (pa.array([b"fine", "caf\u00e9".encode(), b"caf\xe9", b"", None]),
         [None, None, "undecodable_text", "empty_text", "null_text"]),
        (pa.array([b"good", b"\xff\xfe\xfd\xfc"], pa.binary(4)), [None, "undecodable_text"]),
        (pa.array(["fine", None, "fine", " "]).dictionary_encode(),
         [None, "null_text", None, "empty_text"]),
        (pa.array(["fine", ""], pa.large_string()), [None, "empty_text"]),
        (pa.array(["fine", None], pa.string_view()), [None, "null_text"]),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)  # fmt: skip
def test_rows_without_text_are_rejected_and_stay(
    vocabulary: Path, texts: pa.Array, reasons: list[str | None]
) -> None:
    out = tokenised(vocabulary, block_of(texts))
    assert out.column("n").to_pylist() == list(range(len(texts)))
    assert out.column(REASON).to_pylist() == reasons
    assert out.column(STAGE).to_pylist() == [reason and "tokenise" for reason in reasons]
    good = [reason is None for reason in reasons]
    for name in (IDS, TOKENS, TRUNCATED):
        assert [value is not None for value in out.column(name).to_pylist()] == good
    assert set(filter(None, reasons)) <= set(REASONS)


def test_bytes_are_read_as_the_text_they_spell(vocabulary: Path) -> None:
    texts = ["good", "caf\u00e9"]
    as_bytes = tokenised(vocabulary, block_of(pa.array([text.encode() for text in texts])))
    as_text = tokenised(vocabulary, block_of(pa.array(texts)))
    assert as_bytes.column(IDS).equals(as_text.column(IDS))


def test_a_row_rejected_before_stays_as_it_was(vocabulary: Path) -> None:
    block = block_of(
        pa.array(["fine", None, "fine"]),
        **{STAGE: [None, "read", "read"], REASON: [None, "unreadable_rows", "malformed_record"]},
    )
    out = tokenised(vocabulary, block)
    assert out.column(STAGE).to_pylist() == [None, "read", "read"]
    assert out.column(REASON).to_pylist() == [None, "unreadable_rows", "malformed_record"]
    assert [ids is None for ids in out.column(IDS).to_pylist()] == [False, True, True]


def test_an_empty_block_gains_the_columns(vocabulary: Path) -> None:
    out = tokenised(vocabulary, block_of(pa.array([], pa.string())))
    assert out.num_rows == 0
    assert {IDS, TOKENS, TRUNCATED, TOKENISE_SEC} < set(out.column_names)
