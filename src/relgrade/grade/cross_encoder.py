"""Runs a cross-encoder's graph: each pair alone, unpadded, several at once, so that no logit depends on a neighbour."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from tokenizers import Tokenizer

from relgrade.bundle import Bundle
from relgrade.encoding import EncodedPair, PairEncoder, PairTemplate, TokenCounter, max_characters
from relgrade.errors import BundleCorrupt, InvalidInput
from relgrade.grade.runtime import Room, RuntimeOutput
from relgrade.grade.sessions import SequencePool, as_input, open_session
from relgrade.grade.tokenizer import read_tokenizer

GRAPH_ROLE = "model"  # in Manifest.graphs

CHUNK_PAIRS = 1024  # encoded at once; bounds memory when a call brings a million pairs

_REQUIRED_INPUTS = frozenset({"input_ids", "attention_mask"})
_KNOWN_INPUTS = _REQUIRED_INPUTS | {"token_type_ids"}


class CrossEncoderRuntime:
    """Implements `grade.runtime.Reader` for bundles of architecture `cross-encoder`.

    Safe to call from several threads: sessions and tokenizers keep no state between calls.

    Args:
        session: of one thread; reads `input_ids`, `attention_mask` and perhaps `token_type_ids`, of shape
            (n_pairs, n_tokens), and gives one logit a pair as its first output.
        tokenizer: the one the model was trained with; a copy without padding and truncation is used.
        template: how a pair becomes a sequence.
        n_threads: pairs in flight at once; None takes the cores of this process.

    Raises:
        BundleCorrupt: the graph has other inputs.
    """

    def __init__(
        self,
        session: InferenceSession,
        tokenizer: Tokenizer,
        *,
        template: PairTemplate,
        n_threads: int | None = None,
    ) -> None:
        self._session = session
        self._inputs = frozenset(item.name for item in session.get_inputs())
        if not _REQUIRED_INPUTS <= self._inputs <= _KNOWN_INPUTS:
            raise BundleCorrupt(
                f"the graph reads {sorted(self._inputs)}; {sorted(_REQUIRED_INPUTS)} and perhaps token_type_ids "
                "were expected: this is no cross-encoder"
            )
        self._encoder = PairEncoder(tokenizer, template)
        self._counter = TokenCounter(tokenizer)
        self._pool = SequencePool(n_threads)

    @classmethod
    def from_bundle(cls, bundle: Bundle, *, n_threads: int | None = None) -> Self:
        """Open the graph and the tokenizer of a bundle.

        Args:
            bundle: of architecture `cross-encoder`, with a graph in the role `model`.
            n_threads: pairs in flight at once; None takes the cores of this process.

        Raises:
            BundleError: a part is missing, damaged, or needs a newer onnxruntime.
        """
        graphs = bundle.manifest.graphs
        file_name = graphs.get(GRAPH_ROLE)
        if file_name is None:
            raise BundleCorrupt(
                f"a cross-encoder has a graph in the role {GRAPH_ROLE!r}, this bundle has {sorted(graphs)}"
            )
        return cls(
            open_session(bundle.path(file_name)),
            read_tokenizer(bundle),
            template=_read_template(bundle.manifest.template),
            n_threads=n_threads,
        )

    def score(self, pairs: Sequence[tuple[str, str]]) -> RuntimeOutput:
        """Logits of (query, rendered document) pairs, in their order; equal pairs are computed once.

        A logit that is not finite is handed on as it is: the Grader knows which document it belongs to.

        Args:
            pairs: clean texts; any number.
        """
        places: dict[tuple[str, str], int] = {}
        row_of = np.fromiter((places.setdefault(pair, len(places)) for pair in pairs), np.int64, len(pairs))
        distinct = list(places)
        logits = np.empty(len(distinct), np.float64)
        truncated = np.empty(len(distinct), np.bool_)
        for start in range(0, len(distinct), CHUNK_PAIRS):
            encoded = self._encoder.encode(distinct[start : start + CHUNK_PAIRS])
            end = start + len(encoded)
            logits[start:end] = self._run(encoded)
            truncated[start:end] = [pair.truncated for pair in encoded]
        return RuntimeOutput(logits[row_of], truncated[row_of], np.ones(len(pairs), np.int64))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Model tokens of each text, special tokens left out."""
        return self._counter.count(texts)

    def room(self, query: str) -> Room:
        """What the query leaves of the sequence: the longer the query, the less."""
        template = self._encoder.template
        n_characters = max_characters(template.max_tokens)
        return Room(self._encoder.document_room(query), n_characters, template.max_document_words)

    def _run(self, encoded: Sequence[EncodedPair]) -> NDArray[np.float64]:
        """Logits of encoded pairs, shape (n_pairs,)."""
        # Longest first: the threads then end at about the same time.
        order = sorted(range(len(encoded)), key=lambda i: -len(encoded[i].ids))
        results = self._pool.run_each(self._session, [self._feed(encoded[i]) for i in order])
        logits = np.empty(len(encoded), np.float64)
        for i, outputs in zip(order, results, strict=True):
            logits[i] = outputs[0].reshape(-1)[0]
        return logits

    def _feed(self, pair: EncodedPair) -> dict[str, NDArray[np.int64]]:
        feed = {"input_ids": as_input(pair.ids), "attention_mask": np.ones((1, len(pair.ids)), np.int64)}
        if "token_type_ids" in self._inputs:
            feed["token_type_ids"] = as_input(pair.type_ids)
        return feed


def _read_template(data: Mapping[str, Any]) -> PairTemplate:
    try:
        return PairTemplate.from_json(data)
    except (TypeError, InvalidInput) as error:
        raise BundleCorrupt(f"the template is not one of a cross-encoder ({error}); it has: {sorted(data)}") from error
