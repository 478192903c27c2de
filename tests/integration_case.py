"""What the contract tests of every framework share: graders without a model, and texts with known verdicts.

A document is relevant when it holds every word of the query. `fake_client` stands in for a server.
"""

import json
import math
import sys
import threading
from dataclasses import replace
from types import ModuleType, SimpleNamespace

from relgrade.errors import GradingError, InvalidInput
from relgrade.grade import keep
from relgrade.grade.compress import CompressedDocument, CompressedList
from relgrade.grade.documents import to_document
from relgrade.grade.sentences import split_sentences
from relgrade.records import EvidenceSpan, Grade, GradedList, KeepPolicy, OperatingPoint

QUERY = "red apple"
TEXTS = ["the sea is grey", "a red apple", "green apple", "one red apple and two red apples", ""]
RELEVANT = [1, 3]  # of TEXTS, in the order of the call
BEST_FIRST = [3, 1]
BUNDLE_HASH = "b" * 64

# Of several sentences each: those with a word of the query are evidence, or else the first one.
PAGES = [
    "The sea is grey. A red 🍎 apple lies there! Gulls fly. An apple is a red fruit.",
    "Nothing at all. Of any interest.",
    "Red is a colour. 日本語の文。An apple, too.",
]
KEPT_TEXTS = {0: "A red 🍎 apple lies there! An apple is a red fruit.", 2: "Red is a colour. An apple, too."}
KEPT_SPANS = {0: [[17, 42], [54, 78]], 2: [[0, 16], [23, 37]]}


def check_evidence(notes, text):
    """Metadata of a copy of one of PAGES: sentences of the text it was, the best first, as plain values."""
    assert json.loads(json.dumps(notes)) == notes
    logits = [span["logit"] for span in notes]
    assert logits == sorted(logits, reverse=True)
    assert all(text[span["start"] : span["end"]] == span["text"] for span in notes)
    assert all(set(span) == {"start", "end", "text", "probability", "logit"} for span in notes)
    return {span["text"] for span in notes}


_POLICY = KeepPolicy()


class WordGrader:
    """Counts the query's words in a document; longer documents win ties."""

    def __init__(self, *, point="balanced", fails=False):
        self.point = OperatingPoint(point, {"balanced": 0.5, "high-recall": 0.2}[point])
        self.fails = fails
        self.calls = []
        self.compressions = []
        self.threads = set()

    def with_point(self, name):
        if name not in ("balanced", "high-recall"):
            raise InvalidInput(f"there is no operating point {name!r}")
        return WordGrader(point=name, fails=self.fails)

    def grade(self, query, documents, *, evidence=False):
        self.threads.add(threading.current_thread().name)
        documents = [to_document(each) for each in documents]
        self.calls.append((query, documents))
        if not query.strip():
            raise InvalidInput("query: empty")
        if self.fails:
            raise GradingError("the model gave nan", index=0)
        grades = tuple(self._grade(query, document, i) for i, document in enumerate(documents))
        if evidence:
            grades = tuple(replace(each, evidence=self._evidence(query, each)) for each in grades)
        return GradedList(query, grades, self.point, BUNDLE_HASH)

    def filter(self, query, documents, *, policy, evidence=False):
        graded = self.grade(query, documents, evidence=evidence)
        n_tokens = [len(to_document(each).text.split()) for each in documents]
        kept = keep.choose(graded.grades, policy, n_tokens=n_tokens)
        return GradedList(query, tuple(graded.grades[i] for i in kept), self.point, BUNDLE_HASH)

    def compress(self, query, documents, *, policy=_POLICY, point=None, threshold=None):
        self.compressions.append({"point": point, "threshold": threshold})
        grades = self.grade(query, documents).grades
        texts = [to_document(each).text for each in documents]
        kept = keep.choose(grades, policy, n_tokens=[len(text.split()) for text in texts])
        items = tuple(self._compressed(query, grades[i], texts[i]) for i in kept)
        return CompressedList(query, items, self.point, threshold, BUNDLE_HASH, None, grades)

    def _compressed(self, query, grade, text):
        sentences = tuple(sorted(self._sentences(query, text), key=lambda span: span.start))
        spans = tuple((span.start, span.end) for span in sentences)
        left = " ".join(span.text for span in sentences)
        counts = len(text.split()), len(left.split())
        return CompressedDocument(grade, left, spans, sentences, len(split_sentences(text)), 0, *counts)

    def _evidence(self, query, grade):
        return tuple(self._sentences(query, to_document(grade.document).text)) if grade.relevant else ()

    def _sentences(self, query, text):
        found = [EvidenceSpan(a, b, text[a:b], 0.75, float(b - a)) for a, b in split_sentences(text)]
        held = [span for span in found if any(word in span.text.lower() for word in query.lower().split())]
        return sorted(held or found[:1], key=lambda span: -span.logit)

    def _grade(self, query, document, index):
        words = query.lower().split()
        read = f"{document.title or ''} {document.text}".lower()
        share = sum(word in read for word in words) / len(words)
        logit = -40.0 if not document.text.strip() else 4 * share - 2.5 + len(document.text) / 1000
        probability = 1 / (1 + math.exp(-logit))
        is_relevant = probability >= self.point.threshold
        return Grade(index, logit, probability, is_relevant, self.point.name, False, 1, document.id, document)


class AsyncWordGrader:
    """The same, as coroutines: what `AsyncClient` looks like."""

    def __init__(self, **options):
        self.inner = WordGrader(**options)

    async def grade(self, query, documents, *, evidence=False):
        return self.inner.grade(query, documents, evidence=evidence)

    async def filter(self, query, documents, *, policy, evidence=False):
        return self.inner.filter(query, documents, policy=policy, evidence=evidence)

    async def compress(self, query, documents, *, policy, point=None, threshold=None):
        return self.inner.compress(query, documents, policy=policy, point=point, threshold=threshold)


def fake_client(monkeypatch):
    """Put a module in the place of `relgrade.client`; returns the list of what its clients were made with."""
    made = []

    class Client(WordGrader):
        def __init__(self, url, *, api_key=None, operating_point=None):
            super().__init__(point=operating_point or "balanced")
            made.append(SimpleNamespace(url=url, api_key=api_key, operating_point=operating_point, client=self))

        with_point = None

    module = ModuleType("relgrade.client")
    module.Client = Client
    monkeypatch.setitem(sys.modules, "relgrade.client", module)
    return made
