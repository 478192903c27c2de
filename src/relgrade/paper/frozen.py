"""Configuration B: what a frozen backbone says of each pair is computed once, and rows share it on disk."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from relgrade.errors import OutputError
from relgrade.formats.write import replaced_file
from relgrade.paper.bases import base_fingerprint
from relgrade.paper.settings import PaperSettings
from relgrade.records import Pair
from relgrade.settings import StudentSettings
from relgrade.student.cross_encoder import CrossEncoderStudent

PIECE = 256  # pairs of one file
Matrix = NDArray[np.float32]
POOLINGS = ("model", "mean")


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


def _text_key(pair: Pair) -> str:
    return hashlib.sha256(
        f"{len(pair.query)}\0{pair.query}\0{pair.document}".encode("utf-8", "surrogatepass")
    ).hexdigest()
