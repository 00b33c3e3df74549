"""Text to token ids: prompt template, truncation, `</s>`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sentiment.digest import digest
from sentiment.errors import ModelError
from sentiment.settings.choices import LongText

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Texts handed to the tokenizer's own thread pool at once: large enough to keep it busy, small
# enough that the encodings of a block never stand in memory together.
_CHUNK_ROWS = 1024
_CHUNK_CHARS = 4_000_000

# What is read of a text in windows, in source limits.
_MOST_WINDOWS = 32

# Starts the names of special tokens where a text is encoded: two noncharacters, which no text may
# use for exchange.
_UNTYPED = "\ufdd0\ufdd1"

# Parts of a tokenizer's description that do not change the ids of a text here.
_NO_MATTER = frozenset({"version", "truncation", "padding"})

_NEEDED = "tokenizer.json or spiece.model"


@dataclass(frozen=True)
class Encoded:
    """The token ids of one text.

    Attributes:
        ids: int32, ends with `</s>`; at most the source limit, unless it is to be cut in windows.
        tokens: Length before truncation, `</s>` included.
        unknown: Of these, tokens that stand for characters which the vocabulary lacks.
    """

    ids: NDArray[np.int32]
    tokens: int
    unknown: int = 0


def truncate(ids: Sequence[int], limit: int, long_text: LongText) -> list[int]:
    """Keep at most `limit` ids: the first ones, or the first half and the last half.

    The head gets the odd one. Reviews open with their subject and close with their verdict, so a
    small model with a short limit reads both ends. For windows 32 times as many are kept, so that a
    whole book in one row costs no more than it is worth.
    """
    if long_text == "windows":
        limit *= _MOST_WINDOWS
    if len(ids) <= limit:
        return list(ids)
    if long_text != "head_tail":
        return list(ids[:limit])
    tail = limit // 2
    return [*ids[: limit - tail], *ids[len(ids) - tail :]]


class Tokeniser:
    """Encodes reviews exactly as the model's own tokenizer does, and ends them with one `</s>`.

    The published T5 card appends `</s>` by hand because the tokenizer of its day did not; today's
    does. Adding it here, to ids made without special tokens, gives one in either case.

    Names of special tokens in a review, such as `<pad>`, are plain text: a reviewer may type
    anything, and fifty typed `<pad>` would turn a good review into a bad one. Those in the template
    are special tokens.

    transformers settles which files of a folder count and how; the encoding is done by what it
    built, the `tokenizers` library. So an instance can be sent to processes that need not import
    transformers and, with it, torch.

    Args:
        folder: Model folder in transformers layout.
        template: Prompt with `{text}` in it once.
        limit: Source limit in tokens, `</s>` included.
        long_text: What to keep of a longer text.

    Raises:
        ModelError: The folder has no usable tokenizer.
    """

    # Ids of special tokens in the template, before and after all text; and of unknown characters.
    _lead: tuple[int, ...] = ()
    _trail: tuple[int, ...] = ()
    _unknown_id: int = -1

    def __init__(self, folder: Path, template: str, limit: int, long_text: LongText) -> None:
        loaded = load_tokenizer(folder)
        backend = getattr(loaded, "backend_tokenizer", None)
        if backend is None:
            raise ModelError(f"{folder}: the tokenizer is not one of the tokenizers library")
        eos_id = loaded.eos_token_id
        if not isinstance(eos_id, int):
            raise ModelError(f"{folder}: the tokenizer has no end-of-sequence token")
        self.eos_id = eos_id
        if isinstance(loaded.unk_token_id, int):
            self._unknown_id = loaded.unk_token_id
        self._vocabulary_json = backend.to_str()
        before, after = template.split("{text}")
        added = backend.get_added_tokens_decoder().values()
        special = [one.content for one in added if one.special]
        cut = max((before.rfind(one) + len(one) for one in special if one in before), default=0)
        self._lead, self._before = self._ids(before[:cut]), before[cut:]
        cut = min((after.find(one) for one in special if one in after), default=len(after))
        self._after, self._trail = after[:cut], self._ids(after[cut:])
        self._limit = limit
        self._long_text = long_text

    @property
    def digest(self) -> str:
        """SHA-256 of the tokenizer as it works, whatever files it was made from."""
        return tokenizer_digest(self._vocabulary_json)

    @property
    def _backend(self) -> Tokenizer:
        # Looked up, not kept: a copy of this object that travels to a worker has the JSON only.
        return _backend_of(self._vocabulary_json)

    @property
    def _plain(self) -> Tokenizer:
        return _plain_backend_of(self._vocabulary_json)

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Encode texts, in order."""
        encoded: list[Encoded] = []
        for chunk in _chunks(texts):
            prompts = [f"{self._before}{text}{self._after}" for text in chunk]
            for encoding in self._plain.encode_batch_fast(prompts, add_special_tokens=False):
                ids = [*self._lead, *encoding.ids, *self._trail]
                kept = truncate(ids, self._limit - 1, self._long_text)
                encoded.append(
                    Encoded(
                        np.array([*kept, self.eos_id], dtype=np.int32),
                        len(ids) + 1,
                        encoding.ids.count(self._unknown_id),
                    )
                )
        return encoded

    def is_unknown(self, text: str) -> bool:
        """Return whether the vocabulary has nothing of a text but white space."""
        pieces = self._plain.encode(text, add_special_tokens=False)
        return all(
            number == self._unknown_id or not self._plain.decode([number]).strip("\u2581 ")
            for number in pieces.ids
        )

    def label_ids(self, label: str) -> tuple[int, ...]:
        """Return the token ids of a label, without `</s>`."""
        return self._ids(label)

    def _ids(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text in which names of special tokens stand for these."""
        return tuple(self._backend.encode(text, add_special_tokens=False).ids) if text else ()

    def labels_of(
        self, answers: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]
    ) -> list[int | None]:
        """Return which label each generated answer is, up to its `</s>`; None if it is no label.

        Args:
            answers: Generated ids.
            labels: Ids that each label is spelt with.
        """
        known = {self.decode(label): k for k, label in enumerate(labels)}
        return [known.get(self.decode(_until(answer, self.eos_id))) for answer in answers]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids, without special tokens and outer blanks."""
        return str(self._backend.decode(list(ids), skip_special_tokens=True)).strip()


def _until(ids: Sequence[int], end: int) -> Sequence[int]:
    return ids[: ids.index(end)] if end in ids else ids


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut texts into chunks that fit into memory: the tokenizer needs 100 bytes for one byte of
    text.
    """
    start, chars = 0, 0
    for n, text in enumerate(texts):
        chars += len(text)
        if n - start + 1 == _CHUNK_ROWS or chars >= _CHUNK_CHARS:
            yield texts[start : n + 1]
            start, chars = n + 1, 0
    if start < len(texts):
        yield texts[start:]


@lru_cache(maxsize=2)
def tokenizer_digest(vocabulary_json: str) -> str:
    """Return the SHA-256 of what a tokenizer does to a text.

    The version of the library, limits and padding do not count, nor do settings that are absent.

    Args:
        vocabulary_json: Description of the tokenizer, as `Tokenizer.to_str` returns it.
    """
    values = json.loads(vocabulary_json)
    return digest(_present({name: values[name] for name in values if name not in _NO_MATTER}))


def _present(value: Any) -> Any:
    """Return a value of JSON without the keys whose value is null."""
    if isinstance(value, dict):
        return {name: _present(inner) for name, inner in value.items() if inner is not None}
    return [_present(inner) for inner in value] if isinstance(value, list) else value


def without_special_tokens(vocabulary_json: str) -> str:
    """Return the description of a tokenizer that never makes a special token of a text.

    The library can be told to pass special tokens over, but the vocabulary of a Unigram model has
    them as ordinary pieces and would find them again. So they get names that no text can have, and
    keep their ids.

    Args:
        vocabulary_json: Description of the tokenizer, as `Tokenizer.to_str` returns it.
    """
    values = json.loads(vocabulary_json)
    special = {one["content"] for one in values["added_tokens"] if one["special"]}
    values["added_tokens"] = [one for one in values["added_tokens"] if not one["special"]]

    def untyped(piece: str) -> str:
        return _UNTYPED + piece if piece in special else piece

    model = values["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {untyped(piece): number for piece, number in model["vocab"].items()}
    else:
        model["vocab"] = [[untyped(piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token") is not None:
        model["unk_token"] = untyped(model["unk_token"])
    return json.dumps(values, ensure_ascii=False)


@lru_cache(maxsize=2)
def _plain_backend_of(vocabulary_json: str) -> Tokenizer:
    """Return the tokenizer of this description for texts. It is built once per process."""
    return _backend_of.__wrapped__(without_special_tokens(vocabulary_json))


@lru_cache(maxsize=2)
def _backend_of(vocabulary_json: str) -> Tokenizer:
    """Return the tokenizer of this description. It is built once per process."""
    tokenizer = Tokenizer.from_str(vocabulary_json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model folder, without running code from it and without a network.

    Raises:
        ModelError: No tokenizer files, or files that do not parse.
    """
    from transformers import AutoTokenizer

    # Given neither file, transformers makes up a vocabulary without words and says nothing.
    if not any((folder / name).exists() for name in ("tokenizer.json", "spiece.model")):
        raise ModelError(f"{folder}: no tokenizer; a model folder needs {_NEEDED}")
    try:
        return AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # the tokenizers library raises bare Exception for broken files
        raise ModelError(
            f"{folder}: the tokenizer cannot be loaded ({type(error).__name__}); a model folder "
            f"needs {_NEEDED}"
        ) from error
