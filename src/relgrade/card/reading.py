"""Questions with what is known of their answers, and the lists that a system retrieved for them, from files.

| field of a query | names | says |
|---|---|---|
| relevant | `relevant`, `relevant_ids` | ids of the documents that answer; an empty list: there is none |
| answers | `answers`, `answer` | a text or several, each of which answers; an empty list: there is none |
| answerable | `answerable` | true or false, from the corpus at hand |
| list | `retrieved` | documents, the best first: texts, or objects of `text`, `id`, `title` |

What is null or left out is not known, and the question does not count for what needs it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from relgrade.candidates.queries import Query, read_queries
from relgrade.card.cases import Case, Listed
from relgrade.errors import InvalidData, InvalidInput
from relgrade.formats.beir import is_beir_folder
from relgrade.formats.read import read_pairs
from relgrade.formats.rows import document_id_of, with_title
from relgrade.grade.documents import to_document
from relgrade.records import Pair

RELEVANT_NAMES, ANSWER_NAMES = ("relevant", "relevant_ids"), ("answers", "answer")
ANSWERABLE_NAME, LIST_NAME = "answerable", "retrieved"
MIN_LABEL = 0.5  # of a pair that counts as relevant


def read_cases(path: Path | str, *, split: str | None = None) -> list[Case]:
    """Read questions.

    Args:
        path: as for `candidates.read_queries`, with the fields of the module's table. A BEIR folder says what is
            relevant in its `qrels`.
        split: of a BEIR folder.

    Raises:
        InvalidData: the file or a line cannot be read, or a field holds something else; names the query.
    """
    path = Path(path)
    judged = _beir_relevant(path, split) if is_beir_folder(path) else {}
    cases = []
    for query in read_queries(path, split=split):
        try:
            case = _case_of(query)
        except InvalidInput as error:
            raise InvalidData(str(error), path=path) from error
        if case.relevant is None and query.id in judged:
            case = replace(case, relevant=judged[query.id])
        cases.append(case)
    return cases


def with_lists(cases: Sequence[Case], path: Path | str) -> list[Case]:
    """The cases with the documents that a file of pairs lists for them.

    Args:
        cases: without documents.
        path: rows with `query_id` (or `query`) and a document, as `relgrade candidates` writes them; a query's rows in
            the order of `rank` where all have one, else in that of the file. Where the questions do not say what is
            relevant, `label` does.

    Raises:
        InvalidData: the file cannot be read, or holds none of the questions.
    """
    by_query: dict[str, list[Pair]] = {}
    for pair in read_pairs(path):
        by_query.setdefault(pair.query_id, []).append(pair)
    if not any(case.query_id in by_query for case in cases):
        asked, found = cases[0].query_id, next(iter(by_query), "none")
        raise InvalidData(
            f"lists none of the {len(cases):,} questions; their ids look like {asked!r}, those of the lists like "
            f"{found!r}",
            path=path,
        )
    return [_with_list(case, by_query.get(case.query_id, [])) for case in cases]


def _with_list(case: Case, pairs: Sequence[Pair]) -> Case:
    if all(isinstance(pair.fields.get("rank"), int) for pair in pairs):
        pairs = sorted(pairs, key=lambda pair: int(pair.fields["rank"]))
    documents = {pair.doc_id: Listed(pair.doc_id, pair.document) for pair in pairs}
    relevant = case.relevant
    if relevant is None and not case.answers and pairs and all(pair.label is not None for pair in pairs):
        relevant = frozenset(pair.doc_id for pair in pairs if (pair.label or 0.0) >= MIN_LABEL)
    return replace(case, documents=tuple(documents.values()), relevant=relevant)


def _case_of(query: Query) -> Case:
    relevant = _texts(query, RELEVANT_NAMES)
    answers = _texts(query, ANSWER_NAMES)
    answerable = query.metadata.get(ANSWERABLE_NAME)
    if answerable is not None and not isinstance(answerable, bool):
        raise InvalidInput(f"query {query.id!r}: `answerable` must be true or false, got {answerable!r}"[:200])
    if answerable is None and not relevant and not answers and (relevant is not None or answers is not None):
        answerable = False
    return Case(
        query_id=query.id,
        query=query.text,
        documents=_listed(query),
        relevant=None if relevant is None else frozenset(relevant),
        answers=tuple(answers or ()),
        is_answerable=answerable,
    )


def _texts(query: Query, names: Sequence[str]) -> list[str] | None:
    name = next((name for name in names if query.metadata.get(name) is not None), None)
    if name is None:
        return None
    value = query.metadata[name]
    if isinstance(value, Mapping) and "text" in value:  # SQuAD: {"text": [...], "answer_start": [...]}
        value = value["text"]
    items = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(item, bool) or not isinstance(item, str | int | float) for item in items):
        raise InvalidInput(f"query {query.id!r}: `{name}` must be a text or a list of texts, got {value!r}"[:200])
    return [str(item) for item in items if str(item).strip()]


def _listed(query: Query) -> tuple[Listed, ...]:
    values: Any = query.metadata.get(LIST_NAME)
    if values is None:
        return ()
    if not isinstance(values, list):
        raise InvalidInput(f"query {query.id!r}: `{LIST_NAME}` must be a list, got {type(values).__name__}")
    documents: dict[str, Listed] = {}
    for number, value in enumerate(values):
        found = to_document(value, place=f"query {query.id!r}, document {number}")
        text = with_title(found.text, found.title)
        doc_id = found.id or document_id_of(text)
        documents.setdefault(doc_id, Listed(doc_id, text))
    return tuple(documents.values())


def _beir_relevant(folder: Path, split: str | None) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for pair in read_pairs(folder, split=split):
        ids = found.setdefault(pair.query_id, set())
        if (pair.label or 0.0) >= MIN_LABEL:
            ids.add(pair.doc_id)
    return {query_id: frozenset(ids) for query_id, ids in found.items()}


def cut_lists(cases: Sequence[Case], *, n_top: int) -> list[Case]:
    """The cases with the first `n_top` documents of their lists."""
    return [replace(case, documents=case.documents[:n_top]) for case in cases]
