"""The measures of `student.evidence` for one query and many documents at once, in few operators.

A run of a small graph costs its operators, not its arithmetic. So a list takes one run, and what is alike is computed
together: similarity and identity of tokens are two layers of one array, sums over tokens are products with one table,
runs of tokens are products with constant matrices, and vectors that are only compared by angle are brought to length 1
in one piece. Much comes out that no measure needs; a last product picks the measures.

A document's measures do not depend on the others: padding adds exact zeros at the end of sums that go from left to
right. Echoes are told and not left out, since they are rare; `Evidence` judges those documents.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from relgrade.student.echo import echoed
from relgrade.student.evidence import BM25_B, BM25_K1, MEAN_LENGTH, NAMES, SPAN, STRIDE, Evidence

CLAUSES = ((8, 2), (16, 4), (12, 3))  # tokens and stride of the runs in clause_8, clause_16 and clause_coverage
RUN, RUN_STRIDE = 12, 4  # of clause_cosine
BLOCK = STRIDE  # documents are padded to whole blocks

# Rows of zeros put behind an array before a function is taken of each of its numbers: the last few numbers go through
# other code than the rest, which may round them otherwise, and a document may stand anywhere.
N_SPARE = 16


class ListEvidence(nn.Module):
    """As `Evidence` without echoes, of one query that is not padded and documents that are.

    Args:
        evidence: whose tables are used.
        max_query_tokens: the most tokens that a query is read with, special tokens left out.
    """

    asking: Tensor
    table: Tensor
    least: Tensor
    clauses: Tensor
    first: Tensor
    runs: Tensor
    unusable: Tensor
    levels: Tensor
    ones: Tensor
    picks: Tensor
    query_picks: Tensor

    def __init__(self, evidence: Evidence, max_query_tokens: int) -> None:
        super().__init__()
        self.register_buffer("asking", evidence.asking)
        facts = torch.stack([evidence.idf, torch.ones_like(evidence.idf), evidence.is_number], 1)
        self.register_buffer("table", functional.pad(facts, (0, 0, 0, 1)))  # the last row is that of padding
        self.register_buffer("least", torch.tensor([1e-6, 1.0, 1.0]))  # that a sum of facts is divided by
        self.n_starts = -(-max_query_tokens // min(stride for _, stride in CLAUSES))
        clauses = torch.stack([_runs(self.n_starts, max_query_tokens, *clause) for clause in CLAUSES])
        self.register_buffer("clauses", clauses.flatten(0, 1).T.contiguous())  # (max_query_tokens, 3 * n_starts)
        self.register_buffer("first", torch.arange(len(CLAUSES)).repeat_interleave(self.n_starts) * self.n_starts)
        self.n_runs = -(-max_query_tokens // RUN_STRIDE)
        self.register_buffer("runs", _runs(self.n_runs, max_query_tokens, RUN, RUN_STRIDE))
        self.register_buffer("unusable", _unusable(self.n_runs, max_query_tokens))
        self.register_buffer("levels", torch.tensor([[0.60], [0.75]]))
        self.register_buffer("ones", torch.ones(1, BLOCK))
        self.register_buffer("picks", _picks(list(_columns(self.n_runs))))
        self.register_buffer("query_picks", _picks(["query_idf", "", "query_length", "n_numbers"]))

    def forward(
        self,
        query_ids: Tensor,
        query_states: Tensor,
        query_vector: Tensor,
        document_ids: Tensor,
        document_states: Tensor,
        window_vectors: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Measures in the order of `NAMES`, shape (n_documents, n_measures), and echoes.

        Args:
            query_ids: shape (1, n_query), n_query <= max_query_tokens.
            query_states: shape (1, n_query, n_hidden).
            query_vector: mean of the query's states, special tokens included, shape (1, n_hidden).
            document_ids: -1 for padding, at the right, to a multiple of `BLOCK`; shape (n_documents, n_document).
            document_states: 0 for padding, shape (n_documents, n_document, n_hidden).
            window_vectors: mean of each window's states, special tokens included, not padded, shape (n_documents,
                n_windows, n_hidden).

        Returns:
            The measures, and the number of tokens of each document that are part of an echo of the query, shape
            (n_documents,). Measures are those of `Evidence` where there are none.
        """
        n_query = query_ids.shape[1]
        directions = torch.cat([query_states, query_vector[:, None], self.runs[:, :n_query] @ query_states], 1)
        directions = _unit(directions[0]).T  # (n_hidden, n_query + 1 + n_runs)
        tokens, vector_and_runs = directions[:, : -1 - self.n_runs], directions[:, -1 - self.n_runs :]
        facts = self.table[query_ids[0]].T  # (3, n_query)
        sums = facts.sum(1)[None]  # (1, 3)
        weights = facts / torch.maximum(sums, self.least).T

        same = (query_ids[:, :, None] == document_ids[:, None]).float()  # (n_documents, n_query, n_document)
        document_facts = self.table[document_ids]  # (n_documents, n_document, 3)
        mask = document_facts[:, :, 1:2].transpose(1, 2)
        length = _root((document_states * document_states).sum(2, keepdim=True))
        similarity = ((document_states @ tokens) / length).transpose(1, 2) - (1 - mask)  # absent: -1
        both = torch.stack([similarity, same], 1)  # (n_documents, 2, n_query, n_document)
        of_query, of_document = both.amax(3), both.amax(2)

        products = torch.cat([of_document, mask], 1) @ document_facts  # (n_documents, 3, 3)
        document_sums = products[:, 2:]
        n_tokens = document_sums[:, :, 1:2]  # (n_documents, 1, 1)
        about = products[:, :2] / torch.maximum(document_sums, self.least)
        rows = self._rows(of_query, same.sum(2)[:, None], n_tokens)  # (n_documents, 6, n_query)
        lacking = torch.cat([functional.relu(1 - of_query), of_query], 1) * facts[0]
        # One span more than there are, so that the product below never has a single column, which is summed otherwise.
        spans = functional.max_pool2d(functional.pad(both, (0, SPAN), value=-1.0), (1, SPAN), (1, STRIDE))
        by_products = [
            torch.cat([rows @ weights.T, (weights @ spans).amax(3), about], 1).flatten(1),
            _log1p(torch.cat([rows[:, 4:] @ facts.T, document_sums], 1).flatten(1)),
            lacking.amax(2),
            self._clauses(lacking[:, 2:], facts[:1], n_query),
            of_query.amin(2),
            _soft_top(of_document, about[:, :, 1:2], document_facts),
            _n_grams(same, sums[:, 1:2]),
            of_document[:, :, :16].sum(2) / n_tokens[:, 0].clamp_max(16.0),
            *self._cosines(document_states, window_vectors, vector_and_runs, n_query=n_query, n_tokens=n_tokens),
        ]
        of_query_alone = torch.cat([sums[:, :1] / sums[:, 1:2], torch.log1p(sums)], 1)
        measures = torch.cat(by_products, 1) @ self.picks + of_query_alone @ self.query_picks
        echo = echoed(same, torch.ones_like(query_ids, dtype=same.dtype), self.asking[query_ids])
        return measures, echo.sum(1)

    def _rows(self, of_query: Tensor, frequency: Tensor, n_tokens: Tensor) -> Tensor:
        """What is summed over the query's tokens with weights, shape (n_documents, 6, n_query)."""
        best = of_query[:, :1]
        shift = n_tokens * (BM25_K1 * BM25_B / MEAN_LENGTH) + BM25_K1 * (1 - BM25_B)
        saturated = frequency * (BM25_K1 + 1) / (frequency + shift)
        over = torch.sigmoid((best - self.levels) * 40)
        return torch.cat([of_query, over, saturated, functional.relu(best - 0.4)], 1)

    def _clauses(self, weighted: Tensor, idf: Tensor, n_query: int) -> Tensor:
        """Best run of similarity and of identity at each of `CLAUSES`, shape (n_documents, 6)."""
        clauses = self.clauses[:n_query]
        mass = idf @ clauses  # (1, 3 * n_starts)
        share = weighted @ clauses / torch.maximum(mass, mass[:, self.first]).clamp_min(1e-6)
        share = share - 2 * (mass < 1e-6).float()  # a run beyond the query's end is no run
        return share.reshape(-1, 2 * len(CLAUSES), self.n_starts).amax(2)

    def _cosines(
        self, states: Tensor, windows: Tensor, vector_and_runs: Tensor, *, n_query: int, n_tokens: Tensor
    ) -> Iterator[Tensor]:
        """Cosines of parts of the query with parts of a document, each of shape (n_documents, n).

        Of the query, followed by its runs, with the whole document; of the same with its best window; of the best run
        with the best window; of the query with the best span.
        """
        # As a product, since a sum over an axis takes another order when the axes before it are of length 1.
        blocks = self.ones @ states.reshape(-1, states.shape[1] // BLOCK, BLOCK, states.shape[2])
        blocks = blocks[:, :, 0]
        blocks = functional.pad(blocks, (0, 0, 0, SPAN // STRIDE - 1))
        spans = blocks[:, :-2] + blocks[:, 1:-1] + blocks[:, 2:]
        n_windows = windows.shape[1]
        parts = _unit(torch.cat([windows, spans], 1))
        cosines = parts @ vector_and_runs  # (n_documents, n_windows + n_spans, 1 + n_runs)
        of_windows, whole = cosines[:, :n_windows], parts[:, :n_windows].sum(1)
        best = of_windows.amax(1) + self.unusable[n_query]
        yield of_windows.sum(1) / _root((whole * whole).sum(1, keepdim=True))
        yield best
        yield best[:, 1:].amax(1, keepdim=True)
        # A span counts when `STRIDE` tokens or more begin in it, or when it is the first.
        starts = torch.arange(states.shape[1] // BLOCK, device=states.device) * float(STRIDE)
        left_over = n_tokens[:, 0].clamp_min(STRIDE) - STRIDE - starts  # (n_documents, n_spans)
        yield (cosines[:, n_windows:, 0] + 2 * left_over.clamp(-1.0, 0.0)).amax(1, keepdim=True)


def _columns(n_runs: int) -> Iterator[str]:
    """The by-products in order: the measure that each is, or "" for what comes along."""
    yield from ("maxsim_idf", "maxsim", "", "coverage_idf", "", "numbers")
    yield from ("", "maxsim_over_60", "", "", "maxsim_over_75", "", "bm25", "", "", "", "", "")
    yield from ("maxsim_span", "", "", "coverage_span", "", "")
    yield from ("document_idf", "document_mean", "", "document_covered", "", "")
    yield from ("bm25_sum", "", "", "soft_sum", "", "", "", "document_length", "")
    yield from ("soft_missed", "idf_missed", "", "idf_matched")
    yield from ("clause_8", "clause_16", "", "", "", "clause_coverage")
    yield from ("maxsim_min", "", "document_top", "", "bigrams", "trigrams", "", "title_like")
    yield from ("cosine_mean", *[""] * n_runs, "cosine_window", *[""] * n_runs, "clause_cosine", "cosine_span")


def _picks(columns: list[str]) -> Tensor:
    """Matrix that takes the measures out of named by-products, shape (n_by_products, n_measures)."""
    picks = torch.zeros(len(columns), len(NAMES))
    for i, name in enumerate(columns):
        if name:
            picks[i, NAMES.index(name)] = 1.0
    if "maxsim_span" in columns:
        picks[columns.index("maxsim_idf"), NAMES.index("maxsim_span_gap")] = 1.0
        picks[columns.index("maxsim_span"), NAMES.index("maxsim_span_gap")] = -1.0
    return picks


def _runs(n_starts: int, n_tokens: int, size: int, stride: int) -> Tensor:
    """1 for each token of each run, shape (n_starts, n_tokens)."""
    places = torch.arange(n_tokens)[None] - torch.arange(n_starts)[:, None] * stride
    return ((places >= 0) & (places < size)).float()


def _unusable(n_runs: int, max_query_tokens: int) -> Tensor:
    """Row n: 0 for the whole query and each run of a query of n tokens that counts, -2 for the others.

    A run counts when it is whole, or holds the whole query. Shape (max_query_tokens + 1, 1 + n_runs).
    """
    n_tokens = torch.arange(max_query_tokens + 1)[:, None]
    is_short = n_tokens - torch.arange(n_runs)[None] * RUN_STRIDE < n_tokens.clamp_max(RUN)
    return functional.pad(-2.0 * is_short.float(), (1, 0))


def _log1p(values: Tensor) -> Tensor:
    """log(1 + x) of each number, shape (n_documents, n_columns)."""
    return torch.log1p(functional.pad(values, (0, 0, 0, N_SPARE)))[:-N_SPARE]


def _root(squares: Tensor) -> Tensor:
    """A length that can be divided by."""
    return squares.sqrt().clamp_min(1e-12)


def _unit(vectors: Tensor) -> Tensor:
    """Rows at length 1; zero stays zero."""
    return vectors / _root((vectors * vectors).sum(-1, keepdim=True))


def _soft_top(of_document: Tensor, mean: Tensor, facts: Tensor) -> Tensor:
    """Mean of what stands above the mean, as in `Evidence`; shape (n_documents, 2)."""
    above = functional.relu(of_document - mean)  # (n_documents, 2, n_document), 0 at padding
    sums = (torch.cat([above * above, above], 1) @ facts)[:, :, 1]  # (n_documents, 4)
    return sums[:, :2] / sums[:, 2:].clamp_min(1e-6) + mean[:, :, 0]


def _n_grams(same: Tensor, query_length: Tensor) -> Tensor:
    """Share of the query's pairs and triples of tokens that the document has, shape (n_documents, 2)."""
    padded = functional.pad(same, (0, 2, 0, 2))  # so that a text of one token has a pair to look at
    pairs = padded[:, :-1, :-1] * padded[:, 1:, 1:]
    triples = pairs[:, :-1, :-1] * padded[:, 2:, 2:]
    found = torch.cat([pairs.amax(2).sum(1, keepdim=True), triples.amax(2).sum(1, keepdim=True)], 1)
    return found / (query_length - torch.tensor([[1.0, 2.0]])).clamp_min(1.0)
