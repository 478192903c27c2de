"""The page's server talks to its own page and to nobody else, over plain sockets."""

import http.client
import json

import pytest

from audit_case import labelled_pairs, serving
from relgrade.audit.annotations import read_annotations
from relgrade.audit.cases import draw_sample
from relgrade.audit.server import TOKEN_HEADER, AnnotationServer
from relgrade.errors import OutputError

CASES = draw_sample(labelled_pairs(), n=4, seed=0).cases


@pytest.fixture
def server(tmp_path):
    with serving(CASES, tmp_path / "a.jsonl", annotators=("ann", "bob")) as running:
        yield running


def ask(server, method, path, *, body=None, without=(), **changes):
    headers = {
        "Host": f"127.0.0.1:{server.port}",
        "Origin": f"http://127.0.0.1:{server.port}",
        TOKEN_HEADER: server.token,
        "Content-Type": "application/json",
    }
    names = {"host": "Host", "origin": "Origin", "token": TOKEN_HEADER, "kind": "Content-Type"}
    headers |= {names[name]: value for name, value in changes.items()}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        for name, value in headers.items():
            if name not in {names[each] for each in without}:
                connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(raw)))
        connection.endheaders(raw if body is not None else None)
        reply = connection.getresponse()
        return reply, reply.read()
    finally:
        connection.close()


def post(server, path, body, **changes):
    reply, content = ask(server, "POST", path, body=body, **changes)
    return reply.status, json.loads(content)


def test_an_answer_makes_the_round(server, tmp_path):
    reply, content = ask(server, "GET", "/api/state")
    state = json.loads(content)
    assert reply.status == 200
    assert (state["annotator"], state["annotators"], state["n_cases"]) == ("ann", ["ann", "bob"], 4)
    assert state["case"] == {"case": CASES[0].case, "query": CASES[0].query, "document": CASES[0].document}
    assert [choice["value"] for choice in state["guideline"]["choices"]] == [0, 1]
    body = {"annotator": "bob", "case": CASES[0].case, "value": 1, "seconds": 2.5}
    status, state = post(server, "/api/answer", body)
    assert (status, state["case"]["case"], state["n_answered"]) == (200, CASES[1].case, 1)
    (answer,) = read_annotations(tmp_path / "a.jsonl")  # on the disk before the reply
    assert (answer.annotator, answer.answer, answer.seconds, answer.sample) == ("bob", 1, 2.5, CASES[0].sample)
    assert post(server, "/api/answer", body)[0] == 409
    assert post(server, "/api/skip", {"annotator": "bob", "case": CASES[1].case})[1]["n_skipped"] == 1
    assert post(server, "/api/undo", {"annotator": "bob"})[1]["n_skipped"] == 0
    assert post(server, "/api/revisit", {"annotator": "bob"})[0] == 200


def test_the_address_is_loopback_and_carries_the_token_in_its_fragment(server):
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.port}/#{server.token}"
    assert len(server.token) >= 32


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css", "/icon.svg", "/api/state", "/nothing"])
def test_every_reply_says_what_the_page_may_do(server, path):
    reply, content = ask(server, "GET", path)
    assert reply.status == (404 if path == "/nothing" else 200)
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["Access-Control-Allow-Origin"] is None
    if path != "/api/state":
        assert CASES[0].query.encode() not in content
        assert server.token.encode() not in content


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"host": "evil.example"}, 421),  # DNS rebinding
        ({"host": "127.0.0.1"}, 421),
        ({"without": ["host"]}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"without": ["origin"]}, 403),
        ({"token": "guess"}, 403),
        ({"token": "gu\xe9ss"}, 403),
        ({"without": ["token"]}, 403),
        ({"kind": "text/plain"}, 415),  # what a form of another site could send
        ({"kind": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_strangers_are_refused_and_store_nothing(server, tmp_path, changes, status):
    body = {"annotator": "ann", "case": CASES[0].case, "value": 1}
    assert post(server, "/api/answer", body, **changes)[0] == status
    assert read_annotations(tmp_path / "a.jsonl") == []


def test_reading_needs_the_token_and_the_right_host_too(server):
    for changes in ({"without": ["token"]}, {"token": "guess"}, {"host": "evil.example"}):
        reply, content = ask(server, "GET", "/api/state", **changes)
        assert reply.status in (403, 421)
        assert CASES[0].query.encode() not in content
    assert ask(server, "GET", "/api/state", host=f"localhost:{server.port}")[0].status == 200


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/answer", b"{", 400),
        ("/api/answer", b"[]", 400),
        ("/api/answer", b"[" * 3000, 400),
        ("/api/answer", b"x" * 5000, 413),
        ("/api/answer", {"annotator": "ann", "case": CASES[0].case}, 400),
        ("/api/answer", {"annotator": "ann", "case": CASES[0].case, "value": 7}, 400),
        ("/api/answer", {"annotator": "ann", "case": CASES[0].case, "value": True}, 400),
        ("/api/answer", {"annotator": "eve", "case": CASES[0].case, "value": 1}, 400),
        ("/api/answer", {"annotator": "ann", "case": 3, "value": 1}, 400),
        ("/api/elsewhere", {"annotator": "ann"}, 404),
    ],
)
def test_bodies_that_are_no_answers_are_refused(server, tmp_path, path, body, status):
    found, content = post(server, path, body)
    assert found == status
    assert content["error"]
    assert read_annotations(tmp_path / "a.jsonl") == []


def test_odd_times_are_left_out(server, tmp_path):
    body = {"annotator": "ann", "case": CASES[0].case, "value": 1, "seconds": "long"}
    assert post(server, "/api/answer", body)[0] == 200
    assert read_annotations(tmp_path / "a.jsonl")[0].seconds is None


@pytest.mark.parametrize("path", ["/../page.py", "/%2e%2e/server.py", "/page.html", "//etc/passwd"])
def test_only_the_files_of_the_page_are_served(server, path):
    assert ask(server, "GET", path)[0].status == 404


def test_other_methods_do_nothing(server):
    assert ask(server, "DELETE", "/api/state")[0].status == 501


def test_a_taken_port_is_told(server, tmp_path):
    with pytest.raises(OutputError, match="port is taken"):
        AnnotationServer(server.annotating, port=server.port)
