"""LangChain's decision models (langchain-core 1.8 or newer): the probability that a document is relevant, as a `Noul`.

It answers that one question. Anything else is refused, as a model of relevance would answer it with a number all the
same.
"""

import re
from collections.abc import Mapping
from typing import Any, Self

from relgrade.errors import InvalidInput, MissingExtra
from relgrade.integrations.source import open_grader, plain_source
from relgrade.records import Document

try:
    from langchain_core.decisions import BaseDecisionModel, ClassifierResponse
except ImportError as error:
    raise MissingExtra("langchain-core>=1.8", extra="langchain", purpose="be a decision model") from error
from pydantic import ConfigDict, PrivateAttr, field_serializer, model_validator  # langchain-core requires it

QUERY_NAMES = ("query", "question")
DOCUMENT_NAMES = ("document", "passage", "context")
# What the instructions must speak of; the grader cannot read them.
_ABOUT_RELEVANCE = re.compile(r"relevan|answer|useful|contain|support|help", re.IGNORECASE)


class RelevanceDecisionModel(BaseDecisionModel):
    """Answers `Noul` questions about a query and a document, or about several documents at once.

    The state is {"query": ..., "document": ...}, or {"query": ..., "documents": {id: ...}} with questions whose ids are
    those of documents. A document is a text, or a mapping with `text` and perhaps `title`.

    Args:
        grader: None for the embedded one, a bundle, the URL of `relgrade serve`, a `Grader` or a `Client`.
        model: the name that the answers carry.

    Raises:
        pydantic.ValidationError: what was given is no grader; a ValueError, as everywhere in LangChain.
        BundleError, MissingExtra: the grader cannot be opened.
    """

    model: str = "relgrade"
    grader: Any = None

    model_config = ConfigDict(arbitrary_types_allowed=True)

    _opened: Any = PrivateAttr()

    @model_validator(mode="after")
    def _open(self) -> Self:
        self._opened = open_grader(self.grader)
        return self

    @field_serializer("grader")
    def _plain_grader(self, grader: Any) -> str | None:
        return plain_source(grader)

    @property
    def _provider(self) -> str:
        return "relgrade"

    def _classify(self, state: Any, questions: Mapping[str, Any]) -> ClassifierResponse:
        """One answer per question.

        Raises:
            InvalidInput: another kind of question, or a state without a query and a document.
            GradingError: the model gave no number.
        """
        for name, question in questions.items():
            _require_relevance(name, question)
        query, documents = _read_state(state, questions)
        graded = self._opened.grade(query, [document for _, document in documents])
        answers = {name: _answer(graded[i].probability) for i, (name, _) in enumerate(documents)}
        return ClassifierResponse.model_validate({"model": self.model, "answers": answers})


def _answer(probability: float) -> dict[str, Any]:
    return {"type": "noul", "noul": probability}


def _require_relevance(name: str, question: Any) -> None:
    kind = question.get("type") if isinstance(question, Mapping) else getattr(question, "type", None)
    if kind != "noul":
        raise InvalidInput(f"question {name!r} is of type {kind!r}; a grader of relevance answers 'noul' alone")
    told = question.get("instructions") if isinstance(question, Mapping) else question.instructions
    if not _ABOUT_RELEVANCE.search(str(told)):
        raise InvalidInput(
            f"question {name!r} does not ask whether a document is relevant to a query, which is all that can be "
            "answered here"
        )


def _read_state(state: Any, questions: Mapping[str, Any]) -> tuple[str, list[tuple[str, Document]]]:
    """The query, and for each question its document."""
    if not isinstance(state, Mapping):
        raise InvalidInput(f"state: a mapping with a query and a document was expected, got {type(state).__name__}")
    query = next((state[name] for name in QUERY_NAMES if name in state), None)
    if not isinstance(query, str):
        raise InvalidInput(f"state: a text under {' or '.join(QUERY_NAMES)} was expected, found {sorted(state)}")
    documents = state.get("documents")
    if isinstance(documents, Mapping):
        lost = [name for name in questions if name not in documents]
        if lost:
            raise InvalidInput(f"state: no document is called {lost[0]!r} like the question; found {sorted(documents)}")
        return query, [(name, _to_document(documents[name], name)) for name in questions]
    document = next((state[name] for name in DOCUMENT_NAMES if name in state), None)
    if document is None:
        raise InvalidInput(f"state: a document under {', '.join(DOCUMENT_NAMES)} was expected, found {sorted(state)}")
    return query, [(name, _to_document(document, name)) for name in questions]


def _to_document(value: Any, name: str) -> Document:
    if isinstance(value, str):
        return Document(value)
    if isinstance(value, Mapping) and isinstance(value.get("text"), str):
        title = value.get("title")
        return Document(value["text"], title if isinstance(title, str) else None)
    raise InvalidInput(f"document of question {name!r}: a text or a mapping with text was expected")
