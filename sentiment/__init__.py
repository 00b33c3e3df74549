"""Label a lake full of reviews with a fine-tuned T5, as a distributed batch job.

    >>> import sentiment
    >>> summary = sentiment.score(sentiment.ScoreConfig(sources=["reviews/"], output="scored/"))

Everything public is named here and loads on first use, so that `import sentiment` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentiment.errors import SentimentError
    from sentiment.evaluation.job import evaluate
    from sentiment.ledger.summary import RunSummary
    from sentiment.scoring.job import score
    from sentiment.settings.evaluate import EvaluateConfig
    from sentiment.settings.finetune import FinetuneConfig
    from sentiment.settings.jobs import ScoreConfig
    from sentiment.training.job import finetune

__version__ = "0.1.0"
__all__ = [
    "EvaluateConfig",
    "FinetuneConfig",
    "RunSummary",
    "ScoreConfig",
    "SentimentError",
    "evaluate",
    "finetune",
    "score",
]

_HOMES = {
    "EvaluateConfig": "sentiment.settings.evaluate",
    "FinetuneConfig": "sentiment.settings.finetune",
    "RunSummary": "sentiment.ledger.summary",
    "ScoreConfig": "sentiment.settings.jobs",
    "SentimentError": "sentiment.errors",
    "evaluate": "sentiment.evaluation.job",
    "finetune": "sentiment.training.job",
    "score": "sentiment.scoring.job",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sentiment' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    # Kept, so that the name is looked up once, and a module of the same name cannot hide it.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
