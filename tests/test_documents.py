import copy
import math
from collections import UserDict
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relgrade.errors import InvalidInput
from relgrade.grade.documents import read_documents, read_pair, read_query, require_iterable, to_document
from relgrade.records import Document, Pair


@dataclass
class LangChainDocument:
    page_content: str
    metadata: dict[str, Any] = field(default_factory=dict)
    id: str | None = None


@dataclass
class HaystackDocument:
    content: Any
    id: str = "h1"
    meta: dict[str, Any] = field(default_factory=dict)


class LlamaIndexNode:
    node_id = "n1"

    def __init__(self, content, metadata=None):
        self.content_given = content
        self.metadata = metadata or {}

    def get_content(self):
        if isinstance(self.content_given, Exception):
            raise self.content_given
        return self.content_given


UUID_TEXT = "12345678-1234-5678-1234-567812345678"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", Document("plain")),
        (np.str_("numpy"), Document("numpy")),
        (Document("d", title="T", id="7", metadata={"a": 1}), Document("d", title="T", id="7", metadata={"a": 1})),
        ({"text": "t"}, Document("t")),
        (UserDict(page_content="p", id=3), Document("p", id="3")),
        ({"content": "c", "meta": {"a": 1}}, Document("c", metadata={"a": 1})),
        ({"document": "d", "title": "T", "_id": "x"}, Document("d", title="T", id="x")),
        ({"text": "first", "content": "second"}, Document("first")),
        ({"text": "t", "title": math.nan, "id": math.nan, "metadata": None}, Document("t")),
        ({"text": "t", "id": UUID(UUID_TEXT)}, Document("t", id=UUID_TEXT)),
        ({"text": "t", "id": 0}, Document("t", id="0")),
        (LangChainDocument("lc", {"title": "not read"}, "l1"), Document("lc", None, "l1", {"title": "not read"})),
        (HaystackDocument("hs", meta={"b": 2}), Document("hs", None, "h1", {"b": 2})),
        (LlamaIndexNode("li", {"c": 3}), Document("li", None, "n1", {"c": 3})),
        (SimpleNamespace(text="t", title="T"), Document("t", title="T")),
        (Pair(query_id="q", query="q", doc_id="d", document="text of a pair"), Document("text of a pair", id="d")),
    ],
)  # fmt: skip
def test_documents_of_every_shape(value, expected):
    before = copy.deepcopy(value) if not isinstance(value, str) else value
    assert to_document(value) == expected
    assert vars(value) == vars(before) if hasattr(value, "__dict__") else value == before


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "got None"),
        (3, "got 3"),
        (True, "got True"),
        (math.nan, "got nan"),
        (np.int64(3), "type int64"),
        (b"bytes", "got bytes; decode them first"),
        (bytearray(b"x"), "got bytearray; decode them first"),
        ({}, r"a mapping with the keys \[\]"),
        ({"body": "x", 1: 2}, r"a mapping with the keys \['body', '1'\]"),
        (["text"], "type list"),
        (("a", "b"), "type tuple"),
        (object(), "type object"),
        ({"text": None}, "document 2, text: a str was expected, got None"),
        ({"text": math.nan}, "document 2, text: a str was expected, got nan"),
        ({"text": b"x"}, "document 2, text: a str was expected, got an object of type bytes"),
        ({"text": "t", "title": 3}, "document 2, title: a str or None was expected, got 3"),
        (Document(None), "document 2: a str was expected, got None"),
        (Document("t", title=b"x"), "document 2, title"),
        (HaystackDocument(None), "document 2, content: a str was expected, got None"),
        (LlamaIndexNode(ValueError("no text")), "get_content.. of LlamaIndexNode failed: no text"),
        (LlamaIndexNode(7), "get_content.., or|get_content..: a str was expected, got 7"),
        (Document, "a str was expected"),
    ],
)
def test_what_is_no_document_is_named_with_its_position(value, found):
    with pytest.raises(InvalidInput, match=found) as caught:
        read_documents("query", ["good", "good", value, "good"])
    assert "document 2" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("text", "one str; put it in a list"),
        (b"text", "one bytes"),
        ({"text": "x"}, "one dict"),
        (Document("x"), "one Document"),
        (None, "got None"),
        (5, "got 5"),
        (SimpleNamespace(iterrows=1), r"frame.to_dict\('records'\)"),
    ],
)
def test_a_list_is_a_list(value, found):
    with pytest.raises(InvalidInput, match=found):
        require_iterable(value, "documents")


@pytest.mark.parametrize("value", [["a"], ("a",), iter(["a"]), np.array(["a"]), (text for text in ["a"])])
def test_any_iterable_is_taken(value):
    assert [item.text for item in read_documents("q", value)] == ["a"]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("", "empty"),
        (" \n\t\0", "empty"),
        (None, "got None"),
        (3, "got 3"),
        (b"q", "decode it first"),
        (["q"], "type list"),
    ],
)
def test_a_query_is_text(value, found):
    with pytest.raises(InvalidInput, match=f"query: .*{found}"):
        read_query(value)
    with pytest.raises(InvalidInput, match=f"pair 4, query: .*{found}"):
        read_pair((value, "document"), 4)


@pytest.mark.parametrize("value", ["ab", ("q",), ("q", "d", "x"), {"query": "q", "document": "d"}, None, 3])
def test_a_pair_is_two(value):
    with pytest.raises(InvalidInput, match=r"pair 4: \(query, document\) or a Pair was expected"):
        read_pair(value, 4)


def test_pairs_are_read_alike():
    pair = Pair(query_id="1", query="q", doc_id="d9", document="title: T\ntext")
    item = read_pair(pair, 0)
    assert (item.query, item.text, item.id, item.original is pair) == ("q", "title: T\ntext", "d9", True)
    assert read_pair(["q", {"text": "text", "title": "T", "id": "d9"}], 0).text == item.text
    with pytest.raises(InvalidInput, match=r"pair 4, document: .*got None"):
        read_pair(("q", None), 4)


@pytest.mark.parametrize("text", ["", " ", "\n\t\r\f\v", "\0", "\u2003\u00a0"])
def test_blank_documents_are_known(text):
    assert read_documents("q", [{"text": text, "title": "only a title"}])[0].is_blank


@given(st.text(), st.none() | st.text())
def test_every_string_becomes_text_a_tokenizer_can_read(text, title):
    document = {"text": text + "\ud800", "title": title}
    item = read_documents("q", [document])[0]
    item.text.encode("utf-8")
    assert "\0" not in item.text
    assert item.original is document
