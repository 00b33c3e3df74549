"""Make the `run.json` and `metrics.pq` of runs that never took place.

Figures that a test does not give are drawn from a seed, so the same call makes the same files.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

FIRST_NIGHT = datetime(2026, 1, 1, 3, 0, tzinfo=UTC)
BINS = 20


def run_id(night: int) -> str:
    return f"{FIRST_NIGHT + timedelta(days=night):%Y%m%dT%H%M%S}-{night:06x}"


def counts(labels: Mapping[str, int], rejected: Mapping[str, int], seed: int = 0) -> dict[str, Any]:
    """Return counts of a run in the form of `sentiment.metrics.counts`."""
    draw = random.Random(seed)
    return {
        "labels": {
            label: {
                "rows": rows,
                "truncated": rows // 9,
                "tokens": rows * 210,
                "score_histogram": parts(rows, [0] * 10 + [1, 1, 2, 2, 3, 4, 6, 9, 20, 52], draw),
            }
            for label, rows in labels.items()
        },
        "rejected": dict(rejected),
        "off_label_histogram": parts(sum(labels.values()), [400, 5, 2, 1] + [0] * 16, draw),
        "length_histogram": parts(
            sum(labels.values()), [0, 0, 1, 3, 8, 20, 45, 80, 60, 20, 4, 1, 0, 0, 0, 0], draw
        ),
        "stage_sec": {"read": 12.4, "tokenise": 61.0, "score": 913.5, "write": 4.2},
    }


def parts(total: int, weights: Sequence[float], draw: random.Random) -> list[int]:
    """Return whole numbers in about the ratio of the weights, which add up to `total`."""
    rough = [weight * draw.uniform(0.9, 1.1) for weight in weights]
    found = [int(total * weight / sum(rough)) for weight in rough]
    found[max(range(len(rough)), key=lambda place: rough[place])] += total - sum(found)
    return found


def ledger(expected: int, labelled: int, rejected: int, reused: int = 0) -> dict[str, int]:
    return {"expected": expected, "labelled": labelled, "rejected": rejected, "reused": reused}


def run(night: int = 0, **changes: Any) -> dict[str, Any]:
    """Return the values of a plain `run.json`: two labels, no true labels, no problem."""
    draw = random.Random(night)
    ended = FIRST_NIGHT + timedelta(days=night)
    positive = 12_800 + draw.randrange(-250, 250)
    labels = {"negative": 25_000 - positive, "positive": positive}
    rejected = {"empty_text": 31, "null_text": 12, "malformed_record": 2}
    values: dict[str, Any] = {
        "run_id": run_id(night),
        "finished_at": ended.isoformat(),
        "config": {"sources": ["s3://lake/reviews/"], "max_rejected": 0.01, "model": "builtin"},
        "model": {
            "name": "builtin",
            "digest": "6c66" * 16,
            "labels": ["negative", "positive"],
            "template": "{text}",
            "max_source_tokens": 384,
            "long_text": "head_tail",
        },
        "config_digest": "5af1" * 16,
        "precision": "bf16",
        "pool": {"device_type": "cpu", "actors_max": 4, "cpus": 1.5, "gpus": 0.0},
        "versions": {"sentiment": "0.1.0", "ray": "2.60.0"},
        "gone": {"sources": 0, "files": 0, "rows": 0, "retired": False},
        "output": "s3://lake/scored",
        "ledger": ledger(25_045, 25_000, 45),
        "counts": counts(labels, rejected, night),
        "quality": None,
        "wall_sec": 256.5,
        "rows_per_sec": 97.6,
    }
    return {**values, **changes}


def full_run(night: int = 0, **changes: Any) -> dict[str, Any]:
    """Return a `run.json` with all keys that it may have: true labels, drift, calibration, time."""
    values = run(night)
    draw = random.Random(night)
    matrix = [[10_940, 1_310], [1_515, 11_235]]
    truth = [sum(column) for column in zip(*_scores(values), strict=True)]
    right = [
        round(rows * min(place / BINS + draw.uniform(-0.02, 0.04), 1))
        for place, rows in enumerate(truth)
    ]
    values["counts"] |= {"truth_histogram": truth, "right_histogram": right}
    timeline, rows = [], 0
    for sec in range(4, 257, 4):
        rows = min(rows + int(400 * draw.uniform(0.85, 1.1)) * (sec > 8), 25_045)
        timeline.append({"sec": float(sec), "rows": rows, "tokens": rows * 210, "rejected": 0})
    values |= {
        "started_at": (FIRST_NIGHT + timedelta(days=night, seconds=-260)).isoformat(),
        "outcome": "success",
        "scored": values["counts"],
        "quality": {
            "accuracy": 0.887,
            "labels": ["negative", "positive"],
            "confusion_matrix": matrix,
        },
        "calibration": {
            "temperature": 1.62,
            "digest": "ab" * 32,
            "fitted_rows": 5_000,
            "ece_before": 0.061,
            "ece_after": 0.012,
        },
        "drift": {
            "verdict": "steady",
            "why": "all checks are within their limits",
            "against": [run_id(night - back) for back in range(1, 8)],
            "rows": 25_045,
            "baseline_rows": 175_000,
            "checks": [
                _check("label shares", 0.011, 0.05),
                _check("score distribution", 0.034, 0.2),
                _check("text lengths", 0.02, 0.2),
                _check("rejects", 0.0002, 0.05),
            ],
        },
        "time": {
            "phases": {"list and index": 1.4, "model": 9.8, "score": 240.1, "settle": 5.2},
            "stages": {
                name: {"sec": sec, "rows": 25_000}
                for name, sec in values["counts"]["stage_sec"].items()
            },
            "actor_sec": 960.0,
            "wait_sec": 46.5,
            "timeline": timeline,
        },
    }
    return {**values, **changes}


def _scores(values: Mapping[str, Any]) -> list[list[int]]:
    return [part["score_histogram"] for part in values["counts"]["labels"].values()]


def _check(name: str, value: float, limit: float) -> dict[str, Any]:
    detail = f"{value:.3f} against a limit of {limit:.2f}"
    return {
        "name": name,
        "value": value,
        "limit": limit,
        "drifted": value > limit,
        "detail": detail,
    }


def save(
    output: Path,
    values: Mapping[str, Any],
    partitions: Mapping[str, Mapping[str, int]] | None = None,
    rejected: Mapping[str, int] | None = None,
) -> str:
    """Write the files of a run, and return its id.

    Args:
        partitions: Rows by label of each folder; by default those of the run, in one folder.
        rejected: Rejected rows of each folder.
    """
    folder = output / "_sentiment" / "runs" / values["run_id"]
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(values), encoding="utf-8")
    if partitions is None:
        labels = values["counts"]["labels"]
        partitions = {"dt=1": {label: part["rows"] for label, part in labels.items()}}
    records = [
        {"partition": name, "label": label, "reason": None, "rows": rows}
        for name, labels in partitions.items()
        for label, rows in labels.items()
    ]
    for name, rows in (rejected or {}).items():
        records.append({"partition": name, "label": None, "reason": "null_text", "rows": rows})
    schema = pa.schema(
        [(name, pa.string()) for name in ("partition", "label", "reason")] + [("rows", pa.int64())]
    )
    pq.write_table(pa.Table.from_pylist(records, schema=schema), folder / "metrics.pq")
    return str(values["run_id"])
