"""The page about a run: its figures put in words and pictures.

Takes runs and partitions as `runs.py` reads them, gives one HTML file that needs nothing else: no
script, no font, no network. The same runs give the same bytes. Knows no storage.

Everything that comes from data is escaped by the template or by `svg.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from sentiment.block import REASONS
from sentiment.ledger.record import QualityPart, Run
from sentiment.ledger.runs import Partition, Runs
from sentiment.output.layout import REJECTED_FOLDER
from sentiment.report.pictures import Gallery, gallery
from sentiment.report.svg import clean, duration, percent, shorten
from sentiment.report.verdict import judge

_TEXT_CHARS = 300
_DAMAGED_SHOWN = 5

REMEDIES = {
    "null_text": "fill the text in at its source, or leave such rows out there",
    "empty_text": "fill the text in at its source, or leave such rows out there",
    "text_not_string": "name another --text-column, or store text in it",
    "undecodable_text": "store the file as UTF-8",
    "malformed_record": "correct the record: quotes, delimiters, number of fields",
    "unreadable_file": "restore or upload the file again",
    "unreadable_rows": "restore or upload the file again",
    "off_label_text": "use --decode labels, or the --labels this model answers with",
    "tokenising_error": "look at the row's detail; it may be a bug worth reporting",
    "scoring_error": "look at the row's detail; it may be a bug worth reporting",
}


@dataclass(frozen=True)
class Figure:
    """A number that people look for first."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class LabelRow:
    """A line of the table of labels."""

    css: str
    label: str
    rows: int
    share: str
    tokens: str
    truncated: str


@dataclass(frozen=True)
class ClassRow:
    """A line of the table of quality."""

    label: str
    precision: str
    recall: str
    f1: str
    support: int


@dataclass(frozen=True)
class RejectRow:
    """A line of the table of rejects."""

    reason: str
    rows: int
    share: str
    meaning: str
    remedy: str


def render(run: Run, runs: Runs, partitions: Sequence[Partition] | None, *, nights: int) -> str:
    """Write the page about one run.

    Args:
        run: The run it is about.
        runs: All runs that were read; those that ended later are left out of the page.
        partitions: Rows of each folder; None where they cannot be read.
        nights: Most runs to show side by side.

    Returns:
        HTML.
    """
    earlier = [one for one in runs.runs if one.finished_at <= run.finished_at][-nights:]
    pictures = gallery(run, earlier, partitions)
    return _template().render(
        run=run,
        verdict=judge(run),
        figures=_figures(run),
        pictures=pictures,
        labels=_labels(run, pictures),
        classes=_classes(run.quality),
        rejects=_rejects(run),
        facts=_facts(run),
        settings=json.dumps(run.config, indent=1, ensure_ascii=False, sort_keys=True),
        notes=_notes(run, runs, partitions),
        rejected_folder=REJECTED_FOLDER,
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("sentiment.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # None of them may be in the page: XML and UTF-8 cannot hold them.
        finalize=lambda value: clean(value) if type(value) is str else value,
    )
    environment.filters.update(percent=percent, duration=duration, shorten=_shorten, rows=_rows)
    return environment.get_template("page.html")


def _shorten(text: str, chars: int = _TEXT_CHARS) -> str:
    return shorten(text, chars)


def _rows(count: int) -> str:
    return f"{count:,}"


def _figures(run: Run) -> list[Figure]:
    ledger = run.ledger
    touched = ledger.labelled + ledger.rejected
    speed = f"{run.rows_per_sec:,.0f}" if touched and run.rows_per_sec is not None else "–"
    took = "" if run.wall_sec is None else f"in {duration(run.wall_sec)}"
    found = [
        Figure("rows", f"{ledger.expected:,}", "in the sources"),
        Figure("labelled", f"{ledger.labelled:,}", _of(ledger.labelled, ledger.expected)),
        Figure("rejected", f"{ledger.rejected:,}", _of(ledger.rejected, ledger.expected)),
        Figure("reused", f"{ledger.reused:,}", _of(ledger.reused, ledger.expected)),
        Figure("rows per second", speed, took),
    ]
    if run.quality is not None:
        rows = sum(map(sum, run.quality.confusion_matrix))
        found.append(Figure("accuracy", percent(run.quality.accuracy), f"of {rows:,} known rows"))
    return found


def _of(part: int, whole: int) -> str:
    return percent(part / whole) if whole else ""


def _labels(run: Run, pictures: Gallery) -> list[LabelRow]:
    total = sum(run.counts.labelled.values())
    found = []
    for label, part in sorted(run.counts.labels.items(), key=lambda item: (-item[1].rows, item[0])):
        if part.rows:
            mean, cut = f"{part.tokens / part.rows:,.0f}", percent(part.truncated / part.rows)
            css = pictures.series.css(label)
            found.append(LabelRow(css, label, part.rows, percent(part.rows / total), mean, cut))
    return found


def _classes(quality: QualityPart | None) -> list[ClassRow]:
    """Quality by class; none where there are so many that the column may hold something else."""
    if quality is None or len(quality.labels) > Gallery.MOST_CLASSES:
        return []
    matrix, found = quality.confusion_matrix, []
    for place, label in enumerate(quality.labels):
        right, support = matrix[place][place], sum(matrix[place])
        said = sum(row[place] for row in matrix)
        f1 = 2 * right / (said + support) if said + support else 0.0
        precision, recall = right / max(said, 1), right / max(support, 1)
        figures = f"{precision:.3f}", f"{recall:.3f}", f"{f1:.3f}"
        found.append(ClassRow(label, *figures, support))
    return found


def _rejects(run: Run) -> list[RejectRow]:
    total = run.ledger.expected
    return [
        RejectRow(
            reason,
            rows,
            percent(rows / total, 2) if total else "",
            REASONS.get(reason, "a reason this version does not know"),
            REMEDIES.get(reason, "look at the details in the reject files"),
        )
        for reason, rows in sorted(
            run.counts.rejected.items(), key=lambda item: (-item[1], item[0])
        )
        if rows
    ]


def _facts(run: Run) -> list[tuple[str, str, bool]]:
    """Name, value and whether it is code, of what decided the labels."""
    config, model, pool = run.config or {}, run.model, run.pool or {}
    sources = config.get("sources")
    facts: list[tuple[str, Any, bool]] = [
        ("sources", ", ".join(map(str, sources)) if isinstance(sources, list) else None, True),
        ("output", run.output, True),
        ("model", model and model.name, True),
        ("model digest", model and model.digest, True),
        ("labels", model and ", ".join(model.labels), False),
        ("prompt", model and model.template, True),
        (
            "reads",
            model and model.max_source_tokens and _reads(model.max_source_tokens, model.long_text),
            False,
        ),
        ("precision", run.precision, False),
        ("calibration", _calibration(run), False),
        ("config digest", run.config_digest, True),
        ("devices", _devices(pool), False),
        ("versions", ", ".join(f"{k} {v}" for k, v in (run.versions or {}).items()), False),
        ("started", run.started_at and f"{run.started_at:%Y-%m-%d %H:%M:%S %Z}", False),
        ("finished", f"{run.finished_at:%Y-%m-%d %H:%M:%S %Z}", False),
    ]
    return [(name, str(value), code) for name, value, code in facts if value]


def _reads(tokens: int, long_text: str | None) -> str:
    kept = {"head": ", the beginning of longer texts", "head_tail": ", both ends of longer texts"}
    return f"{tokens:,} tokens" + kept.get(long_text or "", "")


def _calibration(run: Run) -> str:
    if run.calibration is None:
        return ""
    one = run.calibration
    return (
        f"temperature {one.temperature:.3f}, fitted on {one.fitted_rows:,} rows; expected "
        f"calibration error {one.ece_before:.3f} before, {one.ece_after:.3f} after"
    )


def _devices(pool: dict[str, Any]) -> str:
    if "device_type" not in pool:
        return ""
    forms = {
        "actors_max": "actors: up to {:g}",
        "cpus": "CPUs each: {:g}",
        "gpus": "GPUs each: {:g}",
    }
    told = [form.format(pool[key]) for key, form in forms.items() if _is_number(pool.get(key))]
    return ", ".join([str(pool["device_type"]), *told])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and bool(value)


def _notes(run: Run, runs: Runs, partitions: Sequence[Partition] | None) -> list[str]:
    """What the page lacks, and why."""
    notes = []
    damaged = sorted(runs.damaged.items())
    for one, why in damaged[:_DAMAGED_SHOWN]:
        notes.append(f"Run {one} could not be read and is left out ({why}).")
    if damaged[_DAMAGED_SHOWN:]:
        notes.append(f"{len(damaged) - _DAMAGED_SHOWN} more runs could not be read.")
    if run.unknown:
        notes.append(
            f"These parts of run.json are in no form this version knows: {', '.join(run.unknown)}."
        )
    if partitions is None:
        notes.append("metrics.parquet of this run could not be read: no partitions are shown.")
    if run.quality is not None and len(run.quality.labels) > Gallery.MOST_CLASSES:
        notes.append(
            f"The true labels have {len(run.quality.labels):,} different values; by class they are "
            f"shown up to {Gallery.MOST_CLASSES}. The label column may hold something else."
        )
    return notes
