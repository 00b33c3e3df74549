"""The model files that come as examples score, and what a label means is what comes out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference
import tiny_models
from huggingface_hub import constants
from model_hub import fill_cache
from transformers import T5ForConditionalGeneration

from sentiment.block import DETAIL, IDS, LABEL, REASON, SCORE, STAGE
from sentiment.engine.generation import Generator
from sentiment.engine.scorer import ScorerPlan
from sentiment.model.find import Model, find_model
from sentiment.scoring.actor import Scorer
from sentiment.scoring.job import score
from sentiment.scoring.setup import _stamp
from sentiment.scoring.stages import tokenise_block
from sentiment.settings.jobs import ScoreConfig

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "models"
STARS = [f"{n} star{'s' if n > 1 else ''}" for n in range(1, 6)]


@pytest.fixture
def five_stars(tiny_flan: Path, tmp_path: Path) -> Path:
    """The example, with a model where it looks for one."""
    ignored = shutil.ignore_patterns("labels.json")
    shutil.copytree(tiny_flan, tmp_path / "five-stars", ignore=ignored)
    return Path(shutil.copy(EXAMPLES / "five-stars.yaml", tmp_path))


@pytest.fixture
def instruction(tiny_flan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example, with its model in the hub's cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fill_cache(tmp_path / "cache", "google/flan-t5-base", tiny_flan)
    return EXAMPLES / "instruction.yaml"


def block_of(model: Model, texts: list[str]) -> pa.Table:
    nothing = pa.nulls(len(texts), pa.string())
    block = pa.table({"text": texts, STAGE: nothing, REASON: nothing, DETAIL: nothing})
    return tokenise_block(block, model.tokeniser())


def scorer_of(model: Model) -> Scorer:
    return Scorer(
        ScorerPlan(model, model.tokeniser(), precision="fp32", batch_tokens=512, threads=1)
    )


def expected(model: Model, block: pa.Table) -> tuple[list[str], np.ndarray]:
    """Meaning and probability of the best label, by transformers."""
    network = T5ForConditionalGeneration.from_pretrained(str(model.folder))
    tokeniser = model.tokeniser()
    ids = [np.array(row, np.int32) for row in block.column(IDS).to_pylist()]
    labels = [tokeniser.label_ids(label) for label in model.labels]
    p = np.exp(reference.among_labels(network, ids, labels))
    return [model.meanings[k] for k in p.argmax(axis=1)], p.max(axis=1)


def test_every_example_is_tried_here() -> None:
    names = sorted(path.name for path in EXAMPLES.iterdir())
    assert names == ["five-stars.yaml", "instruction.yaml"]


def test_five_stars(five_stars: Path) -> None:
    model = find_model(str(five_stars))
    assert (model.labels, model.meanings) == (tuple("12345"), tuple(STARS))
    assert (model.max_source_tokens, model.long_text) == (512, "head_tail")
    block = block_of(model, tiny_models.example_texts()[:40])
    out = scorer_of(model)(block)
    labels, scores = expected(model, block)
    assert out.column(LABEL).to_pylist() == labels
    assert len(set(labels)) >= 3
    np.testing.assert_allclose(out.column(SCORE).to_numpy(), scores, atol=1e-4)


def test_an_instruction(instruction: Path) -> None:
    model = find_model(str(instruction))
    assert model.labels == model.meanings == ("negative", "positive")
    texts = tiny_models.example_texts()[:40]
    block = block_of(model, texts)
    prompt = model.template.replace("{text}", texts[0])
    assert block.column(IDS)[0].as_py() == [*model.tokeniser().label_ids(prompt), 1]
    out = scorer_of(model)(block)
    labels, scores = expected(model, block)
    assert out.column(LABEL).to_pylist() == labels
    np.testing.assert_allclose(out.column(SCORE).to_numpy(), scores, atol=1e-4)


def test_free_generation_is_told_by_its_meaning_too(
    five_stars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with five_stars.open("a") as file:
        file.write("decode: generate\nmax_new_tokens: 4\n")
    model = find_model(str(five_stars))
    assert (model.decode, model.max_new_tokens) == ("generate", 4)
    tokeniser = model.tokeniser()
    said: list[Any] = [tokeniser.label_ids(text) for text in ("5", "1", "5 stars")]
    monkeypatch.setattr(Generator, "generate", lambda *_, **__: (said, {}))
    out = scorer_of(model)(block_of(model, ["so good", "so bad", "so so"]))
    assert out.column(LABEL).to_pylist() == ["5 stars", "1 star", None]
    assert out.column(REASON).to_pylist() == [None, None, "off_label_text"]


def test_what_labels_mean_decides_the_digest(five_stars: Path, tmp_path: Path) -> None:
    """Outputs of the same labels under other names do not mix; plain labels count as ever."""

    def config_digest(model: Path, **settings: Any) -> str:
        card = find_model(str(model), max_source_tokens=99, long_text="head", **settings)
        plan = ScorerPlan(card, card.tokeniser(), precision="fp32", batch_tokens=512, threads=1)
        return _stamp(ScoreConfig(sources=["in"], output="out"), plan, epoch=1).config_digest

    folder = five_stars.with_suffix("")
    plain = config_digest(folder, labels=list("12345"))
    assert config_digest(five_stars) != plain
    assert config_digest(five_stars, labels=list("12345")) == plain


@pytest.mark.ray
def test_a_run_by_model_file(local_ray: None, five_stars: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "reviews.parquet", tmp_path / "out"
    truth = ["1 star", "5 stars"] * 10
    texts = tiny_models.example_texts()[:20]
    pq.write_table(pa.table({"text": texts, "stars": truth}), source)
    summary = score(
        ScoreConfig(
            sources=[str(source)], output=str(output), model=str(five_stars), precision="fp32",
            label_column="stars", unit_rows=5, quiet=True,
        )
    )  # fmt: skip
    tables = [pq.read_table(path, partitioning=None) for path in output.glob("*.parquet")]
    labels = pa.concat_tables(tables).column("sentiment").to_pylist()
    assert len(labels) == 20
    assert set(labels) <= set(STARS)
    told = json.loads((output / "_sentiment/runs" / summary.run_id / "run.json").read_text())
    assert (told["model"]["labels"], told["model"]["meanings"]) == (list("12345"), STARS)
    assert sum(told["counts"]["confusion"]["1 star"].values()) == 10
