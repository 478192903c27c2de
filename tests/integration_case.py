"""What the contract tests of every framework share: graders without a model, and texts with known verdicts.

A document is relevant when it holds every word of the query. `fake_client` stands in for a server.
"""

import math
import sys
import threading
from types import ModuleType, SimpleNamespace

from relgrade.errors import GradingError, InvalidInput
from relgrade.grade import keep
from relgrade.grade.documents import to_document
from relgrade.records import Grade, GradedList, OperatingPoint

QUERY = "red apple"
TEXTS = ["the sea is grey", "a red apple", "green apple", "one red apple and two red apples", ""]
RELEVANT = [1, 3]  # of TEXTS, in the order of the call
BEST_FIRST = [3, 1]
BUNDLE_HASH = "b" * 64


class WordGrader:
    """Counts the query's words in a document; longer documents win ties."""

    def __init__(self, *, point="balanced", fails=False):
        self.point = OperatingPoint(point, {"balanced": 0.5, "high-recall": 0.2}[point])
        self.fails = fails
        self.calls = []
        self.threads = set()

    def with_point(self, name):
        if name not in ("balanced", "high-recall"):
            raise InvalidInput(f"there is no operating point {name!r}")
        return WordGrader(point=name, fails=self.fails)

    def grade(self, query, documents):
        self.threads.add(threading.current_thread().name)
        documents = [to_document(each) for each in documents]
        self.calls.append((query, documents))
        if not query.strip():
            raise InvalidInput("query: empty")
        if self.fails:
            raise GradingError("the model gave nan", index=0)
        grades = tuple(self._grade(query, document, i) for i, document in enumerate(documents))
        return GradedList(query, grades, self.point, BUNDLE_HASH)

    def filter(self, query, documents, *, policy):
        graded = self.grade(query, documents)
        n_tokens = [len(to_document(each).text.split()) for each in documents]
        kept = keep.choose(graded.grades, policy, n_tokens=n_tokens)
        return GradedList(query, tuple(graded.grades[i] for i in kept), self.point, BUNDLE_HASH)

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

    async def grade(self, query, documents):
        return self.inner.grade(query, documents)

    async def filter(self, query, documents, *, policy):
        return self.inner.filter(query, documents, policy=policy)


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
