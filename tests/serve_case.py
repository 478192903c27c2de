"""A server around the fake model, asked in this process; and a model whose speed a test decides."""

import asyncio
import contextlib
import json
import threading
import time

import httpx
from tests.fake_runtime import FakeRuntime, fake_bundle, fake_files, fake_manifest

from relgrade.bundle import load_bundle, write_bundle
from relgrade.serve import ModelRack, ServeSettings, create_app

URL = "http://127.0.0.1"
KEY = "a-key-of-sixteen-characters"


class SlowRuntime(FakeRuntime):
    """Takes `delay_s` a pair, and no step while `gate` is closed."""

    def __init__(self, *, delay_s=0.0):
        super().__init__()
        self.delay_s = delay_s
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()

    def score(self, pairs):
        self.started.set()
        self.gate.wait(30)
        time.sleep(self.delay_s * len(pairs))
        return super().score(pairs)


class BrokenRuntime(FakeRuntime):
    """Raises when a pair holds the word."""

    def score(self, pairs):
        if any("breakword" in document for _, document in pairs):
            raise RuntimeError("secret text of a document")
        return super().score(pairs)


class Bridge(httpx.BaseTransport):
    """A blocking transport into an ASGI app, for the blocking client."""

    def __init__(self, app):
        self._inner = httpx.ASGITransport(app=app, raise_app_exceptions=False)

    def handle_request(self, request):
        async def run():
            sent = httpx.Request(request.method, request.url, headers=request.headers, content=request.read())
            response = await self._inner.handle_async_request(sent)
            return response.status_code, response.headers, await response.aread()

        status, headers, content = asyncio.run(run())
        return httpx.Response(status, headers=headers, content=content, request=request)


def replace_bundle(folder, **changes):
    write_bundle(folder, fake_manifest(**changes), fake_files(), overwrite=True)


def make_rack(folder, *, runtime=None, **changes):
    if not (folder / "bundle.json").exists():
        fake_bundle(folder, **changes)
    made = runtime or FakeRuntime()
    return ModelRack({"default": folder}, load=lambda source: (load_bundle(source), made))


def make_app(folder, *, runtime=None, cache=None, settings=None, changes=None, **fields):
    rack = make_rack(folder, runtime=runtime, **(changes or {}))
    return create_app(rack, settings or ServeSettings(**fields), cache=cache)


@contextlib.asynccontextmanager
async def asking(app, **options):
    """An httpx client of the app."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=URL, timeout=30, **options) as client:
        yield client


def ask(app, path, body=None, *, method="POST", **options):
    """One request, its response."""

    async def run():
        async with asking(app) as client:
            if isinstance(body, bytes):
                headers = {"content-type": "application/json", **options.pop("headers", {})}
                return await client.request(method, path, content=body, headers=headers, **options)
            return await client.request(method, path, **({} if body is None else {"json": body}), **options)

    return asyncio.run(run())


def lines(response):
    return [json.loads(line) for line in response.text.splitlines()]
