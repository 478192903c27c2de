"""Ranks a corpus for queries by words, by vectors, or by both, and knows nothing of what is kept of the ranks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from relgrade.candidates.dense import ExactIndex, ListIndex, Vectors, unit_rows
from relgrade.candidates.passages import Entry, PassageStore
from relgrade.candidates.queries import Query
from relgrade.candidates.ranking import Ranking, fuse
from relgrade.candidates.settings import CandidateSettings
from relgrade.candidates.vectors import VectorCache
from relgrade.errors import InvalidData, InvalidInput, OutputError

if TYPE_CHECKING:
    from relgrade.candidates.lexical import LexicalIndex


class VectorSource(Protocol):
    """Vectors of length 1 for the rows of a corpus and for queries."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def documents(self, start: int, stop: int) -> Vectors:
        """Of rows start to stop of the corpus, shape (stop - start, dimension)."""
        ...

    def queries(self, queries: Sequence[Query]) -> Vectors:
        """Shape (n_queries, dimension)."""
        ...


class EncodedVectors:
    """Vectors of an encoder, those that are missing made now.

    Args:
        cache: open.
        store: the corpus.
        advance: is told of progress: stage "encode", how many more, how many in all.
    """

    def __init__(
        self, cache: VectorCache, store: PassageStore, *, advance: Callable[[str, int, int | None], None]
    ) -> None:
        self._cache = cache
        n_rows = len(store)
        self._rows = cache.rows_of(store.texts(), kind="document", advance=lambda n: advance("encode", n, n_rows))

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._cache.dimension

    def documents(self, start: int, stop: int) -> Vectors:
        """See `VectorSource`."""
        return self._cache.read(self._rows[start:stop])

    def queries(self, queries: Sequence[Query]) -> Vectors:
        """See `VectorSource`."""
        return self._cache.read(self._cache.rows_of((query.text for query in queries), kind="query"))


class StoreVectors:
    """Vectors that a store brought, on disk in the order of the corpus. A context manager; the file is removed.

    Args:
        path: the file to write.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._dimension = 0
        self._n_rows = 0
        try:
            self._file: IO[bytes] = path.open("w+b")
        except OSError as error:
            raise OutputError.from_os_error(error, path=path) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._dimension

    def add(self, entry: Entry) -> None:
        """Take the vector of the next row.

        Raises:
            InvalidData: there is none, or it has another length than those before.
            OutputError: the disk is full.
        """
        vector = entry.vector
        self._dimension = self._dimension or (0 if vector is None else len(vector))
        if vector is None or vector.shape != (self._dimension,) or not self._dimension:
            found = "none" if vector is None else f"one of shape {vector.shape}"
            expected = f"a vector of {self._dimension or 'some'} numbers was expected"
            raise InvalidData(f"document {entry.document.id!r}: {expected}, got {found}")
        try:
            self._file.write(unit_rows(vector[None]).astype("<f4").tobytes())
        except OSError as error:
            raise OutputError.from_os_error(error, path=self._path) from error
        self._n_rows += 1

    def documents(self, start: int, stop: int) -> Vectors:
        """See `VectorSource`."""
        self._file.flush()
        shape = (self._n_rows, self._dimension)
        return np.asarray(np.memmap(self._path, np.dtype("<f4"), "r", shape=shape)[start:stop], np.float32)

    def queries(self, queries: Sequence[Query]) -> Vectors:
        """See `VectorSource`.

        Raises:
            InvalidInput: a query has no vector of that length.
        """
        for query in queries:
            if query.vector is None or len(query.vector) != self._dimension:
                found = "none" if query.vector is None else f"one of {len(query.vector)}"
                raise InvalidInput(
                    f"query {query.id!r} needs a `vector` of {self._dimension} numbers, made by the model that filled "
                    f"the store; found {found}"
                )
        return unit_rows(np.stack([query.vector for query in queries if query.vector is not None]))


@dataclass(frozen=True, slots=True)
class Ranked:
    """What the chosen method says of a query, and what its parts said."""

    final: Ranking
    parts: Mapping[str, Ranking]  # empty unless rankings were fused

    def ranks_of(self, row: int) -> dict[str, int | None]:
        """Rank of a row in each part, from 1; None where it is not among those looked at."""
        ranks: dict[str, int | None] = {}
        for name, part in self.parts.items():
            place: NDArray[np.int64] = np.flatnonzero(part.rows == row)
            ranks[name] = int(place[0]) + 1 if place.size else None
        return ranks


class Searcher:
    """Searches one corpus.

    Args:
        store: the corpus.
        settings: method and depth.
        vectors: for the methods that read them.

    Raises:
        MissingExtra: bm25s, or faiss for very many vectors, is not installed.
        InvalidInput: words are searched, and the corpus has none.
    """

    lexical: "LexicalIndex | None"  # None: words are not searched

    def __init__(self, store: PassageStore, settings: CandidateSettings, *, vectors: VectorSource | None) -> None:
        self._settings = settings
        self._vectors = vectors
        self._dense = None
        self.lexical = None
        if settings.is_lexical:
            from relgrade.candidates.lexical import LexicalIndex  # asks for bm25s

            self.lexical = LexicalIndex(store.texts())
        if settings.is_dense and vectors is not None:
            n_rows = len(store)
            self._dense = (
                ExactIndex(vectors.documents, n_rows)
                if n_rows <= settings.max_exact
                else ListIndex(vectors.documents, n_rows, dimension=vectors.dimension, seed=settings.seed)
            )

    def search(self, queries: Sequence[Query]) -> list[Ranked]:
        """Rank the corpus for each query, down to `settings.depth`."""
        depth = self._settings.depth
        lexical = dense = None
        if self.lexical is not None:
            lexical = [self.lexical.search(query.text, depth) for query in queries]
        if self._dense is not None and self._vectors is not None:
            dense = self._dense.search(self._vectors.queries(queries), depth)
        if lexical is None or dense is None:
            return [Ranked(ranking, {}) for ranking in lexical or dense or []]
        return [
            Ranked(
                fuse({"bm25": by_words, "dense": by_vectors}, k=self._settings.rrf_k, n_wanted=depth),
                {"bm25": by_words, "dense": by_vectors},
            )
            for by_words, by_vectors in zip(lexical, dense, strict=True)
        ]
