"""A SentencePiece vocabulary for a T5 that is trained from nothing."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sentencepiece
from transformers import T5Tokenizer

from sentiment.errors import ConfigError

# SentencePiece reads whole sentences; a review beyond this many bytes is left out of the sample.
_MAX_TEXT_BYTES = 16_384


def train_vocabulary(
    texts: Sequence[str],
    folder: Path,
    *,
    vocab_size: int,
    seed: int = 42,
    sample_rows: int = 50_000,
) -> T5Tokenizer:
    """Train a unigram vocabulary in T5's order of special pieces and save it as a tokenizer.

    Ids 0, 1 and 2 are `<pad>`, `</s>` and `<unk>` as in every T5. There are no sentinel pieces:
    they serve span corruption, which a classifier is not trained on.

    Args:
        texts: Training texts.
        folder: Receives `spiece.model`, `tokenizer.json` and `tokenizer_config.json`.
        vocab_size: Pieces, special ones included.
        seed: Of the sample. The same texts and seed give the same files, in whatever folder.
        sample_rows: Texts sampled for training, if there are more.

    Raises:
        ConfigError: The texts cannot fill a vocabulary of that size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if len(texts) > sample_rows:
        # Not by SentencePiece, which draws others in every process, whatever its seed.
        drawn = np.random.default_rng(seed).choice(len(texts), sample_rows, replace=False)
        texts = [texts[i] for i in np.sort(drawn)]
    model = io.BytesIO()  # a file of its own making would have its path inside
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text.replace("\n", " ") for text in texts),
            model_writer=model,
            vocab_size=vocab_size,
            model_type="unigram",
            character_coverage=0.9995,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            max_sentence_length=_MAX_TEXT_BYTES,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ConfigError(
            f"--architecture.vocab-size {vocab_size}: the training texts cannot fill it "
            f"({str(error).splitlines()[-1][:200]})"
        ) from error
    (folder / "spiece.model").write_bytes(model.getvalue())
    tokenizer = T5Tokenizer.from_pretrained(str(folder), extra_ids=0)
    tokenizer.save_pretrained(str(folder))
    return tokenizer  # type: ignore[no-any-return]
