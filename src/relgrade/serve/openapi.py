"""The OpenAPI description: what FastAPI cannot read from handlers of raw requests. docs/openapi.json pins it.

The dialects of others are described as far as this server reads them; every one ignores fields it does not know.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from relgrade.serve.rerank_request import MAX_RANK_FIELDS
from relgrade.serve.routes_rerank import RERANK_PATHS

_TEXT = {"type": "string"}
_QUERY = {"type": "string", "pattern": r"\S", "description": "Not blank."}
_FLAG: dict[str, Any] = {  # as `Fields.flag` reads it
    "anyOf": [
        {"type": ["boolean", "null"]},
        {"enum": [0, 1]},
        {"type": "string", "pattern": r"^\s*([Tt][Rr][Uu][Ee]|1|[Yy][Ee][Ss]|[Ff][Aa][Ll][Ss][Ee]|0|[Nn][Oo]|)\s*$"},
    ]
}
_COUNT = {"type": ["integer", "null"], "minimum": 0}
_METADATA = {"type": "object", "additionalProperties": True}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


_DOCUMENT = {
    "oneOf": [
        _TEXT,
        _object(
            ("text",),
            text=_TEXT,
            id={"type": ["string", "null"]},
            title={"type": ["string", "null"]},
            metadata=_METADATA,
        ),
    ]
}
_POLICY = _object(
    min_keep={"type": "integer", "minimum": 0, "default": 0},
    max_keep={"type": ["integer", "null"], "minimum": 1},
    max_tokens={"type": ["integer", "null"], "minimum": 1},
)
_SENTENCE_POINT = _object(
    point={"type": ["string", "null"], "description": "Name of an operating point."},
    threshold={"type": ["number", "null"], "minimum": 0, "maximum": 1},
)
_LIST_OPTIONS = {
    "operating_point": {"type": ["string", "null"], "description": "Name of the threshold; the bundle's default."},
    "policy": {"anyOf": [_ref("KeepPolicy"), {"type": "null"}]},
    "base_rate": {"type": ["number", "null"], "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "evidence": {**_FLAG, "description": "Tell the sentences that carry each verdict."},
    "compress": {
        "anyOf": [{"type": ["boolean", "null"]}, _SENTENCE_POINT],
        "description": "Keep of each document the sentences above a point, or those above the one named here.",
    },
}
_DOCUMENTS = {"type": "array", "items": _ref("Document")}
_CALL_OPTIONS = {
    "model": {"type": ["string", "null"], "description": "Name of a bundle of this server; the first is the default."},
    "on_error": {"enum": ["keep_all", "drop_all", "raise", None], "default": "raise"},
    "stream": {**_FLAG, "description": "Answer line by line, as application/x-ndjson."},
}
_GRADE = _object(
    ("index", "relevant", "verdict", "probability", "logit", "truncated", "windows"),
    index={"type": "integer"},
    id={"type": ["string", "null"]},
    relevant={"type": "boolean"},
    verdict={"enum": ["relevant", "unsure", "not relevant"]},
    probability={"type": ["number", "null"], "minimum": 0, "maximum": 1, "description": "Null: nobody judged it."},
    logit={"type": ["number", "null"]},
    truncated={"type": "boolean"},
    windows={"type": "integer"},
    best_window={
        "type": "array",
        "items": {"type": "integer", "minimum": 0},
        "minItems": 2,
        "maxItems": 2,
        "description": "Start and end, in code points of the text that was sent, of the part that decided, where a "
        "document was too long to be read at once.",
    },
    collection=_TEXT,
    evidence={
        "type": ["array", "null"],
        "items": _ref("Sentence"),
        "description": "Best first, where it was asked for; empty: not relevant. Null: the sentences were not judged.",
    },
    compressed={
        "anyOf": [_ref("Compressed"), {"type": "null"}],
        "description": "Of a document that is kept, where it was asked for. Null: dropped, or kept whole.",
    },
    error=_TEXT,
)
_OFFSET = {"type": "integer", "minimum": 0, "description": "In code points of the text that was sent."}
_SENTENCE = _object(
    ("start", "end", "text", "probability", "logit"),
    start=_OFFSET,
    end=_OFFSET,
    text=_TEXT,
    probability={"type": "number", "minimum": 0, "maximum": 1},
    logit={"type": "number"},
)
_N = {"type": "integer", "minimum": 0}
_COMPRESSED = _object(
    ("text", "spans", "sentences", "n_sentences", "n_unread", "tokens_before", "tokens_after"),
    text=_TEXT,
    spans={"type": "array", "items": {"type": "array", "items": _OFFSET, "minItems": 2, "maxItems": 2}},
    sentences={"type": "array", "items": _ref("Sentence")},
    n_sentences=_N,
    n_unread=_N,
    tokens_before=_N,
    tokens_after=_N,
)
_FAILURE = _object(
    ("policy", "reason", "message", "documents", "without_evidence"),
    policy={"enum": ["keep_all", "drop_all"]},
    reason=_TEXT,
    message=_TEXT,
    documents={"type": "array", "items": {"type": "integer"}, "description": "Positions of those not judged."},
    without_evidence={
        "type": "array",
        "items": {"type": "integer"},
        "description": "Positions of those whose sentences should have been judged and were not.",
    },
)
_LIST_FIELDS = {
    "operating_point": _object(
        ("name", "threshold"), name=_TEXT, threshold={"type": "number"}, promise={"type": ["object", "null"]}
    ),
    "any_relevant": {"type": "boolean"},
    "any_relevant_probability": {"type": ["number", "null"]},
    "kept": {"type": "array", "items": {"type": "integer"}},
    "results": {"type": "array", "items": _ref("Grade")},
    "failure": {"anyOf": [_ref("Failure"), {"type": "null"}]},
}
_COMPRESSION = _object(
    ("sentence_threshold", "tokens_before", "tokens_after"),
    sentence_threshold={"type": ["number", "null"]},
    tokens_before=_N,
    tokens_after=_N,
)
_REPLY_FIELDS = {
    "object": _TEXT,
    "id": _TEXT,
    "model": _TEXT,
    "bundle_hash": _TEXT,
    "usage": _object(documents={"type": "integer"}, tokens={"type": "integer"}, sentences={"type": "integer"}),
    "timings": {"type": "object"},
}
_SPANS = _object(
    mode={"enum": ["enabled", "disabled", None]},
    threshold={"type": ["number", "null"], "minimum": 0, "maximum": 1, "default": 0.1},
    max_spans={"type": ["integer", "null"], "minimum": 1},
)
SCHEMAS: dict[str, Any] = {
    "Document": _DOCUMENT,
    "KeepPolicy": _POLICY,
    "Grade": _GRADE,
    "Sentence": _SENTENCE,
    "Compressed": _COMPRESSED,
    "Failure": _FAILURE,
    "GradeRequest": _object(
        ("query", "documents"), query=_QUERY, documents=_DOCUMENTS, **_LIST_OPTIONS, **_CALL_OPTIONS
    ),
    "GradeManyRequest": _object(
        ("queries",),
        queries={
            "type": "array",
            "items": _object(("query", "documents"), query=_QUERY, documents=_DOCUMENTS, **_LIST_OPTIONS),
        },
        **_LIST_OPTIONS,
        **_CALL_OPTIONS,
    ),
    "GradedList": _object(tuple(_LIST_FIELDS), **_REPLY_FIELDS, **_LIST_FIELDS, compression=_COMPRESSION),
    "GradedLists": _object(("lists",), **_REPLY_FIELDS, lists={"type": "array", "items": _ref("GradedList")}),
    "TeiRequest": _object(
        ("query", "texts"),
        query=_QUERY,
        texts={"type": "array", "items": _TEXT},
        truncate=_FLAG,
        raw_scores=_FLAG,
        return_text=_FLAG,
    ),
    "TeiReply": {
        "type": "array",
        "items": _object(("index", "score"), index={"type": "integer"}, score={"type": "number"}, text=_TEXT),
    },
    "RerankRequest": _object(
        ("query", "documents"),
        query=_QUERY,
        documents={"type": "array", "items": {"oneOf": [_TEXT, {"type": "object"}]}},
        model={"type": ["string", "null"]},
        top_n=_COUNT,
        top_k={**_COUNT, "description": "With it, the answer is Voyage's."},
        return_documents=_FLAG,
        rank_fields={"type": ["array", "null"], "items": _TEXT, "description": f"At most {MAX_RANK_FIELDS}."},
        raw_scores=_FLAG,
        filter={**_FLAG, "description": "Leave out what the operating point drops; off by default."},
        operating_point={"type": ["string", "null"]},
        relevant_spans={
            "anyOf": [_SPANS, {"type": "null"}],
            "description": "Each result gets `relevant_spans`: start and end in code points, and score, best first.",
        },
    ),
    "RerankReply": _object(
        ("model", "usage"),
        model=_TEXT,
        results={"type": "array", "items": {"type": "object"}},
        data={"type": "array", "items": {"type": "object"}},
        usage={"type": "object"},
    ),
    "SystemOneRequest": _object(
        ("state", "questions"),
        model={"type": ["string", "null"]},
        state={"type": "object", "description": "A query and its document, passage or documents."},
        questions={"type": "object", "minProperties": 1, "maxProperties": 400},
    ),
    "DecisionRequest": _object(
        ("input", "questions"),
        model={"type": ["string", "null"]},
        input={"type": ["string", "array"]},
        questions={"type": "array", "minItems": 1, "maxItems": 400, "items": {"type": "object"}},
    ),
    "Reply": {"type": "object"},
    "Error": _object(
        ("error", "error_type", "message", "detail"), error=_TEXT, error_type=_TEXT, message=_TEXT, detail=_TEXT
    ),
    "DialectError": {"type": "object", "description": "The error of that dialect's own clients."},
}
_STATUSES = {
    "400": "The body is not JSON.",
    "401": "No key, or a wrong one.",
    "403": "The request names another host, and no key protects the server.",
    "408": "The body did not arrive in time.",
    "413": "More than a limit allows.",
    "415": "Not sent as JSON, or compressed.",
    "422": "JSON that makes no sense.",
    "424": "The model gave no number for a document.",
    "429": "No room now, or the key has used up its requests; Retry-After says when.",
    "503": "About to stop.",
    "504": "The deadline passed.",
}
_BODIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "/v1/grade": (("GradeRequest", "GradeManyRequest"), ("GradedList", "GradedLists")),
    "/v1/systemone": (("SystemOneRequest",), ("Reply",)),
    "/v1/decisions": (("DecisionRequest",), ("Reply",)),
    **{path: (("TeiRequest", "RerankRequest"), ("TeiReply", "RerankReply")) for path in RERANK_PATHS},
}


def describe(app: FastAPI) -> None:
    """Make `GET /openapi.json` and `app.openapi()` tell what the routes read and answer."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _described(app: FastAPI) -> dict[str, Any]:
    found = get_openapi(title=app.title, version=app.version, routes=app.routes)
    found["components"] = {
        "schemas": SCHEMAS,
        "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
    }
    found["security"] = [{"key": []}, {}]
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            operation["operationId"] = f"{operation['operationId'].split('_')[0]}{path.replace('/', '_')}_{method}"
            operation["responses"] = {"200": {"description": "Done."}}
            if method == "post" and path in _BODIES:
                asked, told = _BODIES[path]
                operation["requestBody"] = {"required": True, "content": _json(*asked)}
                operation["responses"]["200"]["content"] = _json(*told)
            is_foreign = path in ("/v1/systemone", "/v1/decisions")
            error = {"content": _json("DialectError" if is_foreign else "Error")}
            told_statuses = _STATUSES if method == "post" else {code: _STATUSES[code] for code in ("401", "403", "429")}
            operation["responses"] |= {status: {"description": d, **error} for status, d in told_statuses.items()}
    for status, words in (("404", "There is no admin key."), ("409", "A bundle was refused; the old one serves on.")):
        found["paths"]["/admin/reload"]["post"]["responses"][status] = {"description": words}
    lines = found["paths"]["/v1/grade"]["post"]["responses"]["200"]["content"]
    lines["application/x-ndjson"] = {"schema": {"description": "With stream: an object a line, the last one the rest."}}
    page = found["paths"].get("/", {}).get("get")
    if page is not None:
        page["responses"]["200"] = {"description": "The playground.", "content": {"text/html": {}}}
    found["paths"]["/ready"]["get"]["responses"]["503"] = {"description": _STATUSES["503"]}
    return found


def _json(*names: str) -> dict[str, Any]:
    schema: Any = _ref(names[0]) if len(names) == 1 else {"anyOf": [_ref(name) for name in names]}
    return {"application/json": {"schema": schema}}
