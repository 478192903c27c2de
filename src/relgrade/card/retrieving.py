"""Lists from a corpus, where the system under test brings none, and what words and vectors say of any list."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from relgrade.candidates import CandidateSettings, CorpusSettings, Encoder, Mix
from relgrade.candidates.corpus import CorpusReport, read_corpus
from relgrade.candidates.lexical import LexicalIndex
from relgrade.candidates.passages import PassageStore
from relgrade.candidates.queries import Query
from relgrade.candidates.search import EncodedVectors, Searcher
from relgrade.candidates.settings import Method
from relgrade.candidates.vectors import VectorCache
from relgrade.card.cases import Case, Listed, Scores
from relgrade.errors import InvalidData

Advance = Callable[[str, int, int | None], None]  # (stage, how many more, how many in all or None)
MIN_DEPTH = 100  # ranks that hybrid retrieval fuses
_QUERY_BATCH = 256  # the vectors of the corpus are read once for them


@dataclass(frozen=True, slots=True)
class Scored:
    """Cases with their lists, and the scores of what is listed."""

    cases: tuple[Case, ...]
    scores: tuple[Scores, ...]
    n_documents: int  # that words were counted on: the corpus, or what is listed


def retrieve_lists(
    cases: Sequence[Case],
    corpus: Path | str,
    *,
    encoder: Encoder,
    folder: Path,
    method: Method = "bm25",
    n_top: int = 20,
    advance: Advance = lambda _stage, _n, _total: None,
) -> Scored:
    """List the best documents of a corpus for each case.

    Args:
        cases: their documents are replaced.
        corpus: see `candidates.corpus.read_corpus`.
        encoder: of vectors.
        folder: keeps vectors between runs, and the corpus while this one lasts.
        method: bm25, dense or hybrid.
        n_top: documents a list, at most; BM25 lists those alone that share a word with the query.
        advance: is told of progress in the stages read, encode and search.

    Raises:
        InvalidData: the corpus cannot be read, or is empty.
        InvalidInput: no document has a word to index.
        OutputError: the folder cannot be written.
    """
    settings = CandidateSettings(method=method, mix=Mix(top=n_top), depth=max(n_top, MIN_DEPTH))
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        store = stack.enter_context(PassageStore(folder / ".corpus.part"))
        for entry in read_corpus(corpus, CorpusSettings(), report=CorpusReport(), tokenizer=encoder.tokenizer):
            store.add(entry)
            advance("read", 1, None)
        store.close_writing()
        if not len(store):
            raise InvalidData("the corpus has no document with text", path=str(corpus))
        cache = stack.enter_context(VectorCache(folder / "vectors", encoder))
        vectors = EncodedVectors(cache, store, advance=advance) if settings.is_dense else None
        searcher = Searcher(store, settings, vectors=vectors)
        scorer = _Scorer(searcher.lexical or LexicalIndex(store.texts()), cache, encoder)
        listed, scores = [], []
        for start in range(0, len(cases), _QUERY_BATCH):
            batch = cases[start : start + _QUERY_BATCH]
            found = searcher.search([Query(case.query_id, case.query) for case in batch])
            for case, ranked in zip(batch, found, strict=True):
                rows = ranked.final.rows[:n_top].tolist()
                passages = [store.read(row) for row in rows]
                documents = tuple(Listed(passage.doc_id, passage.text) for passage in passages)
                listed.append(replace(case, documents=documents))
                scores.append(scorer.score(case.query, rows, [passage.text for passage in passages]))
                advance("search", 1, len(cases))
        return Scored(tuple(listed), tuple(scores), len(store))


def score_lists(
    cases: Sequence[Case],
    *,
    encoder: Encoder,
    folder: Path,
    advance: Advance = lambda _stage, _n, _total: None,
) -> Scored:
    """Scores of lists that the system under test brought; words are counted on what is listed, all cases together.

    Args:
        cases: with their documents.
        encoder: of vectors.
        folder: keeps vectors between runs.
        advance: is told of progress in the stage search.

    Raises:
        InvalidData: nothing is listed.
        InvalidInput: no document has a word to index.
        OutputError: the folder cannot be written.
    """
    texts = dict.fromkeys(document.text for case in cases for document in case.documents)
    if not texts:
        raise InvalidData("no question has a document in its list")
    row_of = {text: row for row, text in enumerate(texts)}
    folder.mkdir(parents=True, exist_ok=True)
    with VectorCache(folder / "vectors", encoder) as cache:
        scorer = _Scorer(LexicalIndex(texts), cache, encoder)
        scores = []
        for case in cases:
            own = [document.text for document in case.documents]
            scores.append(scorer.score(case.query, [row_of[text] for text in own], own))
            advance("search", 1, len(cases))
        return Scored(tuple(cases), tuple(scores), len(texts))


@dataclass(frozen=True, slots=True)
class _Scorer:
    index: LexicalIndex
    cache: VectorCache
    encoder: Encoder

    def score(self, query: str, rows: Sequence[int], texts: Sequence[str]) -> Scores:
        """Scores of some rows of the index, whose texts these are."""
        start = time.perf_counter()
        bm25 = self.index.score(query)[list(rows)].astype(np.float64)
        bm25_ms = (time.perf_counter() - start) * 1000.0
        start = time.perf_counter()
        # Past the cache, so that the time is that of a new query.
        vector = self.encoder.encode([query], kind="query")[0].astype(np.float64)
        cosine_ms = (time.perf_counter() - start) * 1000.0
        vectors = self.cache.read(self.cache.rows_of(texts, kind="document")).astype(np.float64)
        return Scores(bm25, vectors @ vector, bm25_ms, cosine_ms)
