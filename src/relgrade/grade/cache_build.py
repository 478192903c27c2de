"""Reads a corpus into the folder of a document cache, ahead of the queries.

Each chunk is stored before the next is read, and what is there is not read again: an interrupted run loses a chunk, and
the same command goes on. Where documents come from is the caller's business.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from relgrade.bundle import Bundle
from relgrade.encoding import clean_text, render_document
from relgrade.errors import OutputError
from relgrade.grade.document_cache import document_key, open_store
from relgrade.grade.document_store import DocumentStore, Row, StoreFailed, StoreInfo
from relgrade.grade.interaction import InteractionRuntime
from relgrade.grade.long_documents import LongDocumentRuntime, part_pairs
from relgrade.grade.runtimes import load_runtime, require_document_cache
from relgrade.records import Document

CHUNK_DOCUMENTS = 64  # seconds of work: what an interruption loses
_QUERY = "?"  # an interaction bundle cuts a document alike for every query


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a run did. Texts are what the model reads at once: a document, or the parts of a long one."""

    n_documents: int  # read from the corpus
    n_blank: int  # without text; they are judged by rule and need no cache
    n_new: int  # texts that were read and stored
    n_known: int  # texts that were there
    is_full: bool  # the bound was reached: the rest of the corpus is not stored
    info: StoreInfo  # of the folder, afterwards


def build_cache(
    bundle: Bundle,
    documents: Iterable[Document],
    folder: Path | str,
    *,
    limit_bytes: int | None = None,
    n_threads: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> BuildReport:
    """Store the states of all documents.

    Args:
        bundle: of architecture `interaction`.
        documents: as they will be graded: a title counts.
        folder: of the cache; made where it is not there.
        limit_bytes: bound of the folder, which it keeps; None: its own, see `DocumentStore`. Documents of earlier runs
            make room, those of this run never: it ends at the bound.
        n_threads: texts read at once; None takes the cores of this process.
        advance: is told how many more documents are done.

    Raises:
        InvalidInput: a bundle that has no use for a cache, or a bound out of range.
        OutputError: the folder cannot be written.
    """
    require_document_cache(bundle)
    runtime = load_runtime(bundle, n_threads=n_threads)
    try:
        store = open_store(folder, limit_bytes=limit_bytes)
        try:
            return _build(runtime, documents, store, advance or (lambda _: None))
        finally:
            store.close()
    except StoreFailed as error:
        raise OutputError(str(error), path=folder) from error


def _build(
    runtime: object, documents: Iterable[Document], store: DocumentStore, advance: Callable[[int], None]
) -> BuildReport:
    reader = runtime.reader if isinstance(runtime, LongDocumentRuntime) else runtime
    assert isinstance(reader, InteractionRuntime), "require_document_cache sees to it"
    begin = store.now()
    n_documents = n_blank = n_new = n_known = 0
    is_full = False
    for chunk in _chunks(documents):
        texts = [render_document(each) for each in chunk if clean_text(each.text).strip()]
        n_documents, n_blank = n_documents + len(chunk), n_blank + len(chunk) - len(texts)
        if isinstance(runtime, LongDocumentRuntime):
            pairs = [(_QUERY, text) for text in texts]
            texts = [text for _, text in part_pairs(pairs, runtime.plan(pairs))[0]]
        texts = list(dict.fromkeys(texts))
        keys = [document_key(reader.space, text) for text in texts]
        there = store.touch(keys)
        missing = {text: key for text, key, is_there in zip(texts, keys, there, strict=True) if not is_there}
        n_known += len(texts) - len(missing)
        rows = [
            Row(missing[text], states.to_bytes(), len(states.ids))
            for text, states in reader.read_states(list(missing)).items()
            if states.is_finite
        ]
        if rows and not store.put(rows, keep_from=begin):
            is_full = True
            break
        n_new += len(rows)
        advance(len(chunk))
    return BuildReport(n_documents, n_blank, n_new, n_known, is_full, store.info())


def _chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    for document in documents:
        chunk.append(document)
        if len(chunk) == CHUNK_DOCUMENTS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
