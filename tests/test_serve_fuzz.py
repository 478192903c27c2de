"""Bodies that nobody means: no 5xx, no stack trace, JSON back. `benchmarks/serve_fuzz.py` sends many more of them."""

import asyncio
import json

import pytest
from benchmarks.fuzz_bodies import PATHS, bodies, raw_bodies
from hypothesis import given, settings
from tests.serve_case import asking, make_app


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    app = make_app(tmp_path_factory.mktemp("fuzz") / "bundle", max_documents=50, max_body_bytes=200_000)

    def post(path, content):
        async def run():
            async with asking(app) as client:
                return await client.post(path, content=content, headers={"content-type": "application/json"})

        return asyncio.run(run())

    return post


def check(response):
    if response.request.url.path == "/admin/reload":
        assert response.status_code == 404  # this server has no admin key, so it has no such route
        return
    assert response.status_code in (200, 400, 413, 422, 424), response.text[:300]
    told = response.json()
    assert "Traceback" not in response.text
    if response.status_code != 200:
        assert isinstance(told, dict)
        assert set(told) & {"error", "detail"}


@settings(max_examples=1500, derandomize=True)
@given(PATHS, bodies())
def test_json_that_nobody_means(answered, path, body):
    check(answered(path, json.dumps(body, allow_nan=True).encode()))


@settings(max_examples=500, derandomize=True)
@given(PATHS, raw_bodies())
def test_bytes_that_are_no_json(answered, path, content):
    check(answered(path, content))
