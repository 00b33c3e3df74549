"""Label scoring against free generation: the figures are those of transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch

from sentiment.evaluation.parity import compare_decoding
from sentiment.model.find import find_model
from sentiment.model.load import load_network


@pytest.mark.parametrize("model", ["tiny_model", "tiny_flan"])
def test_loss_and_length_are_those_of_transformers(
    model: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(model)
    card = find_model(str(folder))
    tokeniser = card.tokeniser()
    texts = tiny_models.example_texts()[:12]
    truth = [card.meanings[n % 2] for n in range(len(texts))]
    found = compare_decoding(card, texts, truth, "fp32")

    network = load_network(folder, device=torch.device("cpu"))
    losses, lengths, tokens = [], [], []
    for n, text in enumerate(texts):
        label = card.labels[n % 2]
        ids = torch.from_numpy(tokeniser.encode([text])[0].ids.astype(np.int64))[None]
        target = torch.tensor([[*tokeniser.label_ids(label), tokeniser.eos_id]])
        with torch.no_grad():
            losses.append(float(network(input_ids=ids, labels=target).loss))
            said = network.generate(input_ids=ids, max_new_tokens=8, do_sample=False)
        tokens.append(target.shape[1])
        lengths.append(int((said != network.config.pad_token_id).sum()))
    assert found["rows"] == 12
    assert found["loss"] == pytest.approx(np.average(losses, weights=tokens), rel=1e-5)
    assert found["gen_len"] == pytest.approx(np.mean(lengths))


def test_a_model_that_says_nothing_else_is_agreed_with() -> None:
    model = find_model("builtin")
    texts = ["A wonderful film, I loved every minute of it.", "Dull, badly acted and far too long."]
    found = compare_decoding(model, texts * 3, ["positive", "negative"] * 3, "fp32")
    for name in ("greedy", "beams"):
        assert found[name] == {"accuracy": 1.0, "agreement": 1.0, "off_label": 0.0}
    assert found["labels"]["accuracy"] == 1.0


def test_answers_that_are_no_label_count_as_such(tiny_model: Path) -> None:
    """Random weights say anything."""
    model = find_model(str(tiny_model))
    texts = tiny_models.example_texts()[:12]
    found = compare_decoding(model, texts, [model.labels[0]] * 12, "fp32")
    assert 0 < found["greedy"]["off_label"] <= 1
    assert found["greedy"]["agreement"] <= 1 - found["greedy"]["off_label"]
