"""Judge whether the labels of a run can be used: a one-line verdict, and the checks behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sentiment.ledger.record import QualityPart, Run, told_ledger
from sentiment.report.svg import percent

Level = Literal["good", "look", "bad", "open"]


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        level: `good`: nothing to do; `look`: a person should look at it; `bad`: the labels must not
            be used; `open`: could not be checked.
        name: What was checked.
        text: What the check found.
        remedy: What the reader should do; "" if nothing.
    """

    level: Level
    name: str
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Verdict:
    """The line at the top of the page, and its reasons.

    Attributes:
        level: The worst level of the findings; `open` ones count as `good`.
        word: The first words of the line, for example `Usable`.
        headline: The rest of the line: the reasons.
        findings: The results of all checks.
    """

    level: Level
    word: str
    headline: str
    findings: tuple[Finding, ...]


def judge(run: Run) -> Verdict:
    """Judge a run by its ledger, its rejects, its drift check and its outcome."""
    findings = [_ledger(run), _rejects(run), _drift(run), *_unfinished(run)]
    levels = {finding.level for finding in findings}
    # Normally one of the checks above finds the reason for a bad outcome. If none does, the outcome
    # itself is a finding: another version may know outcomes that this one does not.
    if run.outcome not in (None, "success") and levels <= {"good", "open"}:
        findings.append(
            Finding("look", "outcome", f"the run ended as “{run.outcome}”", "see the run's log")
        )
    if run.quality is not None:
        findings.append(_accuracy(run.quality))
    bad = [finding for finding in findings if finding.level == "bad"]
    look = [finding for finding in findings if finding.level == "look"]
    if bad:
        return Verdict("bad", "Do not use yet", bad[0].text, tuple(findings))
    if look:
        reasons = " and ".join(finding.text for finding in look)
        return Verdict("look", "Look before use", reasons, tuple(findings))
    return Verdict("good", "Usable", _good_headline(run), tuple(findings))


def _good_headline(run: Run) -> str:
    """Return the headline of a run without problems: only what was really checked."""
    reasons = ["every row is accounted for"]
    if _rejects(run).level == "good":
        reasons.append("rejects are within their limit")
    if run.drift is not None and run.drift.verdict == "steady":
        reasons.append("the labels are like those of earlier nights")
    headline = reasons[-1]
    if len(reasons) > 1:
        headline = f"{', '.join(reasons[:-1])} and {headline}"
    if run.quality is None:
        return headline
    # There is no limit for the accuracy: the reader has to judge it, so it is in the headline.
    return f"{headline}; {percent(run.quality.accuracy)} of known labels are right"


def _ledger(run: Run) -> Finding:
    ledger = run.ledger
    done = ledger.accounted
    account = told_ledger(ledger.labelled, ledger.rejected, ledger.reused, ledger.excluded)
    if not ledger.balanced or run.outcome == "unbalanced":
        off = abs(ledger.expected - done)
        what = f"{off:,} rows are {'missing' if done < ledger.expected else 'there too often'}"
        return Finding(
            "bad",
            "ledger",
            what if off else "folders are incomplete",
            f"{ledger.expected:,} expected, {account}: run the same command again",
        )
    if not ledger.expected:
        return Finding("look", "ledger", "the sources held no rows", "check the sources")
    if ledger.excluded == ledger.expected:
        return Finding("look", "ledger", "every row is excluded", "check --where and --sample")
    return Finding("good", "ledger", f"{ledger.expected:,} rows = {account}")


def _rejects(run: Run) -> Finding:
    rejected = sum(run.counts.rejected.values())
    limit = (run.config or {}).get("max_rejected")
    share = rejected / run.counts.rows if run.counts.rows else 0.0
    text = f"{percent(share, 2)} of the rows were rejected"
    if rejected and not sum(run.counts.labelled.values()):
        return Finding("bad", "rejects", "every row was rejected", "see the reasons below")
    if not isinstance(limit, int | float):
        known: Level = "look" if run.outcome == "rejected" else "open"
        return Finding(known, "rejects", text, "the limit of this run is not known")
    if share > limit or run.outcome == "rejected":
        return Finding(
            "look", "rejects", f"{text}, the limit is {percent(limit, 2)}", "see the reasons below"
        )
    return Finding("good", "rejects", f"{text}, the limit is {percent(limit, 2)}")


def _drift(run: Run) -> Finding:
    drift = run.drift
    if drift is None:
        level: Level = "look" if run.outcome == "drift" else "open"
        text = "the labels drifted" if level == "look" else "not compared with earlier runs"
        return Finding(level, "drift", text)
    drifted = [check.name for check in drift.checks if check.drifted]
    if drift.accepted:
        return Finding("good", "drift", "unlike earlier nights, which was accepted", drift.why)
    if drift.verdict == "drift" or run.outcome == "drift" or drifted:
        what = ", ".join(drifted[:3]) + (f" and {len(drifted) - 3} more" if drifted[3:] else "")
        text = "the labels are unlike those of earlier nights" + (f" ({what})" if what else "")
        return Finding("look", "drift", text, drift.why)
    if drift.verdict == "steady":
        text = f"like {len(drift.against)} earlier runs" if drift.against else "like earlier runs"
        return Finding("good", "drift", text, drift.why)
    return Finding("open", "drift", "not compared with earlier runs", drift.why)


def _unfinished(run: Run) -> Iterator[Finding]:
    """Tell of runs before this one that died. Their rows are part of its account."""
    for one in run.unfinished or ():
        text = (
            f"run {one.run_id} ended without an account after {one.units:,} of "
            f"{one.total_units:,} units; this run went on from there"
        )
        yield Finding("open", "earlier run", text, one.error or "")


def _accuracy(quality: QualityPart) -> Finding:
    """Return the accuracy as an open finding: there is no setting for how high it must be."""
    rows = sum(map(sum, quality.confusion_matrix))
    text = f"{percent(quality.accuracy)} of {rows:,} rows with a true label are labelled right"
    return Finding("open", "accuracy", text, "there is no limit to hold it against")
