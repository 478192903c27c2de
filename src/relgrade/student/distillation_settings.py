"""What `relgrade distil` is told: a smaller encoder that imitates the token states of a larger one."""

import math
from dataclasses import dataclass

from relgrade.errors import InvalidSettings


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidSettings(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillationSettings:
    """How a smaller encoder is made and trained, as one TOML file says it."""

    recipe: str  # the texts are those of its sources; relative to this file
    seed: int = 0  # of new weights and the order of batches
    original: str = "sentence-transformers/all-MiniLM-L6-v2"  # Hub id, or a local folder; of type bert
    revision: str | None = None  # commit of the Hub id; ignored for a folder
    layers: tuple[int, ...] = (4, 5)  # kept of the original, rising, from 0; what enters the first of them is guessed
    max_tokens: int = 256  # of one window of a document
    max_query_tokens: int = 64
    max_windows: int = 8  # of a document that are read
    epochs: float = 3.0  # passes over the windows
    batch_tokens: int = 2048  # of one step, padding counted
    learning_rate: float = 3e-4  # peak
    floor: float = 0.02  # last learning rate as a share of the peak (cosine)
    warmup: float = 0.05  # share of the steps
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0
    vector_weight: float = 1.0  # of the mean of a window's states in the loss, a token's states weigh 1
    bf16: bool = False  # products in bfloat16: for processors that have them, 1.5 to 2 times as fast
    guess_batches: int = 100  # of which what enters the first kept layer is guessed
    held_out: float = 0.03  # share of the batches that only measure
    checkpoint_steps: int = 200  # optimiser steps between checkpoints and measurements

    def __post_init__(self) -> None:
        layers = self.layers
        _require(len(layers) > 0, "layers names no layer")
        _require(
            layers[0] >= 0 and list(layers) == sorted(set(layers)),
            f"layers must rise from 0 or more, got {list(layers)}",
        )
        for name in (
            *("epochs", "batch_tokens", "learning_rate", "checkpoint_steps", "guess_batches"),
            *("max_tokens", "max_query_tokens", "max_windows", "max_gradient_norm"),
        ):
            _require(0.0 < getattr(self, name) < math.inf, f"{name} must be > 0 and finite, got {getattr(self, name)}")
        for name in ("seed", "weight_decay", "vector_weight"):
            _require(
                0.0 <= getattr(self, name) < math.inf, f"{name} must be >= 0 and finite, got {getattr(self, name)}"
            )
        for name in ("floor", "warmup", "held_out"):
            _require(0.0 <= getattr(self, name) < 1.0, f"{name} must be in [0, 1), got {getattr(self, name)}")
