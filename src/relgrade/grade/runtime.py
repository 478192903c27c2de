"""What the grader asks of a model: logits for pairs. One implementation per architecture, chosen by the bundle."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RuntimeOutput:
    """One row per pair of the call, in its order."""

    logits: NDArray[np.float64]  # (n_pairs,) log-odds before calibration
    truncated: NDArray[np.bool_]  # (n_pairs,) something of the pair was not read
    windows: NDArray[np.int64]  # (n_pairs,) pieces the document was read in


class Runtime(Protocol):
    """A loaded model. Safe to call from several threads; the logit of a pair does not depend on the others."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> RuntimeOutput:
        """Logits of (query, rendered document) pairs; the texts are clean, not blank, and any number is accepted."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Model tokens of each text, special tokens left out."""
        ...
