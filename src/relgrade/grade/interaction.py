"""Runs an interaction bundle: every text read alone by one encoder graph, the documents of a query judged by a head.

Each distinct query and document of a call is read once, never padded or batched. The list head judges several documents
in a run, in such a way that a logit depends on its own query and document alone, bit for bit; bundles without one have
a head that judges pair by pair. With a document cache every document is judged by its int8 states, found or new, so a
logit does not depend on what the cache holds either.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from tokenizers import Tokenizer

from relgrade.bundle import Bundle
from relgrade.encoding import EncodedText, TextEncoder, TextTemplate, TokenCounter, max_characters
from relgrade.errors import BundleCorrupt, InvalidInput
from relgrade.grade.document_cache import DocumentCache, space_of
from relgrade.grade.document_states import FORMAT, DocumentStates
from relgrade.grade.lists import ListFeeds, ReadText, group
from relgrade.grade.runtime import Room, RuntimeOutput
from relgrade.grade.sessions import SequencePool, as_input, open_session
from relgrade.grade.tokenizer import TOKENIZER_NAME, read_tokenizer

ENCODER_ROLE, HEAD_ROLE, LIST_HEAD_ROLE = "encoder", "head", "list_head"  # in Manifest.graphs

# Documents whose states are held at once: a 256-token document of a 384-wide encoder takes 0.4 MB.
CHUNK_DOCUMENTS = 256

_HEAD_INPUTS = frozenset(
    {"query_ids", "query_states", "query_vector", "document_ids", "document_states", "window_vectors"}
)


@dataclass(frozen=True, slots=True)
class _Text:
    """A text that was read now; a `lists.ReadText`."""

    ids: NDArray[np.int64]  # (n_text,) without special tokens
    states: NDArray[np.float32]  # (n_text, n_hidden)
    vectors: NDArray[np.float32]  # (n_windows, n_hidden) mean state of each window
    truncated: bool

    def put_states(self, target: NDArray[np.float32]) -> None:
        target[:] = self.states


class InteractionRuntime:
    """Implements `grade.runtime.Reader` for bundles of architecture `interaction`. Safe to share between threads.

    Args:
        encoder: session of one thread: `input_ids`, `attention_mask` -> states (1, n_tokens, n_hidden) and their mean.
        head: session of one thread: the texts of a pair -> one logit.
        list_head: session of one thread: a query and documents -> their logits, and how many tokens of each echo the
            query; where there are any, the head is asked. None: it is asked for all.
        tokenizer: the one the encoder was trained with.
        template: how texts become windows.
        n_threads: sequences in flight at once; None takes the cores of this process.
        document_cache: of documents that were read before; None: all are read.
        space: names what decides the states of a text; of the cache, see `document_cache.space_of`.

    Raises:
        BundleCorrupt: the head has other inputs.
    """

    def __init__(
        self,
        encoder: InferenceSession,
        head: InferenceSession,
        *,
        list_head: InferenceSession | None = None,
        tokenizer: Tokenizer,
        template: TextTemplate,
        n_threads: int | None = None,
        document_cache: DocumentCache | None = None,
        space: str = "",
    ) -> None:
        for each in (head, list_head):
            found = _HEAD_INPUTS if each is None else frozenset(item.name for item in each.get_inputs())
            if found != _HEAD_INPUTS:
                raise BundleCorrupt(f"the head reads {sorted(found)}, {sorted(_HEAD_INPUTS)} was expected")
        self._encoder = encoder
        self._head = head
        self._list_head = list_head
        self._texts = TextEncoder(tokenizer, template)
        self._counter = TokenCounter(tokenizer)
        self._pool = SequencePool(n_threads)
        self.document_cache = document_cache
        self.space = space

    @classmethod
    def from_bundle(
        cls, bundle: Bundle, *, n_threads: int | None = None, document_cache: DocumentCache | None = None
    ) -> Self:
        """Open the graphs and the tokenizer of a bundle.

        Raises:
            BundleError: a part is missing, damaged, or needs a newer onnxruntime.
        """
        graphs = bundle.manifest.graphs
        missing = {ENCODER_ROLE, HEAD_ROLE} - set(graphs)
        if missing:
            raise BundleCorrupt(f"an interaction bundle has graphs encoder and head; {sorted(missing)} is missing")
        return cls(
            open_session(bundle.path(graphs[ENCODER_ROLE])),
            open_session(bundle.path(graphs[HEAD_ROLE])),
            list_head=open_session(bundle.path(graphs[LIST_HEAD_ROLE])) if LIST_HEAD_ROLE in graphs else None,
            tokenizer=read_tokenizer(bundle),
            template=_read_template(bundle.manifest.template),
            n_threads=n_threads,
            document_cache=document_cache,
            space=_space_of(bundle),
        )

    def score(self, pairs: Sequence[tuple[str, str]]) -> RuntimeOutput:
        """Logits of (query, rendered document) pairs, in their order.

        A logit that is not finite is handed on as it is: the Grader knows which document it belongs to.

        Args:
            pairs: clean texts; any number.
        """
        logits = np.empty(len(pairs), np.float64)
        truncated = np.empty(len(pairs), np.bool_)
        windows = np.empty(len(pairs), np.int64)
        for rows in _chunks(pairs):
            queries = self._read([pairs[row][0] for row in rows], kind="query")
            documents = self._read_documents([pairs[row][1] for row in rows])
            texts = [(queries[pairs[row][0]], documents[pairs[row][1]]) for row in rows]
            logits[rows] = self._judge(texts)
            truncated[rows] = [query.truncated or document.truncated for query, document in texts]
            windows[rows] = [len(document.vectors) for _, document in texts]
        return RuntimeOutput(logits, truncated, windows)

    def _judge(self, texts: Sequence[tuple[ReadText, ReadText]]) -> NDArray[np.float64]:
        """Logits of queries and documents that were read, shape (n_texts,)."""
        logits = np.empty(len(texts), np.float64)
        open_rows = list(range(len(texts)))
        if self._list_head is not None:
            runs = _runs(texts)
            feeds = ListFeeds([(texts[rows[0]][0], [texts[row][1] for row in rows]) for rows in runs])
            open_rows = []
            for rows, (found, echoes) in zip(runs, self._pool.run_each(self._list_head, feeds), strict=True):
                logits[rows] = found
                open_rows += [row for row, n_echoed in zip(rows, echoes, strict=True) if n_echoed > 0]
        alone = [_feed(*texts[row]) for row in open_rows]
        for row, outputs in zip(open_rows, self._pool.run_each(self._head, alone), strict=True):
            logits[row] = outputs[0].reshape(-1)[0]
        return logits

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Model tokens of each text, special tokens left out."""
        return self._counter.count(texts)

    def room(self, query: str) -> Room:
        """All windows of a document; the query is read by itself and takes none of it."""
        template = self._texts.template
        n_tokens = template.window_tokens * template.max_windows
        return Room(n_tokens, max_characters(n_tokens))

    def read_states(self, texts: Sequence[str]) -> dict[str, DocumentStates]:
        """The states of each distinct document, read now, whatever the cache holds.

        Args:
            texts: rendered documents, clean and not blank.
        """
        read = self._read(texts, kind="document")
        return {
            name: DocumentStates.quantise(text.ids, text.states, text.vectors, truncated=text.truncated)
            for name, text in read.items()
        }

    def _read_documents(self, texts: Sequence[str]) -> Mapping[str, ReadText]:
        """Each distinct document: as the cache has it, or read once and handed to the cache."""
        if self.document_cache is None:
            return self._read(texts, kind="document")
        known = self.document_cache.get(self.space, texts)
        missing = [text for text in texts if text not in known]
        if missing:
            read = self.read_states(missing)
            self.document_cache.put(self.space, read)
            known |= read
        return known

    def _read(self, texts: Sequence[str], *, kind: Literal["query", "document"]) -> dict[str, _Text]:
        """Each distinct text, read once."""
        distinct = list(dict.fromkeys(texts))
        encoded = self._texts.encode(distinct, kind=kind)
        jobs = [(number, window) for number, text in enumerate(encoded) for window in text.windows]
        order = sorted(range(len(jobs)), key=lambda i: -len(jobs[i][1]))  # the threads then end together
        outputs: list[list[NDArray[Any]]] = [[] for _ in jobs]
        feeds = [
            {"input_ids": as_input(jobs[i][1]), "attention_mask": np.ones((1, len(jobs[i][1])), np.int64)}
            for i in order
        ]
        for i, found in zip(order, self._pool.run_each(self._encoder, feeds), strict=True):
            outputs[i] = found
        per_text: list[list[list[NDArray[Any]]]] = [[] for _ in distinct]
        for (number, _), found in zip(jobs, outputs, strict=True):
            per_text[number].append(found)
        template = self._texts.template
        return {
            name: _join(text, found, n_prefix=len(template.prefix), n_suffix=len(template.suffix))
            for name, text, found in zip(distinct, encoded, per_text, strict=True)
        }


def _chunks(pairs: Sequence[tuple[str, str]]) -> list[list[int]]:
    """Rows of the call in groups of at most `CHUNK_DOCUMENTS` distinct documents; a document stands in one group."""
    group: dict[str, int] = {}
    for _, document in pairs:
        group.setdefault(document, len(group) // CHUNK_DOCUMENTS)
    chunks: list[list[int]] = [[] for _ in range(max(group.values(), default=-1) + 1)]
    for row, (_, document) in enumerate(pairs):
        chunks[group[document]].append(row)
    return chunks


def _join(text: EncodedText, outputs: Sequence[Sequence[NDArray[Any]]], *, n_prefix: int, n_suffix: int) -> _Text:
    """Windows laid end to end without special tokens; a text that has no tokens is read as its last special token."""
    ids: list[int] = []
    states = []
    for window, (window_states, _) in zip(text.windows, outputs, strict=True):
        end = len(window) - n_suffix
        ids += window[n_prefix:end]
        states.append(window_states[0, n_prefix:end])
    if not ids:
        ids, states = [text.windows[0][-1]], [outputs[0][0][0, -1:]]
    vectors = np.concatenate([found[1] for found in outputs])
    return _Text(np.asarray(ids, np.int64), np.concatenate(states), vectors, text.truncated)


def _space_of(bundle: Bundle) -> str:
    files = bundle.manifest.files
    return space_of(
        encoder_sha256=files[bundle.manifest.graphs[ENCODER_ROLE]].sha256,
        tokenizer_sha256=files[TOKENIZER_NAME].sha256,
        template=json.dumps(bundle.manifest.template, sort_keys=True),
        states_format=FORMAT,
    )


def _runs(texts: Sequence[tuple[ReadText, ReadText]]) -> list[list[int]]:
    """Rows that the list head judges together: of one query, see `lists.group`."""
    of_query: dict[int, list[int]] = {}
    for row, (query, _) in enumerate(texts):
        of_query.setdefault(id(query), []).append(row)
    return [[rows[i] for i in run] for rows in of_query.values() for run in group([texts[row][1] for row in rows])]


def _feed(query: ReadText, document: ReadText) -> dict[str, NDArray[Any]]:
    return {
        "query_ids": query.ids[None],
        "query_states": query.states[None],
        "query_vector": query.vectors[:1],
        "document_ids": document.ids.astype(np.int64)[None],
        "document_states": document.states[None],
        "window_vectors": document.vectors[None],
    }


def _read_template(data: Mapping[str, Any]) -> TextTemplate:
    try:
        return TextTemplate.from_json(data)
    except (TypeError, InvalidInput) as error:
        raise BundleCorrupt(
            f"the template is not one of an interaction model ({error}); it has: {sorted(data)}"
        ) from error
