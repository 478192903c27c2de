"""What the answer is, or where it stands, for the few questions of which that can be told without being given it.

The collections hold no answers. But where a question asks for a date or a number, and just one sentence of its gold
paragraph has any, the answer stands in that sentence; and where it asks when, and the paragraph names one year that the
question does not, that year is taken for the answer. Proxies for one kind of question, and not always right.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.rag_measures import Ratio, ratio
from relgrade.grade.sentences import split_sentences
from relgrade.records import KeepPolicy

FILES = ("nq_oracle", "squad2_dev", "squadshifts_new_wiki")
MIN_SENTENCES = 3
ASKS_WHEN = re.compile(r"\b(?:what|which) year\b|\bwhen (?:did|was|were|is|does|do)\b", re.IGNORECASE)
_ASKS_NUMBER = re.compile(r"\bhow (?:many|much)\b", re.IGNORECASE)
_TIME = re.compile(
    r"\d|\b(?:january|february|march|april|may|june|july|august|september|october|november|december|century|decade|"
    r"day|week|month|year|winter|summer|spring|autumn|fall|after|before|during|until|when|while|since|age|ago)s?\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"\d|\b(?:no|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|hundred|"
    r"thousand|million|billion|twice|once|dozen|half|both|several|many|single|couple|quarter)s?\b",
    re.IGNORECASE,
)


YEAR = re.compile(r"\b(?:1\d{3}|20\d\d)\b")


def year_of(query: str, document: str) -> str | None:
    """The one year of a gold paragraph that the question does not name; None for other questions and paragraphs."""
    if not ASKS_WHEN.search(query):
        return None
    body = document[document.find("\n") + 1 :] if document.startswith("title: ") else document
    years = {*YEAR.findall(body)} - {*YEAR.findall(query)}
    return years.pop() if len(years) == 1 else None


@dataclass(frozen=True, slots=True)
class Case:
    """A question, its gold paragraph, and where the sentence lies that must hold the answer."""

    query: str
    document: str
    start: int
    end: int


def find_case(query: str, document: str) -> Case | None:
    """The case of a question and its gold paragraph; None where the sentence cannot be told."""
    pattern = _TIME if ASKS_WHEN.search(query) else _NUMBER if _ASKS_NUMBER.search(query) else None
    first = document.find("\n") + 1 if document.startswith("title: ") else 0
    spans = [(first + start, first + end) for start, end in split_sentences(document[first:])]
    if pattern is None or len(spans) < MIN_SENTENCES:
        return None
    found = [(start, end) for start, end in spans if pattern.search(document, start, end)]
    return Case(query, document, *found[0]) if len(found) == 1 else None


def kept_answers(grader: Any, cases: list[Case], *, n_draws: int, seed: int) -> dict[str, dict[str, Ratio]]:
    """For each operating point as that of sentences: share of answer sentences kept, and of tokens left.

    Documents are kept whatever their grade, so that compression alone is measured. Sentences kept at random would keep
    a share of the answers equal to that of the tokens.
    """
    draws = np.random.default_rng(seed).integers(0, max(1, len(cases)), (n_draws, len(cases)))
    results = {}
    for point in grader.operating_points:
        kept, before, after = [], [], []
        for case in cases:
            (item,) = grader.compress(case.query, [case.document], point=point.name, policy=KeepPolicy(min_keep=1))
            kept.append(any(start <= case.start and case.end <= end for start, end in item.spans))
            before.append(item.tokens_before)
            after.append(item.tokens_after)
        results[point.name] = {
            "answer_kept": ratio(np.asarray(kept), np.ones(len(cases)), draws),
            "tokens_left": ratio(np.asarray(after), np.asarray(before), draws),
        }
    return results
