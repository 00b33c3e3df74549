"""Early stopping: when training is over, and with which weights."""

from __future__ import annotations

import torch

from sentiment.training.stopping import EarlyStopping


def network_of(value: float) -> torch.nn.Linear:
    network = torch.nn.Linear(1, 1)
    with torch.no_grad():
        network.weight.fill_(value)
    return network


def seen(stopping: EarlyStopping, *accuracies: float) -> list[bool]:
    """Whether training is over after each validation; the weights are the accuracies."""
    over = []
    for accuracy in accuracies:
        stopping.see(accuracy, network_of(accuracy))
        over.append(stopping.over)
    return over


def kept(stopping: EarlyStopping) -> float:
    network = network_of(-1)
    stopping.use_best(network)
    return round(network.weight.item(), 4)


def test_patience_runs_out_without_a_better_accuracy() -> None:
    stopping = EarlyStopping(2)
    assert seen(stopping, 0.5, 0.4, 0.6, 0.6, 0.55) == [False, False, False, False, True]
    assert kept(stopping) == 0.6


def test_the_best_weights_are_kept_though_training_goes_on() -> None:
    stopping = EarlyStopping(5)
    network = network_of(0.9)
    stopping.see(0.9, network)
    with torch.no_grad():
        network.weight.fill_(0.1)
    stopping.see(0.1, network)
    assert not stopping.over
    assert kept(stopping) == 0.9


def test_a_checkpoint_goes_on_counting() -> None:
    first = EarlyStopping(2)
    seen(first, 0.8, 0.7)
    resumed = EarlyStopping(2)
    resumed.load_state_dict(first.state_dict())
    assert seen(resumed, 0.79) == [True]
    assert kept(resumed) == 0.8


def test_without_patience_nothing_stops_and_the_last_weights_stay() -> None:
    stopping = EarlyStopping(None)
    assert not any(seen(stopping, 0.5, 0.4, 0.3, 0.2))
    assert kept(stopping) == -1
    assert stopping.state_dict()["weights"] is None
