"""Footers of data files, and the receipts that workers send to the driver for committed units.

Workers import this module: it must import no heavy library.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, overload

from sentiment.block import STAGE_WRITE
from sentiment.output.layout import earlier_reject_file_of

FOOTER_KEY: Final = b"sentiment"

# Fields whose words most footers of an output share.
_COMMON: Final = ("model_digest", "config_digest", "code_version", "text_column", "label_column")


class _Packed:
    """A field of a dataclass that is kept pickled, and unpickled each time it is read.

    A run over a large output holds the footers of all of its files. Their counts are small numbers
    in many lists: as Python objects they would take four times the memory.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"_{name}"

    @overload
    def __get__(self, instance: None, owner: type) -> tuple[()]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> dict[str, Any]: ...
    def __get__(self, instance: object | None, owner: type) -> dict[str, Any] | tuple[()]:
        if instance is None:
            return ()  # the default: no counts, and nothing that a JSON file could hold
        value: dict[str, Any] = pickle.loads(getattr(instance, self._name))
        return value

    def __set__(self, instance: object, value: Mapping[str, Any] | tuple[()]) -> None:
        counts = {} if value == () else value
        # `setattr` would be refused: the dataclass is frozen.
        object.__setattr__(instance, self._name, pickle.dumps(counts, pickle.HIGHEST_PROTOCOL))


@dataclass(frozen=True)
class Footer:
    """The metadata of a data file: one JSON object under FOOTER_KEY in the Parquet footer.

    Attributes:
        unit_id: Path of the file, relative to the output.
        source_file: URI of the shard.
        fingerprint: Fingerprint of the shard when it was read.
        first_row: First row of the unit.
        last_row: Last row of the unit; one less than `first_row` if the file stands for no rows.
        labelled: Rows of the file.
        rejected: Rows that are in the reject file instead.
        model_digest: Digest of the model.
        config_digest: Digest of all settings that decide the labels.
        code_version: Version of the scoring code.
        metrics: Counts of the unit that can be added up, see `metrics/counts.py`. Reading them
            takes some microseconds, and changes to what is read are lost.
        epoch: Epoch of the lease under which the file was written.
        shard_rows: Rows of the whole shard, so that an unfinished shard shows from its files alone.
            None in files of earlier versions.
        reject_file: Path of its reject file, relative to the output. None if no row was rejected;
            files of earlier versions lack it, too (see `rejects_of`).
        text_column: The column that was scored, or several (see `texts.parse_names`); None in files
            of earlier versions.
        label_column: Column of true labels by which `metrics` counts, if any.
        group_by: Columns by whose combinations they count.
        rows_sha256: Digest of its texts and of the added columns (see `contents.rows_digest`). None
            in files without rows and of earlier versions.
        excluded: Rows of the unit that the user's own choice left out; they are in neither file.
    """

    unit_id: str
    source_file: str
    fingerprint: str
    first_row: int
    last_row: int
    labelled: int
    rejected: int
    model_digest: str
    config_digest: str
    code_version: str
    metrics: _Packed = _Packed()
    epoch: int = 0
    shard_rows: int | None = None
    reject_file: str | None = None
    text_column: str | None = None
    rows_sha256: str | None = None
    label_column: str | None = None
    group_by: list[str] = field(default_factory=list)
    excluded: int = 0

    @property
    def rows(self) -> int:
        """Source rows that the file accounts for: labelled, rejected or excluded."""
        return self.labelled + self.rejected + self.excluded

    @property
    def rowless(self) -> bool:
        """Whether the file stands for an empty shard or for damage, and not for a range of rows."""
        return self.last_row < self.first_row

    def overlaps(self, other: Footer) -> bool:
        """Whether two files of one source share a row."""
        return self.first_row <= other.last_row and other.first_row <= self.last_row

    @property
    def folder(self) -> str:
        """Folder of the file, relative to the output; "" is the output itself."""
        return self.unit_id.rpartition("/")[0]

    def to_metadata(self) -> dict[bytes, bytes]:
        """Return the footer as key-value metadata of Parquet."""
        return {FOOTER_KEY: self.to_json().encode()}

    def to_json(self) -> str:
        """Return the footer as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Footer:
        """Inverse of `to_json`."""
        return cls(**json.loads(text))

    @classmethod
    def from_many(cls, texts: Sequence[bytes], known: Sequence[Mapping[str, str]]) -> list[Footer]:
        """Parse many footers at once, so that they share names and words in memory.

        Args:
            texts: The footers, as JSON.
            known: For each of them, fields whose values the caller has at hand. Where they are
                equal, the footer takes these.

        Raises:
            ValueError, TypeError: One is not the JSON of a footer.
        """
        values = json.loads(b"[" + b",".join(texts) + b"]")
        if len(values) != len(texts):
            raise ValueError("a footer is not one JSON object")
        words: dict[str, str] = {}
        for one, at_hand in zip(values, known, strict=True):
            if isinstance(one, dict):
                for name in _COMMON:
                    if isinstance(word := one.get(name), str):
                        one[name] = words.setdefault(word, word)
                for name, word in at_hand.items():
                    if one.get(name) == word:
                        one[name] = word
        return [cls(**one) for one in values]

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None) -> Footer | None:
        """Inverse of `to_metadata`; None if another program wrote the file."""
        raw = (metadata or {}).get(FOOTER_KEY)
        return None if raw is None else cls.from_json(raw)


@dataclass(frozen=True)
class ActorNote:
    """Figures of a scoring actor, sent with every unit it has scored.

    Attributes:
        actor: Random name of the process.
        load_sec: Seconds that it took to load the model.
        batches: Batches of this unit.
        batch_tokens: Tokens in these batches, after truncation, with each distinct text once.
        room_tokens: Tokens that would have fitted into these batches.
    """

    actor: str
    load_sec: float
    batches: int
    batch_tokens: int
    room_tokens: int

    def to_json(self) -> str:
        """Return the note as one line of JSON, for the SCORER carrier."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ActorNote:
        """Inverse of `to_json`."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Receipt:
    """What a worker sends to the driver when it has committed a unit.

    Attributes:
        footer: The footer of the data file.
        write_sec: Seconds of the whole commit. The footer cannot hold them, as it is written before
            the commit ends.
        note: Figures of the actor that scored the unit; None if no actor did.
    """

    footer: Footer
    write_sec: float = 0.0
    note: ActorNote | None = None

    @property
    def stage_sec(self) -> dict[str, float]:
        """Seconds of workers by stage; those of the last stage are of the whole commit."""
        return {**self.footer.metrics.get("stage_sec", {}), STAGE_WRITE: self.write_sec}


def rejects_of(footer: Footer) -> str | None:
    """Return the path of the reject file of a data file; None if no row was rejected."""
    if footer.reject_file is None and footer.rejected:
        return earlier_reject_file_of(footer.unit_id)
    return footer.reject_file


def tokens_of(footer: Footer) -> int:
    """Return the number of tokens of the labelled rows of a unit, before truncation."""
    labels = footer.metrics.get("labels", {})
    return sum(int(values["tokens"]) for values in labels.values())
