"""The torch side of an architecture: everything the training loop and the exporter need to know about a model.

One logit per pair leaves `forward`; a head with two classes is folded there (z1 - z0).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from relgrade.records import Pair


class Student(nn.Module, ABC):
    """A model that learns to judge pairs. Subclasses: `CrossEncoderStudent`, `InteractionStudent`."""

    architecture: ClassVar[str]  # as in StudentSettings.architecture and bundle.json
    tokenizer: Tokenizer

    def prepare(self, pairs: Sequence[Pair], *, cache_folder: Path) -> None:
        """Compute once what never changes in training (states of a frozen encoder). Default: nothing.

        Must be safe to call again after a crash: finished work in `cache_folder` is reused.
        """

    @abstractmethod
    def count_tokens(self, pairs: Sequence[Pair]) -> list[int]:
        """Length of each pair as the model reads it; the sampler puts pairs of like length into one batch."""

    @abstractmethod
    def collate(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        """The keyword arguments of `forward` for one batch, padded."""

    @abstractmethod
    def forward(self, **inputs: Tensor) -> Tensor:
        """Logits, shape (n_pairs,), float32."""

    def auxiliary_loss(self) -> Tensor | None:
        """What the last forward pass in training adds to the loss, a mean over its pairs, handed out once.

        Default: nothing.
        """
        return None

    @abstractmethod
    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters: `encoder` (pretrained) and `head` (new), for their learning rates."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write safetensors weights, config and tokenizer.json."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """Inverse of `save`."""

    @torch.no_grad()
    def score(self, pairs: Sequence[Pair], *, batch_pairs: int = 32) -> list[float]:
        """Logits in evaluation mode, in the order of `pairs`; longest first inside, so that little is padded."""
        was_training = self.training
        self.eval()
        lengths = self.count_tokens(pairs)
        order = sorted(range(len(pairs)), key=lambda i: -lengths[i])
        logits = [0.0] * len(pairs)
        device = next(self.parameters()).device
        for start in range(0, len(order), batch_pairs):
            chosen = order[start : start + batch_pairs]
            inputs = {name: tensor.to(device) for name, tensor in self.collate([pairs[i] for i in chosen]).items()}
            for i, logit in zip(chosen, self(**inputs).double().tolist(), strict=True):
                logits[i] = logit
        self.train(was_training)
        return logits
