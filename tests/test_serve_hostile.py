"""Requests made to harm: each is refused in words, costs little, and lets nobody in. docs/security.md lists them."""

import asyncio
import json

import pytest
from fastapi import FastAPI
from tests.serve_case import KEY, ask, asking, make_app

from relgrade.serve.body import BodyRoom
from relgrade.serve.gate import is_local_host, route_path
from relgrade.serve.guesses import KNOWN_S, MAX_ADDRESSES, WRONG_PER_MINUTE, Guesses, network_of
from relgrade.serve.keys import Keyring
from relgrade.serve.refusals import Denied, Overloaded, RateLimited

BODY = {"query": "q", "documents": ["a"]}
FORM = {"content-type": "application/x-www-form-urlencoded"}
N_WRONG = int(WRONG_PER_MINUTE)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "bundle"


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/rerank", b'{"query": "q", "documents": [{"text": "a", "x": 1e999}], "return_documents": true}'),
        ("/v1/grade", b'{"query": "q", "documents": ["a"], "base_rate": -1e999}'),
        (
            "/v1/systemone",
            b'{"state": {"query": "q", "document": "d"}, "questions": {"a": {"type": "score", '
            b'"instructions": "relevant?", "criteria": [1e999, 2]}}}',
        ),
    ],
)
def test_a_number_beyond_all_floats_is_refused_before_it_is_sent_back(folder, path, content):
    response = ask(make_app(folder), path, content)
    assert response.status_code == 400
    assert "too large" in response.text


def test_infinities_in_the_text_of_an_input_are_refused(folder):
    text = '{"query": "q", "document": {"text": "d", "x": NaN}}'
    question = {"type": "predicate", "instructions": "relevant?"}
    response = ask(make_app(folder), "/v1/decisions", {"input": text, "questions": [question]})
    assert response.status_code == 422


def test_a_length_in_digits_of_another_script_is_no_length(folder):
    response = ask(make_app(folder), "/v1/grade", json.dumps(BODY).encode(), headers={"content-length": b"\xb2"})
    assert response.status_code == 200


def test_a_field_named_often_is_read_once(folder):
    app = make_app(folder)
    document = {"text": "a" * 1000}
    many = ask(app, "/rerank", {"query": "q", "documents": [document], "rank_fields": ["text"] * 100})
    once = ask(app, "/rerank", {"query": "q", "documents": [document], "rank_fields": ["text"]})
    assert many.json()["results"] == once.json()["results"]
    more = ask(app, "/rerank", {"query": "q", "documents": [document], "rank_fields": ["text"] * 101})
    assert more.status_code == 413


def test_many_long_names_in_long_instructions_are_refused(folder):
    names = {f"{'a ' * i}b": "d" for i in range(300)}
    question = {"type": "noul", "instructions": "is it relevant " + "a " * 2000 + "bc"}
    state = {"query": "q", "documents": names}
    body = {"state": state, "questions": {str(i): question for i in range(100)}}
    assert ask(make_app(folder), "/v1/systemone", body).status_code == 413
    one = {"type": "noul", "instructions": "is D10 relevant"}
    body = {"state": {"query": "q", "documents": {"D1": "x", "D10": "y"}}, "questions": {"a": one}}
    assert ask(make_app(folder), "/v1/systemone", body).status_code == 200


def test_two_lengths_are_refused(folder):
    headers = {"transfer-encoding": "chunked", "content-length": "5"}
    response = ask(make_app(folder), "/v1/grade", json.dumps(BODY).encode(), headers=headers)
    assert response.status_code == 400
    assert response.headers["connection"] == "close"


# --- who is let in


@pytest.mark.parametrize("mount", ["/page", "/page/", "/health", "/x"])
def test_an_app_inside_another_asks_for_its_key_wherever_it_is_mounted(folder, mount):
    outer = FastAPI()
    outer.mount(mount, make_app(folder, keys={"one": KEY}))
    path = mount.rstrip("/")
    for inner in ("/v1/grade", "/rerank", "/"):
        assert ask(outer, path + inner, BODY).status_code == 401, inner
    assert ask(outer, f"{path}/v1/grade", BODY, headers={"x-api-key": KEY}).status_code == 200
    assert ask(outer, f"{path}/health", method="GET").status_code == 200
    assert ask(outer, f"{path}/info", method="GET").status_code == 401


def test_the_path_of_a_route():
    assert route_path({"path": "/a/health", "root_path": "/a"}) == "/health"
    assert route_path({"path": "/ab/health", "root_path": "/a"}) == "/ab/health"
    assert route_path({"path": "/health"}) == "/health"


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1:8321", True),
        ("localhost", True),
        ("LOCALHOST.:80", True),
        ("app.localhost:80", True),
        ("[::1]:8321", True),
        ("grader", True),
        ("", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example:8321", False),
        ("[::1].evil.example", True),  # no name: no browser sends it
        ("localhost.evil.example:80", False),
    ],
)
def test_pages_of_other_sites_cannot_call_by_their_own_name(folder, host, is_local):
    assert is_local_host(host) == is_local
    response = ask(make_app(folder), "/v1/grade", BODY, headers={"host": host})
    assert response.status_code == (200 if is_local else 403)
    assert ask(make_app(folder, keys={"a": KEY}), "/v1/grade", BODY, headers={"host": host}).status_code == 401
    assert ask(make_app(folder, host="0.0.0.0", is_open=True), "/info", method="GET", headers={"host": host}).is_success


def test_an_address_has_so_many_wrong_keys():
    now = [0.0]
    ring = Keyring({"a": KEY, "b": KEY[::-1]}, clock=lambda: now[0])
    ring.admit(KEY, address="10.0.0.1")
    for i in range(N_WRONG):
        with pytest.raises(Denied):
            ring.admit(f"wrong-{i}", address="10.0.0.1")
    for sent in ("wrong", KEY[::-1]):
        with pytest.raises(RateLimited, match="wrong keys") as caught:
            ring.admit(sent, address="10.0.0.1")  # right or wrong, it looks the same
        assert caught.value.headers["Retry-After"] == "2"
    assert ring.admit(KEY, address="10.0.0.1") == "a", "who called before goes on"
    assert ring.admit(KEY[::-1], address="10.0.0.2") == "b", "another address is not concerned"
    with pytest.raises(Denied, match="no key"):
        ring.admit(None, address="10.0.0.1")
    now[0] = 2.1
    assert ring.admit(KEY[::-1], address="10.0.0.1") == "b"
    for _ in range(N_WRONG):
        with pytest.raises((Denied, RateLimited)):
            ring.admit("wrong", address="10.0.0.1")
    now[0] += KNOWN_S
    ring.admit(KEY, address="10.0.0.1")


def test_what_is_remembered_of_addresses_is_bounded():
    guesses = Guesses(clock=lambda: 0.0)
    for i in range(MAX_ADDRESSES + 50):
        guesses.judge(f"10.{i // 65536}.{i // 256 % 256}.{i % 256}", None)
    assert len(guesses._addresses) == MAX_ADDRESSES
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff")
    assert network_of("2001:db8::1") != network_of("2001:db8:0:1::1")
    assert network_of("::ffff:10.0.0.1") == network_of("10.0.0.1")
    assert network_of("fe80::1%eth0") == network_of("fe80::2")
    assert network_of("unix") == "unix"


def test_guessing_over_http_ends_in_429_for_keys_in_headers_and_in_the_form(folder):
    app = make_app(folder, keys={"one": KEY})
    statuses = [
        ask(app, "/v1/grade", BODY, headers={"x-api-key": f"wrong-key-number-{i}"}).status_code for i in range(N_WRONG)
    ]
    assert set(statuses) == {401}
    form = f"query=q&documents=d&key={KEY}".encode()
    assert ask(app, "/page/grade", form, headers=FORM).status_code == 429
    assert ask(app, "/v1/grade", BODY, headers={"x-api-key": KEY}).status_code == 429
    assert ask(app, "/health", method="GET").status_code == 200


def test_the_admin_key_cannot_be_guessed_on_an_open_server(folder):
    app = make_app(folder, admin_key=KEY)
    for i in range(N_WRONG):
        assert ask(app, "/admin/reload", {}, headers={"x-api-key": f"wrong-{i}"}).status_code == 401
    assert ask(app, "/admin/reload", {}, headers={"x-api-key": KEY}).status_code == 429
    assert ask(app, "/v1/grade", BODY).status_code == 200


def test_no_reply_names_a_folder_of_the_server(folder):
    app = make_app(folder, admin_key=KEY)
    (folder / "tokenizer.json").write_bytes(b"harmed")
    response = ask(app, "/admin/reload", {}, headers={"x-api-key": KEY})
    assert response.status_code == 409
    assert "tokenizer.json" in response.text
    assert str(folder) not in response.text


# --- bodies


def test_bodies_share_a_room_and_give_it_back():
    room = BodyRoom(10)
    with room.body() as first:
        first.grow(6)
        with room.body() as second:
            second.grow(3)
            with pytest.raises(Overloaded):
                second.grow(2)
        first.grow(4)
    with room.body() as third:
        third.grow(10)


def test_a_refused_body_gives_its_room_back(folder):
    app = make_app(folder, max_body_bytes=1000)
    before = app.state.service.room._n_left
    for content in (b"x" * 2000, b"{", json.dumps(BODY).encode()):
        ask(app, "/v1/grade", content)
    assert app.state.service.room._n_left == before


def test_a_form_is_read_within_its_own_limit(folder):
    app = make_app(folder, keys={"one": KEY})
    assert ask(app, "/page/grade", b"query=q&documents=" + b"d" * 1_000_000, headers=FORM).status_code == 413

    async def chunks():
        yield b"query=q&documents=d"

    async def run():
        async with asking(app) as client:
            return await client.post("/page/grade", content=chunks(), headers=FORM)

    response = asyncio.run(run())
    assert response.status_code == 422


def test_a_body_of_nothing_but_brackets_is_refused(folder):
    app = make_app(folder)
    assert ask(app, "/v1/grade", b"[" + b"[]," * 200_000 + b"[]]").status_code == 413
    assert ask(app, "/v1/grade", {"query": "q", "documents": ["[{" * 90_000]}).status_code == 200


def test_a_wrong_method_is_told_all_right_ones(folder):
    response = ask(make_app(folder), "/", method="PUT")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, POST"
