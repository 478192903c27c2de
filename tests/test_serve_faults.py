"""Harm that comes from around the server: clocks that jump, models that hang, logs that cannot be written."""

import asyncio
import errno
import time

import pytest
from click.testing import CliRunner
from tests.fake_runtime import FakeRuntime, fake_bundle, fake_logit
from tests.serve_case import SlowRuntime, asking, make_app

from relgrade.bundle import load_bundle
from relgrade.cli import main, outcome

BODY = {"query": "q", "documents": ["a", "b", "c"]}


@pytest.fixture
def folder(tmp_path):
    fake_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


def is_right(response):
    return [row["logit"] for row in response.json()["results"]] == [fake_logit("q", text) for text in "abc"]


@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0, 1e9])
def test_a_clock_that_jumps_ends_no_request(folder, monkeypatch, jump_s):
    runtime = SlowRuntime()
    app = make_app(folder, runtime=runtime, timeout_s=60.0, requests_per_minute=600.0)
    real = time.time

    async def steps():
        async with asking(app) as client:
            runtime.started.clear()
            runtime.gate.clear()
            waiting = asyncio.create_task(client.post("/v1/grade", json=BODY))
            await asyncio.to_thread(runtime.started.wait, 30)
            monkeypatch.setattr(time, "time", lambda: real() + jump_s)
            next_one = asyncio.create_task(client.post("/v1/grade", json=BODY))
            runtime.gate.set()
            for response in (await waiting, await next_one, await client.post("/v1/grade", json=BODY)):
                assert response.status_code == 200
                assert is_right(response)
            assert abs((await client.get("/health")).json()["unix"] - real() - jump_s) < 60, "the clock did jump"

    asyncio.run(steps())


def test_a_server_whose_model_hangs_is_not_ready_and_is_again_when_it_comes_back(folder):
    runtime = SlowRuntime()
    app = make_app(folder, runtime=runtime, timeout_s=0.2, n_workers=1)

    async def steps():
        async with asking(app) as client:
            assert (await client.get("/ready")).status_code == 200
            runtime.gate.clear()
            assert (await client.post("/v1/grade", json=BODY)).status_code == 504
            end_s = time.monotonic() + 60
            while (response := await client.get("/ready")).status_code != 503:
                assert time.monotonic() < end_s
                await asyncio.sleep(0.05)
            assert "model" in response.json()["error"]
            assert (await client.get("/health")).status_code == 200
            runtime.gate.set()
            while (await client.get("/ready")).status_code != 200:
                assert time.monotonic() < end_s
                await asyncio.sleep(0.05)

    asyncio.run(steps())


def test_a_log_without_room_does_not_keep_a_server_from_starting(folder, monkeypatch):
    from relgrade import serve as server

    started = []

    def full(message):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.delenv("RELGRADE_API_KEYS", raising=False)
    monkeypatch.setattr(outcome, "warn", full)
    monkeypatch.setattr(server, "load_bundle_and_runtime", lambda source, **_: (load_bundle(source), FakeRuntime()))
    monkeypatch.setattr(server, "log_as_json", lambda: None)
    monkeypatch.setattr(server, "run_server", lambda app, bound: started.append(bound.close()))
    result = CliRunner().invoke(main, ["serve", "--bundle", str(folder), "--port", "0"])
    assert result.exit_code == 0, result.output
    assert len(started) == 1
