"""The command's keys and sources, the Redis cache beside a Redis that fails, and the door of the extra."""

import asyncio
import subprocess
import sys

import pytest
from click.testing import CliRunner
from tests.fake_runtime import FakeRuntime, fake_bundle
from tests.serve_case import KEY, ask, make_app

from relgrade.cli import main
from relgrade.cli.serve import read_keys, read_sources
from relgrade.errors import InvalidSettings
from relgrade.serve.cache import MemoryCache, Reading, pair_key
from relgrade.serve.redis_cache import RedisCache

READING = Reading(1.5, True, 2)


def test_keys_from_the_environment_and_a_file(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# comment\n\nweb={KEY}\n{KEY[::-1]}==\n")
    found = read_keys(f"app={KEY}1, {KEY}2", str(path))
    assert found == {"app": f"{KEY}1", "key-2": f"{KEY}2", "web": KEY, "key-4": f"{KEY[::-1]}=="}
    assert read_keys("", None) == {}
    path.write_text("# nothing\n")
    with pytest.raises(InvalidSettings, match="no key in it"):
        read_keys("", str(path))
    with pytest.raises(InvalidSettings, match="two keys"):
        read_keys(f"a={KEY},a={KEY}x", None)


def test_bundles_by_name():
    assert read_sources(()) == {"default": None}
    assert read_sources(("a/b", "x=c/d")) == {"b": "a/b", "x": "c/d"}
    assert read_sources(("org/name@" + "0" * 40,)) == {"name": "org/name@" + "0" * 40}
    for bad in (("a/b", "c/b"), ("=x",), ("x=",)):
        with pytest.raises(InvalidSettings):
            read_sources(bad)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "no key is set"),
        (["--bundle", "no/such/folder"], "no/such/folder"),
        (["--key-file", "no-such-file"], "no-such-file"),
    ],
)
def test_the_command_stops_with_one_line(arguments, words, monkeypatch):
    monkeypatch.delenv("RELGRADE_API_KEYS", raising=False)
    result = CliRunner().invoke(main, ["serve", *arguments])
    assert result.exit_code == 2
    assert words in result.output
    assert "Traceback" not in result.output


def test_a_port_that_is_taken_is_told(tmp_path, monkeypatch):
    import socket

    from relgrade import serve as server

    fake_bundle(tmp_path / "bundle")
    monkeypatch.setattr(
        server, "load_bundle_and_runtime", lambda source, n_threads: (server_bundle(source), FakeRuntime())
    )
    monkeypatch.setattr(server, "log_as_json", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(main, ["serve", "--bundle", str(tmp_path / "bundle"), "--port", port])
    assert result.exit_code == 2
    assert port in result.output


def server_bundle(source):
    from relgrade.bundle import load_bundle

    return load_bundle(source)


def test_without_its_packages_the_door_says_what_to_install():
    code = "import sys; sys.modules['{}'] = None\nimport relgrade.{}"
    for package, part, extra in (("fastapi", "serve", "serve"), ("httpx", "client", "client")):
        done = subprocess.run([sys.executable, "-c", code.format(package, part)], capture_output=True, text=True)
        assert f"pip install 'relgrade[{extra}]'" in done.stderr


# --- caches


class FakeRedis:
    def __init__(self, *, fails=False):
        self.kept, self.fails = {}, fails

    async def mget(self, keys):
        if self.fails:
            raise ConnectionError("away")
        return [self.kept.get(key) for key in keys]

    def pipeline(self, transaction):
        return self

    async def __aenter__(self):
        self.waiting = {}
        return self

    async def __aexit__(self, *_):
        pass

    def set(self, key, value, ex):
        assert ex > 0
        self.waiting[key] = value.encode()

    async def execute(self):
        if self.fails:
            raise ConnectionError("away")
        self.kept |= self.waiting


def test_redis_gives_back_what_it_was_given_and_believes_nothing_else():
    redis = FakeRedis()
    cache = RedisCache(redis)

    async def run():
        await cache.put({"a": READING})
        redis.kept["relgrade:1:bad"] = b"[NaN, true, 1]"
        redis.kept["relgrade:1:odd"] = b'{"x": 1}'
        redis.kept["relgrade:1:text"] = b"\xff"
        return await cache.get(["a", "b", "bad", "odd", "text"])

    assert asyncio.run(run()) == {"a": READING}


def test_a_redis_that_is_away_stops_no_grade(tmp_path):
    app = make_app(tmp_path / "bundle", cache=RedisCache(FakeRedis(fails=True)))
    response = ask(app, "/v1/grade", {"query": "q", "documents": ["a"]})
    assert response.status_code == 200
    assert response.json()["timings"]["n_cached"] == 0


def test_two_servers_share_a_redis(tmp_path):
    redis, runtime = FakeRedis(), FakeRuntime()
    body = {"query": "q", "documents": ["a", "b"]}
    first = ask(make_app(tmp_path / "bundle", cache=RedisCache(redis)), "/v1/grade", body).json()
    second = ask(make_app(tmp_path / "bundle", runtime=runtime, cache=RedisCache(redis)), "/v1/grade", body).json()
    assert first["results"] == second["results"]
    assert second["timings"]["n_cached"] == 2
    assert "q" not in "".join(key.removeprefix("relgrade:1:")[:1] for key in redis.kept)
    assert len(runtime.calls) == 1  # the golden pairs


def test_the_memory_cache_pushes_out_the_longest_unused():
    cache = MemoryCache(2)

    async def run():
        await cache.put({"a": READING, "b": READING})
        await cache.get(["a"])
        await cache.put({"c": READING})
        return await cache.get(["a", "b", "c"])

    assert set(asyncio.run(run())) == {"a", "c"}


def test_keys_tell_pairs_apart():
    keys = {
        pair_key("h", "ab", "c"),
        pair_key("h", "a", "bc"),
        pair_key("h", "a:b", "c"),
        pair_key("g", "ab", "c"),
        pair_key("h", "\ud800", "c"),
    }
    assert len(keys) == 5
