"""Keys, limits, headers, reloads and what a server says about itself."""

import asyncio
import importlib.util
import json
import logging
import re
import statistics
import time
from pathlib import Path

import httpx
import pytest
from tests.fake_runtime import FakeRuntime, fake_bundle
from tests.serve_case import KEY, Bridge, SlowRuntime, ask, asking, make_app, make_rack, replace_bundle

from relgrade.bundle import load_bundle
from relgrade.errors import InvalidSettings, ParityError
from relgrade.grade.grader import DEFAULT_BUNDLE
from relgrade.serve import ModelRack, ServeSettings, create_app, load_bundle_and_runtime
from relgrade.serve.keys import Keyring
from relgrade.serve.logs import JsonFormatter
from relgrade.serve.refusals import Denied, RateLimited

DOCS = Path(__file__).parent.parent / "docs"
BODY = {"query": "q", "documents": ["a"]}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "bundle"


def test_what_is_said_about_the_server(folder):
    app = make_app(folder)
    assert ask(app, "/health", method="GET").json()["status"] == "ok"
    assert ask(app, "/ready", method="GET").json()["models"] == ["default"]
    assert ask(app, "/version", method="GET").json()["name"] == "relgrade"
    info = ask(app, "/info", method="GET").json()
    assert next(iter(info["model_type"])) == "reranker"
    assert info["max_client_batch_size"] == 1000
    assert info["max_input_length"] == 64
    models = ask(app, "/v1/models", method="GET").json()
    assert models["data"][0]["id"] == models["models"][0]["name"] == "default"
    assert models["data"][0]["default_point"] == "balanced"


def test_a_server_that_drains_is_not_ready_and_still_answers(folder):
    app = make_app(folder)
    app.state.service.is_draining = True
    assert ask(app, "/ready", method="GET").status_code == 503
    assert ask(app, "/health", method="GET").status_code == 200
    assert ask(app, "/v1/grade", BODY).status_code == 200


def test_the_openapi_page_is_that_of_the_app(folder):
    spec = importlib.util.spec_from_file_location("make_openapi", DOCS / "make_openapi.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.text(make_app(folder).openapi())
    assert (DOCS / "openapi.json").read_text(encoding="utf-8") == made, "run: python docs/make_openapi.py"
    assert ask(make_app(folder), "/openapi.json", method="GET").json() == json.loads(made)


def test_answers_fit_the_openapi_page(folder):
    import jsonschema

    page = json.loads((DOCS / "openapi.json").read_text(encoding="utf-8"))
    app = make_app(folder)
    rows = [
        ("/v1/grade", BODY, "GradedList"),
        ("/v1/grade", {"queries": [BODY]}, "GradedLists"),
        ("/v1/grade", {**BODY, "evidence": True, "compress": {"threshold": 0.3}}, "GradedList"),
        ("/v1/grade", {**BODY, "evidence": True, "compress": True, "on_error": "keep_all"}, "GradedList"),
        ("/rerank", {"query": "q", "texts": ["a"]}, "TeiReply"),
        ("/rerank", BODY, "RerankReply"),
        ("/rerank", {}, "Error"),
    ]
    for path, body, name in rows:
        told = ask(app, path, body).json()
        if name == "GradedLists":  # the shared fields stand once, above the lists
            told = told["lists"][0]
            name = "GradedList"
        schema = {"$ref": f"#/components/schemas/{name}", "components": page["components"]}
        jsonschema.validate(told, schema)


def test_the_page_describes_what_evidence_looks_like(folder):
    import jsonschema

    page = json.loads((DOCS / "openapi.json").read_text(encoding="utf-8"))
    texts = [f"Text {i} of some. And more of it." for i in range(9)]
    body = {"query": "q", "documents": texts, "evidence": True, "compress": {"threshold": 0.0}}
    told = ask(make_app(folder), "/v1/grade", body).json()
    row = next(row for row in told["results"] if row["evidence"])
    schema = {"$ref": "#/components/schemas/Grade", "components": page["components"]}
    jsonschema.validate(row, schema)
    assert set(row["evidence"][0]) == set(page["components"]["schemas"]["Sentence"]["properties"])
    assert set(row["compressed"]) == set(page["components"]["schemas"]["Compressed"]["properties"])
    for harm in ({"evidence": [{"start": 1}]}, {"compressed": {"text": "x"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**row, **harm}, schema)


@pytest.mark.skipif(not DEFAULT_BUNDLE.is_dir(), reason="without the embedded grader")
def test_the_code_of_the_page_prints_what_it_says(monkeypatch, capsys):
    text = (DOCS / "serve.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    app = create_app(ModelRack({"default": None}, load=load_bundle_and_runtime))
    real = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **options: real(**{**options, "transport": Bridge(app)}))
    for block in blocks:
        exec(block, {})
    said = [line.strip().removeprefix("# -> ") for block in blocks for line in block.splitlines() if "# -> " in line]
    assert capsys.readouterr().out.splitlines() == said


def test_the_curls_of_the_page_are_sound(folder):
    text = (DOCS / "serve.md").read_text(encoding="utf-8")
    bodies = re.findall(r"curl [^\n]*/v1/grade[^\n]*-d '(.*?)'$", text, flags=re.DOTALL | re.MULTILINE)
    assert len(bodies) == 2
    for body in bodies:
        assert ask(make_app(folder), "/v1/grade", json.loads(body)).status_code == 200


# --- keys


def test_without_the_key_nothing_but_its_life_is_told(folder):
    app = make_app(folder, keys={"one": KEY, "two": KEY[::-1]})
    for path in ("/health", "/ready", "/version"):
        assert ask(app, path, method="GET").status_code == 200
    for path in ("/info", "/v1/models", "/metrics", "/openapi.json", "/nowhere"):
        assert ask(app, path, method="GET").status_code == 401, path
    for path in ("/v1/grade", "/rerank", "/", "/v1/systemone", "/admin/reload"):
        response = ask(app, path, BODY)
        assert response.status_code == 401, path
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY}"},
        {"authorization": KEY},
        {"x-api-key": KEY},
    ],
)
def test_clients_send_the_key_in_their_own_way(folder, headers):
    app = make_app(folder, keys={"one": KEY})
    assert ask(app, "/v1/grade", BODY, headers=headers).status_code == 200
    wrong = {name: value[:-1] + "x" for name, value in headers.items()}
    assert ask(app, "/v1/grade", BODY, headers=wrong).status_code == 401


def test_any_key_will_do_where_none_is_needed(folder):
    assert ask(make_app(folder), "/v1/grade", BODY, headers={"authorization": "Bearer x"}).status_code == 200


def test_each_key_has_its_own_rate():
    now = [0.0]
    ring = Keyring({"a": KEY, "b": KEY[::-1]}, requests_per_minute=60, clock=lambda: now[0])
    for _ in range(10):
        assert ring.admit(KEY) == "a"
    with pytest.raises(RateLimited) as caught:
        ring.admit(KEY)
    assert caught.value.headers["Retry-After"] == "1"
    assert ring.admit(KEY[::-1]) == "b"
    now[0] = 1.01
    assert ring.admit(KEY) == "a"
    with pytest.raises(RateLimited):
        ring.admit(KEY)


def test_a_wrong_key_does_not_use_up_a_rate():
    ring = Keyring({"a": KEY}, requests_per_minute=60)
    for _ in range(50):
        with pytest.raises(Denied):
            ring.admit("wrong")
    assert ring.admit(KEY) == "a"


def test_how_much_of_a_key_is_right_cannot_be_timed():
    ring = Keyring({f"k{i}": f"{i:02d}" + KEY for i in range(20)})
    almost, far = "00" + KEY[:-1] + "x", "zz" + KEY

    def seconds(sent):
        start = time.perf_counter()
        for _ in range(200):
            ring.identify(sent)
        return time.perf_counter() - start

    pairs = [(seconds(almost), seconds(far), seconds("00" + KEY)) for _ in range(15)]
    middle = [statistics.median(column) for column in zip(*pairs, strict=True)]
    assert max(middle) < 1.5 * min(middle)


def test_the_admin_route_is_there_only_with_its_key(folder):
    assert ask(make_app(folder), "/admin/reload").status_code == 404
    app = make_app(folder, keys={"one": KEY}, admin_key="admin-" + KEY)
    assert ask(app, "/admin/reload", headers={"x-api-key": KEY}).status_code == 401
    response = ask(app, "/admin/reload", headers={"x-api-key": "admin-" + KEY})
    assert response.status_code == 200
    assert response.json()["models"][0]["is_loaded"] is True


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com"])
def test_no_bind_beyond_this_machine_without_a_key(host):
    with pytest.raises(InvalidSettings, match="no key is set"):
        ServeSettings(host=host)
    ServeSettings(host=host, keys={"a": KEY})
    ServeSettings(host=host, is_open=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_loopback_needs_no_key(host):
    ServeSettings(host=host)


@pytest.mark.parametrize(
    "fields", [{"keys": {"a": "short"}}, {"keys": {"a": "ü" * 20}}, {"keys": {"a": KEY, "b": KEY}}]
)
def test_weak_keys_are_refused(fields):
    with pytest.raises(InvalidSettings):
        ServeSettings(**fields)


def test_keys_stay_out_of_reprs():
    assert KEY not in repr(ServeSettings(keys={"a": KEY}, admin_key="admin-" + KEY))


# --- reloads


def changing_rack(folder, runtimes):
    made = iter(runtimes)
    return ModelRack({"default": folder}, load=lambda source: (load_bundle(source), next(made)))


def test_a_reload_puts_the_new_bundle_in_place(folder, tmp_path):
    fake_bundle(folder)
    rack = changing_rack(folder, [FakeRuntime(), FakeRuntime()])
    before = rack.get(None).bundle.hash
    replace_bundle(folder, description="newer")
    (outcome,) = rack.reload()
    assert outcome.is_loaded
    assert rack.get(None).bundle.hash == outcome.hash != before


@pytest.mark.parametrize("harm", ["corrupt", "gone", "drifted"])
def test_a_bad_bundle_is_refused_and_the_old_one_serves_on(folder, harm, caplog):
    fake_bundle(folder)
    rack = changing_rack(folder, [FakeRuntime(), FakeRuntime(shift=1.0 if harm == "drifted" else 0.0)])
    app = create_app(rack, ServeSettings(admin_key="admin-" + KEY))
    before = ask(app, "/v1/grade", BODY).json()
    if harm == "corrupt":
        (folder / "tokenizer.json").write_bytes(b"{ }")
    elif harm == "gone":
        (folder / "bundle.json").unlink()
    response = ask(app, "/admin/reload", headers={"x-api-key": "admin-" + KEY})
    assert response.status_code == 409
    assert response.json()["models"][0]["is_loaded"] is False
    after = ask(app, "/v1/grade", BODY).json()
    assert (before["bundle_hash"], before["results"]) == (after["bundle_hash"], after["results"])
    assert 'relgrade_bundle_loads_total{model="default",outcome="refused"} 1.0' in metrics(app)


def test_a_bundle_that_drifted_is_not_served_at_all(folder):
    with pytest.raises(ParityError):
        make_rack(folder, runtime=FakeRuntime(shift=1.0))


def test_reloads_under_load_drop_nothing_and_mix_nothing(folder):
    fake_bundle(folder)
    runtimes = [SlowRuntime(delay_s=0.001) for _ in range(12)]
    rack = changing_rack(folder, runtimes)
    app = create_app(rack, ServeSettings(batch_tokens=8, admin_key="admin-" + KEY))
    documents = [f"document {i}" for i in range(20)]

    async def run():
        async with asking(app) as client:

            async def one():
                return await client.post("/v1/grade", json={"query": "q", "documents": documents})

            async def reloading():
                for i in range(5):
                    replace_bundle(folder, description=f"version {i}")
                    response = await client.post("/admin/reload", headers={"x-api-key": "admin-" + KEY})
                    assert response.status_code == 200

            responses, _ = await asyncio.gather(asyncio.gather(*(one() for _ in range(30))), reloading())
            return responses

    responses = asyncio.run(run())
    assert {response.status_code for response in responses} == {200}
    assert len({str(response.json()["results"]) for response in responses}) == 1


def test_several_bundles_by_name(tmp_path):
    for name in ("one", "two"):
        fake_bundle(tmp_path / name, name=name)
    sources = {"one": tmp_path / "one", "two": tmp_path / "two"}
    app = create_app(ModelRack(sources, load=lambda source: (load_bundle(source), FakeRuntime())))
    hashes = {n: ask(app, "/v1/grade", {**BODY, "model": n}).json()["bundle_hash"] for n in ("one", "two")}
    assert hashes["one"] != hashes["two"]
    assert ask(app, "/v1/grade", BODY).json()["model"] == "one"
    assert ask(app, "/rerank", {**BODY, "model": "rerank-english"}).json()["meta"]["bundle_hash"] == hashes["one"]


# --- limits and errors


def metrics(app):
    return app.state.service.measures.exposition().decode()


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b'{"query": NaN}', 400, "NaN"),
        (b'{"query": Infinity}', 400, "Infinity"),
        (b'\xff\xfe{"a":1}', 400, "UTF-8"),
        (b'{"query": "\xc3\x28"}', 400, "UTF-8"),
        (b"[" * 100_000, 400, "nested"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 400, "nested"),
        (b'{"query": "q", "documents": ["a"], "base_rate": ' + b"9" * 5000 + b"}", 400, "too long"),
        (b'{"query": "q", "documents": ["a"], "base_rate": ' + b"9" * 400 + b"}", 422, "base_rate"),
        (b'{"query": "q", "documents": ["a"], "base_rate": 1e999}', 400, "too large"),
        (b'{"query": "q", "documents": ["\\ud800"]}', 200, ""),
        (b'{"query": "\\u0000q", "documents": ["\\u0000"]}', 200, ""),
        (b" " * 3000, 413, "bytes"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_hostile_bodies(folder, content, status, words):
    response = ask(make_app(folder, max_body_bytes=1_000_000 if len(content) > 3000 else 2000), "/v1/grade", content)
    if len(content) == 3000:
        assert response.status_code == 413
    else:
        assert response.status_code == status
    assert words in response.text
    assert "Traceback" not in response.text


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"])
def test_only_json_is_read(folder, kind):
    response = ask(make_app(folder), "/v1/grade", b"{}", headers={"content-type": kind})
    assert response.status_code == 415


def test_compressed_bodies_are_not_read(folder):
    assert ask(make_app(folder), "/v1/grade", b"{}", headers={"content-encoding": "gzip"}).status_code == 415


def test_every_answer_has_its_id_and_its_headers(folder):
    app = make_app(folder)
    for path, method in (("/health", "GET"), ("/nowhere", "GET"), ("/v1/grade", "PUT"), ("/v1/grade", "POST")):
        response = ask(app, path, method=method, headers={"x-request-id": "abc-1"})
        assert response.headers["x-request-id"] == "abc-1"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in response.headers["content-security-policy"]
    response = ask(app, "/health", method="GET", headers={"x-request-id": "a b\x7f" + "c" * 100})
    assert response.headers["x-request-id"].isalnum()


def test_wrong_routes_speak_as_every_error_does(folder):
    app = make_app(folder)
    assert ask(app, "/nowhere", method="GET").json()["error_type"] == "route"
    response = ask(app, "/v1/grade", method="GET")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    for path in ("/../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/page/../../settings.py", "/v1/grade/"):
        assert ask(app, path, method="GET").status_code in (404, 405), path


def test_a_fault_of_ours_shows_nothing_of_itself(folder, caplog):
    app = make_app(folder)

    def fail(*_, **__):
        raise RuntimeError("secret inside")

    app.state.service.engine.encode = fail
    with caplog.at_level(logging.ERROR, logger="relgrade.serve"):
        response = ask(app, "/v1/grade", BODY)
    assert response.status_code == 500
    assert "secret" not in response.text
    assert "Traceback" not in response.text
    (record,) = caplog.records
    line = json.loads(JsonFormatter().format(record))
    assert line["request_id"] == response.headers["x-request-id"]
    assert any("service.py" in frame for frame in line["frames"])
    assert "secret" not in json.dumps(line)


def test_the_log_has_numbers_and_no_text(folder, caplog):
    body = {"query": "privatequery", "documents": ["privatedocument"]}
    with caplog.at_level(logging.INFO, logger="relgrade.serve"):
        ask(make_app(folder), "/v1/grade", body)
    written = "\n".join(JsonFormatter().format(record) for record in caplog.records)
    assert '"documents": 1' in written
    assert '"status": 200' in written
    assert "private" not in written
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="relgrade.serve"):
        ask(make_app(folder, logs_documents=True), "/v1/grade", body)
    assert "privatedocument" in "\n".join(JsonFormatter().format(record) for record in caplog.records)


def test_too_many_requests_at_once_are_refused_early(folder):
    runtime = SlowRuntime()
    app = make_app(folder, runtime=runtime, max_requests=3)

    async def run():
        async with asking(app) as client:
            runtime.gate.clear()
            held = [asyncio.create_task(client.post("/v1/grade", json=BODY)) for _ in range(3)]
            await asyncio.sleep(0.2)
            refused = await client.post("/v1/grade", json=BODY)
            alive = await client.get("/health")
            runtime.gate.set()
            return refused, alive, await asyncio.gather(*held)

    refused, alive, held = asyncio.run(run())
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert alive.status_code == 200
    assert {response.status_code for response in held} == {200}


def test_a_full_queue_is_a_429(folder):
    runtime = SlowRuntime()
    app = make_app(folder, runtime=runtime, max_queue_documents=5)
    many = {"query": "q", "documents": ["a", "b", "c", "d"]}

    async def run():
        async with asking(app) as client:
            runtime.gate.clear()
            held = asyncio.create_task(client.post("/v1/grade", json=many))
            await asyncio.sleep(0.2)
            refused = await client.post("/v1/grade", json=many)
            runtime.gate.set()
            return refused, await held

    refused, held = asyncio.run(run())
    assert refused.status_code == 429
    assert refused.json()["error_type"] == "overloaded"
    assert "retry-after" in refused.headers
    assert held.status_code == 200
    assert 'relgrade_errors_total{kind="overloaded"} 1.0' in metrics(app)


def test_metrics_tell_what_the_issue_names(folder):
    app = make_app(folder)
    ask(app, "/v1/grade", {"query": "q", "documents": ["a", "b", "c"]})
    text = ask(app, "/metrics", method="GET").text
    for name in (
        *("requests_total", "request_seconds", "documents_total", "probability_bucket", "queue_seconds_bucket"),
        *("batch_fill_bucket", "batch_requests_bucket", "tokens_total", "bundle_info", "queue_documents"),
        *("requests_in_flight",),
    ):
        assert f"relgrade_{name}" in text, name
    assert 'route="/v1/grade",status="200"' in text


def test_the_path_of_a_client_is_no_label(folder):
    app = make_app(folder)
    for i in range(5):
        ask(app, f"/nowhere/{i}", method="GET")
    assert "nowhere" not in metrics(app)
    assert 'route="none",status="404"} 5.0' in metrics(app)
