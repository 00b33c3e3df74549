"""`import sentiment` gives the public names, however often and in whatever order they are used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import sentiment

JOBS = {"evaluate": "EvaluateConfig", "finetune": "FinetuneConfig", "score": "ScoreConfig"}

# Every job imports the modules behind it, and Python binds an imported submodule to its package:
# a submodule of the same name would replace the function.
CALL_TWICE = """
import sys, sentiment
job, config, missing, output = sys.argv[1:]
sources = {"train": [missing]} if job == "finetune" else {"sources": [missing]}
model = {"architecture": {}} if job == "finetune" else {}
for _ in range(2):
    settings = getattr(sentiment, config)(output=output, **sources, **model)
    try:
        getattr(sentiment, job)(settings)
    except sentiment.SentimentError as error:
        print(missing in str(error))
exec(f"from sentiment import {job}")
assert locals()[job] is getattr(sentiment, job)
assert callable(locals()[job])
"""

NAMES_TWICE = """
import sentiment
first = {name: getattr(sentiment, name) for name in sentiment.__all__}
for name in reversed(sentiment.__all__):
    exec(f"from sentiment import {name}")
    assert callable(first[name]) and first[name] is getattr(sentiment, name) is locals()[name], name
"""


def in_a_fresh_process(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("job", JOBS)
def test_a_job_can_be_called_twice(job: str, tmp_path: Path) -> None:
    missing, output = str(tmp_path / "missing.csv"), str(tmp_path / "output")
    assert in_a_fresh_process(CALL_TWICE, job, JOBS[job], missing, output) == "True\nTrue\n"


def test_every_name_is_the_same_twice_and_by_from_import() -> None:
    in_a_fresh_process(NAMES_TWICE)


def test_the_jobs_are_those_tested_here() -> None:
    assert {name for name in sentiment.__all__ if name[0].islower()} == set(JOBS)


def test_public_names_are_listed() -> None:
    assert set(sentiment.__all__) <= set(dir(sentiment))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        _ = sentiment.scores
