"""The cost card of a RAG system: what each way to thin out its retrieved lists lets through, and what it costs.

`read_cases` and `with_lists` (or `retrieve_lists` from a corpus) say what is asked and retrieved, `score_lists` and
`read_lists` what words, vectors and the grader make of it, `build_card` what that is worth. No generator is run: the
card is about what it gets to read. Needs the extra `candidates`.
"""

from relgrade.card.cases import Case, Listed, Scores, holds_answer
from relgrade.card.grading import Reading, read_lists
from relgrade.card.limits import Limits, choose_limits
from relgrade.card.lists import Lists
from relgrade.card.page import render_page
from relgrade.card.reading import read_cases, with_lists
from relgrade.card.report import Card, CardSettings, build_card
from relgrade.card.retrieving import Scored, retrieve_lists, score_lists

__all__ = [
    "Card",
    "CardSettings",
    "Case",
    "Limits",
    "Listed",
    "Lists",
    "Reading",
    "Scored",
    "Scores",
    "build_card",
    "choose_limits",
    "holds_answer",
    "read_cases",
    "read_lists",
    "render_page",
    "retrieve_lists",
    "score_lists",
    "with_lists",
]
