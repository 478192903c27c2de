"""Configuration B: what a frozen backbone says of each pair is computed once, and heads are fitted on it in seconds.

A head of two classes is one of a single logit for what is decided and for every loss here, so a head that is fitted to
the end is fitted as one row; a recipe moves two.
"""

import copy
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import get_scheduler

from relgrade.errors import OutputError
from relgrade.formats.write import replaced_file
from relgrade.paper.bases import base_fingerprint
from relgrade.paper.settings import PaperSettings
from relgrade.records import Pair
from relgrade.settings import StudentSettings, TrainingSettings
from relgrade.student.cross_encoder import CrossEncoderStudent
from relgrade.student.losses import Loss

PIECE = 256  # pairs of one file
Matrix = NDArray[np.float32]
POOLINGS = ("model", "mean")


@dataclass(frozen=True, slots=True)
class FrozenHead:
    """A linear head: logit = weight . features + bias."""

    weight: NDArray[np.float64]  # (n_hidden,)
    bias: float

    def logits(self, features: Matrix) -> NDArray[np.float64]:
        """Shape (n_pairs,) of features of shape (n_pairs, n_hidden)."""
        return np.asarray(features.astype(np.float64) @ self.weight + self.bias)


def head_layer(student: CrossEncoderStudent) -> nn.Linear:
    """The last linear layer of the backbone, which makes the logits."""
    below = {id(module) for module in student.backbone.base_model.modules()}
    n_labels = student.backbone.config.num_labels
    found = [
        module
        for module in student.backbone.modules()
        if isinstance(module, nn.Linear) and id(module) not in below and module.out_features == n_labels
    ]
    return found[-1]


@torch.no_grad()
def read_features(student: CrossEncoderStudent, pairs: Sequence[Pair], *, batch_pairs: int = 16) -> dict[str, Matrix]:
    """What the head reads of each pair (`model`) and the mean over its tokens (`mean`), each (n_pairs, n_hidden)."""
    student.eval()
    lengths = student.count_tokens(pairs)
    order = sorted(range(len(pairs)), key=lambda i: -lengths[i])
    rows: dict[str, list[Any]] = {name: [None] * len(pairs) for name in POOLINGS}
    seen: list[Tensor] = []
    hook = head_layer(student).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    device = next(student.parameters()).device
    try:
        for start in range(0, len(order), batch_pairs):
            chosen = order[start : start + batch_pairs]
            inputs = {k: tensor.to(device) for k, tensor in student.collate([pairs[i] for i in chosen]).items()}
            seen.clear()
            states = student.backbone(**inputs, output_hidden_states=True).hidden_states[-1]  # (n, n_tokens, n_hidden)
            mask = inputs["attention_mask"]
            read = seen[0]
            if read.ndim == 3:  # a decoder's head reads every token; its logit is taken at the last that is no padding
                read = read[torch.arange(len(chosen), device=device), mask.sum(dim=1) - 1]
            mean = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
            for name, values in (("model", read), ("mean", mean)):
                for i, row in zip(chosen, values.float().cpu().numpy(), strict=True):
                    rows[name][i] = row
    finally:
        hook.remove()
    return {name: np.stack(values) for name, values in rows.items()}


class FeatureStore:
    """Features of pairs on disk, in pieces, so that a killed run goes on and rows share them.

    Args:
        folder: of one base model, template, length and precision; see `store_folder`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._place: dict[str, int] = {}
        self._features: dict[str, list[Matrix]] = {name: [] for name in POOLINGS}
        self._n_pieces = 0
        for path in sorted(folder.glob("piece-*.npz")):
            with np.load(path, allow_pickle=False) as piece:
                self._add(piece["keys"].tolist(), {name: piece[name] for name in POOLINGS})

    def read(
        self,
        pairs: Sequence[Pair],
        read: Callable[[Sequence[Pair]], Mapping[str, Matrix]],
        *,
        on_piece: Callable[[int, int], None] | None = None,
    ) -> dict[str, Matrix]:
        """Features of the pairs, in order; `read` (see `read_features`) is asked for those that are missing."""
        keys = [_text_key(pair) for pair in pairs]
        missing = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in self._place}
        if missing:
            waiting = list(missing.items())
            for start in range(0, len(waiting), PIECE):
                piece = waiting[start : start + PIECE]
                self._write([key for key, _ in piece], read([pair for _, pair in piece]))
                if on_piece is not None:
                    on_piece(start + len(piece), len(waiting))
        places = np.array([self._place[key] for key in keys])
        return {name: np.concatenate(self._features[name])[places] for name in POOLINGS}

    def _write(self, keys: list[str], features: Mapping[str, Matrix]) -> None:
        path = self._folder / f"piece-{self._n_pieces:05d}.npz"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError.from_os_error(error, path=path) from error
        with replaced_file(path) as file:
            np.savez(file, keys=np.array(keys), **features)  # type: ignore[arg-type]
        self._add(keys, features)

    def _add(self, keys: Sequence[str], features: Mapping[str, Matrix]) -> None:
        n = len(self._place)
        self._place.update({key: n + i for i, key in enumerate(keys)})
        for name in POOLINGS:
            self._features[name].append(np.asarray(features[name], dtype=np.float32))
        self._n_pieces += 1


def store_folder(root: Path, student: StudentSettings, table: PaperSettings) -> Path:
    """The folder of the features of one student, read with one precision; anything else would give other features."""
    names = ("base", "revision", "max_tokens", "max_query_tokens", "template")
    content = {name: value for name, value in asdict(student).items() if name in names}
    # A pooling layer that the checkpoint lacks is drawn with the seed.
    content |= {"bf16": table.reads_in_bf16, "seed": table.seed, "weights": base_fingerprint(student.base)}
    return root / hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


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


def _text_key(pair: Pair) -> str:
    return hashlib.sha256(
        f"{len(pair.query)}\0{pair.query}\0{pair.document}".encode("utf-8", "surrogatepass")
    ).hexdigest()
