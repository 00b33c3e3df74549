"""How the built-in model is made: the teacher's rows, and the one command."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import tiny_models

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    path = ROOT / "examples" / "builtin-model" / "prepare.py"
    spec = importlib.util.spec_from_file_location("prepare", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def prepared(
    prepare: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, pd.DataFrame]:
    """All example reviews with their labels, a third of them without."""
    folder = tmp_path_factory.mktemp("prepared")
    frame = pd.DataFrame(tiny_models.example_reviews())[["text", "label"]]
    frame = frame[frame["label"].isin(["negative", "positive"])]
    frame["text"] = [f"{text} {'filler ' * 60}" for text in frame["text"]]
    frame[::3][["text"]].to_parquet(folder / "unlabelled.parquet")
    # One review stands in both: its label is known.
    labelled = pd.concat([frame[1::3], frame[2::3], frame[:1]])
    labelled.to_parquet(folder / "train.parquet")
    words = ["prepare.py", "--train", "train.parquet", "--unlabelled", "unlabelled.parquet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", [*words, "--output", "out"])
        prepare.main()
    assert {path.name for path in (folder / "out").iterdir()} == {
        "train.parquet",
        "validation.parquet",
    }
    parts = {
        name: pd.read_parquet(folder / "out" / f"{name}.parquet")
        for name in ("train", "validation")
    }
    return parts | {"labelled": labelled, "unlabelled": frame[::3]}


def test_labelled_rows_are_certain_and_taught_ones_have_a_probability(
    prepared: dict[str, pd.DataFrame],
) -> None:
    train, labelled = prepared["train"], prepared["labelled"]
    sure = train[train["confidence"].isna()]
    known = dict(zip(labelled["text"], labelled["label"], strict=True))
    assert len(sure) == len(labelled) - len(prepared["validation"])
    assert all(
        known[text] == label for text, label in zip(sure["text"], sure["label"], strict=True)
    )
    taught = train[train["confidence"].notna()]
    assert taught["confidence"].between(0.5, 1.0).all()
    assert taught["confidence"].nunique() > 10
    reviews = taught[taught["text"].isin(prepared["unlabelled"]["text"])]
    assert len(reviews) == len(prepared["unlabelled"]) - 1


def test_nothing_of_a_held_out_review_is_trained_on(prepared: dict[str, pd.DataFrame]) -> None:
    train, held = prepared["train"]["text"], prepared["validation"]["text"]
    beginnings = {" ".join(text.split()[:20]) for text in held}
    assert len(beginnings) > 10
    assert not any(" ".join(text.split()[:20]) in beginnings for text in train)


def test_passages_are_runs_of_words_of_their_text(prepare: ModuleType) -> None:
    words = [f"w{n}" for n in range(150)]
    found = list(prepare.passages(pd.Series([" ".join(words), "too short"])))
    assert len(found) == prepare.PASSAGES
    for passage in found:
        numbers = np.array([int(word[1:]) for word in passage.split()])
        assert 20 <= len(numbers) < 120
        assert (np.diff(numbers) == 1).all()


def test_one_command_prepares_trains_and_calibrates() -> None:
    words = ["make", "-n", "builtin-model", "IMDB=lake", "BUILTIN_OUTPUT=out", f"VENV={sys.prefix}"]
    plan = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    plan = plan.replace("\\\n", " ")
    steps = [line.split() for line in plan.splitlines() if "builtin" in line or "out/" in line]
    joined = [" ".join(step) for step in steps]
    order = [
        next(place for place, line in enumerate(joined) if word in line)
        for word in (
            "prepare.py --train lake/train.parquet",
            "finetune --config",
            "--fit-calibration",
        )
    ]
    assert order == sorted(order)
    assert "--test lake/test.parquet --output out/sentiment-builtin" in joined[order[1]]
