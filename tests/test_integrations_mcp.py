import asyncio
import json

import pytest

pytest.importorskip("mcp")

import mcp

from integration_case import (
    BEST_FIRST,
    BUNDLE_HASH,
    KEPT_TEXTS,
    PAGES,
    QUERY,
    TEXTS,
    AsyncWordGrader,
    WordGrader,
    fake_client,
)
from relgrade.integrations.mcp import MAX_DOCUMENTS, create_server
from relgrade.records import KeepPolicy


def call(server, query, documents):
    async def run():
        async with mcp.Client(server) as client:
            return await client.call_tool("grade_relevance", {"query": query, "documents": documents})

    return asyncio.run(run())


def test_the_server_has_one_tool_that_says_what_it_takes():
    async def run():
        async with mcp.Client(create_server(WordGrader())) as client:
            return (await client.list_tools()).tools

    (tool,) = asyncio.run(run())
    assert tool.name == "grade_relevance"
    assert set(tool.input_schema["required"]) == {"query", "documents"}
    assert "any_relevant" in json.dumps(tool.output_schema)


@pytest.mark.parametrize("grader", [WordGrader(), AsyncWordGrader()])
def test_a_call_returns_what_to_read_and_every_verdict(grader):
    documents = [*TEXTS[:4], {"id": "last", "title": "Red", "text": "an apple"}]
    found = call(create_server(grader), QUERY, documents).structured_content
    assert found["kept"] == [*BEST_FIRST, 4]
    assert found["any_relevant"] is True
    assert [each["index"] for each in found["results"]] == list(range(5))
    assert [each["is_kept"] for each in found["results"]] == [False, True, False, True, True]
    assert found["results"][4]["id"] == "last"
    assert found["results"][0]["verdict"] == "not relevant"
    assert (found["bundle_hash"], found["operating_point"], found["error"]) == (BUNDLE_HASH, "balanced", None)


@pytest.mark.parametrize("compress", [False, True])
def test_results_tell_evidence_and_what_is_worth_reading(compress):
    found = call(create_server(WordGrader(), evidence=True, compress=compress), QUERY, PAGES).structured_content
    for i, each in enumerate(found["results"]):
        assert each["text"] == (KEPT_TEXTS.get(i) if compress else None)
        assert bool(each["evidence"]) == each["is_kept"]
        assert all(PAGES[i][span["start"] : span["end"]] == span["text"] for span in each["evidence"])
    plain = call(create_server(WordGrader()), QUERY, PAGES).structured_content
    assert all((each["evidence"], each["text"]) == (None, None) for each in plain["results"])


def test_nothing_relevant_and_nothing_at_all():
    found = call(create_server(WordGrader(), policy=KeepPolicy(min_keep=1)), "plum", TEXTS).structured_content
    assert (found["any_relevant"], len(found["kept"])) == (False, 1)
    assert call(create_server(WordGrader()), QUERY, []).structured_content["results"] == []


def test_a_failure_fails_the_call_or_is_told():
    failed = call(create_server(WordGrader(fails=True)), QUERY, TEXTS)
    assert failed.is_error
    assert "nan" in failed.content[0].text
    found = call(create_server(WordGrader(fails=True), on_error="keep_all"), QUERY, TEXTS).structured_content
    assert (len(found["kept"]), found["error"]) == (5, "GradingError: the model gave nan")
    assert {each["verdict"] for each in found["results"]} == {None}


@pytest.mark.parametrize(("query", "documents"), [(" ", TEXTS), (QUERY, ["x"] * (MAX_DOCUMENTS + 1)), (QUERY, [3])])
def test_bad_arguments_fail_the_call(query, documents):
    assert call(create_server(WordGrader()), query, documents).is_error


def test_a_url_is_a_client(monkeypatch):
    made = fake_client(monkeypatch)
    create_server("http://localhost:1", operating_point="high-recall", api_key="k")
    assert (made[0].url, made[0].api_key, made[0].operating_point) == ("http://localhost:1", "k", "high-recall")


def test_the_command_makes_the_server_it_is_told_to(monkeypatch):
    from click.testing import CliRunner

    from relgrade.cli import main
    from relgrade.integrations import mcp as module

    made = fake_client(monkeypatch)
    runs = []
    monkeypatch.setattr(module.MCPServer, "run", lambda self, *given, **options: runs.append((given, options)))
    invoke = CliRunner(env={"RELGRADE_API_KEY": "k"}).invoke
    done = invoke(main, ["mcp", "--grader", "http://localhost:1", "--point", "high-recall", "--max-keep", "3"])
    assert (done.exit_code, done.output) == (0, "")
    assert (made[0].api_key, made[0].operating_point) == ("k", "high-recall")
    sentences = invoke(main, ["mcp", "--grader", "http://localhost:1", "--evidence", "--compress"])
    assert (sentences.exit_code, runs.pop()) == (0, (("stdio",), {}))
    again = invoke(main, ["mcp", "--grader", "http://localhost:1", "--transport", "streamable-http", "--port", "9"])
    assert again.exit_code == 0
    assert runs == [(("stdio",), {}), (("streamable-http",), {"host": "127.0.0.1", "port": 9})]
    assert invoke(main, ["mcp", "--grader", "nowhere"]).exit_code == 2
