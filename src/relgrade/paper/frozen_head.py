"""Heads of configuration B: fitted to the end on features, trained as a recipe would, and written into the student.

A head of two classes is one of a single logit for what is decided and for every loss here, so a head that is fitted to
the end is fitted as one row; a recipe moves two.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import get_scheduler

from relgrade.paper.frozen import Matrix, head_layer
from relgrade.settings import TrainingSettings
from relgrade.student.cross_encoder import CrossEncoderStudent
from relgrade.student.losses import Loss


@dataclass(frozen=True, slots=True)
class FrozenHead:
    """A linear head: logit = weight . features + bias."""

    weight: NDArray[np.float64]  # (n_hidden,)
    bias: float

    def logits(self, features: Matrix) -> NDArray[np.float64]:
        """Shape (n_pairs,) of features of shape (n_pairs, n_hidden)."""
        return np.asarray(features.astype(np.float64) @ self.weight + self.bias)


def fit_head(
    features: Matrix, labels: Sequence[float], loss: Loss, *, query_ids: Sequence[str], has_bias: bool = True
) -> FrozenHead:
    """The head at which the loss is least, with a little weight decay; the same for every seed.

    Features are scaled to unit variance for the fit (the head is written for the features as they are). The penalty is
    ||w||^2 / (2 n) on the scaled weights, as in scikit-learn's logistic regression with C = 1.

    Args:
        features: shape (n_pairs, n_hidden).
        labels: in [0, 1], shape (n_pairs,).
        loss: over all pairs at once.
        query_ids: shape (n_pairs,).
        has_bias: False where the layer it is written into has none, as in decoders.
    """
    x, centre, scale = _scaled(features, is_centred=has_bias)
    y, query = torch.tensor(list(labels), dtype=torch.float64), _query_index(query_ids)
    parameters = torch.zeros(x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], lr=1.0, max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = x @ parameters[:-1] + (parameters[-1] if has_bias else 0.0)
        penalty = (parameters[:-1] ** 2).sum() / (2.0 * len(y))
        total: Tensor = loss(logits, y, query, torch.ones_like(y)) + penalty
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    fitted = parameters.detach().numpy()
    weight = fitted[:-1] / scale
    return FrozenHead(weight, float(fitted[-1] - weight @ centre) if has_bias else 0.0)


def train_head(
    features: Matrix,
    labels: Sequence[float],
    loss: Loss,
    *,
    query_ids: Sequence[str],
    layer: nn.Linear,
    training: TrainingSettings,
    learning_rate: float,
    seed: int,
) -> FrozenHead:
    """The head after the passes of a recipe: its AdamW, warm-up, cosine and clipping, over batches drawn by pair.

    As `fit` would train it in the model, but for the dropout that some models put before their last layer.

    Args:
        features: shape (n_pairs, n_hidden), as they are.
        labels: in [0, 1], shape (n_pairs,).
        loss: of a batch.
        query_ids: shape (n_pairs,).
        layer: where it starts, left as it is; of one logit, or of two classes, whose rows are trained both.
        training: of the recipe; `learning_rate` is not read.
        learning_rate: peak.
        seed: of the order.
    """
    x, query = torch.from_numpy(features), _query_index(query_ids)
    y = torch.tensor(list(labels), dtype=torch.float32)
    head = copy.deepcopy(layer).cpu().float().requires_grad_()
    groups = [{"params": [head.weight], "weight_decay": training.weight_decay}]
    if head.bias is not None:
        groups.append({"params": [head.bias], "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, lr=learning_rate)
    batch_pairs = training.batch_pairs * training.accumulation
    n_steps = training.max_steps if training.max_steps > 0 else max(1, round(training.epochs * len(y) / batch_pairs))
    schedule = get_scheduler(
        "cosine_with_min_lr",
        optimizer,
        num_warmup_steps=math.ceil(training.warmup * n_steps),
        num_training_steps=n_steps,
        scheduler_specific_kwargs={"min_lr_rate": training.floor},
    )
    generator = torch.Generator().manual_seed(seed)
    n_passes = math.ceil(n_steps * batch_pairs / len(y))
    order = torch.cat([torch.randperm(len(y), generator=generator) for _ in range(n_passes)])
    for step in range(n_steps):
        chosen = order[step * batch_pairs : (step + 1) * batch_pairs]
        optimizer.zero_grad()
        logits = _one_logit(head(x[chosen]))
        loss(logits, y[chosen], query[chosen], torch.ones_like(y[chosen])).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(head.parameters(), training.max_gradient_norm)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        weight = _one_logit(head.weight.double().T)
        bias = 0.0 if head.bias is None else float(_one_logit(head.bias.double()[None, :]))
    return FrozenHead(weight.numpy(), bias)


def put_head(student: CrossEncoderStudent, head: FrozenHead) -> None:
    """Write a fitted head into the student, half of it into each of two classes: z1 - z0 is its logit."""
    layer = head_layer(student)
    signs = torch.tensor([[-0.5], [0.5]]) if layer.out_features == 2 else torch.tensor([[1.0]])
    with torch.no_grad():
        layer.weight.copy_(signs * torch.from_numpy(head.weight).float()[None, :])
        if layer.bias is not None:
            layer.bias.copy_((signs * head.bias)[:, 0])


def _scaled(
    features: Matrix, *, is_centred: bool
) -> tuple[Tensor, NDArray[np.float64], NDArray[np.float64]]:  # three parts of one thing
    x = features.astype(np.float64)
    centre, scale = x.mean(axis=0) * is_centred, np.maximum(x.std(axis=0), 1e-6)
    return torch.from_numpy((x - centre) / scale), centre, scale


def _one_logit(logits: Tensor) -> Tensor:
    """(n, n_labels) -> (n,): of two classes the difference, as the student folds them."""
    return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits[:, 0]


def _query_index(query_ids: Sequence[str]) -> Tensor:
    numbers = {query_id: i for i, query_id in enumerate(dict.fromkeys(query_ids))}
    return torch.tensor([numbers[query_id] for query_id in query_ids])
