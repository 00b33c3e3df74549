"""A classification report with made-up figures."""

from __future__ import annotations

from typing import Any


def _numbers(support: int) -> dict[str, float]:
    return {"precision": 0.91234, "recall": 0.5, "f1-score": 0.64, "support": float(support)}


REPORT: dict[str, Any] = {
    "labels": ["negative", "positive"],
    "negative": _numbers(1200),
    "positive": _numbers(1300),
    "accuracy": 0.87654,
    "macro avg": _numbers(2500),
    "weighted avg": _numbers(2500),
}
