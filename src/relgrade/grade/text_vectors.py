"""Vectors of single texts from the encoder of an interaction bundle, for searching a corpus with it.

The vector of a text is the mean of its windows' mean states, each at length 1, at length 1 again. A text longer than
the bundle's windows is read as far as they go.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from relgrade.bundle import Bundle
from relgrade.encoding import TextEncoder, TextTemplate, clean_text
from relgrade.errors import BundleCorrupt, BundleError, InvalidInput
from relgrade.grade.grader import open_bundle
from relgrade.grade.interaction import ENCODER_ROLE
from relgrade.grade.sessions import SequencePool, as_input, open_session
from relgrade.grade.tokenizer import TOKENIZER_NAME, read_tokenizer


class TextVectors:
    """A frozen encoder. The vector of a text does not depend on the others of a call.

    Args:
        bundle: of architecture `interaction`.
        n_threads: sequences read at once; None takes the cores of this process, at most 8.

    Raises:
        BundleError: the bundle has no encoder of single texts, or it cannot be opened.
    """

    def __init__(self, bundle: Bundle, *, n_threads: int | None = None) -> None:
        graphs = bundle.manifest.graphs
        if bundle.manifest.architecture != "interaction" or ENCODER_ROLE not in graphs:
            raise BundleError(
                f"{bundle.folder}: a bundle of architecture 'interaction' was expected, this is "
                f"{bundle.manifest.architecture!r}, which reads query and document together and has no vectors of texts"
            )
        self.tokenizer: Tokenizer = read_tokenizer(bundle)
        try:
            template = TextTemplate.from_json(bundle.manifest.template)
        except (TypeError, InvalidInput) as error:
            raise BundleCorrupt(f"{bundle.folder}: not the template of an interaction model ({error})") from error
        self._session = open_session(bundle.path(graphs[ENCODER_ROLE]))
        self._texts = TextEncoder(self.tokenizer, template)
        self._pool = SequencePool(n_threads)
        files = bundle.manifest.files
        identity = (files[graphs[ENCODER_ROLE]].sha256, files[TOKENIZER_NAME].sha256, repr(template))
        self.name: str = hashlib.sha256("\n".join(identity).encode("utf-8")).hexdigest()
        self.dimension: int = self.encode(["a"], kind="query").shape[1]

    @classmethod
    def load(cls, source: Path | str | None = None, *, n_threads: int | None = None) -> Self:
        """Open the encoder of a bundle that is named as for `Grader.load`.

        Raises:
            BundleError: it is not there, damaged, or has no encoder of single texts.
            InvalidInput: a Hub id without its commit.
        """
        return cls(open_bundle(source), n_threads=n_threads)

    def encode(self, texts: Sequence[str], *, kind: Literal["query", "document"]) -> NDArray[np.float32]:
        """Vectors of length 1, shape (n_texts, dimension); of a query the first window alone is read."""
        encoded = self._texts.encode([clean_text(text) for text in texts], kind=kind)
        jobs = [(number, window) for number, text in enumerate(encoded) for window in text.windows]
        order = sorted(range(len(jobs)), key=lambda i: -len(jobs[i][1]))  # the threads then end together
        feeds = [
            {"input_ids": as_input(jobs[i][1]), "attention_mask": np.ones((1, len(jobs[i][1])), np.int64)}
            for i in order
        ]
        means: list[NDArray[np.float64]] = [np.empty(0)] * len(jobs)
        for i, outputs in zip(order, self._pool.run_each(self._session, feeds), strict=True):
            means[i] = _unit(outputs[1].reshape(-1).astype(np.float64))
        if not jobs:
            return np.empty((0, getattr(self, "dimension", 0)), np.float32)
        sums = np.zeros((len(texts), len(means[0])))
        for (number, _), mean in zip(jobs, means, strict=True):
            sums[number] += mean
        return np.stack([_unit(row) for row in sums]).astype(np.float32)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector
