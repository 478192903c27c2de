"""Hypothesis strategies for hostile requests: near the shapes that are read, and far from them."""

import gzip
import json
import random
import re
from typing import Any
from urllib.parse import quote_from_bytes

from hypothesis import strategies as st

PATHS = st.sampled_from(
    (
        "/v1/grade",
        "/rerank",
        "/v1/rerank",
        "/v2/rerank",
        "/reranking",
        "/v1/reranking",
        "/",
        "/v1/systemone",
        "/v1/decisions",
        "/admin/reload",
    )
)
FORM_PATH = "/page/grade"
JSON_TYPE, FORM_TYPE = "application/json", "application/x-www-form-urlencoded"

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+.\w]+|.', re.DOTALL)
_ODD = (b"null", b"1e999", b"-0.0", b"[]", b"{}", b'""', b'"query"', b"true", b",", b":", b"\0", b"\xff", b'"\\ud800"')
_TWICE = (
    b'"query": "q"',
    b'"query": 1',
    b'"documents": ["a"]',
    b'"documents": {}',
    b'"texts": ["a"]',
    b'"__proto__": {"a": 1}',
    b'"": 1',
)
_ESCAPES = (
    rb"\ud800",
    rb"\udfff\ud800",
    rb"\u0000",
    rb"\ufeff",
    rb"\u202e",
    rb"\ud83d\ude00",
    b"\xed\xa0\x80",
    b"\xc0\x80",
)
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
    "evidence": _FLAG,
    "compress": st.fixed_dictionaries({}, optional={"threshold": _NUMBER, "operating_point": _TEXT}) | _FLAG,
    "relevant_spans": st.fixed_dictionaries(
        {}, optional={"mode": st.sampled_from(("enabled", "disabled")), "threshold": _NUMBER, "max_spans": _NUMBER}
    )
    | _ANY,
    "rank_fields": st.lists(_TEXT, max_size=3) | _ANY,
    "state": _STATE | _ANY,
    "questions": st.dictionaries(_TEXT, _QUESTION, max_size=3) | st.lists(_QUESTION, max_size=3) | _ANY,
    "input": _TEXT | _ANY,
}


def json_bytes() -> st.SearchStrategy[bytes]:
    """Bodies as JSON. NaN and infinities stand in it as Python spells them, or as a number beyond all floats."""
    plain = bodies().map(lambda body: json.dumps(body).encode())
    utf8 = bodies().map(lambda body: json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    huge = bodies().map(lambda body: json.dumps(body).replace("Infinity", "1e999").replace("NaN", "-1e400").encode())
    return st.one_of(plain, plain, utf8, huge)


N_VARIANTS = 5  # of one body


def variants(content: bytes, number: int) -> list[bytes]:
    """A body of JSON, and others made of it: a token dropped, said twice, or in place of another. `number` decides."""
    rng = random.Random(number)
    tokens = _TOKEN.findall(content)
    made = [content]
    for _ in range(N_VARIANTS - 1):
        changed = list(tokens)
        for _ in range(rng.randint(1, 3)):
            if changed:
                at = rng.randrange(len(changed))
                changed[at : at + rng.randint(0, 1)] = rng.choice(
                    ([], [changed[at]] * 2, [rng.choice(_ODD)], [rng.choice(tokens)])
                )
        made.append(b"".join(changed))
    return made


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
        st.sampled_from(("utf-16", "utf-32", "utf-16-le", "utf-8-sig")).map(lambda name: text.encode(name)),
        st.integers(2, 5).map(lambda n: b"\xef\xbb\xbf" * n + text.encode()),
        st.lists(st.sampled_from(_TWICE), min_size=2, max_size=8).map(lambda rows: b"{" + b",".join(rows) + b"}"),
        st.integers(1, 150_000).map(lambda n: b'{"query": "q", "documents": ["' + b"a " * n + b'"]}'),
        st.sampled_from((b"1e999", b"-1e999", b"-0", b"1e-999", b"0x10", b"01", b"+1", b".5", b"1_000", b"NaN")).map(
            lambda number: b'{"query": "q", "documents": [{"text": "a", "n": ' + number + b'}], "return_documents": 1}'
        ),
        st.lists(st.sampled_from(_ESCAPES), max_size=6).map(
            lambda rows: b'{"query": "q' + b"".join(rows) + b'", "documents": ["' + b"".join(rows) + b'"]}'
        ),
        st.binary(max_size=60).map(lambda noise: gzip.compress(noise + text.encode(), mtime=0)),
        st.integers(1, 6000).map(lambda n: b'{"query": "q", "documents": ["a"], "top_n": ' + b"9" * n + b"}"),
        st.binary(max_size=20).map(lambda noise: b'{"query": "' + noise + b'", "documents": ["a"]}'),
    )


def headers() -> st.SearchStrategy[dict[str, bytes]]:
    """Headers that lie about the body, or mean nothing; some bodies are sent under them as JSON nonetheless."""
    kind = st.sampled_from(
        (JSON_TYPE, FORM_TYPE, "text/plain", "application/json; charset=utf-16", "", "\xff", "a/b/c")
    )
    return st.fixed_dictionaries(
        {"content-type": kind.map(lambda text: text.encode("latin-1"))},
        optional={
            "content-encoding": st.sampled_from((b"gzip", b"br", b"identity", b"deflate, gzip", b"\xff")),
            "content-length": st.sampled_from((b"0", b"5", b"-1", b"9" * 30, b"1e3", b"\xb2", b"", b"0x10")),
            "transfer-encoding": st.sampled_from((b"chunked", b"gzip, chunked", b"xchunked", b" chunked")),
            "host": st.sampled_from((b"evil.example", b"[::1", b"a b", b"", b"localhost:99999999", b"x/../y", b"\xff")),
            "x-request-id": st.binary(max_size=20),
            "x-request-timeout-ms": st.sampled_from((b"0", b"1", b"-1", b"9" * 40, b"\xb2", b"NaN")),
            "accept": st.sampled_from((b"application/x-ndjson", b"*/*", b"\xff")),
            "authorization": st.sampled_from(
                (b"Bearer", b"Bearer ", b"Basic \xff", b"Bearer a\x00b", b"bearer " + b"k" * 3000)
            ),
            "x-api-key": st.binary(max_size=12),
            "sec-fetch-site": st.sampled_from((b"cross-site", b"same-origin", b"\xff")),
            "hx-request": st.just(b"true"),
            "upgrade": st.just(b"websocket"),
            "expect": st.just(b"100-continue"),
        },
    )


def forms() -> st.SearchStrategy[bytes]:
    """Bodies of the playground's form."""
    name = st.sampled_from(("query", "documents", "operating_point", "key", "q[]", "", "\0"))
    value = st.one_of(_TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")), st.binary(max_size=30))
    field = st.tuples(name, value).map(lambda pair: f"{pair[0]}={quote_from_bytes(pair[1])}".encode())
    sound = st.tuples(value, value).map(
        lambda pair: (
            b"query=q" + quote_from_bytes(pair[0]).encode() + b"&documents=d" + quote_from_bytes(pair[1]).encode()
        )
    )
    return st.one_of(sound, st.lists(field, max_size=25).map(b"&".join), st.binary(max_size=100))
