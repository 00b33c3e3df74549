"""The footer of a data file, and the receipt that a worker sends to the driver for each commit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from sentiment.block import STAGE_WRITE

FOOTER_KEY: Final = b"sentiment"


@dataclass(frozen=True)
class Footer:
    """What a committed data file says about itself (one JSON object under FOOTER_KEY).

    Attributes:
        rows: Source rows this file accounts for; `labelled + rejected`.
        metrics: Mergeable counts of the unit, see `metrics.py`.
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
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Source rows this file accounts for."""
        return self.labelled + self.rejected

    @property
    def rowless(self) -> bool:
        """Whether the file stands for an empty shard or for damage, as a unit of no rows does."""
        return self.last_row < self.first_row

    @property
    def folder(self) -> str:
        """Output folder of the file, relative to OUTPUT; "" is the top."""
        return self.unit_id.rpartition("/")[0]

    def to_metadata(self) -> dict[bytes, bytes]:
        """Parquet key-value metadata."""
        return {FOOTER_KEY: self.to_json().encode()}

    def to_json(self) -> str:
        """The footer as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Footer:
        """Inverse of `to_json`."""
        return cls(**json.loads(text))

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None) -> Footer | None:
        """Inverse of `to_metadata`; None when the file was not written by this project."""
        raw = (metadata or {}).get(FOOTER_KEY)
        return None if raw is None else cls.from_json(raw)


@dataclass(frozen=True)
class ActorNote:
    """What a scoring actor says of itself with every unit.

    Attributes:
        actor: Tells actors apart; new for every process.
        load_sec: Seconds from the start of loading the model until it could score.
        batches: Batches of this unit.
        batch_tokens: Tokens in them: truncated, and each distinct text once.
        room_tokens: Tokens they had room for.
    """

    actor: str
    load_sec: float
    batches: int
    batch_tokens: int
    room_tokens: int

    def to_json(self) -> str:
        """The note as one line of JSON, as it travels in the SCORER carrier."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ActorNote:
        """Inverse of `to_json`."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Receipt:
    """What the commit of a unit sends to the driver.

    Attributes:
        footer: As the committed file has it.
        write_sec: Seconds of the whole commit. The footer cannot know: it is inside of the file.
        note: From the actor that scored it; None where none did.
    """

    footer: Footer
    write_sec: float = 0.0
    note: ActorNote | None = None

    @property
    def stage_sec(self) -> dict[str, float]:
        """Worker seconds by stage; those of the write are the whole commit's."""
        return {**self.footer.metrics.get("stage_sec", {}), STAGE_WRITE: self.write_sec}


def tokens_of(footer: Footer) -> int:
    """Tokens of a unit's labelled rows, before truncation."""
    labels = footer.metrics.get("labels", {})
    return sum(int(values["tokens"]) for values in labels.values())
