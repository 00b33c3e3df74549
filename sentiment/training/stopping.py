"""Early stopping: when to stop training, and which weights to keep."""

from __future__ import annotations

from typing import Any

import torch


class EarlyStopping:
    """Keeps the weights with the best accuracy and counts the validations since.

    Args:
        patience: Validations without a better accuracy after which training is over; None keeps
            nothing and never stops.
    """

    def __init__(self, patience: int | None) -> None:
        self._patience = patience
        self._best, self._stale = -1.0, 0
        self._weights: dict[str, torch.Tensor] | None = None

    @property
    def over(self) -> bool:
        """Return whether patience has run out."""
        return self._patience is not None and self._stale >= self._patience

    def see(self, accuracy: float, network: torch.nn.Module) -> None:
        """Record a validation. Of equal accuracies the first is kept."""
        if self._patience is None:
            return
        if accuracy <= self._best:
            self._stale += 1
            return
        self._best, self._stale = accuracy, 0
        self._weights = {
            name: tensor.detach().to("cpu", copy=True)
            for name, tensor in network.state_dict().items()
        }

    def use_best(self, network: torch.nn.Module) -> None:
        """Load the best weights into the network, if they were kept."""
        if self._weights is not None:
            network.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs to continue."""
        return {"best": self._best, "stale": self._stale, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
        self._best, self._stale = float(state["best"]), int(state["stale"])
        self._weights = state["weights"]
