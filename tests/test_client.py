"""The client says what a Grader says, over HTTP, and never hides that nobody judged."""

import asyncio
import json
import math

import httpx
import pytest
from click.testing import CliRunner
from tests.fake_runtime import NAN_WORD, FakeRuntime, fake_bundle, fake_logit
from tests.serve_case import Bridge, make_app

from relgrade.bundle import load_bundle
from relgrade.cli import main
from relgrade.cli.verify import DIALECTS
from relgrade.client import AsyncClient, Client, ServerError
from relgrade.client.verifying import Dialect, verify_server
from relgrade.errors import InvalidInput
from relgrade.grade.grader import Grader
from relgrade.records import Document, KeepPolicy, ListCalibration

QUERY = "what is red"


class Node:
    def __init__(self):
        self.page_content, self.metadata, self.id = "sky \ud800 is blue", {"n": 1, "odd": object()}, 4


DOCUMENTS = ["apple is red", Document("grass", "Green", "g", {"a": 1}), {"text": "", "source": "s"}, Node()]
PAGES = [
    "Two halves \ud83d\ude00 of one. Red one. \u65e5\u672c\u8a9e\u306e\u6587\u3002 Green \0 two!",
    {"text": "Plum one. Plum two. Plum three.", "title": "Plums"},
    "title: Rendered\nFirst of all. Second of all.",
    "",
]
CHANGES = {"any_relevant": ListCalibration(best=1.0)}


def blocking(handle):
    """An httpx transport for a function."""
    return httpx.MockTransport(handle)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "bundle"


@pytest.fixture
def app(folder):
    return make_app(folder, changes=CHANGES)


def grader(folder, **options):
    return Grader(load_bundle(folder), FakeRuntime(), **options)


def calls(subject):
    return [
        subject.grade(QUERY, DOCUMENTS),
        subject.filter(QUERY, DOCUMENTS, policy=KeepPolicy(min_keep=2, max_keep=3, max_tokens=5)),
        subject.filter(QUERY, DOCUMENTS),
        subject.rerank(QUERY, DOCUMENTS, top_k=2),
        subject.grade(QUERY, []),
        subject.grade(QUERY, PAGES, evidence=True),
        subject.filter(QUERY, PAGES, policy=KeepPolicy(min_keep=2, max_tokens=30), evidence=True),
    ]


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
@pytest.mark.parametrize("point", [None, "strict"])
def test_both_clients_say_what_a_grader_says(folder, app, kind, point):
    expected = calls(grader(folder, operating_point=point))
    if kind == "blocking":
        with Client("http://127.0.0.1", operating_point=point, transport=Bridge(app)) as client:
            found = calls(client)
    else:

        async def run():
            transport = httpx.ASGITransport(app=app)
            async with AsyncClient("http://127.0.0.1", operating_point=point, transport=transport) as client:
                return [await call for call in calls(client)]

        found = asyncio.run(run())
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.grades == theirs.grades
        assert [grade.evidence for grade in ours] == [grade.evidence for grade in theirs]
        assert all(a.document is b.document for a, b in zip(ours, theirs, strict=True))
        assert (ours.query, ours.bundle_hash) == (theirs.query, theirs.bundle_hash)
        assert ours.any_relevant_probability == theirs.any_relevant_probability
        assert (ours.operating_point.name, ours.operating_point.threshold) == (
            theirs.operating_point.name,
            theirs.operating_point.threshold,
        )
        assert ours.failure is None
        assert ours.request_id


COMPRESSIONS = [
    {},
    {"point": "strict"},
    {"threshold": 0.0},
    {"threshold": 0.8, "policy": KeepPolicy(min_keep=2, max_tokens=9)},
]


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
@pytest.mark.parametrize("options", COMPRESSIONS)
def test_both_clients_compress_as_a_grader(folder, app, kind, options):
    expected = grader(folder).compress(QUERY, PAGES, **options)
    if kind == "blocking":
        with Client("http://127.0.0.1", transport=Bridge(app)) as client:
            found = client.compress(QUERY, PAGES, **options)
    else:

        async def run():
            async with AsyncClient("http://127.0.0.1", transport=httpx.ASGITransport(app=app)) as client:
                return await client.compress(QUERY, PAGES, **options)

        found = asyncio.run(run())
    assert found.items == expected.items
    assert all(a.document is b.document for a, b in zip(found, expected, strict=True))
    assert found.grades == expected.grades
    assert found.sentence_threshold == expected.sentence_threshold
    assert (found.tokens_before, found.tokens_after) == (expected.tokens_before, expected.tokens_after)
    assert found.any_relevant_probability == expected.any_relevant_probability
    assert (found.failure, found.bundle_hash) == (None, expected.bundle_hash)


@pytest.mark.parametrize("policy", ["keep_all", "drop_all"])
def test_what_could_not_be_compressed_is_kept_whole(app, policy):
    def away(request):
        raise httpx.ConnectError("refused")

    with Client("http://x", transport=blocking(away), retries=0, on_error=policy) as client:
        found = client.compress(QUERY, PAGES)
    assert found.texts == ([*PAGES[:1], PAGES[1]["text"], *PAGES[2:]] if policy == "keep_all" else [])
    assert found.failure.reason == "unreachable"
    assert found.tokens_after == 0
    with Client("http://127.0.0.1", transport=Bridge(app), on_error=policy) as client:
        found = client.compress(QUERY, [f"{NAN_WORD} one. Two.", PAGES[0]])
    whole = [item.text for item in found if not item.sentences]
    assert whole == ([f"{NAN_WORD} one. Two."] if policy == "keep_all" else [])
    assert found.failure.documents == (0,)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"threshold": 2}, "probability"),
        ({"threshold": True}, "probability"),
        ({"point": "strict", "threshold": 0.5}, "both"),
        ({"point": "none"}, "no operating point 'none'"),
        ({"policy": 3}, "KeepPolicy"),
    ],
)
def test_what_cannot_be_compressed_by_is_refused(app, arguments, words):
    with (
        Client("http://127.0.0.1", transport=Bridge(app), on_error="keep_all") as client,
        pytest.raises(InvalidInput, match=words),
    ):
        client.compress(QUERY, PAGES, **arguments)


@pytest.mark.parametrize(
    "evidence",
    [3, [{"start": 0}], [{"start": 0, "end": 99, "probability": 0.5, "logit": 0.0}], [{"start": 2, "end": 1}]],
)
def test_evidence_outside_of_the_document_is_no_evidence(app, evidence):
    def handle(request):
        inner = Bridge(app).handle_request(request)
        body = json.loads(inner.content)
        body["results"][0]["evidence"] = evidence
        return httpx.Response(200, json=body)

    with (
        Client("http://127.0.0.1", transport=blocking(handle)) as client,
        pytest.raises(ServerError, match="relgrade server"),
    ):
        client.grade(QUERY, ["Apple is red."], evidence=True)


def test_a_server_that_does_not_compress(app):
    def handle(request):
        body = json.loads(Bridge(app).handle_request(request).content)
        return httpx.Response(200, json={name: value for name, value in body.items() if name != "compression"})

    with (
        Client("http://127.0.0.1", transport=blocking(handle)) as client,
        pytest.raises(ServerError, match="is the server older"),
    ):
        client.compress(QUERY, PAGES)


@pytest.mark.parametrize("policy", ["keep_all", "drop_all"])
def test_one_document_without_a_verdict(app, policy, caplog):
    with Client("http://127.0.0.1", transport=Bridge(app), on_error=policy) as client:
        graded = client.grade(QUERY, ["apple", NAN_WORD])
        kept = client.filter(QUERY, ["apple", NAN_WORD])
        ranked = client.rerank(QUERY, [NAN_WORD, "apple"])
    bad = graded[1]
    assert (math.isnan(bad.logit), math.isnan(bad.probability), bad.verdict) == (True, True, "unsure")
    assert bad.relevant == (policy == "keep_all")
    assert (NAN_WORD in kept.documents) == (policy == "keep_all")
    assert [grade.index for grade in ranked] == [1, 0], "nobody knows where it belongs"
    assert graded.failure.documents == (1,)
    assert "no grades for 1 documents" in caplog.text


def test_without_a_policy_it_is_an_error(app):
    with Client("http://127.0.0.1", transport=Bridge(app)) as client:
        with pytest.raises(ServerError) as caught:
            client.grade(QUERY, ["apple", NAN_WORD])
        assert (caught.value.status, caught.value.reason) == (424, "backend")
        assert caught.value.request_id
        with pytest.raises(InvalidInput, match="no operating point"):
            client.grade(QUERY, ["apple"], operating_point="none")


@pytest.mark.parametrize("policy", ["keep_all", "drop_all", "raise"])
@pytest.mark.parametrize(
    ("status", "reason", "n_tries"),
    [(503, "overloaded", 3), (429, "overloaded", 3), (500, "server", 3), (504, "deadline", 1), (401, "denied", 1)],
)
def test_a_server_that_fails_is_asked_again_and_then_told(policy, status, reason, n_tries):
    seen = []

    def handle(request):
        seen.append(request)
        return httpx.Response(status, json={"message": "busy"}, headers={"retry-after-ms": "1"})

    with Client("http://x", transport=blocking(handle), on_error=policy) as client:
        if policy == "raise":
            with pytest.raises(ServerError, match="busy") as caught:
                client.filter(QUERY, DOCUMENTS)
            assert caught.value.reason == reason
        else:
            graded = client.filter(QUERY, DOCUMENTS)
            assert len(graded) == (4 if policy == "keep_all" else 0)
            assert graded.failure.reason == reason
            assert graded.failure.documents == (0, 1, 2, 3)
            assert graded.bundle_hash == ""
    assert len(seen) == n_tries


def test_what_the_caller_did_wrong_is_no_failure_of_the_server():
    def handle(request):
        return httpx.Response(422, json={"message": "no such point"})

    with (
        Client("http://x", transport=blocking(handle), on_error="keep_all") as client,
        pytest.raises(InvalidInput, match="no such point"),
    ):
        client.grade(QUERY, ["a"])


def test_a_server_that_is_away():
    def handle(request):
        raise httpx.ConnectError("refused")

    with Client("http://x", transport=blocking(handle), retries=1, on_error="drop_all") as client:
        graded = client.rerank(QUERY, ["b", "a"])
    assert graded.failure.reason == "unreachable"
    assert graded.documents == ["b", "a"]


def test_the_deadline_is_one_for_all_tries_and_travels():
    told = []

    def handle(request):
        told.append(int(request.headers["x-request-timeout-ms"]))
        return httpx.Response(503, json={"message": "busy"}, headers={"retry-after": "3600"})

    with (
        Client("http://x", transport=blocking(handle), timeout_s=1.0, retries=5) as client,
        pytest.raises(ServerError, match="503"),
    ):
        client.grade(QUERY, ["a"])
    assert len(told) == 1, "a wait beyond the deadline is no use"
    assert 900 <= told[0] <= 1000


def test_an_asyncio_call_ends_with_its_deadline():
    async def handle(request):
        await asyncio.sleep(30)

    async def run():
        transport = httpx.MockTransport(handle)
        async with AsyncClient("http://x", transport=transport, timeout_s=0.2, on_error="keep_all") as client:
            return await client.grade(QUERY, ["a"])

    assert asyncio.run(run()).failure.reason == "deadline"


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"results": []},
        "text",
        {"operating_point": {"name": "b", "threshold": 0.5}, "bundle_hash": "h", "results": [{"index": 1}], "kept": []},
    ],
)
def test_another_kind_of_server_is_told_apart(body):
    transport = blocking(lambda request: httpx.Response(200, json=body))
    with Client("http://x", transport=transport) as client, pytest.raises(ServerError, match="relgrade server"):
        client.grade(QUERY, ["a"])


@pytest.mark.parametrize(
    "arguments",
    [
        {"url": "host:80"},
        {"url": "http://user:key@host"},
        {"url": "http://x", "timeout_s": 0},
        {"url": "http://x", "retries": -1},
        {"url": "http://x", "on_error": "ignore"},
        {"url": "http://x", "api_key": "a\nb"},
    ],
)
def test_arguments_are_checked(arguments):
    with pytest.raises(InvalidInput):
        Client(**arguments)


@pytest.mark.parametrize("call", [("", ["a"]), ("q", "a"), ("q", [3]), ("q", [b"a"])])
def test_a_wrong_call_is_not_sent(call):
    def handle(request):
        raise AssertionError("it was sent")

    with Client("http://x", transport=blocking(handle)) as client, pytest.raises(InvalidInput):
        client.grade(*call)


def test_the_key_is_sent_and_not_shown():
    seen = []

    def handle(request):
        seen.append(request.headers["authorization"])
        return httpx.Response(500)

    client = Client("http://x", api_key="secret", transport=blocking(handle), retries=0, on_error="keep_all")
    client.grade("q", ["a"])
    assert seen == ["Bearer secret"]
    assert "secret" not in repr(client._settings)


# --- verify


def server_of(dialect, *, shift=0.0):
    """Answers as that server does, from the fake model."""

    def handle(request):
        body = json.loads(request.content)
        texts = body["texts" if dialect == "tei" else "documents"]
        logits = [fake_logit(body["query"], text) + shift for text in texts]
        order = sorted(range(len(texts)), key=lambda i: -logits[i])
        if dialect == "tei":
            assert body["raw_scores"] is True
            return httpx.Response(200, json=[{"index": i, "score": logits[i]} for i in order])
        if dialect == "infinity":
            assert body["raw_scores"] is True
        scores = [1 / (1 + math.exp(-x)) for x in logits] if dialect == "vllm" else logits
        name = "logit" if dialect == "relgrade" else "relevance_score"
        return httpx.Response(200, json={"results": [{"index": i, name: scores[i]} for i in order]})

    return handle


@pytest.fixture
def served(monkeypatch):
    """Makes every httpx.Client talk to a function."""
    real = httpx.Client

    def serve(handle):
        monkeypatch.setattr(httpx, "Client", lambda **options: real(transport=blocking(handle), **options))

    return serve


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("shift", "code"), [(0.0, 0), (8.0, 1)])
def test_verify_reads_every_dialect(folder, served, dialect, shift, code):
    fake_bundle(folder)
    served(server_of(dialect, shift=shift))
    report = verify_server("http://x", load_bundle(folder), dialect=dialect)
    assert report.n_pairs == 2
    assert report.scale == ("sigmoid" if dialect == "vllm" else "logit")
    if shift == 0.0:
        assert report.largest_difference < 1e-9
        assert report.flips == ()
    else:
        assert report.largest_difference > 0.3
        assert len(report.flips) > 0
    result = CliRunner().invoke(main, ["verify", "--url", "http://x", "--bundle", str(folder), "--dialect", dialect])
    assert result.exit_code == code
    assert "2 golden pairs" in result.output


@pytest.mark.parametrize("url", ["foo", "localhost:8321", "ftp://x", "http://", "http://["])
def test_verify_and_the_client_want_a_base_url(folder, url):
    fake_bundle(folder)
    result = CliRunner().invoke(main, ["verify", "--url", url, "--bundle", str(folder)])
    assert result.exit_code == 2
    assert f"a base URL such as http://localhost:8321 was expected, got {url!r}" in result.stderr
    with pytest.raises(InvalidInput, match="a base URL such as"):
        Client(url)


@pytest.mark.parametrize("bundle", ["nanoo", "org/name", "a" * 300])
def test_verify_says_which_bundles_there_are(bundle):
    result = CliRunner().invoke(main, ["verify", "--url", "http://x", "--bundle", bundle])
    assert result.exit_code == 2
    assert "the name of an embedded one (default, nano)" in result.stderr
    assert ("a Hub id cannot stand here" in result.stderr) == ("/" in bundle)


def test_verify_names_a_wrong_dialect(folder, served):
    fake_bundle(folder)
    served(lambda request: httpx.Response(200, json=[{"index": 0, "score": 0.5}]))
    result = CliRunner().invoke(main, ["verify", "--url", "http://x", "--bundle", str(folder)])
    assert result.exit_code == 2
    assert "name another dialect" in result.output


def test_the_dialects_of_the_command_are_those_of_the_client():
    from typing import get_args

    assert get_args(Dialect) == DIALECTS


def test_our_own_server_verifies(folder, app, monkeypatch):
    real = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **options: real(transport=Bridge(app), **options))
    report = verify_server("http://127.0.0.1", load_bundle(folder))
    assert report.largest_difference == 0.0
    monkeypatch.setattr(httpx, "Client", lambda **options: real(transport=Bridge(app), **options))
    assert verify_server("http://127.0.0.1", load_bundle(folder), dialect="tei").largest_difference == 0.0
