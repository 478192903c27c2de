"""What only a real process shows: signals, dying, slow and half-closed connections, floods of headers."""

import concurrent.futures
import json
import os
import signal
import socket
import time
from pathlib import Path

import httpx
import pytest
from tests.fake_runtime import fake_bundle, fake_logit
from tests.serve_case import replace_bundle
from tests.serve_process import ADMIN, Server, free_port

from relgrade.client import Client, ServerError

DOCUMENTS = [f"document {i}" for i in range(20)]


@pytest.fixture
def folder(tmp_path):
    fake_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


def body(documents=DOCUMENTS):
    return json.dumps({"query": "q", "documents": documents}).encode()


def raw_request(content, *, length=None):
    size = str(length or len(content)).encode()
    return b"\r\n".join(
        (
            b"POST /v1/grade HTTP/1.1",
            b"Host: x",
            b"Content-Type: application/json",
            b"Content-Length: " + size,
            b"",
            content,
        )
    )


def is_right(graded):
    return [grade.logit for grade in graded] == [fake_logit("q", document) for document in DOCUMENTS]


def test_sigterm_lets_running_requests_end_and_takes_no_more(folder):
    with Server(folder, delay_s=0.02, batch_tokens=20) as server, Client(server.url, retries=0) as client:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            running = [pool.submit(client.grade, "q", DOCUMENTS) for _ in range(4)]
            time.sleep(0.3)
            server.signal(signal.SIGTERM)
            time.sleep(0.3)
            with pytest.raises(ServerError, match="cannot be reached"):
                Client(server.url, retries=0, timeout_s=2).grade("q", ["a"])
            assert all(is_right(future.result()) for future in running)
        assert server.process.wait(15) in (0, -signal.SIGTERM)
        assert "draining" in server.text()


def test_a_client_with_retries_survives_a_kill_and_a_restart(folder):
    port = free_port()
    with (
        Server(folder, delay_s=0.01, port=port) as first,
        Client(first.url, retries=40, timeout_s=40) as client,
        concurrent.futures.ThreadPoolExecutor(4) as pool,
    ):
        running = [pool.submit(client.grade, "q", DOCUMENTS) for _ in range(12)]
        time.sleep(0.2)
        first.signal(signal.SIGKILL)
        first.process.wait(10)
        with Server(folder, delay_s=0.001, port=port):
            assert all(is_right(future.result()) for future in running)


def test_a_process_that_dies_answers_nothing_rather_than_something_wrong(folder):
    with Server(folder) as server, Client(server.url, retries=0, on_error="keep_all", timeout_s=5) as client:
        graded = client.grade("q", ["fine", "dieword"])
        assert graded.failure.reason == "unreachable"
        assert [grade.verdict for grade in graded] == ["unsure", "unsure"]


def test_sighup_loads_the_bundle_again_under_load(folder):
    with Server(folder, delay_s=0.002, batch_tokens=20) as server, Client(server.url, retries=0) as client:
        before = client.grade("q", ["a"]).bundle_hash
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            running = [pool.submit(client.grade, "q", DOCUMENTS) for _ in range(20)]
            replace_bundle(folder, description="newer")
            server.signal(signal.SIGHUP)
            assert all(is_right(future.result()) for future in running)
        end = time.monotonic() + 10
        while client.grade("q", ["a"]).bundle_hash == before:
            assert time.monotonic() < end, server.text()
            time.sleep(0.05)
        (folder / "tokenizer.json").write_bytes(b"harmed")
        response = httpx.post(f"{server.url}/admin/reload", headers={"x-api-key": ADMIN})
        assert response.status_code == 409
        assert is_right(client.grade("q", DOCUMENTS))


def test_overload_is_refused_with_a_time_to_come_back(folder):
    with Server(folder, delay_s=0.005, max_queue_documents=60) as server:
        options = {"headers": {"content-type": "application/json"}, "timeout": 30, "limits": httpx.Limits()}
        with httpx.Client(**options) as http, concurrent.futures.ThreadPoolExecutor(30) as pool:
            responses = list(pool.map(lambda _: http.post(f"{server.url}/v1/grade", content=body()), range(60)))
        counts = {code: sum(r.status_code == code for r in responses) for code in (200, 429)}
        assert sum(counts.values()) == 60
        assert counts[200] >= 3
        assert counts[429] >= 10
        for response in responses:
            if response.status_code == 429:
                assert int(response.headers["retry-after"]) >= 1
            else:
                assert [row["logit"] for row in response.json()["results"]] == [fake_logit("q", d) for d in DOCUMENTS]


def test_a_slow_body_meets_the_deadline_and_others_do_not_wait_for_it(folder):
    with Server(folder, timeout_s=1.0) as server, socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(raw_request(body()[:10], length=len(body())))
        start = time.monotonic()
        with Client(server.url) as client:
            assert is_right(client.grade("q", DOCUMENTS))
        slow.settimeout(10)
        assert b"408" in slow.recv(4096).split(b"\r\n")[0]
        assert time.monotonic() - start < 5


def test_connections_that_say_nothing_are_closed(folder):
    with Server(folder, header_timeout_s=0.5) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as silent:
            silent.settimeout(10)
            assert silent.recv(10) == b""
        with socket.create_connection(("127.0.0.1", server.port)) as dripping:
            dripping.settimeout(10)
            dripping.sendall(b"POST /v1/grade HTTP/1.1\r\nHos")
            assert dripping.recv(10) == b""


def test_a_flood_of_headers_is_refused(folder):
    with Server(folder) as server, socket.create_connection(("127.0.0.1", server.port)) as flood:
        flood.settimeout(10)
        flood.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        try:
            for i in range(20_000):
                flood.sendall(b"X-%d: %s\r\n" % (i, b"a" * 50))
            answer = flood.recv(4096)
        except (BrokenPipeError, ConnectionResetError):
            answer = b"HTTP/1.1 431"
        assert answer.split(b"\r\n")[0].split(b" ")[1] in (b"400", b"431")
        assert httpx.get(f"{server.url}/health").status_code == 200


def test_half_closed_and_broken_connections_cost_nothing(folder):
    with Server(folder, delay_s=0.02, batch_tokens=20, n_workers=1) as server:
        half = socket.create_connection(("127.0.0.1", server.port))
        for broken in (half, socket.create_connection(("127.0.0.1", server.port))):
            broken.sendall(raw_request(body([f"d {i}" for i in range(500)])))
        time.sleep(0.3)
        half.shutdown(socket.SHUT_WR)
        broken.close()
        with Client(server.url, retries=0) as client:
            start = time.monotonic()
            assert is_right(client.grade("q", DOCUMENTS))
            assert time.monotonic() - start < 5, "500 documents of a client that left were not judged first"
        end = time.monotonic() + 5
        while "relgrade_queue_documents 0.0" not in httpx.get(f"{server.url}/metrics").text:
            assert time.monotonic() < end
            time.sleep(0.05)
        half.close()


def test_requests_on_one_connection_and_nonsense_on_another(folder):
    with Server(folder) as server, socket.create_connection(("127.0.0.1", server.port)) as one:
        with socket.create_connection(("127.0.0.1", server.port)) as nonsense:
            nonsense.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20)
            nonsense.settimeout(10)
            assert b" 400 " in nonsense.recv(4096)
        for _ in range(3):
            one.sendall(raw_request(body(["a"])))
            answer = b""
            while not answer.endswith(b'"failure":null}'):
                answer += one.recv(65536)
            assert answer.count(b" 200 OK") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_log_without_room_costs_no_answer(folder):
    with (
        Path("/dev/full").open("wb") as full,
        Server(folder, log=full) as server,
        Client(server.url, retries=0) as client,
    ):
        assert all(is_right(client.grade("q", DOCUMENTS)) for _ in range(3))
        assert httpx.post(f"{server.url}/v1/grade", json={"query": "q"}).status_code == 422


def test_a_log_that_nobody_reads_any_more_costs_no_answer(folder):
    reader, writer = os.pipe()
    with Server(folder, log=writer) as server, Client(server.url, retries=0) as client:
        os.close(reader)
        os.close(writer)
        assert all(is_right(client.grade("q", DOCUMENTS)) for _ in range(3))
