"""A step of training: the loss is transformers' own, and so is what 200 steps of it learn."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
import torch
from transformers import (
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

from sentiment.model.tokenizer import Tokeniser
from sentiment.settings.finetune import FinetuneConfig
from sentiment.training.batches import epoch_batches
from sentiment.training.dataset import LabelledTexts, TokenRows
from sentiment.training.network import recompute_activations, set_dropout
from sentiment.training.step import LabelLoss, Trainer, linear_decay

LABEL_IDS = ((3, 40), (41,))  # two tokens and one, as `0` and `1` in the published vocabulary
EOS_ID = 1


@pytest.fixture(scope="module")
def rows(vocabulary: Path) -> TokenRows:
    reviews = tiny_models.example_reviews()
    texts = [review["text"] for review in reviews]
    labels = [int(review["label"] == "positive") for review in reviews]
    tokeniser = Tokeniser(vocabulary, "{text}", 64, "head")
    return TokenRows.encode(LabelledTexts(texts, labels, [1.0] * len(texts), dropped=0), tokeniser)


@pytest.fixture(params=["tiny_v1_0", "tiny_v1_1"])
def network(request: pytest.FixtureRequest, vocabulary: Path) -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    built: T5ForConditionalGeneration = getattr(tiny_models, request.param)(vocabulary)
    set_dropout(built, 0.0, attention=0.0)
    return built.train()


def trainer_of(
    network: T5ForConditionalGeneration, rows: TokenRows, total: int = 10, **settings: Any
) -> Trainer:
    loss = LabelLoss(network, LABEL_IDS, EOS_ID)
    config = config_of(**settings)
    return Trainer(
        loss,
        rows,
        config,
        total=total,
        learning_rates=(config.learning_rate, config.learning_rate),
        autocast=config.precision == "bf16",
        draws=(config.seed,),
    )


def config_of(**settings: Any) -> FinetuneConfig:
    return FinetuneConfig(train=["t"], output="o", model="m", **settings)


def with_confidence(rows: TokenRows, confidence: float) -> TokenRows:
    sure = np.full(len(rows), confidence, dtype=np.float32)
    return TokenRows(rows.ids, rows.offsets, rows.labels, sure)


def own_loss(network: T5ForConditionalGeneration, ids: np.ndarray, label: int) -> float:
    """Summed loss of one review, unpadded, by transformers."""
    target = torch.tensor([[*LABEL_IDS[label], EOS_ID]])
    with torch.no_grad():
        mean = network(input_ids=torch.from_numpy(ids.astype(np.int64))[None], labels=target).loss
    return float(mean) * target.shape[1]


def gradients(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def test_the_loss_is_that_of_transformers(
    network: T5ForConditionalGeneration, rows: TokenRows
) -> None:
    batch = np.arange(8)
    expected = sum(own_loss(network, rows[row], int(rows.labels[row])) for row in batch)
    tokens = sum(len(LABEL_IDS[label]) + 1 for label in rows.labels[batch])
    assert len({len(rows[row]) for row in batch}) > 1
    assert trainer_of(network, rows).step(0, batch) == pytest.approx(expected / tokens, rel=1e-5)


def test_a_doubtful_label_shares_its_row_with_the_others(
    network: T5ForConditionalGeneration, rows: TokenRows
) -> None:
    row = 3
    label = int(rows.labels[row])
    own, other = (own_loss(network, rows[row], k) for k in (label, 1 - label))
    tokens = 0.7 * (len(LABEL_IDS[label]) + 1) + 0.3 * (len(LABEL_IDS[1 - label]) + 1)
    found = trainer_of(network, with_confidence(rows, 0.7)).step(0, np.array([row]))
    assert found == pytest.approx((0.7 * own + 0.3 * other) / tokens, rel=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient_accumulation_steps": 3},
        {"gradient_accumulation_steps": 50},
        {"gradient_checkpointing": True},
    ],
)
def test_saving_memory_changes_no_gradient(
    network: T5ForConditionalGeneration, rows: TokenRows, settings: dict[str, Any]
) -> None:
    batch, sure = np.arange(11), with_confidence(rows, 0.9)
    other, runs = copy.deepcopy(network), 0
    if settings.get("gradient_checkpointing"):
        recompute_activations(other)

    def count(*_: Any) -> None:
        nonlocal runs
        runs += 1

    other.encoder.block[0].layer[0].register_forward_pre_hook(count)
    losses = [
        trainer_of(one, sure, max_grad_norm=1e9, **changes).step(0, batch)
        for one, changes in ((network, {}), (other, settings))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    # As many passes as there are pieces, or one for the loss and one for its gradient.
    assert runs == min(settings.get("gradient_accumulation_steps", 2), len(batch))
    found = gradients(other)
    for name, gradient in gradients(network).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)


def test_a_step_draws_the_same_dropout_whatever_came_before(
    network: T5ForConditionalGeneration, rows: TokenRows
) -> None:
    """As after a resume, which knows the weights and the number of the step."""
    set_dropout(network, 0.3, attention=0.3)
    before = copy.deepcopy(network)
    batch = np.arange(8)
    losses = [trainer_of(copy.deepcopy(before), rows).step(n, batch) for n in (4, 4, 5)]
    assert losses[0] == losses[1] != losses[2]


def test_bf16_computes_and_keeps_fp32_weights(
    network: T5ForConditionalGeneration, rows: TokenRows
) -> None:
    batch = np.arange(8)
    exact = trainer_of(copy.deepcopy(network), rows).step(0, batch)
    rounded = trainer_of(network, rows, precision="bf16").step(0, batch)
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.05)
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}


def test_two_hundred_steps_are_those_of_the_seq2seq_trainer(
    network: T5ForConditionalGeneration, rows: TokenRows, vocabulary: Path, tmp_path: Path
) -> None:
    """The published recipe: rows of 8, Adam, a linear fall of the learning rate, clipping."""
    steps = 200
    config = config_of(learning_rate=3e-4, batch_rows=8)
    epochs = (epoch_batches(rows.lengths, config, epoch) for epoch in itertools.count())
    whole = (batch for epoch in epochs for batch in epoch if len(batch) == 8)
    batches = list(itertools.islice(whole, steps))

    class InGivenOrder(Seq2SeqTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    reference = copy.deepcopy(network)
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=8,
        learning_rate=config.learning_rate,
        num_train_epochs=1,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=config.seed,
    )
    peer = InGivenOrder(
        model=reference,
        args=arguments,
        train_dataset=[
            {
                "input_ids": rows[row].tolist(),
                "attention_mask": [1] * len(rows[row]),
                "labels": [*LABEL_IDS[rows.labels[row]], EOS_ID],
            }
            for batch in batches
            for row in batch
        ],
        data_collator=DataCollatorForSeq2Seq(
            T5Tokenizer.from_pretrained(str(vocabulary)), model=reference
        ),
    )
    peer.train()
    expected = [line["loss"] for line in peer.state.log_history if "loss" in line]

    trainer = trainer_of(network, rows, steps, learning_rate=3e-4)
    found = [trainer.step(number, batch) for number, batch in enumerate(batches)]
    assert len(found) == len(expected) == steps
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4)
    assert np.mean(found[-20:]) < 0.5 * np.mean(found[:20])


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [linear_decay(step, 4, 20) for step in range(21)]
    assert rates[0] == 0.2
    assert max(rates) == rates[4] == 1.0
    assert rates[:5] == sorted(rates[:5])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[20] == 0.0
