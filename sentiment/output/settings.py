"""The settings of an output: one record, so that rows of different settings never mix in it.

It is written before the first row is. A run with other settings is refused, also if it brings
sources of its own: readers would compare labels of two models.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields

from sentiment.errors import OutputError
from sentiment.output.committed import Committed, find_footers
from sentiment.output.folder import Output
from sentiment.output.layout import SETTINGS_FILE


@dataclass(frozen=True)
class OutputSettings:
    """What the rows of an output were scored with.

    Attributes:
        config_digest: Digest of everything that decides labels, scores and columns.
        digest_but_precision: The same without the precision.
        precision: The precision, resolved.
        model: Name of the model, for messages.
    """

    config_digest: str
    digest_but_precision: str
    precision: str
    model: str


def read_settings(output: Output) -> OutputSettings | None:
    """Read the record of an output; None if it has none or another program wrote it.

    Raises:
        OutputError: The storage does not answer.
    """
    try:
        values = json.loads(output.read(SETTINGS_FILE) or b"")
        return OutputSettings(**{one.name: str(values[one.name]) for one in fields(OutputSettings)})
    except (ValueError, KeyError, TypeError):
        return None


def write_settings(output: Output, settings: OutputSettings) -> None:
    """Write the record, if it says anything new.

    Raises:
        OutputError: It cannot be written.
    """
    if read_settings(output) != settings:
        output.write(SETTINGS_FILE, json.dumps(asdict(settings), indent=1).encode() + b"\n")


def check_settings(
    output: Output,
    committed: Committed,
    recorded: OutputSettings | None,
    settings: OutputSettings,
    on_change: str,
    leaving: Collection[str] = (),
) -> None:
    """Refuse settings that would mix with those of rows that stay in the output.

    Args:
        output: The output.
        committed: What it holds.
        recorded: Its record, if it has one.
        settings: Those of this run.
        on_change: `refuse`, or `rescore`, which replaces the rows of this run's sources.
        leaving: Data files that the run deletes.

    Raises:
        OutputError: Rows of other settings would stay.
    """
    own = {footer.unit_id for found in committed.footers.values() for footer in found}
    others = [path for path in committed.data_files if path not in own and path not in leaving]
    if on_change == "refuse" and recorded is not None:
        if recorded.config_digest != settings.config_digest and committed.data_files:
            raise _mixed(output, recorded.model, recorded.config_digest, settings)
        return
    for path, footer in find_footers(output, others):
        if footer.config_digest != settings.config_digest:
            raise _mixed(output, path, footer.config_digest, settings)


def _mixed(output: Output, what: str, digest: str, settings: OutputSettings) -> OutputError:
    return OutputError(
        f"--output {output.location}: {what} in it was scored with another model or other settings "
        f"(config digest {digest[:12]}, now {settings.config_digest[:12]}), and rows of two "
        "settings would mix; use another --output, or --on-change rescore with all of its sources "
        "(and --on-deleted retire for those that are gone)"
    )
