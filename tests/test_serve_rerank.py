"""The rerank dialects, on every route, and the two decision formats."""

import math

import pytest
from tests.fake_runtime import FakeRuntime
from tests.serve_case import ask, make_app

from relgrade.bundle import load_bundle
from relgrade.grade.grader import Grader

QUERY = "what is red"
TEXTS = [f"document {i}" for i in range(6)]
ROUTES = ("/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking", "/")


@pytest.fixture
def app(tmp_path):
    return make_app(tmp_path / "bundle")


@pytest.fixture
def expected(tmp_path, app):
    grades = Grader(load_bundle(tmp_path / "bundle"), FakeRuntime()).rerank(QUERY, TEXTS)
    return [(grade.index, grade.probability) for grade in grades]


def logits(tmp_path):
    return {
        grade.index: grade.logit
        for grade in Grader(load_bundle(tmp_path / "bundle"), FakeRuntime()).grade(QUERY, TEXTS)
    }


@pytest.mark.parametrize("route", ROUTES)
def test_tei(tmp_path, app, expected, route):
    response = ask(app, route, {"query": QUERY, "texts": TEXTS, "truncate": None, "return_text": True})
    assert [(row["index"], row["score"]) for row in response.json()] == expected
    assert [row["text"] for row in response.json()] == [TEXTS[i] for i, _ in expected]
    for name in ("x-compute-type", "x-compute-time", "x-compute-tokens", "x-total-time", "x-queue-time"):
        assert name in response.headers
    raw = ask(app, route, {"query": QUERY, "texts": TEXTS, "raw_scores": "true"}).json()
    assert {row["index"]: row["score"] for row in raw} == logits(tmp_path)
    assert "text" not in raw[0]


def test_tei_refuses_what_must_not_be_cut(app):
    long = "word " * 1000
    assert ask(app, "/rerank", {"query": QUERY, "texts": [long]}).status_code == 200
    response = ask(app, "/rerank", {"query": QUERY, "texts": ["a", long], "truncate": False})
    assert response.status_code == 422
    assert "texts[1]" in response.json()["error"]


@pytest.mark.parametrize("route", ROUTES)
def test_voyage(app, expected, route):
    body = {"query": QUERY, "documents": TEXTS, "model": "rerank-2", "top_k": None, "truncation": True}
    told = ask(app, route, body).json()
    assert set(told) == {"object", "data", "model", "usage"}
    assert (told["object"], told["model"]) == ("list", "rerank-2")
    assert [(row["index"], row["relevance_score"]) for row in told["data"]] == expected
    told = ask(app, route, {**body, "top_k": 2, "return_documents": True}).json()
    assert [row["document"] for row in told["data"]] == [TEXTS[i] for i, _ in expected[:2]]
    assert "total_tokens" in told["usage"]


@pytest.mark.parametrize("route", ROUTES)
def test_cohere_jina_vllm(app, expected, route):
    body = {"model": "rerank-v5.0-pro", "query": QUERY, "documents": TEXTS, "top_n": 3, "max_tokens_per_doc": None}
    told = ask(app, route, {**body, "relevant_spans": {"mode": "enabled"}, "unknown": [1]}).json()
    assert [(row["index"], row["relevance_score"]) for row in told["results"]] == expected[:3]
    assert told["model"] == "rerank-v5.0-pro"
    assert told["usage"]["total_tokens"] == told["meta"]["tokens"]["input_tokens"] > 0
    assert told["meta"]["billed_units"] == {"search_units": 1}
    assert all("document" not in row for row in told["results"])
    for top_n in (0, None, 99):
        assert len(ask(app, route, {**body, "top_n": top_n}).json()["results"]) == 6
    told = ask(app, route, {**body, "return_documents": "true"}).json()
    assert [row["document"] for row in told["results"]] == [{"text": TEXTS[i]} for i, _ in expected[:3]]


def test_documents_as_objects_and_rank_fields(tmp_path, app):
    grader = Grader(load_bundle(tmp_path / "bundle"), FakeRuntime())
    rows = [{"text": "apple", "k": 1}, {"name": "plum", "price": 2, "none": None}]
    body = {"query": QUERY, "documents": rows, "return_documents": True}
    told = {row["index"]: row for row in ask(app, "/v1/rerank", body).json()["results"]}
    read = ["apple", "name: plum\nprice: 2"]
    assert [told[i]["relevance_score"] for i in (0, 1)] == [g.probability for g in grader.grade(QUERY, read)]
    assert told[0]["document"] == {"text": "apple", "k": 1}
    assert told[1]["document"] == {**rows[1], "text": read[1]}
    told = ask(app, "/v1/rerank", {**body, "rank_fields": ["price", "absent"]}).json()["results"]
    by_index = {row["index"]: row["relevance_score"] for row in told}
    expected = grader.grade(QUERY, ["text: apple\nk: 1", "price: 2"])
    assert [by_index[0], by_index[1]] == [grade.probability for grade in expected]


def test_one_string_is_one_document_as_in_vllm(app):
    assert len(ask(app, "/rerank", {"query": QUERY, "documents": "apple"}).json()["results"]) == 1


def test_no_documents_is_an_empty_answer(app):
    assert ask(app, "/rerank", {"query": QUERY, "texts": []}).json() == []
    assert ask(app, "/rerank", {"query": QUERY, "documents": []}).json()["results"] == []


def test_filtering_is_off_unless_asked_for(tmp_path, app, expected):
    body = {"query": QUERY, "documents": TEXTS}
    kept = [index for index, probability in expected if probability >= 0.9]
    assert 0 < len(kept) < 6
    told = ask(app, "/rerank", {**body, "filter": True, "operating_point": "strict"}).json()
    assert [row["index"] for row in told["results"]] == kept
    assert len(ask(app, "/rerank", {**body, "operating_point": "strict"}).json()["results"]) == 6


def test_the_same_errors_say_something_to_every_client(app):
    for body in ({"texts": ["a"]}, {"query": "q", "texts": [1]}, {"query": "q", "documents": ["a"], "top_n": -1}):
        response = ask(app, "/rerank", body)
        assert response.status_code == 422
        told = response.json()
        assert told["error_type"] == "validation"
        assert told["error"] == told["message"] == told["detail"]


# --- decisions

YES = "Does this passage answer the query?"


def test_systemone_answers_for_each_document(tmp_path, app):
    grader = Grader(load_bundle(tmp_path / "bundle"), FakeRuntime())
    a, b = (grade.probability for grade in grader.grade(QUERY, ["apple", {"title": "T", "text": "plum"}]))
    state = {"query": QUERY, "documents": {"D00": "apple", "D01": {"title": "T", "text": "plum"}}}
    questions = {
        "x": {"type": "noul", "instructions": "Is D01 relevant to the query?"},
        "D00": {"type": "noul", "instructions": "Does it help?", "criteria": {"true": "unrelated words"}},
    }
    told = ask(app, "/v1/systemone", {"model": "jev-latest", "state": state, "questions": questions}).json()
    assert told["answers"] == {"x": {"type": "noul", "noul": b}, "D00": {"type": "noul", "noul": a}}
    assert told["model"] == "jev-latest"
    assert set(told["usage"]) == {"input_tokens", "output_tokens"}


@pytest.mark.parametrize("name", ["document", "passage"])
def test_systemone_score_is_the_expected_level(tmp_path, app, name):
    p = Grader(load_bundle(tmp_path / "bundle"), FakeRuntime()).grade(QUERY, ["apple"])[0].probability
    question = {"type": "score", "instructions": YES, "criteria": ["off", "partly", "mostly", "fully"]}
    body = {"model": "m", "state": {"question": QUERY, name: "apple"}, "questions": {"q": question}}
    answer = ask(app, "/v1/systemone", body).json()["answers"]["q"]
    assert math.isclose(answer["score"], 3 * p)
    assert math.isclose(sum(answer["probabilities"].values()), 1.0)
    assert answer["legend"] == {"0": "off", "1": "partly", "2": "mostly", "3": "fully"}
    assert 0.0 <= answer["confidence"] <= 1.0


@pytest.mark.parametrize(
    ("state", "question"),
    [
        ({"query": QUERY, "document": "a"}, {"type": "choice", "instructions": YES}),
        ({"query": QUERY, "document": "a"}, {"type": "noul", "instructions": "Is it in French?"}),
        ({"query": QUERY, "document": "a"}, {"type": "noul", "instructions": "Is the document irrelevant?"}),
        ({"query": QUERY, "document": "a"}, {"type": "noul"}),
        ({"query": QUERY, "documents": ["a", "b"]}, {"type": "noul", "instructions": YES}),
        ({"query": QUERY, "left": "a", "right": "b"}, {"type": "noul", "instructions": YES}),
        ({"query": QUERY}, {"type": "noul", "instructions": YES}),
        ({"query": QUERY, "question": QUERY, "document": "a"}, {"type": "noul", "instructions": YES}),
        ("a text", {"type": "noul", "instructions": YES}),
        ({"query": QUERY, "document": "a"}, {"type": "score", "instructions": YES, "criteria": ["one"]}),
        ({"query": QUERY, "document": 3}, {"type": "noul", "instructions": YES}),
    ],
)
def test_everything_that_is_not_relevance_is_refused(app, state, question):
    response = ask(app, "/v1/systemone", {"model": "m", "state": state, "questions": {"q": question}})
    assert response.status_code == 422
    (entry,) = response.json()["detail"]
    assert {"loc", "msg", "type"} <= set(entry)


@pytest.mark.parametrize("shape", ["text", "message", "json", "part"])
def test_decisions_read_the_state_from_the_input(tmp_path, app, shape):
    import json

    p = Grader(load_bundle(tmp_path / "bundle"), FakeRuntime()).grade(QUERY, ["apple"])[0].probability
    state = {"query": QUERY, "document": "apple"}
    text = json.dumps(state)
    content = {
        "message": text,
        "json": [{"type": "input_json", "data": state}],
        "part": [{"type": "input_text", "text": text}],
    }
    given = text if shape == "text" else [{"role": "user", "content": content[shape]}]
    questions = [
        {"type": "predicate", "name": "r", "instructions": "The document answers the query."},
        {"type": "score", "instructions": YES, "levels": [{"label": "no"}, {"label": "yes"}]},
    ]
    told = ask(app, "/v1/decisions", {"model": "gpt-6-luna", "input": given, "questions": questions}).json()
    assert told["answers"][0] == {"type": "predicate", "name": "r", "probability": p}
    assert told["answers"][1]["score"] == p
    assert [row["label"] for row in told["answers"][1]["probabilities"]] == ["no", "yes"]
    assert told["usage"]["total_tokens"] == told["usage"]["input_tokens"]


@pytest.mark.parametrize("given", ["no json", 3, [], [{"role": "system", "content": "{}"}], '{"a": 1}', "[" * 50_000])
def test_decisions_refuse_other_inputs(app, given):
    questions = [{"type": "predicate", "instructions": "The document answers the query."}]
    response = ask(app, "/v1/decisions", {"model": "m", "input": given, "questions": questions})
    assert response.status_code == 422
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
