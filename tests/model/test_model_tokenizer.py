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
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer

from sentiment.block import (
    DETAIL,
    IDS,
    REASON,
    REASONS,
    STAGE,
    TOKENISE_SEC,
    TOKENS,
    TRUNCATED,
    UNKNOWN,
)
from sentiment.errors import ModelError
from sentiment.model.tokenizer import Tokeniser, truncate, without_special_tokens
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
    return tokenise_block(block, Tokeniser(vocabulary, "{text}", limit, "head"))


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


TYPED = ["<pad>", "</s>", "<unk>", "a</s>b", "<pad><pad>", "I liked it." + " <pad>" * 50]


@pytest.mark.parametrize("text", TYPED)
def test_names_of_special_tokens_in_a_review_are_plain_text(vocabulary: Path, text: str) -> None:
    tokeniser = Tokeniser(vocabulary, "{text}", 512, "head")
    (item,) = tokeniser.encode([text])
    body = item.ids.tolist()[:-1]
    assert not {0, EOS} & set(body), "padding or an end in the middle of a text"
    assert item.ids[-1] == EOS
    assert item.tokens == len(body) + 1


@pytest.mark.parametrize(
    "template", ["{text} </s>", "</s>{text}", "<pad> rate: {text} end</s> now <pad>"]
)
def test_special_tokens_of_the_template_stay_special(
    vocabulary: Path, theirs: Any, template: str
) -> None:
    text = "a good film"
    (item,) = Tokeniser(vocabulary, template, 512, "head").encode([text])
    expected = theirs(template.replace("{text}", text), add_special_tokens=False)["input_ids"]
    assert item.ids.tolist() == [*expected, EOS]
    (typed,) = Tokeniser(vocabulary, template, 512, "head").encode(["a <pad> film"])
    assert typed.ids.tolist().count(0) == template.count("<pad>")


@pytest.mark.parametrize("kind", ["BPE", "WordPiece", "Unigram"])
def test_no_kind_of_tokenizer_makes_special_tokens_of_a_text(kind: str) -> None:
    model = {
        "BPE": models.BPE({"<pad>": 0, "</s>": 1, "<unk>": 2, "<": 3, ">": 4, "p": 5}, []),
        "WordPiece": models.WordPiece({"<pad>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"),
        "Unigram": models.Unigram([("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("<", -1.0)], 2),
    }[kind]  # fmt: skip
    backend = Tokenizer(model)
    backend.add_special_tokens(["<pad>", "</s>", "<unk>"])
    assert 0 in backend.encode("a <pad> b").ids
    plain = Tokenizer.from_str(without_special_tokens(backend.to_str()))
    assert not {0, 1} & set(plain.encode("a <pad> b </s>").ids)
    assert plain.get_vocab_size() == backend.get_vocab_size(), "ids stay what they were"


@pytest.mark.parametrize(
    ("text", "unknown"),
    [("好电影", True), ("😀 👍", True), ("a good film", False), ("good 好", False), ("...", False)],
)
def test_unknown_characters_are_counted(vocabulary: Path, text: str, unknown: bool) -> None:
    tokeniser = Tokeniser(vocabulary, "review: {text}", 64, "head")
    (item,) = tokeniser.encode([text])
    assert tokeniser.is_unknown(text) == unknown
    assert (item.unknown > 0) == any(ord(one) > 0x2000 for one in text)


UNSEEN = [
    "\u200b", "\u200b\u200c\u200d\ufeff", "\x00", "\u2060", "\u00ad", "\ufe0f", "\u202e", "\u2800",
    "\x01\x02", "\u3164", "\U000e0041", " \u200b\n\u2800 ", "\u00a0", "\u3000",
]  # fmt: skip


def test_texts_that_nobody_sees_are_empty(vocabulary: Path) -> None:
    table = tokenised(vocabulary, block_of(pa.array([*UNSEEN, "\u200bgood\u200b", "x"])))
    assert table[REASON].to_pylist() == ["empty_text"] * len(UNSEEN) + [None, None]


def test_a_text_of_unknown_characters_only_gets_no_label(vocabulary: Path) -> None:
    table = tokenised(vocabulary, block_of(pa.array(["好电影", "good 好", "", "good"])))
    assert table[REASON].to_pylist() == ["unknown_text", None, "empty_text", None]
    assert table[IDS][0].as_py() is None
    assert table[UNKNOWN].to_pylist() == [None, 1, None, 0]
    assert {"unknown_text", "empty_text"} <= set(REASONS)


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
