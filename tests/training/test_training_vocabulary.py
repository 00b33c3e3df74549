"""A vocabulary trained from texts is a T5 tokenizer like any other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models
from transformers import AutoTokenizer, T5Tokenizer

from sentiment.errors import ConfigError
from sentiment.training.vocabulary import train_vocabulary

FILES = ["spiece.model", "tokenizer.json", "tokenizer_config.json"]


def test_special_pieces_are_where_every_t5_has_them(vocabulary: Path) -> None:
    tokenizer = T5Tokenizer.from_pretrained(str(vocabulary))
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["<pad>", "</s>", "<unk>"]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    assert len(tokenizer) == tiny_models.SHAPE.vocab_size


def test_the_saved_tokenizer_is_the_trained_one(tmp_path: Path) -> None:
    texts = tiny_models.example_texts()
    trained = train_vocabulary(texts, tmp_path, vocab_size=400)
    loaded = AutoTokenizer.from_pretrained(str(tmp_path))
    assert isinstance(loaded, T5Tokenizer)
    assert loaded.get_vocab() == trained.get_vocab()
    for text in texts[:50]:
        assert loaded(text)["input_ids"] == trained(text)["input_ids"]
    assert loaded("good")["input_ids"][-1] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


_TRAIN = """
import sys
from pathlib import Path
import tiny_models
from sentiment.training.vocabulary import train_vocabulary
texts = tiny_models.example_texts()
train_vocabulary(texts, Path(sys.argv[1]), vocab_size=200, sample_rows=150)
"""


def test_the_same_seed_gives_the_same_files_in_another_process_and_folder(tmp_path: Path) -> None:
    """SentencePiece's own sample is another one in every process."""
    texts = tiny_models.example_texts()
    here, there, other = (tmp_path / name for name in ("here", "there", "other"))
    assert len(train_vocabulary(texts, here, vocab_size=200, sample_rows=150)) == 200
    subprocess.run(
        [sys.executable, "-c", _TRAIN, str(there)],
        cwd=Path(tiny_models.__file__).parent,  # where it finds that module again
        check=True,
    )
    for name in FILES:
        assert (here / name).read_bytes() == (there / name).read_bytes()
    train_vocabulary(texts, other, vocab_size=200, sample_rows=150, seed=43)
    assert (here / "spiece.model").read_bytes() != (other / "spiece.model").read_bytes()


def test_a_vocabulary_the_texts_cannot_fill_is_a_setting_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="vocab-size 30000") as caught:
        train_vocabulary(tiny_models.example_texts(), tmp_path, vocab_size=30_000)
    assert "\n" not in str(caught.value)
