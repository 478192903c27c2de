"""What reaches the library from a careless or hostile world. Files and lines of the command line: test_cli_*.py."""

import math
import time
import tracemalloc

import numpy as np
import pytest

from fake_runtime import FakeRuntime, fake_bundle
from relgrade import Document, Grader, InvalidInput, KeepPolicy, RelgradeError

MB = 2**20


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return fake_bundle(tmp_path_factory.mktemp("bundles") / "b")


@pytest.fixture
def grader(bundle):
    return Grader(bundle, FakeRuntime())


def calls(grader, query, documents):
    """Every way in."""
    return {
        "grade": lambda: grader.grade(query, documents),
        "filter": lambda: grader.filter(query, documents, policy=KeepPolicy(min_keep=1)),
        "rerank": lambda: grader.rerank(query, documents),
        "grade_pairs": lambda: list(grader.grade_pairs((query, document) for document in documents)),
    }


WAYS = ("grade", "filter", "rerank", "grade_pairs")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("query", ["", "  ", "\n\0", None, 3, b"bytes", math.nan, ["q"], {"text": "q"}])
def test_a_query_that_is_none(grader, way, query):
    with pytest.raises(InvalidInput, match="query: "):
        calls(grader, query, ["document"])[way]()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [None, 3, math.nan, b"\xff\xfe", object(), {}, {"text": None}, np.zeros(2), ["text"]])
def test_a_document_that_is_none(grader, way, value):
    with pytest.raises(InvalidInput, match=r"(document|pair) 1"):
        calls(grader, "q", ["good", value])[way]()


@pytest.mark.parametrize("way", ["grade", "filter", "rerank"])
@pytest.mark.parametrize("value", [None, "one text", b"x", 3, {"text": "x"}, Document("x")])
def test_documents_that_are_no_list(grader, way, value):
    with pytest.raises(InvalidInput, match="documents: a list was expected"):
        calls(grader, "q", value)[way]()


@pytest.mark.parametrize("value", [None, "ab", 3, {"query": "q"}])
def test_pairs_that_are_no_list(grader, value):
    with pytest.raises(InvalidInput, match="pairs: a list was expected"):
        grader.grade_pairs(value)


def test_nothing_is_graded_before_all_documents_were_read(bundle):
    runtime = FakeRuntime()
    with pytest.raises(RelgradeError):
        Grader(bundle, runtime).grade("q", ["good"] * 1000 + [None])
    assert runtime.calls == []


@pytest.mark.parametrize("way", WAYS)
def test_text_that_is_none(grader, way):
    graded = {
        grade.index: grade for grade in calls(grader, "q", ["", " \t\n", "\0", {"text": "", "title": "T"}])[way]()
    }
    assert not any(grade.relevant for grade in graded.values())
    assert {grade.windows for grade in graded.values()} == {0}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "text", ["\ud800", "a\udfffb", "\udcff" * 50, "null\0byte", "\u202e\x1b[31m", "\U0010ffff", "e\u0301"]
)
def test_text_no_tokenizer_likes(grader, way, text):
    for query, document in ((text, "document"), ("q", text), ("q", {"text": "t", "title": text})):
        if query == text and not text.strip():
            continue
        grades = calls(grader, query, [document, "other", "third"])[way]()
        assert all(math.isfinite(grade.probability) and math.isfinite(grade.logit) for grade in grades)
        assert all(grade.document in (document, "other", "third") for grade in grades)


@pytest.mark.parametrize("text", ["word " * (2 * MB), "x" * (10 * MB), "\u00e9\n" * (5 * MB), " " * (10 * MB)])
def test_a_document_of_ten_megabytes(grader, text):
    start = time.perf_counter()
    grade = grader.grade("q", ["before", text, "after"])[1]
    assert grade.document is text
    assert grade.truncated == bool(text.strip())
    kept = grader.filter("q", [text], policy=KeepPolicy(min_keep=1, max_tokens=100))
    assert len(kept) == (0 if text.strip() else 1)
    assert time.perf_counter() - start < 10


def test_ten_thousand_documents(bundle):
    runtime = FakeRuntime()
    graded = Grader(bundle, runtime).grade("q", (f"document {i}" for i in range(10_000)))
    assert [grade.index for grade in graded] == list(range(10_000))
    assert max(len(call) for call in runtime.calls) <= 256
    assert len(Grader(bundle, runtime).rerank("q", graded.documents, top_k=10)) == 10


def test_a_stream_is_graded_in_flat_memory(bundle):
    runtime = FakeRuntime()
    score = runtime.score

    def forget(pairs):
        output = score(pairs)
        runtime.calls.clear()
        return output

    runtime.score = forget
    grader = Grader(bundle, runtime)

    def peak_of(n_pairs):
        tracemalloc.start()
        for grade in grader.grade_pairs((f"q{i}", f"{i} " + "x" * MB) for i in range(n_pairs)):
            del grade
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_of(60) < 1.5 * peak_of(15) < 40 * MB


def test_ids_may_occur_twice_or_not_at_all(grader):
    documents = [{"text": "a", "id": "same"}, {"text": "b", "id": "same"}, {"text": "c"}]
    graded = grader.grade("q", documents)
    assert [(grade.index, grade.id) for grade in graded] == [(0, "same"), (1, "same"), (2, None)]
    kept = grader.filter("q", documents, policy=KeepPolicy(min_keep=3))
    assert [grade.index for grade in kept] == [0, 1, 2]


def test_the_same_object_twice_is_two_documents(grader):
    text = "a"
    assert [grade.index for grade in grader.grade("q", [text, text])] == [0, 1]


def test_a_callers_error_is_the_callers(grader):
    def broken():
        yield "good"
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        grader.grade("q", broken())
