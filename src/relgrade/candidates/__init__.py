"""Finds documents that may answer a query: the pairs that a teacher labels and a student learns from.

Corpus and queries in, pairs out. It knows words and vectors, and nothing of labels or graders: what turns texts into
vectors is handed in. bm25s is the extra `candidates`; readers of files and vector stores have extras of their own.
"""

from relgrade.candidates.encoder import Encoder
from relgrade.candidates.make import CandidateReport, make_candidates
from relgrade.candidates.queries import Query, read_queries
from relgrade.candidates.settings import CandidateSettings, CorpusSettings, Mix
from relgrade.candidates.stores import StoreLocation

__all__ = [
    "CandidateReport",
    "CandidateSettings",
    "CorpusSettings",
    "Encoder",
    "Mix",
    "Query",
    "StoreLocation",
    "make_candidates",
    "read_queries",
]
