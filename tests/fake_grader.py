"""A grader without a model: the share of the query's words that a document holds decides.

Run as a script it is the command line with this grader inside, slowed down by FAKE_DELAY_S seconds a pair, so that
tests can kill a real process half way.
"""

import math
import os
import time
from dataclasses import replace
from types import SimpleNamespace

from relgrade.errors import GradingError
from relgrade.grade.sentences import split_sentences
from relgrade.records import Document, EvidenceSpan, Grade, GradedList, OperatingPoint

NO_NUMBER = "nonumber"  # a document with this word makes the fake model fail


class FakeGrader:
    document_cache = None

    def __init__(self, *, bundle_hash="f" * 64, point="balanced", threshold=0.5, delay_s=0.0):
        self.bundle = SimpleNamespace(hash=bundle_hash)
        self.operating_point = OperatingPoint(point, threshold)
        self.delay_s = delay_s
        self.n_graded = 0

    def grade_pairs(self, pairs, *, evidence=False):
        for index, (query, document) in enumerate(pairs):
            time.sleep(self.delay_s)
            self.n_graded += 1
            grade = self._grade(query, document, index)
            yield replace(grade, evidence=self._evidence(query, grade)) if evidence else grade

    def grade(self, query, documents):
        grades = tuple(self.grade_pairs((query, document) for document in documents))
        return GradedList(query, grades, self.operating_point, self.bundle.hash)

    def filter(self, query, documents, *, policy):
        """Stands for the real one where only the token budget counts: a token is a word."""
        kept, n_tokens = [], 0
        for grade in self.grade(query, documents).ranked():
            n_tokens += len(grade.document.text.split())
            if n_tokens > policy.max_tokens or len(kept) == policy.max_keep:
                break
            kept.append(grade)
        return GradedList(query, tuple(kept), self.operating_point, self.bundle.hash)

    def _evidence(self, query, grade):
        """Sentences with a word of the query, the longest first."""
        text = grade.document.text
        spans = [EvidenceSpan(a, b, text[a:b], 0.75, float(b - a)) for a, b in split_sentences(text)]
        held = [span for span in spans if any(word in span.text.lower() for word in query.lower().split())]
        return tuple(sorted(held, key=lambda span: -span.logit)) if grade.relevant else ()

    def any_relevant_probability(self, grades):
        return max((grade.probability for grade in grades), default=0.0)

    def _grade(self, query, document, index):
        assert isinstance(document, Document)
        if NO_NUMBER in document.text:
            raise GradingError("the model gave nan", index=index)
        words = query.lower().split()
        held = sum(word in document.text.lower() for word in words)
        logit = 6.0 * held / len(words) - 3.0 + len(document.text) % 7 / 100
        probability = 1 / (1 + math.exp(-logit))
        return Grade(
            index=index,
            logit=logit,
            probability=probability,
            relevant=probability >= self.operating_point.threshold,
            operating_point=self.operating_point.name,
            truncated=len(document.text) > 10_000,
            windows=min(8, 1 + len(document.text) // 1000),
            id=document.id,
            document=document,
        )


if __name__ == "__main__":
    from relgrade.cli import grade, main

    grade.load_grader = lambda *_, **__: FakeGrader(delay_s=float(os.environ.get("FAKE_DELAY_S", "0")))
    main(prog_name="relgrade")
