"""`/v1/systemone` and `/v1/decisions`: questions about a state, where the state is a query with documents.

A model of relevance must not pretend to answer anything else, so everything else is refused: other states, other
questions, other types of answer.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relgrade.records import Grade
from relgrade.serve.asking import Answer, Ask, ListAsk
from relgrade.serve.body import parse_text
from relgrade.serve.fields import Fields
from relgrade.serve.grade_request import read_items, require_characters
from relgrade.serve.hosted import ModelRack
from relgrade.serve.refusals import Invalid, Malformed, TooLarge
from relgrade.serve.settings import ServeSettings

_QUERY_NAMES = ("query", "question")
_SINGLE_NAMES = ("document", "passage")
_STATE_NAMES = {*_QUERY_NAMES, *_SINGLE_NAMES, "documents", "rubric"}
_MAX_QUESTIONS = 400
_MAX_SEARCH = 100_000_000  # characters of all instructions times those of all names of documents: a second of search
_DOCUMENT_NAMES = ("text", "content", "body", "page_content")
# A question about a pair must be one about relevance. These are the words of those that reranking clients ask.
_ASKS_RELEVANCE = re.compile(r"relevan|answer|useful|help|support|address|information", re.IGNORECASE)
_ASKS_OPPOSITE = re.compile(r"irrelevan|\bunrelated\b|\b(?:not|isn't|never) (?:relevant|useful|answer)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Question:
    """One question, and the document it is about."""

    name: str | None
    kind: str  # "noul", "predicate" or "score"
    document: int  # row of the ask
    levels: tuple[Any, ...] = ()  # of a score, the worst first


@dataclass(frozen=True, slots=True)
class DecisionRequest:
    """A parsed body of either format."""

    ask: Ask
    model: str
    questions: tuple[Question, ...]


def read_systemone(body: Any, rack: ModelRack, settings: ServeSettings) -> DecisionRequest:
    """Check a body of `/v1/systemone`.

    Raises:
        Invalid: the state holds no query and document, or a question is not one about relevance.
    """
    fields = Fields(body)
    questions = fields.get("questions")
    if not isinstance(questions, Mapping) or not questions:
        raise fields.wrong("questions", "an object with at least one question", questions)
    rows = [(str(name), Fields(row, f"questions.{str(name)[:40]}")) for name, row in questions.items()]
    return _read(fields, fields.get("state"), rows, rack, settings, kinds=("noul", "score"), levels_name="criteria")


def read_decision(body: Any, rack: ModelRack, settings: ServeSettings) -> DecisionRequest:
    """Check a body of `/v1/decisions`; the state is JSON in `input`. Raises as `read_systemone`."""
    fields = Fields(body)
    rows = [Fields(row, f"questions[{i}]") for i, row in enumerate(fields.require_list("questions"))]
    if not rows:
        raise Invalid("questions: at least one was expected", place="questions")
    named = [(row.text("name"), row) for row in rows]
    state = _state_of_input(fields.get("input"))
    return _read(fields, state, named, rack, settings, kinds=("predicate", "score"), levels_name="levels")


def systemone_reply(request: DecisionRequest, answer: Answer) -> dict[str, Any]:
    """The body of `/v1/systemone`."""
    grades = _grades(answer)
    answers: dict[str, Any] = {}
    for question in request.questions:
        probability = grades[question.document].probability
        if question.kind == "noul":
            answers[str(question.name)] = {"type": "noul", "noul": probability}
            continue
        legend = {str(i): level for i, level in enumerate(question.levels)}
        probabilities = {str(i): p for i, p in enumerate(_over_levels(probability, len(question.levels)))}
        told = _score(probability, len(question.levels))
        answers[str(question.name)] = {"type": "score", **told, "legend": legend, "probabilities": probabilities}
    usage = {"input_tokens": answer.tokens, "output_tokens": 0}
    return {"model": request.model, "answers": answers, "usage": usage}


def decision_reply(request: DecisionRequest, answer: Answer, *, request_id: str, created: int) -> dict[str, Any]:
    """The body of `/v1/decisions`."""
    grades = _grades(answer)
    answers: list[dict[str, Any]] = []
    for question in request.questions:
        probability = grades[question.document].probability
        if question.kind == "predicate":
            answers.append({"type": "predicate", "name": question.name, "probability": probability})
            continue
        rows = [
            {"value": i, "label": Fields(level).text("label") or str(i), "probability": p}
            for i, (level, p) in enumerate(
                zip(question.levels, _over_levels(probability, len(question.levels)), strict=True)
            )
        ]
        told = _score(probability, len(question.levels))
        answers.append({"type": "score", "name": question.name, **told, "probabilities": rows})
    tokens = answer.tokens
    usage = {
        "input_tokens": tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens,
    }
    return {
        "id": request_id,
        "object": "decision",
        "created_at": created,
        "model": request.model,
        "answers": answers,
        "usage": usage,
    }


def _read(
    fields: Fields,
    state: Any,
    rows: Sequence[tuple[str | None, Fields]],
    rack: ModelRack,
    settings: ServeSettings,
    *,
    kinds: tuple[str, str],
    levels_name: str,
) -> DecisionRequest:
    if len(rows) > _MAX_QUESTIONS:
        raise TooLarge(f"{len(rows)} questions in one request; at most {_MAX_QUESTIONS} are taken")
    query, documents = _read_state(state)
    name = fields.text("model")
    model = rack.find(name) or rack.get(None)
    items = read_items(query, [_as_document(document) for document in documents.values()], settings, place="state.")
    lists = (ListAsk(query, items, model.panel()),)
    require_characters(lists, settings)
    keys = list(documents)
    if len(keys) > 1 and sum(len(_instructions(row)) for _, row in rows) * sum(map(len, keys)) > _MAX_SEARCH:
        raise TooLarge("the instructions and the names of the documents are too long together")
    questions = [_question(each, row, keys, kinds=kinds, levels_name=levels_name) for each, row in rows]
    return DecisionRequest(Ask(model, lists), (name or model.name)[:200], tuple(questions))


def _read_state(state: Any) -> tuple[str, dict[str, Any]]:
    """The query, and the documents by the name that questions call them."""
    if not isinstance(state, Mapping) or not set(state) <= _STATE_NAMES:
        raise Invalid(
            "state: this server judges relevance alone, so a state is an object with query and document, passage or "
            "documents, and nothing else",
            place="state",
        )
    fields = Fields(state, "state")
    single = [name for name in _SINGLE_NAMES if fields.has(name)]
    # `question` beside `query` would leave open which of them is meant.
    asked = [name for name in _QUERY_NAMES if fields.has(name)]
    if len(asked) != 1 or len(single) + fields.has("documents") != 1:
        raise Invalid("state: one query, and one of document, passage and documents, were expected", place="state")
    query = fields.require_text(asked[0])
    if single:
        return query, {single[0]: fields.get(single[0])}
    documents = fields.get("documents")
    if isinstance(documents, Mapping):
        return query, {str(key): value for key, value in documents.items()}
    return query, {f"documents[{i}]": value for i, value in enumerate(fields.require_list("documents"))}


def _as_document(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    text = next((value[name] for name in _DOCUMENT_NAMES if isinstance(value.get(name), str)), None)
    title = value.get("title")
    return value if text is None else {"text": text, "title": title if isinstance(title, str) else None}


def _question(
    name: str | None, fields: Fields, keys: Sequence[str], *, kinds: tuple[str, str], levels_name: str
) -> Question:
    kind = fields.choice("type", kinds)
    if kind is None:
        raise fields.wrong("type", f"one of {', '.join(kinds)}", None)
    text = _instructions(fields)
    is_about_relevance = _ASKS_RELEVANCE.search(text) and not _ASKS_OPPOSITE.search(text)
    if not is_about_relevance:
        raise fields.wrong("instructions", "a question whether a document is relevant to the query", "another question")
    document = _document_of(name, text, keys)
    if document is None:
        raise fields.wrong("instructions", "the name of exactly one document of the state", "none, or several")
    levels: tuple[Any, ...] = ()
    if kind == "score":
        levels = tuple(fields.require_list(levels_name))
        if len(levels) < 2:
            raise fields.wrong(levels_name, "at least two levels, the worst first", list(levels))
    return Question(name, kind, document, levels)


def _document_of(name: str | None, text: str, keys: Sequence[str]) -> int | None:
    """Row of the document that a question is about: the only one, the one it is called after, or the one it names."""
    if len(keys) == 1:
        return 0
    if name in keys:
        return keys.index(name)
    found = {i for i, key in enumerate(keys) if key in text and re.search(rf"(?<!\w){re.escape(key)}(?!\w)", text)}
    return found.pop() if len(found) == 1 else None


def _instructions(fields: Fields) -> str:
    value = fields.get("instructions")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _state_of_input(value: Any) -> Any:
    """The state in `input`: a string of JSON, or one user message with it as its only part."""
    if isinstance(value, str):
        return _parse_text(value)
    refused = Invalid(
        "input: JSON with query and document was expected, in a string or in one user message", place="input"
    )
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], Mapping):
        raise refused
    content = value[0].get("content")
    if value[0].get("role") != "user":
        raise refused
    if isinstance(content, str):
        return _parse_text(content)
    if not isinstance(content, list) or len(content) != 1 or not isinstance(content[0], Mapping):
        raise refused
    part = content[0]
    if part.get("type") == "input_json":
        return part.get("data")
    if part.get("type") == "input_text" and isinstance(part.get("text"), str):
        return _parse_text(part["text"])
    raise refused


def _parse_text(text: str) -> Any:
    try:
        return parse_text(text)
    except (ValueError, RecursionError, Malformed) as error:
        raise Invalid("input: a JSON object with query and document was expected in the text", place="input") from error


def _grades(answer: Answer) -> list[Grade]:
    return [grade for grade in answer.lists[0].grades if grade is not None]


def _over_levels(probability: float, n: int) -> list[float]:
    """All that a yes-or-no model knows of levels: how much lies on the best, and the rest on the worst."""
    return [1.0 - probability, *[0.0] * (n - 2), probability]


def _score(probability: float, n: int) -> dict[str, float]:
    """Expected level, and confidence: 1 less the mean distance from the likelier level, over a blind guess's."""
    distance = (n - 1) * min(probability, 1.0 - probability)
    uniform = sum(abs(i - (n - 1) / 2) for i in range(n)) / n
    return {"score": probability * (n - 1), "confidence": max(0.0, 1.0 - distance / uniform)}
