"""Label a lake full of reviews with a fine-tuned T5, as a distributed batch job.

    >>> import sentiment
    >>> summary = sentiment.score(sentiment.ScoreConfig(sources=["reviews/"], output="scored/"))

Everything public is named here and loads on first use, so that `import sentiment` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentiment.config import FinetuneConfig, ScoreConfig
    from sentiment.errors import SentimentError
    from sentiment.finetune.job import finetune
    from sentiment.report import RunSummary
    from sentiment.run import score

__version__ = "0.1.0"
__all__ = [
    "FinetuneConfig",
    "RunSummary",
    "ScoreConfig",
    "SentimentError",
    "finetune",
    "score",
]

_HOMES = {
    "FinetuneConfig": "sentiment.config",
    "RunSummary": "sentiment.report",
    "ScoreConfig": "sentiment.config",
    "SentimentError": "sentiment.errors",
    "finetune": "sentiment.finetune.job",
    "score": "sentiment.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sentiment' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
