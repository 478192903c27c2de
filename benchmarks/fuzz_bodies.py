"""Hypothesis strategies for hostile request bodies: near the shapes that are read, and far from them."""

from typing import Any

from hypothesis import strategies as st

PATHS = st.sampled_from(("/v1/grade", "/rerank", "/v1/rerank", "/v2/rerank", "/", "/v1/systemone", "/v1/decisions"))

_TEXT = st.one_of(
    st.text(max_size=30),
    st.text(st.characters(codec=None, categories=("Cs", "Cc", "Cf", "Lo")), max_size=8),
    st.sampled_from(
        ("", " ", "\0", "a" * 3000, "\ud800", "\u202e", "<script>", "{{7*7}}", "nanword", "infword", "[SEP]")
    ),
)
_NUMBER = st.one_of(
    st.integers(), st.floats(), st.sampled_from((0, -1, 1, 2**63, 10**400, 1e308, -0.0, float("nan"), float("inf")))
)
_SCALAR = st.one_of(st.none(), st.booleans(), _NUMBER, _TEXT)
_ANY = st.recursive(
    _SCALAR, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4), max_leaves=12
)
_DOCUMENT = st.one_of(
    _TEXT,
    st.fixed_dictionaries(
        {}, optional={"text": _TEXT | _ANY, "title": _TEXT | _ANY, "id": _ANY, "metadata": _ANY, "content": _ANY}
    ),
    _ANY,
)
_DOCUMENTS = st.one_of(st.lists(_DOCUMENT, max_size=6), st.lists(_TEXT, max_size=60), _ANY)
_FLAG = st.one_of(st.booleans(), st.sampled_from(("true", "False", "yes", 1, 0, 2, None)), _ANY)
_QUESTION = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(("noul", "score", "predicate", "choice", "box")) | _ANY,
        "instructions": st.sampled_from(("Is it relevant?", "Does D0 answer the query?")) | _ANY,
        "criteria": _ANY | st.lists(_ANY, max_size=5),
        "levels": st.lists(st.fixed_dictionaries({"label": _TEXT | _ANY}) | _ANY, max_size=5),
        "name": _TEXT | _ANY,
    },
)
_STATE = st.fixed_dictionaries(
    {},
    optional={
        "query": _TEXT | _ANY,
        "question": _TEXT,
        "document": _DOCUMENT,
        "documents": _DOCUMENTS | st.dictionaries(st.sampled_from(("D0", "D1")), _DOCUMENT, max_size=2),
        "rubric": _ANY,
    },
)
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "query": _TEXT | _ANY,
    "documents": _DOCUMENTS,
    "texts": st.lists(_TEXT, max_size=6) | _DOCUMENTS,
    "queries": st.lists(
        st.fixed_dictionaries({}, optional={"query": _TEXT, "documents": _DOCUMENTS}) | _ANY, max_size=3
    ),
    "model": _TEXT | _ANY,
    "operating_point": st.sampled_from(("balanced", "strict", None)) | _ANY,
    "policy": st.fixed_dictionaries({}, optional={"min_keep": _NUMBER, "max_keep": _NUMBER, "max_tokens": _NUMBER})
    | _ANY,
    "base_rate": _NUMBER | _ANY,
    "on_error": st.sampled_from(("keep_all", "drop_all")) | _ANY,
    "top_n": _NUMBER | _ANY,
    "top_k": _NUMBER | _ANY,
    "truncate": _FLAG,
    "truncation": _FLAG,
    "raw_scores": _FLAG,
    "return_text": _FLAG,
    "return_documents": _FLAG,
    "filter": _FLAG,
    "rank_fields": st.lists(_TEXT, max_size=3) | _ANY,
    "state": _STATE | _ANY,
    "questions": st.dictionaries(_TEXT, _QUESTION, max_size=3) | st.lists(_QUESTION, max_size=3) | _ANY,
    "input": _TEXT | _ANY,
}


def bodies() -> st.SearchStrategy[Any]:
    """JSON values: mostly objects with the fields that some route reads, some of them sound."""
    sound = _sound("documents")
    tei = _sound("texts")
    asked = st.fixed_dictionaries({"state": _STATE, "questions": st.dictionaries(_TEXT, _QUESTION, max_size=3)})
    return st.one_of(sound, tei, asked, st.fixed_dictionaries({}, optional=_FIELDS), _ANY)


def _sound(name: str) -> st.SearchStrategy[Any]:
    """A query with texts that could be graded, and whatever beside them."""
    needed = {"query": st.just("q"), name: st.lists(_TEXT, max_size=3)}
    return st.fixed_dictionaries(needed, optional={key: value for key, value in _FIELDS.items() if key not in needed})


def raw_bodies() -> st.SearchStrategy[bytes]:
    """Bytes: random, cut JSON, deep JSON, other encodings."""
    text = '{"query": "q", "documents": ["a", {"text": "b"}]}'
    return st.one_of(
        st.binary(max_size=200),
        st.integers(0, len(text)).map(lambda n: text[:n].encode()),
        st.integers(1, 20_000).map(lambda n: b"[" * n),
        st.integers(1, 20_000).map(lambda n: b'{"a":' * n + b"1" + b"}" * n),
        st.sampled_from(("utf-16", "utf-32", "latin-1", "utf-8-sig")).map(lambda name: text.encode(name)),
        st.integers(1, 6000).map(lambda n: b'{"query": "q", "documents": ["a"], "top_n": ' + b"9" * n + b"}"),
        st.binary(max_size=20).map(lambda noise: b'{"query": "' + noise + b'", "documents": ["a"]}'),
    )
