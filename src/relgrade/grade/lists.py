"""Which documents of a query the head judges in one run, and how they are laid side by side.

A run costs as much as a few documents, whatever is in it, so few runs are better than many; but a document is padded to
the longest of its run. Padding changes nothing in a logit (`export/list_evidence.py`).
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

BLOCK = 16  # tokens; documents are padded to whole blocks
PADDING_ID = -1

# A run costs 0.2 ms, and a token of padding 0.5 us: so much padding is cheaper than another run.
MAX_PADDING = 400  # tokens of a run
MAX_TOKENS = 2048  # of a run, padding too, where it holds more than one document: 3 MB of states of a 384-wide encoder


class ReadText(Protocol):
    """A text as an encoder read it, special tokens left out."""

    @property
    def ids(self) -> NDArray[np.integer]:
        """Token ids, shape (n_tokens,)."""
        ...

    @property
    def states(self) -> NDArray[np.float32]:
        """Token states, shape (n_tokens, n_hidden)."""
        ...

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Mean state of each window, shape (n_windows, n_hidden)."""
        ...

    @property
    def truncated(self) -> bool:
        """Something of the text was not read."""
        ...

    def put_states(self, target: NDArray[np.float32]) -> None:
        """Write `states` into an array of their shape."""
        ...


def group(documents: Sequence[ReadText]) -> list[list[int]]:
    """Positions of the documents of each run: all of one number of windows, and of about one length.

    Args:
        documents: of one query, in any order.
    """
    sizes = [(len(each.vectors), _padded(len(each.ids))) for each in documents]
    groups: list[list[int]] = []
    windows, n_real = 0, 0
    for place in sorted(range(len(documents)), key=sizes.__getitem__):
        n_windows, n_tokens = sizes[place]
        n_padded = n_tokens * (len(groups[-1]) + 1) if groups else 0
        if n_windows != windows or n_padded > MAX_TOKENS or n_padded - n_real - n_tokens > MAX_PADDING:
            groups.append([])
            windows, n_real = n_windows, 0
        groups[-1].append(place)
        n_real += n_tokens
    return groups


class ListFeeds(Sequence[dict[str, NDArray[Any]]]):
    """The inputs of each run, laid out when it is their turn, so that few copies of states are held at once.

    Args:
        runs: query and documents of each run, as `group` put them together.
    """

    def __init__(self, runs: Sequence[tuple[ReadText, Sequence[ReadText]]]) -> None:
        self._runs = runs

    def __len__(self) -> int:
        return len(self._runs)

    @overload
    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]: ...
    @overload
    def __getitem__(self, index: slice) -> "ListFeeds": ...
    def __getitem__(self, index: int | slice) -> "dict[str, NDArray[Any]] | ListFeeds":
        if isinstance(index, slice):
            return ListFeeds(self._runs[index])
        return lay_out(*self._runs[index])

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        return (lay_out(*run) for run in self._runs)


def lay_out(query: ReadText, documents: Sequence[ReadText]) -> dict[str, NDArray[Any]]:
    """A query and documents of one number of windows as the inputs of the head.

    Returns:
        Ids and states of documents padded to the longest, in whole blocks.
    """
    n_tokens = _padded(max(len(document.ids) for document in documents))
    ids = np.full((len(documents), n_tokens), PADDING_ID, np.int64)
    states = np.zeros((len(documents), n_tokens, query.states.shape[1]), np.float32)
    for i, document in enumerate(documents):
        n = len(document.ids)
        ids[i, :n] = document.ids
        document.put_states(states[i, :n])
    return {
        "query_ids": query.ids.astype(np.int64)[None],
        "query_states": query.states[None],
        "query_vector": query.vectors[:1],
        "document_ids": ids,
        "document_states": states,
        "window_vectors": np.stack([document.vectors for document in documents]),
    }


def _padded(n_tokens: int) -> int:
    return -(-n_tokens // BLOCK) * BLOCK
