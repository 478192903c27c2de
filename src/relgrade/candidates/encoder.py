"""What turns texts into vectors; `relgrade.grade.text_vectors` has the one of the embedded grader."""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

TextKind = Literal["query", "document"]


class Encoder(Protocol):
    """A frozen text encoder. The vector of a text depends on that text alone, not on its neighbours in a call."""

    @property
    def name(self) -> str:
        """Names the weights and the way texts are read: vectors of one name may be compared and kept."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """What chunks are measured with."""
        ...

    def encode(self, texts: Sequence[str], *, kind: TextKind) -> NDArray[np.float32]:
        """Vectors of length 1, shape (n_texts, dimension)."""
        ...
