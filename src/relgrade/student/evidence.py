"""Evidence that a document answers a query, from token states and token ids: the input of the interaction head.

Each measure is a number per pair that does not depend on other pairs. Semantic measures compare token vectors of one
encoder (late interaction: Khattab and Zaharia 2020, ColBERT, arXiv:2004.12832); lexical measures compare the ids
themselves, weighted by a fixed table of inverse document frequencies (BM25: Robertson and Zaragoza 2009, section 3.2).
The module has no weights to train, is differentiable in the states, and exports to ONNX as it stands.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from relgrade.student.echo import echoed, windows_without

SPAN = 48  # tokens of a passage within a document: about two sentences
STRIDE = 16  # tokens from one span's start to the next
BM25_K1, BM25_B, MEAN_LENGTH = 1.2, 0.75, 150.0  # mean length is fixed: a grade must not depend on other documents

NAMES = (
    "cosine_mean", "cosine_window", "cosine_span",
    "maxsim", "maxsim_idf", "maxsim_min", "maxsim_over_60", "maxsim_over_75", "maxsim_span", "maxsim_span_gap",
    "document_mean", "document_top",
    "coverage_idf", "bm25", "bm25_sum", "bigrams", "trigrams", "coverage_span",
    "idf_missed", "idf_matched", "soft_missed", "numbers", "n_numbers",
    "query_length", "document_length", "query_idf", "title_like",
    "document_idf", "document_covered", "soft_sum", "clause_8", "clause_16", "clause_coverage", "clause_cosine",
)  # fmt: skip

# Measures that speak against a document when they rise, and those that speak neither way: what a query or a document
# is like by itself, and `bm25`, by which the negatives of most collections were picked.
FALLING = frozenset({"idf_missed", "soft_missed"})
UNDIRECTED = frozenset(
    {
        *("n_numbers", "query_length", "document_length", "query_idf"),
        *("title_like", "maxsim_span_gap", "document_mean", "bm25"),
    }
)
DIRECTIONS = tuple(0 if name in UNDIRECTED else -1 if name in FALLING else 1 for name in NAMES)


class Evidence(nn.Module):
    """The measures named in `NAMES`, in that order.

    Args:
        idf: inverse document frequency of each token id, >= 0, shape (n_vocabulary,).
        is_number: 1 where the token is made of digits, shape (n_vocabulary,).
        asking: `echo.asking_tokens`, shape (n_vocabulary,); None for a vocabulary without questions.
    """

    n_measures = len(NAMES)
    idf: Tensor
    is_number: Tensor
    asking: Tensor

    def __init__(self, idf: Tensor, is_number: Tensor, asking: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("idf", idf.float())
        self.register_buffer("is_number", is_number.float())
        self.register_buffer("asking", torch.zeros_like(idf) if asking is None else asking.float())

    def forward(
        self,
        query_ids: Tensor,
        query_mask: Tensor,
        query_states: Tensor,
        query_vector: Tensor,
        document_ids: Tensor,
        document_mask: Tensor,
        document_states: Tensor,
        window_vectors: Tensor,
        window_mask: Tensor,
    ) -> Tensor:
        """Measures of a batch. Masks are float, 1 for what is there; special tokens are left out of ids and states.

        Tokens that only repeat the question (`echo.echoed`) are treated as absent.

        Args:
            query_ids: shape (n_pairs, n_query).
            query_mask: shape (n_pairs, n_query).
            query_states: shape (n_pairs, n_query, n_hidden).
            query_vector: mean of the query's states, special tokens included, shape (n_pairs, n_hidden).
            document_ids: windows joined, shape (n_pairs, n_document).
            document_mask: shape (n_pairs, n_document).
            document_states: shape (n_pairs, n_document, n_hidden).
            window_vectors: mean of each window's states, special tokens included, (n_pairs, n_windows, n_hidden).
            window_mask: shape (n_pairs, n_windows).

        Returns:
            Shape (n_pairs, n_measures).
        """
        idf = self.idf[query_ids] * query_mask  # (n_pairs, n_query)
        weight = idf / idf.sum(1, keepdim=True).clamp_min(1e-6)
        share = query_mask / query_mask.sum(1, keepdim=True).clamp_min(1.0)
        same = (query_ids[:, :, None] == document_ids[:, None, :]).float()
        same = same * query_mask[:, :, None] * document_mask[:, None]  # (n_pairs, n_query, n_document)
        echo = echoed(same, query_mask, self.asking[query_ids])
        document_mask, same = document_mask * (1 - echo), same * (1 - echo[:, None])
        document_states = document_states * document_mask[:, :, None]
        window_vectors = windows_without(echo, window_vectors, window_mask, states=document_states, mask=document_mask)
        query = functional.normalize(query_states, dim=-1)
        document = functional.normalize(document_states, dim=-1)
        semantic, best, of_document = self._semantic(query, document, weight, share, query_mask, document_mask)
        cosines = _cosines(query_vector, window_vectors, window_mask, document_states, document_mask)
        lexical = self._lexical(same, query_ids, query_mask, document_mask, idf, weight, best)
        partial = self._partial(same, document_ids, document_mask, idf, best, of_document)
        vectors = functional.normalize(window_vectors, dim=-1) * window_mask[:, :, None]
        clause = _clause_cosine(query_states, query_mask, vectors, window_mask)
        return torch.cat([cosines, semantic, lexical, partial, clause], dim=1)

    def _partial(
        self,
        same: Tensor,
        document_ids: Tensor,
        document_mask: Tensor,
        idf: Tensor,
        best: Tensor,
        of_document: Tensor,
    ) -> Tensor:
        """Measures of a document that answers one clause of a long question; shape (n_pairs, 6)."""
        document_idf = self.idf[document_ids] * document_mask
        total = document_idf.sum(1).clamp_min(1e-6)
        has, covered = same.amax(2), same.amax(1)
        return torch.stack(
            [
                (of_document * document_idf).sum(1) / total,
                (covered * document_idf).sum(1) / total,
                torch.log1p((functional.relu(best - 0.4) * idf).sum(1)),
                _best_clause(best * idf, idf, 8),
                _best_clause(best * idf, idf, 16),
                _best_clause(has * idf, idf, 12),
            ],
            dim=1,
        )

    def _semantic(
        self, query: Tensor, document: Tensor, weight: Tensor, share: Tensor, query_mask: Tensor, document_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        similarity = query @ document.transpose(1, 2)  # (n_pairs, n_query, n_document)
        similarity = similarity * document_mask[:, None] - (1 - document_mask[:, None])  # absent: -1
        best = similarity.amax(2)  # (n_pairs, n_query)
        spans = _span_max(similarity)  # (n_pairs, n_query, n_spans)
        in_span = (spans * weight[:, :, None]).sum(1)  # (n_pairs, n_spans)
        maxsim_idf = (best * weight).sum(1)
        span_best = in_span.amax(1)
        of_query = similarity * query_mask[:, :, None] - (1 - query_mask[:, :, None])
        of_document = of_query.amax(1) * document_mask  # (n_pairs, n_document)
        n_document = document_mask.sum(1).clamp_min(1.0)
        # Mean of what stands above the mean: a soft top, without sorting.
        mean = of_document.sum(1) / n_document
        above = functional.relu(of_document - mean[:, None]) * document_mask
        top = (above * above).sum(1) / above.sum(1).clamp_min(1e-6) + mean
        measures = [
            (best * share).sum(1),
            maxsim_idf,
            (best * query_mask + (1 - query_mask)).amin(1),
            (torch.sigmoid((best - 0.60) * 40) * share).sum(1),
            (torch.sigmoid((best - 0.75) * 40) * share).sum(1),
            span_best,
            maxsim_idf - span_best,
            mean,
            top,
        ]
        return torch.stack(measures, dim=1), best, of_document

    def _lexical(
        self,
        same: Tensor,
        query_ids: Tensor,
        query_mask: Tensor,
        document_mask: Tensor,
        idf: Tensor,
        weight: Tensor,
        best: Tensor,
    ) -> Tensor:
        frequency = same.sum(2)
        has = frequency.clamp_max(1.0)
        length = document_mask.sum(1, keepdim=True)
        saturated = frequency * (BM25_K1 + 1) / (frequency + BM25_K1 * (1 - BM25_B + BM25_B * length / MEAN_LENGTH))
        pairs = same[:, :-1, :-1] * same[:, 1:, 1:]
        pair_there = query_mask[:, 1:]
        triples = pairs[:, :-1, :-1] * same[:, 2:, 2:]
        triple_there = query_mask[:, 2:]
        number = self.is_number[query_ids] * query_mask
        n_numbers = number.sum(1)
        log_length = torch.log1p(length.squeeze(1))
        start = document_mask[:, :16] * same[:, :, :16].amax(1)
        measures = [
            (has * weight).sum(1),
            (saturated * weight).sum(1),
            torch.log1p((saturated * idf).sum(1)),
            _share_found(pairs, pair_there),
            _share_found(triples, triple_there),
            (_span_max(same) * weight[:, :, None]).sum(1).amax(1),
            ((1 - has) * idf).amax(1),
            (has * idf).amax(1),
            (functional.relu(1 - best) * idf).amax(1),
            (has * number).sum(1) / n_numbers.clamp_min(1.0),
            torch.log1p(n_numbers),
            torch.log1p(query_mask.sum(1)),
            log_length,
            idf.sum(1) / query_mask.sum(1).clamp_min(1.0),
            start.sum(1) / document_mask[:, :16].sum(1).clamp_min(1.0),
        ]
        return torch.stack(measures, dim=1)


def _cosines(query_vector: Tensor, window_vectors: Tensor, window_mask: Tensor, states: Tensor, mask: Tensor) -> Tensor:
    """Cosine of the query with the whole document, its best window and its best span; shape (n_pairs, 3)."""
    query = functional.normalize(query_vector, dim=-1)
    windows = functional.normalize(window_vectors, dim=-1) * window_mask[:, :, None]
    whole = functional.normalize(windows.sum(1), dim=-1)
    cosine = (windows * query[:, None]).sum(2) - 2 * (1 - window_mask)
    # Mean of a span = (prefix sum at its end - prefix sum at its start) / length; its length cancels in the cosine.
    padded = functional.pad((states * mask[:, :, None]).transpose(1, 2), (0, SPAN))
    sums = functional.avg_pool1d(padded, SPAN, STRIDE).transpose(1, 2)  # (n_pairs, n_spans, n_hidden)
    count = functional.avg_pool1d(functional.pad(mask[:, None], (0, SPAN)), SPAN, STRIDE).squeeze(1) * SPAN
    span = (functional.normalize(sums, dim=-1) * query[:, None]).sum(2)
    is_first = (torch.arange(count.shape[1], device=count.device) == 0).float()
    usable = torch.maximum((count > STRIDE - 0.5).float(), is_first[None])
    return torch.stack([(whole * query).sum(1), cosine.amax(1), (span * usable - 2 * (1 - usable)).amax(1)], dim=1)


def _span_max(values: Tensor) -> Tensor:
    """Maximum of (n_pairs, n_query, n_document) over each span; padding on the right counts as -1."""
    return functional.max_pool1d(functional.pad(values, (0, SPAN - 1), value=-1.0), SPAN, STRIDE)


def _share_found(matches: Tensor, there: Tensor) -> Tensor:
    """Share of the query's n-grams that occur in the document; 0 where the query has none."""
    found = functional.pad(matches, (0, 1)).amax(2) * there
    return found.sum(1) / there.sum(1).clamp_min(1.0)


def _best_clause(weighted: Tensor, weight: Tensor, size: int) -> Tensor:
    """Largest weighted mean over runs of `size` query tokens; a shorter query is one run. Shape (n_pairs,)."""
    stride = size // 4
    mass = functional.avg_pool1d(functional.pad(weight[:, None], (0, size - 1)), size, stride).squeeze(1) * size
    value = functional.avg_pool1d(functional.pad(weighted[:, None], (0, size - 1)), size, stride).squeeze(1) * size
    # A run at the end holds few tokens: it counts by the share of the first run's weight that it has.
    share = value / torch.maximum(mass, mass[:, :1]).clamp_min(1e-6)
    return (share - 2 * (mass < 1e-6).float()).amax(1)  # a run of padding alone is no run


def _clause_cosine(states: Tensor, mask: Tensor, windows: Tensor, window_mask: Tensor) -> Tensor:
    """Best cosine of a run of 12 query tokens with a window of the document; shape (n_pairs, 1)."""
    padded = functional.pad((states * mask[:, :, None]).transpose(1, 2), (0, 11))
    runs = functional.normalize(functional.avg_pool1d(padded, 12, 4).transpose(1, 2), dim=-1)
    count = functional.avg_pool1d(functional.pad(mask[:, None], (0, 11)), 12, 4).squeeze(1) * 12
    is_usable = (count >= torch.clamp(mask.sum(1, keepdim=True), max=12.0) - 0.5).float()
    cosine = runs @ windows.transpose(1, 2) - 2 * (1 - window_mask[:, None])
    return (cosine.amax(2) - 2 * (1 - is_usable)).amax(1, keepdim=True)
