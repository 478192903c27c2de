"""`POST /v1/grade` against the fake model: it must say what a Grader says, and never hide a failure."""

import asyncio
import json

import pytest
from tests.fake_runtime import NAN_WORD, FakeRuntime
from tests.serve_case import BrokenRuntime, SlowRuntime, ask, asking, lines, make_app

from relgrade.bundle import load_bundle
from relgrade.grade.grader import Grader
from relgrade.records import KeepPolicy, ListCalibration, OperatingPoint

QUERY = "what is red"
DOCUMENTS = ["apple is red", {"id": 7, "text": "grass", "title": "Green", "metadata": {"a": [1]}}, "", "sky is blue"]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "bundle"


def graded(folder, **options):
    return Grader(load_bundle(folder), FakeRuntime(), **options).grade(QUERY, DOCUMENTS)


def test_the_server_says_what_a_grader_says(folder):
    body = ask(make_app(folder), "/v1/grade", {"query": QUERY, "documents": DOCUMENTS}).json()
    expected = graded(folder)
    for row, grade in zip(body["results"], expected, strict=True):
        for name in ("index", "id", "relevant", "verdict", "probability", "logit", "truncated", "windows"):
            assert row[name] == getattr(grade, name), name
    assert body["any_relevant"] == expected.any_relevant
    assert body["kept"] == [grade.index for grade in expected if grade.relevant]
    assert body["bundle_hash"] == expected.bundle_hash
    assert body["operating_point"] == {"name": "balanced", "threshold": 0.5, "promise": None}
    assert body["failure"] is None
    assert body["usage"] == {"documents": 4, "tokens": 9}  # words of the rendered documents


def test_point_policy_and_list_probability(folder):
    fitted = ListCalibration(best=1.0, intercept=-0.5)
    app = make_app(folder, changes={"any_relevant": fitted})
    policy = {"min_keep": 2, "max_keep": 3, "max_tokens": 5}
    body = ask(
        app, "/v1/grade", {"query": QUERY, "documents": DOCUMENTS, "operating_point": "strict", "policy": policy}
    )
    grader = Grader(load_bundle(folder), FakeRuntime(), operating_point="strict")
    kept = grader.filter(QUERY, DOCUMENTS, policy=KeepPolicy(**policy))
    assert body.json()["kept"] == [grade.index for grade in kept]
    assert body.json()["any_relevant_probability"] == kept.any_relevant_probability
    assert body.json()["operating_point"]["name"] == "strict"


def test_many_queries_share_options_and_may_have_their_own(folder):
    runtime = FakeRuntime()
    rows = [{"query": QUERY, "documents": ["a"]}, {"query": "b", "documents": [], "operating_point": "strict"}]
    body = ask(make_app(folder, runtime=runtime), "/v1/grade", {"queries": rows, "operating_point": "balanced"}).json()
    assert [each["operating_point"]["name"] for each in body["lists"]] == ["balanced", "strict"]
    assert [len(each["results"]) for each in body["lists"]] == [1, 0]
    assert body["lists"][1]["any_relevant"] is False


def test_lines_come_as_documents_are_judged(folder):
    app = make_app(folder, batch_tokens=1, n_workers=1)
    found = lines(ask(app, "/v1/grade", {"query": QUERY, "documents": DOCUMENTS, "stream": True}))
    assert sorted(line["index"] for line in found[:-1]) == [0, 1, 2, 3]
    whole = ask(make_app(folder), "/v1/grade", {"query": QUERY, "documents": DOCUMENTS}).json()
    by_index = {line["index"]: line for line in found[:-1]}
    for row in whole["results"]:
        assert {name: by_index[row["index"]][name] for name in row} == row
    assert found[-1]["object"] == "end"
    assert found[-1]["lists"][0]["kept"] == whole["kept"]


def test_a_stream_that_fails_ends_with_an_error_line(folder):
    body = {"query": QUERY, "documents": ["fine", NAN_WORD], "stream": True}
    found = lines(ask(make_app(folder), "/v1/grade", body))
    assert [line["object"] for line in found] == ["grade", "error"]
    assert found[-1]["status"] == 424


@pytest.mark.parametrize("runtime", [FakeRuntime, BrokenRuntime])
@pytest.mark.parametrize(("policy", "is_kept"), [("keep_all", True), ("drop_all", False)])
def test_a_document_without_a_logit_is_never_not_relevant(folder, runtime, policy, is_kept):
    app = make_app(folder, runtime=runtime())
    body = {"query": QUERY, "documents": ["apple", f"{NAN_WORD} breakword", "plum"], "on_error": policy}
    response = ask(app, "/v1/grade", body)
    told = response.json()
    row = told["results"][1]
    assert (row["relevant"], row["verdict"], row["probability"], row["logit"]) == (is_kept, "unsure", None, None)
    assert told["failure"]["documents"] == [1]
    assert told["failure"]["policy"] == policy
    assert told["failure"]["reason"] == "backend"
    assert (1 in told["kept"]) == is_kept
    assert told["results"][0]["logit"] is not None, "its neighbours are judged all the same"
    assert told["any_relevant_probability"] is None
    assert response.headers["x-relgrade-on-error"] == f"{policy}; reason=backend"
    text = ask_metrics(app)
    assert f'relgrade_on_error_total{{policy="{policy}",reason="backend"}} 1.0' in text
    assert 'relgrade_documents_total{model="default",outcome="unjudged"} 1.0' in text


def ask_metrics(app):
    return app.state.service.measures.exposition().decode()


def test_without_a_policy_a_bad_logit_is_an_error(folder):
    response = ask(make_app(folder), "/v1/grade", {"query": QUERY, "documents": ["a", NAN_WORD]})
    assert response.status_code == 424
    assert response.json()["error_type"] == "backend"
    assert "document 1" in response.json()["message"]


def test_a_deadline_ends_a_request_and_partial_grades_stand(folder):
    runtime = SlowRuntime(delay_s=0.05)
    app = make_app(folder, runtime=runtime, batch_tokens=1, n_workers=1)
    body = {"query": QUERY, "documents": [f"document {i}" for i in range(40)]}

    late = ask(app, "/v1/grade", body, headers={"x-request-timeout-ms": "300"})
    other = make_app(folder, runtime=SlowRuntime(delay_s=0.05), batch_tokens=1, n_workers=1)
    kept = ask(other, "/v1/grade", {**body, "on_error": "keep_all"}, headers={"x-request-timeout-ms": "400"})
    assert late.status_code == 504
    assert late.json()["error_type"] == "deadline"
    told = kept.json()
    missing = told["failure"]["documents"]
    assert 0 < len(missing) < 40
    assert told["failure"]["reason"] == "deadline"
    assert all(told["results"][i]["probability"] is None for i in missing)
    assert set(missing) <= set(told["kept"])
    assert len(runtime.calls) < 30, "pairs of a request that ended are not run"


def test_a_client_that_goes_away_stops_costing(folder):
    runtime = SlowRuntime(delay_s=0.02)
    app = make_app(folder, runtime=runtime, batch_tokens=1, n_workers=1)

    async def run():
        async with asking(app) as client:
            await client.get("/health")
            sent = asyncio.Event()
            body = json.dumps({"query": QUERY, "documents": [f"d {i}" for i in range(200)]}).encode()

            async def receive():
                if not sent.is_set():
                    sent.set()
                    return {"type": "http.request", "body": body}
                while not runtime.calls:
                    await asyncio.sleep(0.005)
                return {"type": "http.disconnect"}

            async def send(message):
                pass

            scope = {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.3"},
                "http_version": "1.1",
                "method": "POST",
                "path": "/v1/grade",
                "raw_path": b"/v1/grade",
                "query_string": b"",
                "root_path": "",
                "scheme": "http",
                "headers": [(b"content-type", b"application/json")],
                "client": ("127.0.0.1", 1),
                "server": ("127.0.0.1", 80),
            }
            await app(scope, receive, send)
            scheduler = app.state.service.engine.scheduler
            await asyncio.sleep(0.1)
            return len(runtime.calls), scheduler.n_pairs, scheduler.tokens

    n_calls, n_pairs, tokens = asyncio.run(run())
    assert n_calls < 20
    assert (n_pairs, tokens) == (0, 0)
    assert 'relgrade_errors_total{kind="cancelled"} 1.0' in ask_metrics(app)


def test_a_cache_answers_without_the_model(folder):
    runtime = FakeRuntime()
    app = make_app(folder, runtime=runtime, cache_entries=3)

    async def run():
        async with asking(app) as client:
            return [
                (await client.post("/v1/grade", json={"query": QUERY, "documents": DOCUMENTS})).json() for _ in range(2)
            ]

    first, second = asyncio.run(run())
    n_calls = len(runtime.calls) - 1  # the golden pairs, at loading
    assert n_calls == 1
    assert first["results"] == second["results"]
    assert second["timings"]["n_cached"] == 3
    assert 'relgrade_cache_lookups_total{outcome="hit"} 3.0' in ask_metrics(app)


def test_a_base_rate_moves_probabilities_and_not_what_is_kept(folder):
    from relgrade.records import Calibration

    changes = {"calibration": Calibration("platt", 1.0, 0.0, {}, prevalence=0.2)}
    app = make_app(folder, changes=changes)
    body = ask(app, "/v1/grade", {"query": QUERY, "documents": DOCUMENTS, "base_rate": 0.5}).json()
    expected = graded(folder, base_rate=0.5)
    assert [row["probability"] for row in body["results"]] == [grade.probability for grade in expected]
    assert body["operating_point"]["threshold"] == expected.operating_point.threshold


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"documents": ["a"]}, 422, "query is missing"),
        ({"query": " ", "documents": ["a"]}, 422, "query: empty"),
        ({"query": "q"}, 422, "documents is missing"),
        ({"query": "q", "documents": "a"}, 422, "documents: a list was expected"),
        ({"query": "q", "documents": [3]}, 422, "document 0"),
        ({"query": "q", "documents": ["a"], "operating_point": "none"}, 422, "no operating point 'none'"),
        ({"query": "q", "documents": ["a"], "policy": {"max_keep": 0}}, 422, "policy.max_keep"),
        ({"query": "q", "documents": ["a"], "policy": {"keep": 1}}, 422, "unknown fields"),
        ({"query": "q", "documents": ["a"], "on_error": "ignore"}, 422, "keep_all, drop_all, raise"),
        ({"query": "q", "documents": ["a"], "model": "other"}, 422, "no bundle of that name"),
        ({"query": "q", "documents": ["a"], "base_rate": 2}, 422, "base"),
        ({"queries": [{"query": "q", "documents": ["a"]}] * 300}, 413, "queries in one request"),
        ({"queries": [{"query": "q", "documents": ["a"] * 4}] * 3}, 413, "more than 10 documents"),
        ({"query": "q", "documents": ["a"] * 11}, 413, "at most 10"),
        ({"query": "q", "documents": ["a" * 5000]}, 413, "characters"),
        ([], 422, "a JSON object was expected"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(folder, body, status, words):
    response = ask(make_app(folder, max_documents=10, max_characters=1000), "/v1/grade", body)
    assert response.status_code == status
    assert words in response.json()["message"]
    assert response.json()["detail"] == response.json()["error"] == response.json()["message"]


def test_collections_judge_by_metadata(folder):
    from relgrade.records import Calibration, CollectionPoints, Collections

    points = (OperatingPoint("balanced", 0.1), OperatingPoint("strict", 0.2))
    collections = Collections("source", (CollectionPoints("wiki", Calibration("platt", 2.0, 1.0), points),))
    app = make_app(folder, changes={"collections": collections})
    documents = [{"text": "apple", "metadata": {"source": "wiki"}}, {"text": "apple"}]
    body = ask(app, "/v1/grade", {"query": QUERY, "documents": documents}).json()
    assert body["results"][0]["collection"] == "wiki"
    assert "collection" not in body["results"][1]
    assert body["results"][0]["probability"] != body["results"][1]["probability"]
