"""A document that repeats the question has not answered it: which of its tokens are such an echo.

Headlines of answer sites, menus, chunks that end after the question, and documents written to be retrieved hold the
question itself, and every measure of overlap is highest there. Tokens of an echo are left out of the evidence; what
the document says besides still counts, and its states have read the question, so that an entry of a FAQ stays relevant
by its answer.

Only questions have echoes. A claim or keywords that a document repeats are evidence.
"""

import torch
from torch import Tensor
from torch.nn import functional

SHARE = 0.8  # of the question's tokens that stand in their places
SLACK = 2  # places that a token may be off, for a word changed, added or left out
MIN_TOKENS = 4  # of a question; fewer are found in too many texts

WORD, MARK = 1.0, 2.0  # what a token id asks with, in the table of `asking_tokens`
_WORDS = frozenset({
    "what", "who", "whom", "whose", "when", "where", "which", "why", "how",
    "is", "are", "was", "were", "do", "does", "did", "can", "could", "should", "would", "will", "has", "have", "had",
})  # fmt: skip
_MARKS = frozenset("?\uff1f\u061f")


def asking_tokens(vocabulary: dict[str, int], n_vocabulary: int) -> Tensor:
    """WORD for each token that begins a question in English, MARK for question marks, else 0; (n_vocabulary,)."""
    table = torch.zeros(n_vocabulary)
    for token, index in vocabulary.items():
        table[index] = WORD if token in _WORDS else MARK if token in _MARKS else 0.0
    return table


def echoed(same: Tensor, query_mask: Tensor, asking: Tensor) -> Tensor:
    """1 for each token of a document that is part of an echo of its question, else 0; shape (n_pairs, n_document).

    An echo is a run of the document in which `SHARE` of the question's tokens stand in their order, give or take
    `SLACK` places, the word that asks at its head or the question mark among them. A statement in the question's words
    has neither, and is no echo.

    Args:
        same: 1 where a query token is a document token, shape (n_pairs, n_query, n_document).
        query_mask: 1 for what is there, shape (n_pairs, n_query).
        asking: `asking_tokens` of the query's tokens, shape (n_pairs, n_query).
    """
    n_pairs, n_query, n_document = same.shape
    near = functional.pad(same, (n_query, 2 * n_query))
    near = functional.max_pool1d(near, 2 * SLACK + 1, stride=1, padding=SLACK)
    # Column t of `aligned` lays the question on the document from token t - n_query on.
    starts = torch.arange(n_document + n_query, device=same.device)
    tokens = torch.arange(n_query, device=same.device)
    places = (tokens[:, None] + starts[None])[None].expand(n_pairs, -1, -1)
    aligned = near.gather(2, places)  # (n_pairs, n_query, n_document + n_query)
    length = query_mask.sum(1, keepdim=True)
    begins = aligned[:, 0] * (asking[:, :1] == WORD).to(same.dtype)
    ends = (aligned * ((asking == MARK).to(same.dtype) * query_mask)[:, :, None]).amax(1)
    is_enough = (aligned.sum(1) >= SHARE * length - 1e-3).to(same.dtype) * (length >= MIN_TOKENS).to(same.dtype)
    starts_here = is_enough * torch.maximum(begins, ends)
    # Shifted by up to SLACK places the question still fits, so tokens that are off are found as well.
    places = torch.arange(n_document, device=same.device)[None] - tokens[:, None] + n_query
    laid = starts_here[:, None].expand(-1, n_query, -1).gather(2, places[None].expand(n_pairs, -1, -1))
    return (same * laid).amax(1)


def windows_without(
    echo: Tensor, window_vectors: Tensor, window_mask: Tensor, *, states: Tensor, mask: Tensor
) -> Tensor:
    """Vectors of the windows, those that hold an echo as the mean of what is left of them.

    Windows of a document are of equal length, the last one perhaps shorter (`encoding.TextEncoder`).

    Args:
        echo: of `echoed`, shape (n_pairs, n_document).
        window_vectors: shape (n_pairs, n_windows, n_hidden).
        window_mask: shape (n_pairs, n_windows).
        states: of the document's tokens, shape (n_pairs, n_document, n_hidden).
        mask: 1 for a token that is there and no echo, shape (n_pairs, n_document).
    """
    n_tokens = (mask + echo).clamp_max(1.0).sum(1, keepdim=True)
    size = torch.ceil(n_tokens / window_mask.sum(1, keepdim=True).clamp_min(1.0)).clamp_min(1.0)
    window = torch.floor(torch.arange(mask.shape[1], device=mask.device)[None] / size)  # of each token
    numbers = torch.arange(window_mask.shape[1], device=mask.device)[None, :, None]
    inside = (window[:, None] == numbers).to(mask.dtype)  # (n_pairs, n_windows, n_document)
    left = inside * mask[:, None]
    mean = left @ states / left.sum(2, keepdim=True).clamp_min(1.0)
    is_touched = ((inside * echo[:, None]).amax(2, keepdim=True) > 0).to(mask.dtype)
    return window_vectors * (1 - is_touched) + mean * is_touched
