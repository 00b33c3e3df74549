"""Write the page about a run as one HTML file.

The page needs nothing else: no script, no font, no network. The same runs give the same bytes.
Everything that comes from data is escaped, by the template or by `svg.py`.
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
from sentiment.report.bars import Series
from sentiment.report.pictures import PageCharts, draw_charts
from sentiment.report.svg import clean, duration, percent, shorten
from sentiment.report.verdict import judge

_TEXT_CHARS = 300
_MAX_DAMAGED_SHOWN = 5

# What to do about rejected rows, by their reason.
REMEDIES = {
    "null_text": "fill the text in at its source, or leave such rows out there",
    "empty_text": "fill the text in at its source, or leave such rows out there",
    "unusable_columns": "rename columns at the source, or name the text with --text-column",
    "unknown_text": "use a model that knows the language, or leave such rows out",
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
    """One of the numbers at the top of the page."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class LabelRow:
    """A row of the table of labels."""

    css: str
    label: str
    rows: int
    share: str
    tokens: str
    truncated: str


@dataclass(frozen=True)
class ClassRow:
    """A row of the table of quality by class."""

    label: str
    precision: str
    recall: str
    f1: str
    support: int


@dataclass(frozen=True)
class RejectRow:
    """A row of the table of reject reasons."""

    reason: str
    rows: int
    share: str
    meaning: str
    remedy: str


def render(run: Run, runs: Runs, partitions: Sequence[Partition] | None, *, nights: int) -> str:
    """Render the page about one run.

    Args:
        run: The run that the page is about.
        runs: All runs that were read. Those that finished later are left out, so that the page of a
            run stays the same.
        partitions: Rows of each folder; None if they cannot be read.
        nights: Greatest number of runs to show side by side.

    Returns:
        HTML.
    """
    earlier = [one for one in runs.runs if one.finished_at <= run.finished_at][-nights:]
    charts = draw_charts(run, earlier, partitions)
    return _template().render(
        run=run,
        verdict=judge(run),
        figures=_figures(run),
        charts=charts,
        labels=_labels(run, charts.series),
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
        # Replace characters that XML and UTF-8 forbid. Markup is not a plain str: it is clean.
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
    scored = ledger.labelled + ledger.rejected
    speed = f"{run.rows_per_sec:,.0f}" if scored and run.rows_per_sec is not None else "–"
    took = "" if run.wall_sec is None else f"in {duration(run.wall_sec)}"
    figures = [
        Figure("rows", f"{ledger.expected:,}", "in the sources"),
        Figure("labelled", f"{ledger.labelled:,}", _of(ledger.labelled, ledger.expected)),
        Figure("rejected", f"{ledger.rejected:,}", _of(ledger.rejected, ledger.expected)),
        Figure("reused", f"{ledger.reused:,}", _of(ledger.reused, ledger.expected)),
    ]
    if ledger.excluded:
        share = _of(ledger.excluded, ledger.expected)
        figures.append(Figure("excluded", f"{ledger.excluded:,}", share))
    figures.append(Figure("rows per second", speed, took))
    if run.quality is not None:
        rows = sum(map(sum, run.quality.confusion_matrix))
        figures.append(Figure("accuracy", percent(run.quality.accuracy), f"of {rows:,} known rows"))
    return figures


def _of(part: int, whole: int) -> str:
    return percent(part / whole) if whole else ""


def _labels(run: Run, series: Series) -> list[LabelRow]:
    total = sum(run.counts.labelled.values())
    rows = []
    for label, part in sorted(run.counts.labels.items(), key=lambda item: (-item[1].rows, item[0])):
        if part.rows:
            mean, cut = f"{part.tokens / part.rows:,.0f}", percent(part.truncated / part.rows)
            css = series.css_class(label)
            rows.append(LabelRow(css, label, part.rows, percent(part.rows / total), mean, cut))
    return rows


def _classes(quality: QualityPart | None) -> list[ClassRow]:
    """Return quality by class; nothing if the classes are so many that they may be no labels."""
    if quality is None or len(quality.labels) > PageCharts.MAX_CLASSES:
        return []
    matrix, rows = quality.confusion_matrix, []
    for place, label in enumerate(quality.labels):
        right, support = matrix[place][place], sum(matrix[place])
        predicted = sum(row[place] for row in matrix)
        f1 = 2 * right / (predicted + support) if predicted + support else 0.0
        precision, recall = right / max(predicted, 1), right / max(support, 1)
        rows.append(ClassRow(label, f"{precision:.3f}", f"{recall:.3f}", f"{f1:.3f}", support))
    return rows


def _rejects(run: Run) -> list[RejectRow]:
    total = run.counts.rows
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
    """Return the inputs and settings of a run: name, value, and whether the value is code."""
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
    calibration = run.calibration
    return (
        f"temperature {calibration.temperature:.3f}, fitted on {calibration.fitted_rows:,} rows; "
        f"expected calibration error {calibration.ece_before:.3f} before, "
        f"{calibration.ece_after:.3f} after"
    )


def _devices(pool: dict[str, Any]) -> str:
    if "device_type" not in pool:
        return ""
    forms = {
        "actors_max": "actors: up to {:g}",
        "cpus": "CPUs each: {:g}",
        "gpus": "GPUs each: {:g}",
    }
    parts = [
        form.format(pool[key]) for key, form in forms.items() if _is_nonzero_number(pool.get(key))
    ]
    return ", ".join([str(pool["device_type"]), *parts])


def _is_nonzero_number(value: Any) -> bool:
    return isinstance(value, int | float) and bool(value)


def _notes(run: Run, runs: Runs, partitions: Sequence[Partition] | None) -> list[str]:
    """Return what the page lacks, and why."""
    notes = []
    damaged = sorted(runs.damaged.items())
    for one, why in damaged[:_MAX_DAMAGED_SHOWN]:
        notes.append(f"Run {one} could not be read and is left out ({why}).")
    if damaged[_MAX_DAMAGED_SHOWN:]:
        notes.append(f"{len(damaged) - _MAX_DAMAGED_SHOWN} more runs could not be read.")
    if run.unknown:
        notes.append(
            f"These parts of run.json are in no form this version knows: {', '.join(run.unknown)}."
        )
    if partitions is None:
        notes.append("metrics.pq of this run could not be read: no partitions are shown.")
    if run.quality is not None and len(run.quality.labels) > PageCharts.MAX_CLASSES:
        notes.append(
            f"The true labels have {len(run.quality.labels):,} different values; by class they are "
            f"shown up to {PageCharts.MAX_CLASSES}. The label column may hold something else."
        )
    return notes
