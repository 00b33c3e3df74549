"""Draw the charts of a run's page, each with a sentence that says what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from sentiment.block import STAGES
from sentiment.ledger.record import CountsPart, Run
from sentiment.ledger.runs import Partition
from sentiment.metrics.counts import merge
from sentiment.report.bars import (
    MAX_SERIES,
    BinAxis,
    Series,
    confusion_grid,
    histogram,
    series_of,
    share_bars,
    time_bars,
)
from sentiment.report.curves import Night, reliability, share_lines, speeds, throughput
from sentiment.report.svg import Chart, compact, duration, percent, shorten

MAX_PARTITIONS = 20
TOP_FOLDER = "(top folder)"
_MAX_LABELS = 4  # in a sentence
_MIN_NIGHTS = 2  # one point makes no line


@dataclass(frozen=True)
class PageCharts:
    """All charts of a page; None or empty where the run lacks the figures for one.

    Attributes:
        series: Colours of the labels, the same in all charts.
    """

    # A label column with more different values probably holds something else than labels, such as
    # texts, which must not appear on a page.
    MAX_CLASSES: ClassVar[int] = 20

    series: Series
    partitions: Chart | None
    nights: Chart | None
    scores: tuple[Chart, ...]
    off_label: Chart | None
    lengths: Chart | None
    reliability: Chart | None
    confusion: Chart | None
    throughput: Chart | None
    times: tuple[Chart, ...]


def draw_charts(
    run: Run, earlier: Sequence[Run], partitions: Sequence[Partition] | None
) -> PageCharts:
    """Draw all charts that the figures of a run allow.

    Args:
        run: The run that the page is about.
        earlier: Runs to show side by side, this one included, the oldest first.
        partitions: Rows of each folder of this run; None if they are not known.
    """
    counts = run.counts
    declared = run.model.meanings or run.model.labels if run.model is not None else []
    series = series_of([label for label in declared if label in counts.labels], counts.labelled)
    return PageCharts(
        series=series,
        partitions=_partitions(partitions or [], series),
        nights=_nights(earlier, series),
        scores=_scores(counts, series),
        off_label=_off_label(counts),
        lengths=_lengths(counts),
        reliability=_reliability(counts),
        confusion=_confusion(run),
        throughput=_throughput(run),
        times=_times(run),
    )


def shares(counts: Mapping[str, int], series: Series) -> str:
    """Return the shares of labels as part of a sentence."""
    total = sum(counts.values())
    if not total:
        return "no labelled rows"
    parts = [f"{name} {percent(rows / total)}" for name, rows in series.folded(counts).items()]
    left_out = len(parts) - _MAX_LABELS
    if left_out > 1:  # "1 more" would not be shorter than the label itself
        parts = [*parts[:_MAX_LABELS], f"{left_out} more"]
    return f"{', '.join(parts)} of {total:,} rows"


def _partitions(partitions: Sequence[Partition], series: Series) -> Chart | None:
    if not partitions:
        return None
    order = sorted(partitions, key=lambda one: (-one.labelled, one.name))
    rows = [(one.name or TOP_FOLDER, one.labels) for one in order[:MAX_PARTITIONS]]
    rest = order[MAX_PARTITIONS:]
    if rest:
        rows.append((f"{len(rest):,} other partitions", merge(one.labels for one in rest)))
    total = merge(one.labels for one in partitions)
    chart = share_bars("partitions", rows, series, f"All together: {shares(total, series)}.")
    note = (
        f"The {MAX_PARTITIONS} partitions with the most rows are shown; the other {len(rest):,} "
        "are summed up in the last bar."
    )
    return replace(chart, note=note) if rest else chart


def _nights(runs: Sequence[Run], series: Series) -> Chart | None:
    nights = []
    for run in runs:
        labels = run.scored_counts.labelled if run.scored_counts is not None else {}
        if sum(labels.values()):
            nights.append(Night(run.finished_at, labels, run.model.digest if run.model else ""))
    if len(nights) < _MIN_NIGHTS or not series.names:
        return None
    last = f"The last of them: {shares(nights[-1].labels, series)}."
    chart = share_lines("nights", nights, series, f"{_runs(len(nights))}. {last}")
    left_out = len(runs) - len(nights)
    note = f"{_runs(left_out)} left out: no rows of their own, or an account that cannot tell."
    return replace(chart, note=note) if left_out else chart


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count:,} runs"


def _scores(counts: CountsPart, series: Series) -> tuple[Chart, ...]:
    charts = []
    order = sorted(counts.labels.items(), key=lambda item: (-item[1].rows, item[0]))
    for number, (label, part) in enumerate(order[:MAX_SERIES]):
        bins = part.score_histogram
        if bins and sum(bins):
            confident = _share_from(bins, 0.9)
            charts.append(
                histogram(
                    f"score-{number}",
                    f"Scores of “{shorten(label, 40)}”",
                    bins,
                    _probability_axis("score (probability, 0 to 1)", len(bins)),
                    finding=f"{percent(confident)} of its {part.rows:,} rows score 0.9 or more.",
                    css=series.css_class(label),
                )
            )
    return tuple(charts)


def _probability_axis(title: str, bins: int) -> BinAxis:
    """Return an axis of equal bins of [0, 1] with the text of every fourth of it."""
    return BinAxis(title, _edges(bins), label_every=max(bins // 4, 1))


def _edges(bins: int) -> list[str]:
    return [f"{place / bins:.3g}" for place in range(bins + 1)]


def _share_from(bins: Sequence[int], score: float) -> float:
    """Return the share of rows in the bins from a score on."""
    first = round(score * len(bins))
    return sum(bins[first:]) / sum(bins)


def _off_label(counts: CountsPart) -> Chart | None:
    bins = counts.off_label_histogram
    if not bins or not sum(bins):
        return None
    rows, high_rows = sum(bins), sum(bins[round(0.5 * len(bins)) :])
    finding = f"{high_rows:,} of {rows:,} rows ({percent(high_rows / rows, 2)}) have 0.5 or more"
    causes = ": another language, garbage, or a model not made for this" if high_rows else ""
    return histogram(
        "off-label",
        "Probability of what is no label",
        bins,
        _probability_axis("off-label probability (0 to 1)", len(bins)),
        finding=f"{finding}{causes}.",
        css="s0",
    )


def _lengths(counts: CountsPart) -> Chart | None:
    bins = counts.length_histogram
    if not bins or not sum(bins):
        return None
    # Bin i holds texts of 2^i to 2^(i+1) tokens. Empty bins at both ends are not drawn.
    used = [place for place, rows in enumerate(bins) if rows]
    first, last = used[0], used[-1]
    shown = bins[first : last + 1]
    edges = [compact(2**place) for place in range(first, last + 2)]
    if last == len(bins) - 1:
        edges[-1] = "more"  # the last bin has no upper edge
    cut = sum(part.truncated for part in counts.labels.values())
    rows = sum(counts.labelled.values())
    share = f"; {percent(cut / rows)} were longer than the model reads" if rows else ""
    peak = max(range(len(shown)), key=lambda place: shown[place])
    between = "or" if edges[peak + 1] == "more" else "to"
    return histogram(
        "lengths",
        "Length of the texts",
        shown,
        BinAxis(
            "tokens before truncation (doubling bins)",
            edges,
            label_every=2 if len(edges) > 8 else 1,
        ),
        finding=f"{edges[peak]} {between} {edges[peak + 1]} tokens are most frequent: "
        f"{percent(shown[peak] / sum(shown))} of the texts{share}.",
        css="s0",
    )


def _reliability(counts: CountsPart) -> Chart | None:
    right, truth = counts.right_histogram, counts.truth_histogram
    if not right or not truth or len(right) != len(truth) or not sum(truth):
        return None
    # A file of another version may have counts that contradict each other.
    if any(right_rows > rows for right_rows, rows in zip(right, truth, strict=True)):
        return None
    last = max(place for place, rows in enumerate(truth) if rows)
    edges = _edges(len(truth))
    finding = (
        f"Of {truth[last]:,} rows with a score of {edges[last]} to {edges[last + 1]}, "
        f"{percent(right[last] / truth[last])} are right; of all {sum(truth):,} rows with a true "
        f"label, {percent(sum(right) / sum(truth))}."
    )
    return reliability("reliability", right, truth, finding)


def _confusion(run: Run) -> Chart | None:
    quality = run.quality
    if quality is None or not 0 < len(quality.labels) <= PageCharts.MAX_CLASSES:
        return None
    matrix = quality.confusion_matrix
    rows = sum(map(sum, matrix))
    right = sum(matrix[place][place] for place in range(len(matrix)))
    finding = f"{right:,} of {rows:,} rows with a true label are on the diagonal: labelled right."
    return confusion_grid("confusion", quality.labels, matrix, finding)


def _throughput(run: Run) -> Chart | None:
    timeline = run.time.timeline if run.time is not None else []
    moments = [(moment.sec, moment.rows) for moment in timeline]
    steps = speeds(moments)
    if not steps:
        return None
    fastest = max(speed for _, _, speed in steps)
    sec, rows = steps[-1][1], max(rows for _, rows in moments)
    finding = (
        f"{rows:,} rows in {duration(sec)}: {rows / sec:,.0f} rows per second on average, "
        f"{fastest:,.0f} at most."
    )
    return throughput("throughput", moments, finding)


def _times(run: Run) -> tuple[Chart, ...]:
    charts = []
    time = run.time
    if time is not None and time.phases:
        finding = f"{_longest(time.phases)} Time by the clock, one phase after the other."
        charts.append(
            time_bars("phases", "Where the run's time went", time.phases, finding, "time (s)")
        )
    stages = {name: part.sec for name, part in time.stages.items()} if time is not None else {}
    # Files of earlier versions have the stages only in the counts, which include reused rows.
    stages = stages or run.counts.stage_sec or {}
    order = sorted(stages, key=lambda name: (STAGES.index(name) if name in STAGES else 9, name))
    if sum(stages.values()):
        sec = {name: stages[name] for name in order}
        finding = f"{_longest(sec)} Summed over tasks that run side by side{_waiting(run)}."
        charts.append(time_bars("stages", "Time by stage", sec, finding, "time of all tasks (s)"))
    return tuple(charts)


def _waiting(run: Run) -> str:
    time = run.time
    if time is None or not time.actor_sec or time.wait_sec is None:
        return ""
    return f"; the actors waited {percent(time.wait_sec / time.actor_sec, 0)} of their time"


def _longest(sec: Mapping[str, float]) -> str:
    total, name = sum(sec.values()), max(sec, key=lambda one: sec[one])
    return f"Most of it in “{name}”: {percent(sec[name] / total, 0) if total else 'no time'}."
