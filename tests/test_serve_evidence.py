"""Evidence and compression over HTTP: what a Grader says, under the same queue, cache and deadline as the documents."""

import asyncio
import json
import threading
from contextlib import aclosing
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fake_runtime import FakeRuntime
from tests.serve_case import ask, asking, lines, make_app

from relgrade.bundle import load_bundle
from relgrade.grade.grader import Grader
from relgrade.grade.runtime import RuntimeOutput
from relgrade.records import KeepPolicy, VerdictPoints
from relgrade.serve.grade_request import read_grade_request
from relgrade.serve.refusals import ClientGone

QUERY = "what is red"
LONG = "Ein Satz — naïve 😀 text. 日本語の文。Ends here! " * 3
DOCUMENTS = [
    "Apple is red. Grass is green. The sky 😀 is blue.",
    {"id": 7, "text": "Plum one. Plum two. Plum three.", "title": "Plums", "metadata": {"a": [1]}},
    "",
    "title: Rendered\nFirst of all. Second of all.",
    LONG,
]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "bundle"


def grader(folder, **options):
    return Grader(load_bundle(folder), FakeRuntime(), **options)


def spans(evidence):
    return None if evidence is None else [asdict(span) for span in evidence]


class GatedRuntime(FakeRuntime):
    """Relevant are all; sentences wait at a gate, and `Bad one.` has no number."""

    def __init__(self):
        super().__init__()
        self.gate, self.started = threading.Event(), threading.Event()
        self.sentences = []

    def score(self, pairs):
        output = super().score(pairs)
        found = [text for _, text in pairs if text.count(".") == 1]
        self.sentences += found
        if found:
            self.started.set()
            self.gate.wait(60)
        logits = [float("nan") if text == "Bad one." else 3.0 for _, text in pairs]
        if pairs[0][0] != QUERY:  # the golden pairs, at loading
            return output
        return RuntimeOutput(np.array(logits), output.truncated, output.windows)


# --- what is said


@pytest.mark.parametrize("point", ["balanced", "strict"])
def test_the_server_finds_what_a_grader_finds(folder, point):
    app = make_app(folder, changes={"verdict_points": VerdictPoints("strict", "balanced")})
    body = {"query": QUERY, "documents": DOCUMENTS, "evidence": True, "operating_point": point}
    told = ask(app, "/v1/grade", body).json()
    expected = grader(folder, operating_point=point).grade(QUERY, DOCUMENTS, evidence=True)
    assert [row["evidence"] for row in told["results"]] == [spans(grade.evidence) for grade in expected]
    assert [row["logit"] for row in told["results"]] == [grade.logit for grade in expected]
    assert any(row["evidence"] for row in told["results"])
    assert told["results"][2]["evidence"] == []
    for row, document in zip(told["results"], DOCUMENTS, strict=True):
        text = document["text"] if isinstance(document, dict) else document
        assert all(text[span["start"] : span["end"]] == span["text"] for span in row["evidence"])
    assert told["usage"]["sentences"] > 0
    plain = ask(app, "/v1/grade", {**body, "evidence": None}).json()
    assert told["usage"]["tokens"] > plain["usage"]["tokens"], "they are counted"
    assert "evidence" not in plain["results"][0]
    assert "sentences" not in plain["usage"]
    assert told["kept"] == plain["kept"]
    text = app.state.service.measures.exposition().decode()
    assert f'relgrade_sentences_total{{model="default"}} {told["usage"]["sentences"]:.1f}' in text


def test_many_queries_ask_for_it_one_by_one(folder):
    app = make_app(folder)
    rows = [{"query": QUERY, "documents": DOCUMENTS}, {"query": "b", "documents": DOCUMENTS, "evidence": False}]
    told = ask(app, "/v1/grade", {"queries": rows, "evidence": True}).json()
    expected = grader(folder).grade(QUERY, DOCUMENTS, evidence=True)
    assert [row["evidence"] for row in told["lists"][0]["results"]] == [spans(grade.evidence) for grade in expected]
    assert all("evidence" not in row for row in told["lists"][1]["results"])


def test_a_line_comes_when_its_sentences_are_judged(folder):
    app = make_app(folder, batch_tokens=1, n_workers=1)
    body = {"query": QUERY, "documents": DOCUMENTS, "evidence": True}
    whole = ask(app, "/v1/grade", body).json()
    found = lines(ask(app, "/v1/grade", {**body, "stream": True}))
    assert sorted(line["index"] for line in found[:-1]) == [0, 1, 2, 3, 4]
    by_index = {line["index"]: line for line in found[:-1]}
    for row in whole["results"]:
        assert {name: by_index[row["index"]][name] for name in row} == row
    needs = [bool(line["evidence"]) for line in found[:-1]]
    assert needs == sorted(needs), "those without any wait for nobody's sentences"
    assert any(needs)
    assert found[-1]["usage"] == whole["usage"]


TEXTS = st.lists(st.text(st.sampled_from("ab. red\n!日。😀\ud800"), max_size=40), max_size=4)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "bundle"
    return make_app(folder), grader(folder)


@settings(max_examples=25)
@given(TEXTS, st.booleans())
def test_any_texts(served, texts, is_compressed):
    app, one = served
    body = {"query": QUERY, "documents": texts, "evidence": True, "compress": is_compressed}
    told = ask(app, "/v1/grade", json.dumps(body).encode()).json()
    expected = one.grade(QUERY, texts, evidence=True)
    for row, grade in zip(told["results"], expected, strict=True):
        assert row["evidence"] == spans(grade.evidence)
    if is_compressed:
        kept = one.compress(QUERY, texts)
        assert told["kept"] == [item.grade.index for item in kept]


# --- compression


@pytest.mark.parametrize(
    ("compress", "options"),
    [
        (True, {}),
        ({"threshold": 0.7}, {"threshold": 0.7}),
        ({"point": "strict"}, {"point": "strict"}),
        ({"point": None, "threshold": 0}, {"threshold": 0}),
    ],
)
@pytest.mark.parametrize("policy", [None, {"min_keep": 4, "max_tokens": 12}, {"max_keep": 1}])
def test_compression_is_that_of_a_grader(folder, compress, options, policy):
    app = make_app(folder)
    body = {"query": QUERY, "documents": DOCUMENTS, "compress": compress, "policy": policy}
    told = ask(app, "/v1/grade", body).json()
    expected = grader(folder).compress(QUERY, DOCUMENTS, policy=KeepPolicy(**(policy or {})), **options)
    assert told["kept"] == [item.grade.index for item in expected]
    for item in expected:
        row = told["results"][item.grade.index]["compressed"]
        assert row == {
            "text": item.text,
            "spans": [list(span) for span in item.spans],
            "sentences": spans(item.sentences),
            "n_sentences": item.n_sentences,
            "n_unread": item.n_unread,
            "tokens_before": item.tokens_before,
            "tokens_after": item.tokens_after,
        }
    others = set(range(len(DOCUMENTS))) - set(told["kept"])
    assert all(told["results"][i]["compressed"] is None for i in others)
    assert told["compression"] == {
        "sentence_threshold": expected.sentence_threshold,
        "tokens_before": expected.tokens_before,
        "tokens_after": expected.tokens_after,
    }
    streamed = lines(ask(app, "/v1/grade", {**body, "stream": True}))
    assert {line["index"]: line["text"] for line in streamed if line["object"] == "compressed"} == {
        item.grade.index: item.text for item in expected
    }
    assert streamed[-1]["lists"][0]["compression"] == told["compression"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"evidence": "perhaps"}, "evidence: true or false was expected"),
        ({"compress": "perhaps"}, "compress: true or false was expected"),
        ({"compress": {"threshold": 1.5}}, "compress: threshold: a probability in [0, 1]"),
        ({"compress": {"threshold": "x"}}, "compress.threshold: a number"),
        ({"compress": {"point": "none"}}, "no operating point 'none'"),
        ({"compress": {"point": "strict", "threshold": 0.5}}, "give one of them"),
        ({"compress": {"at": 1}}, "compress: unknown fields"),
    ],
)
def test_what_makes_no_sense_is_refused(folder, fields, words):
    response = ask(make_app(folder), "/v1/grade", {"query": QUERY, "documents": ["a"], **fields})
    assert response.status_code == 422
    assert words in response.json()["message"]


# --- the same queue, cache and deadline


def test_sentences_are_remembered_under_their_own_text(folder):
    runtime = FakeRuntime()
    app = make_app(folder, runtime=runtime, cache_entries=100)
    body = {"query": QUERY, "documents": DOCUMENTS}

    async def run():
        async with asking(app) as client:
            found = []
            for has_evidence in (False, True, True, False):
                n_before = len(runtime.calls)
                reply = (await client.post("/v1/grade", json={**body, "evidence": has_evidence})).json()
                found.append((reply, [text for call in runtime.calls[n_before:] for _, text in call]))
            return found

    (_, read), (first, read_then), (second, none), (plain, none_either) = asyncio.run(run())
    whole = {text for text in read}
    assert "Apple is red. Grass is green. The sky 😀 is blue." in whole
    assert read_then, "a plain answer does not stand in for one with evidence"
    assert not whole & set(read_then), "the documents themselves are known"
    assert (none, none_either) == ([], [])
    assert first["results"] == second["results"]
    assert spans(grader(folder).grade(QUERY, DOCUMENTS, evidence=True)[1].evidence) == first["results"][1]["evidence"]
    assert "evidence" not in plain["results"][0]
    assert second["timings"]["n_cached"] == 4 + second["usage"]["sentences"]
    text = app.state.service.measures.exposition().decode()
    assert 'relgrade_cache_lookups_total{outcome="miss"}' in text


def parsed(app, **fields):
    body = {"query": QUERY, "documents": ["One two. Three four.", "Five. Six."], **fields}
    return read_grade_request(body, app.state.service.rack, app.state.service.settings).ask


def test_room_is_asked_for_both_readings_and_the_queue_counts_the_second(folder):
    runtime = GatedRuntime()
    app = make_app(folder, runtime=runtime)
    engine = app.state.service.engine
    wanted = []
    engine.scheduler.require_room = lambda n, *, tokens, remaining_s: wanted.append(tokens)

    async def run():
        loop = asyncio.get_running_loop()
        await engine.encode(parsed(app), deadline_s=loop.time() + 3600)
        once = wanted[-1]
        work = await engine.encode(parsed(app, evidence=True), deadline_s=loop.time() + 3600)
        assert wanted[-1] == once + sum(work.documents.tokens)
        async with aclosing(engine.run(work)) as steps:
            async for _ in steps:
                if work.sentences is not None:
                    break
            following = asyncio.ensure_future(anext(steps))
            await asyncio.to_thread(runtime.started.wait, 60)
            queued = engine.scheduler.n_pairs, engine.scheduler.tokens
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        job = work.sentences.reads.job
        runtime.gate.set()
        while engine.scheduler.n_pairs:
            await asyncio.sleep(0.01)
        return queued, job, engine.scheduler.tokens

    queued, job, left = asyncio.run(run())
    assert queued == (4, sum(job.costs))
    assert isinstance(job.error, ClientGone), "whoever goes away ends the second reading too"
    assert left == 0


@pytest.mark.parametrize("policy", ["raise", "keep_all", "drop_all"])
def test_the_deadline_covers_the_second_reading(folder, policy):
    runtime = GatedRuntime()
    app = make_app(folder, runtime=runtime)
    body = {"query": QUERY, "documents": ["One two. Three four.", ""], "evidence": True, "compress": True}
    response = ask(app, "/v1/grade", {**body, "on_error": policy}, headers={"x-request-timeout-ms": "2000"})
    runtime.gate.set()
    assert runtime.sentences
    told = response.json()
    if policy == "raise":
        assert response.status_code == 504
        assert told["error_type"] == "deadline"
        assert "sentences" in told["message"]
        return
    row = told["results"][0]
    assert (row["relevant"], row["logit"], row["evidence"], row["compressed"]) == (True, 3.0, None, None)
    assert told["results"][1]["evidence"] == []
    assert told["kept"] == [0], "it was judged, and is kept whole"
    assert told["failure"]["reason"] == "deadline"
    assert (told["failure"]["documents"], told["failure"]["without_evidence"]) == ([], [0])
    assert response.headers["x-relgrade-on-error"] == f"{policy}; reason=deadline"


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_sentence_without_a_number_is_no_evidence(folder, is_streamed):
    runtime = GatedRuntime()
    runtime.gate.set()
    app = make_app(folder, runtime=runtime)
    body = {"query": QUERY, "documents": ["Good one. Fine two.", "Bad one. Other two."], "evidence": True}
    failed = ask(app, "/v1/grade", body)
    assert failed.status_code == 424
    assert "document 1" in failed.json()["message"]
    assert "sentences" in failed.json()["message"]
    response = ask(app, "/v1/grade", {**body, "on_error": "keep_all", "stream": is_streamed})
    if is_streamed:
        found = lines(response)
        told = {**found[-1]["lists"][0], "results": sorted(found[:-1], key=lambda line: line["index"])}
    else:
        told = response.json()
    assert [len(row["evidence"] or ()) for row in told["results"]] == [2, 0]
    assert told["results"][1]["evidence"] is None
    assert told["results"][1]["logit"] == 3.0
    assert told["failure"]["without_evidence"] == [1]


# --- Cohere's `relevant_spans`


def rerank(app, route="/v2/rerank", **fields):
    documents = [document["text"] if isinstance(document, dict) else document for document in DOCUMENTS]
    body = {"model": "rerank-v5.0-pro", "query": QUERY, "documents": documents, **fields}
    return ask(app, route, body), documents


@pytest.mark.parametrize("route", ["/v2/rerank", "/rerank"])
def test_spans_are_the_sentences_above_the_threshold(folder, route):
    app = make_app(folder)
    response, documents = rerank(app, route, relevant_spans={"mode": "enabled", "threshold": 0.4})
    one = grader(folder)
    n_found = 0
    for row in response.json()["results"]:
        text = documents[row["index"]]
        for span in row["relevant_spans"]:
            assert set(span) == {"start", "end", "score"}
            assert span["score"] >= 0.4
            piece = text[span["start"] : span["end"]]
            read = {"text": piece, "title": "Rendered"} if text.startswith("title: ") else piece
            assert one.grade(QUERY, [read])[0].probability == span["score"]
            n_found += 1
        scores = [span["score"] for span in row["relevant_spans"]]
        assert scores == sorted(scores, reverse=True)
    assert n_found > 3
    low, _ = rerank(app, route, relevant_spans={"mode": "enabled", "threshold": 0})
    by_index = {row["index"]: row["relevant_spans"] for row in low.json()["results"]}
    assert [len(by_index[i]) for i in range(5)] == [3, 3, 0, 2, 9], "documents that are not relevant have them too"
    best, _ = rerank(app, route, relevant_spans={"mode": "enabled", "threshold": None, "max_spans": 1})
    for row in best.json()["results"]:
        assert row["relevant_spans"] == [span for span in by_index[row["index"]] if span["score"] >= 0.1][:1]
    assert low.json()["usage"]["total_tokens"] > 2 * 10


def test_only_documents_that_come_back_are_read(folder):
    runtime = FakeRuntime()
    app = make_app(folder, runtime=runtime)
    response, documents = rerank(app, top_n=1, relevant_spans={"mode": "enabled"})
    (row,) = response.json()["results"]
    units = {text for call in runtime.calls[1:] for _, text in call} - set(documents)
    assert units
    assert all(unit.removeprefix("title: Rendered\n") in documents[row["index"]] for unit in units)


@pytest.mark.parametrize("value", [None, {"mode": "disabled"}, {"mode": "disabled", "threshold": 0.5}])
def test_no_spans_unless_asked_for(folder, value):
    response, _ = rerank(make_app(folder), relevant_spans=value)
    assert all("relevant_spans" not in row for row in response.json()["results"])


@pytest.mark.parametrize(
    "value", [3, {"mode": "on"}, {"mode": "enabled", "threshold": 2}, {"mode": "enabled", "max_spans": 0}]
)
def test_wrong_spans_are_refused(folder, value):
    response, _ = rerank(make_app(folder), relevant_spans=value)
    assert response.status_code == 422
    assert "relevant_spans" in response.json()["message"]
