"""A SentencePiece vocabulary for a T5 trained from nothing.

Takes texts, gives a folder with tokenizer files in transformers layout. Knows no network.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import sentencepiece
from transformers import T5Tokenizer

from sentiment.errors import ConfigError

# SentencePiece reads whole sentences; a review beyond this many bytes is left out of the sample.
_MAX_TEXT_BYTES = 16_384


def train_vocabulary(
    texts: Iterable[str], folder: Path, *, vocab_size: int, sample_rows: int = 50_000
) -> T5Tokenizer:
    """Train a unigram vocabulary in T5's order of special pieces and save it as a tokenizer.

    Ids 0, 1 and 2 are `<pad>`, `</s>` and `<unk>` as in every T5. There are no sentinel pieces:
    they serve span corruption, which a classifier is not trained on.

    Args:
        texts: Training texts.
        folder: Receives `spiece.model`, `tokenizer.json` and `tokenizer_config.json`.
        vocab_size: Pieces, special ones included.
        sample_rows: Texts sampled for training.

    Raises:
        ConfigError: The texts cannot fill a vocabulary of that size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text.replace("\n", " ") for text in texts),
            model_prefix=str(folder / "spiece"),
            vocab_size=vocab_size,
            model_type="unigram",
            character_coverage=0.9995,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            input_sentence_size=sample_rows,
            shuffle_input_sentence=True,
            max_sentence_length=_MAX_TEXT_BYTES,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ConfigError(
            f"--architecture.vocab-size {vocab_size}: the training texts cannot fill it "
            f"({str(error).splitlines()[-1][:200]})"
        ) from error
    (folder / "spiece.vocab").unlink()
    tokenizer = T5Tokenizer.from_pretrained(str(folder), extra_ids=0)
    tokenizer.save_pretrained(str(folder))
    return tokenizer  # type: ignore[no-any-return]
