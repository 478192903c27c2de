"""What one answer for every pair would cost: the measure of whether a training has found anything in its pairs.

The share of relevant pairs differs from step to step, and the loss with it. Compared on the same pairs, a model that
knows the base rate alone costs exactly this.
"""

import math
from collections.abc import Sequence

import torch
from accelerate.utils import gather_object
from torch import Tensor

from relgrade.student.losses import BinaryCrossEntropy, Loss


class ConstantAnswer:
    """Follows the steps of a training; without effect where no such answer is known.

    Args:
        loss: of the training; only binary cross-entropy has a best answer here.
        labels: of all training pairs, in [0, 1], before smoothing.
        weights: of the same pairs, >= 0.
    """

    def __init__(self, loss: Loss, labels: Sequence[float], weights: Sequence[float]) -> None:
        self._loss = loss if isinstance(loss, BinaryCrossEntropy) else None
        self._logit = math.inf if self._loss is None else self._loss.best_constant(_tensor(labels), _tensor(weights))
        self._sum = self._n_steps = 0.0

    def count(self, labels: Tensor, weights: Tensor, *, share: float) -> None:
        """Add the pairs of one pass of this process, which makes `share` of a step; both of shape (n_pairs,)."""
        if self._loss is not None and math.isfinite(self._logit):  # with labels all alike the best answer costs nothing
            losses = self._loss.of_pairs(torch.full_like(labels, self._logit), labels)  # (n_pairs,)
            self._sum += float((losses * weights.float()).mean()) * share
            self._n_steps += share

    def take(self) -> dict[str, float]:
        """`constant_loss`, the mean over the steps counted since the last call, of all processes; all must call it."""
        parts = gather_object([(self._sum, self._n_steps)])
        self._sum = self._n_steps = 0.0
        total, n_steps = (sum(part[i] for part in parts) for i in (0, 1))
        return {"constant_loss": total / n_steps} if n_steps else {}


def _tensor(values: Sequence[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float32)
