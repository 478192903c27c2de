"""The rerank dialects: one handler, dispatched on the shape of the body.

`texts`: Text Embeddings Inference. `top_k`, or `truncation` without `top_n`: Voyage. Everything else: the superset of
Cohere, Jina and vLLM. Unknown fields are ignored, as those servers do. Calibrated probabilities are the scores.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from relgrade.grade.documents import TEXT_NAMES
from relgrade.grade.evidence import JudgedText
from relgrade.records import Grade
from relgrade.serve.asking import Answer, Ask, ListAsk
from relgrade.serve.fields import Fields
from relgrade.serve.grade_request import read_items, require_characters
from relgrade.serve.hosted import ModelRack
from relgrade.serve.refusals import Invalid, TooLarge
from relgrade.serve.settings import ServeSettings

_TO_JSON = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder for every field
Dialect = Literal["tei", "voyage", "cohere"]
MAX_RANK_FIELDS = 100
ECHOED_MODEL = 200  # characters of a model name that are sent back


@dataclass(frozen=True, slots=True)
class Spans:
    """Which sentences of a document come back."""

    threshold: float = 0.1  # probability that one must reach; Cohere's default
    max_spans: int | None = None  # of each document, the best

    def of(self, judged: JudgedText) -> list[dict[str, Any]]:
        """The spans of one document, best first, with offsets in code points."""
        found = sorted((each for each in judged.sentences), key=lambda each: -each.logit)
        found = [each for each in found if each.probability >= self.threshold][: self.max_spans]
        return [{"start": each.start, "end": each.end, "score": each.probability} for each in found]


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """A parsed body of any dialect."""

    dialect: Dialect
    ask: Ask
    model: str  # as the client called it
    returned: tuple[Any, ...] | None  # what is sent back of each document; None: nothing
    top_n: int | None
    is_filtered: bool  # leave out what is not relevant
    has_raw_scores: bool
    refuses_truncation: bool  # the client said that nothing may be cut
    spans: "Spans | None" = None  # Cohere's `relevant_spans`; None: not asked for

    @property
    def documents(self) -> tuple[Any, ...]:
        """What is sent back; empty where nothing is."""
        return self.returned or ()


def dialect_of(body: Mapping[str, Any]) -> Dialect:
    """Which dialect a body speaks."""
    if "texts" in body:
        return "tei"
    if "top_k" in body or ("truncation" in body and "top_n" not in body):
        return "voyage"
    return "cohere"


def read_rerank_request(body: Any, rack: ModelRack, settings: ServeSettings) -> RerankRequest:
    """Check a body.

    Raises:
        Invalid: something is missing or makes no sense.
        TooLarge: more than one request may hold.
    """
    fields = Fields(body)
    dialect = dialect_of(body)
    documents, returned = _documents(fields, dialect)
    name = fields.text("model")
    model = rack.find(name) or rack.get(None)  # clients must name a model, and name whatever they know
    panel = model.panel(fields.text("operating_point"))
    items = read_items(fields.require_text("query"), documents, settings)
    wants_text = fields.flag("return_text" if dialect == "tei" else "return_documents")
    top_n = None
    if dialect != "tei":
        top_n = fields.count("top_k" if dialect == "voyage" else "top_n", lowest=0)
    spans = _spans(fields) if dialect == "cohere" else None
    is_filtered = bool(fields.flag("filter"))

    def returned_ones(grades: Sequence[Grade]) -> list[int]:
        return _order(grades, top_n=top_n or None, is_filtered=is_filtered)

    query = items[0].query if items else ""
    lists = (ListAsk(query, items, panel, spans_of=None if spans is None else returned_ones),)
    require_characters(lists, settings)
    return RerankRequest(
        dialect=dialect,
        ask=Ask(model, lists),
        model=(name or model.name)[:ECHOED_MODEL],
        returned=tuple(returned) if wants_text else None,
        top_n=top_n or None,
        is_filtered=is_filtered,
        has_raw_scores=bool(fields.flag("raw_scores")),
        refuses_truncation=dialect == "tei" and fields.flag("truncate") is False,
        spans=spans,
    )


def reply(request: RerankRequest, answer: Answer, *, request_id: str, created: int) -> Any:
    """The body, in the client's dialect.

    Raises:
        Invalid: the client allows no truncation, and something was cut.
    """
    grades = [grade for grade in answer.lists[0].grades if grade is not None]
    if request.refuses_truncation:
        for grade in grades:
            if grade.truncated:
                raise Invalid(
                    f"texts[{grade.index}] is longer than the model reads; send truncate: true", place="texts"
                )
    ordered = [grades[i] for i in _order(grades, top_n=request.top_n, is_filtered=request.is_filtered)]
    if request.dialect == "tei":
        return [_tei_row(grade, request) for grade in ordered]
    rows = [_row(grade, request) for grade in ordered]
    if request.spans is not None:
        judged = answer.lists[0].judged
        rows = [{**row, "relevant_spans": request.spans.of(judged[row["index"]])} for row in rows]
    tokens = answer.tokens
    if request.dialect == "voyage":
        return {"object": "list", "data": rows, "model": request.model, "usage": {"total_tokens": tokens}}
    return {
        "id": request_id,
        "object": "rerank",
        "created": created,
        "model": request.model,
        "results": rows,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "meta": {
            "api_version": {"version": "2"},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": tokens, "output_tokens": 0},
            "bundle_hash": answer.ask.model.bundle.hash,
        },
    }


def _order(grades: Sequence[Grade], *, top_n: int | None, is_filtered: bool) -> list[int]:
    """Positions of the grades that come back, best first."""
    ordered = sorted(range(len(grades)), key=lambda i: -grades[i].logit)
    return [i for i in ordered if grades[i].relevant or not is_filtered][:top_n]


def _spans(fields: Fields) -> Spans | None:
    """What `relevant_spans` asks for."""
    value = fields.get("relevant_spans")
    if value is None:
        return None
    options = Fields(value, "relevant_spans")
    mode = options.choice("mode", ("enabled", "disabled"))
    threshold = options.number("threshold")
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise options.wrong("threshold", "a number in [0, 1]", threshold)
    max_spans = options.count("max_spans", lowest=1)
    return Spans(0.1 if threshold is None else threshold, max_spans) if mode == "enabled" else None


def _score(grade: Grade, request: RerankRequest) -> float:
    return grade.logit if request.has_raw_scores else grade.probability


def _tei_row(grade: Grade, request: RerankRequest) -> dict[str, Any]:
    row: dict[str, Any] = {"index": grade.index, "score": _score(grade, request)}
    return row if request.returned is None else {**row, "text": request.returned[grade.index]}


def _row(grade: Grade, request: RerankRequest) -> dict[str, Any]:
    row: dict[str, Any] = {"index": grade.index, "relevance_score": _score(grade, request)}
    if request.returned is None:
        return row
    document = request.returned[grade.index]
    if request.dialect == "voyage":  # a string there, an object elsewhere
        return {**row, "document": document if isinstance(document, str) else document["text"]}
    return {**row, "document": {"text": document} if isinstance(document, str) else document}


def _documents(fields: Fields, dialect: Dialect) -> tuple[list[Any], list[Any]]:
    """What is judged, and what is sent back of each."""
    if dialect == "tei":
        texts = fields.require_list("texts")
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise fields.wrong(f"texts[{i}]", "a string", text)
        return texts, texts
    rows = [fields.get("documents")] if isinstance(fields.get("documents"), str) else fields.require_list("documents")
    rank_fields = fields.require_list("rank_fields") if fields.has("rank_fields") else []
    if len(rank_fields) > MAX_RANK_FIELDS:
        raise TooLarge(f"{len(rank_fields)} rank_fields; at most {MAX_RANK_FIELDS} are taken")
    names = list(dict.fromkeys(str(name) for name in rank_fields))  # a name said often would be text read often
    judged = [_judged(row, names) for row in rows]
    returned = [
        row if isinstance(row, str) else {**row, "text": text if isinstance(text, str) else _text_of(text)}
        for row, text in zip(rows, judged, strict=True)
        if isinstance(row, str | Mapping)
    ]
    return judged, returned


def _judged(row: Any, rank_fields: Sequence[str]) -> Any:
    """A document as the model reads it: its text, or its fields as lines where it has none by that name."""
    if not isinstance(row, Mapping):
        return row  # a string, or nothing that can be read; `read_items` tells
    if not rank_fields and any(isinstance(row.get(name), str) for name in TEXT_NAMES):
        return row
    chosen = [name for name in rank_fields if name in row] or list(row)
    lines = (f"{name}: {_plain(row[name])}" for name in chosen if row[name] is not None)
    return "\n".join(lines)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else _TO_JSON(value)


def _text_of(row: Mapping[str, Any]) -> str:
    return next(str(row[name]) for name in TEXT_NAMES if isinstance(row.get(name), str))
