"""`POST /v1/grade`: its body as an Ask, its answer as JSON. The contract is docs/serve.md."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from relgrade.errors import InvalidInput
from relgrade.grade.compress import CompressedDocument, SentenceBar
from relgrade.grade.documents import PairText, read_documents, read_query
from relgrade.records import EvidenceSpan, Grade, KeepPolicy, OperatingPoint
from relgrade.serve.asking import Answer, Ask, ListAnswer, ListAsk, OnError
from relgrade.serve.fields import Fields
from relgrade.serve.hosted import HostedModel, ModelRack
from relgrade.serve.refusals import Invalid, TooLarge
from relgrade.serve.settings import ServeSettings

POLICIES: tuple[OnError, ...] = ("keep_all", "drop_all", "raise")
MAX_LISTS = 256  # queries of one request
_SHARED = (
    "operating_point",
    "policy",
    "base_rate",
    "evidence",
    "compress",
)  # of all lists, where a list does not say otherwise


@dataclass(frozen=True, slots=True)
class GradeRequest:
    """A parsed body."""

    ask: Ask
    is_single: bool  # one query at the top, not a list of queries
    is_streamed: bool


def read_grade_request(body: Any, rack: ModelRack, settings: ServeSettings) -> GradeRequest:
    """Check a body and find its model.

    Raises:
        Invalid: something is missing or makes no sense; says where.
        TooLarge: more documents or characters than one request may hold.
    """
    fields = Fields(body)
    name = fields.text("model")
    model = rack.find(name)
    if model is None:
        raise Invalid(
            f"model: there is no bundle of that name here; there are: {', '.join(names(rack))}", place="model"
        )
    is_single = not fields.has("queries")
    if is_single:
        lists = [read_list(fields, fields, model, settings, place="")]
    else:
        rows = fields.require_list("queries")
        if len(rows) > MAX_LISTS:
            raise TooLarge(f"{len(rows)} queries in one request; at most {MAX_LISTS} are taken")
        n_left = settings.max_documents
        lists = []
        for i, row in enumerate(rows):
            lists.append(read_list(Fields(row, f"queries[{i}]"), fields, model, settings, place=f"queries[{i}]."))
            n_left -= len(lists[-1].items)
            if n_left < 0:
                raise TooLarge(f"more than {settings.max_documents} documents in one request")
    require_characters(lists, settings)
    on_error: Any = fields.choice("on_error", POLICIES) or "raise"
    return GradeRequest(Ask(model, tuple(lists), on_error), is_single, bool(fields.flag("stream")))


def names(rack: ModelRack) -> list[str]:
    """Of the bundles that serve."""
    return [model.name for model in rack.models]


def read_list(fields: Fields, shared: Fields, model: HostedModel, settings: ServeSettings, *, place: str) -> ListAsk:
    """One query with its documents; options that it lacks are those of `shared`."""
    documents = fields.require_list("documents")
    items = read_items(fields.require_text("query"), documents, settings, place=place)
    point, policy, base_rate, evidence, compress = (fields if fields.has(name) else shared for name in _SHARED)
    rate = base_rate.number("base_rate")
    panel = model.panel(point.text("operating_point"), rate)
    return ListAsk(
        items[0].query if items else "",
        items,
        panel,
        _policy(policy.get("policy")),
        has_evidence=bool(evidence.flag("evidence")),
        bar=_bar(compress, model, own=panel.pooled.point.name, base_rate=rate),
    )


def read_items(
    query: str, documents: Sequence[Any], settings: ServeSettings, *, place: str = ""
) -> tuple[PairText, ...]:
    """The pairs of one list.

    Raises:
        TooLarge: too many.
        Invalid: the query is blank, or something is no document.
    """
    if len(documents) > settings.max_documents:
        raise TooLarge(f"{len(documents)} documents in one request; at most {settings.max_documents} are taken")
    try:
        return tuple(read_documents(read_query(query), documents))
    except InvalidInput as error:
        raise Invalid(f"{place}{error}", place=f"{place}documents") from error


def require_characters(lists: Sequence[ListAsk], settings: ServeSettings) -> None:
    """Raise TooLarge when the texts of a request are too long together."""
    n_characters = sum(len(item.text) for each in lists for item in each.items)
    n_characters += sum(len(each.query) for each in lists)
    if n_characters > settings.max_characters:
        raise TooLarge(f"{n_characters} characters in one request; at most {settings.max_characters} are taken")


def reply(answer: Answer, *, is_single: bool, request_id: str) -> dict[str, Any]:
    """The body of a finished request."""
    shared = {
        "id": request_id,
        "model": answer.ask.model.name,
        "bundle_hash": answer.ask.model.bundle.hash,
        "usage": {
            "documents": answer.ask.n_documents,
            "tokens": answer.tokens,
            **({"sentences": answer.n_sentences} if answer.ask.reads_sentences else {}),
        },
        "timings": asdict(answer.timings),
    }
    if is_single:
        return {"object": "graded_list", **shared, **list_reply(answer.lists[0], answer)}
    lists = [{"object": "graded_list", "index": i, **list_reply(each, answer)} for i, each in enumerate(answer.lists)]
    return {"object": "graded_lists", **shared, "lists": lists}


def list_reply(each: ListAnswer, answer: Answer) -> dict[str, Any]:
    """What is said of one list."""
    is_kept = answer.ask.on_error == "keep_all"
    results = []
    for i, grade in enumerate(each.grades):
        row = unjudged_row(i, each.ask.items[i], is_kept=is_kept) if grade is None else grade_row(grade, each.ask)
        if each.ask.bar is not None:
            row["compressed"] = compressed_json(each.compressed[i]) if i in each.compressed else None
        results.append(row)
    missing = [i for i, grade in enumerate(each.grades) if grade is None]
    failing = answer.failing
    failure = None
    if failing is not None and (missing or each.without_evidence):
        failure = {**asdict(failing), "documents": missing, "without_evidence": list(each.without_evidence)}
    told = {
        "operating_point": point_json(each.ask.panel.pooled.told_point),
        "any_relevant": any(row["relevant"] for row in results),
        "any_relevant_probability": each.any_relevant_probability,
        "kept": list(each.kept),
        "results": results,
        "failure": failure,
    }
    return told if each.ask.bar is None else {**told, "compression": _compression_json(each, each.ask.bar)}


def grade_row(grade: Grade, ask: ListAsk) -> dict[str, Any]:
    """One document that was judged."""
    row: dict[str, Any] = {
        "index": grade.index,
        "id": grade.id,
        "relevant": grade.relevant,
        "verdict": grade.verdict,
        "probability": grade.probability,
        "logit": grade.logit,
        "truncated": grade.truncated,
        "windows": grade.windows,
    }
    if grade.best_window is not None:
        row["best_window"] = list(grade.best_window)
    if grade.collection is not None:
        row["collection"] = grade.collection
    if ask.has_evidence:
        row["evidence"] = None if grade.evidence is None else [span_json(span) for span in grade.evidence]
    return row


def span_json(span: EvidenceSpan) -> dict[str, Any]:
    """A sentence; its offsets count code points of the document's text as it was sent."""
    return asdict(span)


def compressed_json(document: CompressedDocument) -> dict[str, Any]:
    """What is left of a kept document."""
    return {
        "text": document.text,
        "spans": [list(span) for span in document.spans],
        "sentences": [span_json(span) for span in document.sentences],
        "n_sentences": document.n_sentences,
        "n_unread": document.n_unread,
        "tokens_before": document.tokens_before,
        "tokens_after": document.tokens_after,
    }


def unjudged_row(index: int, item: PairText, *, is_kept: bool) -> dict[str, Any]:
    """One document that nobody judged: no numbers, and never "not relevant"."""
    return {
        "index": index,
        "id": item.id,
        "relevant": is_kept,
        "verdict": "unsure",
        "probability": None,
        "logit": None,
        "truncated": False,
        "windows": 0,
        "error": "not judged",
    }


def point_json(point: OperatingPoint) -> dict[str, Any]:
    """An operating point without its evidence, which stands in the bundle."""
    promise = None if point.promise is None else asdict(point.promise)
    return {"name": point.name, "threshold": point.threshold, "promise": promise}


def stream_rows(answer: Answer, sent: set[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """Lines for the documents that no line told of yet."""
    for i, each in enumerate(answer.lists):
        for j, grade in enumerate(each.grades):
            if (i, j) not in sent:
                is_kept = answer.ask.on_error == "keep_all"
                row = (
                    unjudged_row(j, each.ask.items[j], is_kept=is_kept) if grade is None else grade_row(grade, each.ask)
                )
                yield {"object": "grade", "list": i, **row}
    for i, each in enumerate(answer.lists):  # what is kept is known when all are judged
        for j, document in each.compressed.items():
            yield {"object": "compressed", "list": i, "index": j, **compressed_json(document)}


def stream_end(answer: Answer, *, request_id: str) -> dict[str, Any]:
    """The last line: everything but the documents."""
    whole = reply(answer, is_single=False, request_id=request_id)
    lists = [{name: value for name, value in each.items() if name != "results"} for each in whole["lists"]]
    return {**whole, "object": "end", "lists": lists}


def _compression_json(each: ListAnswer, bar: SentenceBar) -> dict[str, Any]:
    kept = each.compressed.values()
    return {
        "sentence_threshold": bar.told,
        "tokens_before": sum(document.tokens_before for document in kept),
        "tokens_after": sum(document.tokens_after for document in kept),
    }


def _bar(fields: Fields, model: HostedModel, *, own: str, base_rate: float | None) -> SentenceBar | None:
    """What `compress` asks for: true, or an object that names a point or a threshold."""
    value = fields.get("compress")
    if not isinstance(value, Mapping):
        if not fields.flag("compress"):
            return None
        value = {}
    known = {"point", "threshold"}
    if unknown := sorted(set(value) - known):
        raise Invalid(f"compress: unknown fields, known are {', '.join(sorted(known))}; got {len(unknown)} others")
    options = Fields(value, "compress")
    point, threshold = options.text("point"), options.number("threshold")
    try:
        manifest = model.bundle.manifest
        return SentenceBar.of(manifest, own=own, point=point, threshold=threshold, base_rate=base_rate)
    except InvalidInput as error:
        raise Invalid(f"compress: {error}", place="compress") from error


def _policy(value: Any) -> KeepPolicy | None:
    if value is None:
        return None
    fields = Fields(value, "policy")
    known = {"min_keep", "max_keep", "max_tokens"}
    assert isinstance(value, Mapping)
    if unknown := sorted(set(value) - known):
        raise Invalid(f"policy: unknown fields, known are {', '.join(sorted(known))}; got {len(unknown)} others")
    limits = {"min_keep": fields.count("min_keep", lowest=0) or 0}
    try:
        return KeepPolicy(
            **limits, max_keep=fields.count("max_keep", lowest=1), max_tokens=fields.count("max_tokens", lowest=1)
        )
    except InvalidInput as error:
        raise Invalid(str(error), place="policy") from error
