"""Compare what a run scored with what the earlier runs of the same output scored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from sentiment.ledger.record import CountsPart, Run
from sentiment.ledger.runs import newest_first, warn_left_out
from sentiment.metrics.counts import HISTOGRAM_BINS, LENGTH_BINS, Counts, merge
from sentiment.metrics.drift import Drift, compare
from sentiment.output.folder import Output
from sentiment.settings.jobs import ScoreConfig


def compare_with_earlier(
    output: Output, tonight: Counts, config_digest: str, config: ScoreConfig
) -> Drift:
    """Compare a night with the last successful runs that scored any rows.

    A run that drifted never becomes part of a baseline, unless the user accepts the drift: then it
    is the first of a new baseline.

    Args:
        tonight: Counts of the rows that nobody has judged yet.
        config_digest: Digest of this run's configuration. Scores are compared only with those of
            runs of the same digest.
    """
    if not config.drift_runs:
        return Drift("not compared", "--drift-runs is 0")
    earlier = list(islice(_baseline_runs(output), config.drift_runs))
    if not earlier:
        return Drift("not compared", "no earlier run to compare with")
    # Scores of another model or precision say nothing; its labels should be the same.
    same_config = [one for one in earlier if one[0].config_digest == config_digest]
    baseline = same_config or earlier
    drift = compare(
        tonight,
        merge(counts for _, counts in baseline),
        same_scores=bool(same_config),
        psi_limit=config.drift_psi,
        share_limit=config.drift_share,
        against=[run.run_id for run, _ in baseline],
    )
    return replace(drift, accepted=drift.verdict == "drift" and config.accept_drift)


def _baseline_runs(output: Output) -> Iterator[tuple[Run, Counts]]:
    """Yield the runs that can be part of a baseline and their nights, the newest first."""
    for run in newest_first(output):
        if run.outcome != "success":
            continue
        try:
            counts = _addable_counts(run.tonight or run.scored)
        except ValueError as error:
            warn_left_out(output, run.run_id, f"{error}; labels are not compared with this run's")
            continue
        if counts["labels"]:
            yield run, counts
        if run.drift is not None and run.drift.accepted:
            return


def _addable_counts(scored: CountsPart | None) -> Counts:
    """Return counts in the form that `merge` adds up.

    `merge` and `compare` put histograms side by side bin by bin. A file of another version may have
    other bins. Found here, it costs one earlier run; found there, it would end a run whose rows are
    all scored.

    Raises:
        ValueError: There are no counts, or their histograms have other bins than ours.
    """
    if scored is None:
        raise ValueError("it has no counts of the rows it scored")
    for label in scored.labels.values():
        if len(label.score_histogram or ()) != HISTOGRAM_BINS:
            raise ValueError("its histograms of scores have other bins")
    for histogram, bins in (
        (scored.off_label_histogram, HISTOGRAM_BINS),
        (scored.length_histogram, LENGTH_BINS),
    ):
        # Earlier versions lack these; the check of this figure is then left out.
        if histogram is not None and len(histogram) != bins:
            raise ValueError("its histograms have other bins")
    return scored.model_dump(
        include={"labels", "rejected", "off_label_histogram", "length_histogram"},
        exclude_none=True,
    )
