"""Runs the scripts of examples/ on the first questions; a script is skipped where its framework is not installed."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = {
    "langchain_rag": "langchain_core",
    "llamaindex_rag": "llama_index.core",
    "haystack_rag": "haystack",
    "mcp_tool": "mcp",
}
pytestmark = pytest.mark.filterwarnings("default")  # the store and the frameworks warn of each other


@pytest.fixture
def load(monkeypatch):
    """A script of examples/, as Python runs it: with its folder on the path."""
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def read(name):
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    yield read
    sys.modules.pop("vector_store", None)


@pytest.fixture(scope="module")
def gold():
    rows = (EXAMPLES / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: set(row["relevant"]) for row in map(json.loads, rows)}


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_script_keeps_what_answers(script, load, gold, capsys):
    pytest.importorskip(SCRIPTS[script], exc_type=ImportError)
    pytest.importorskip("qdrant_client")
    kept = load(script).main(n_questions=2)
    assert list(kept) == ["q01", "q02"]
    assert any(set(found) & gold[name] for name, found in kept.items())  # which of them is a matter of the bundle
    assert all(len(found) < 8 for found in kept.values())  # and something was dropped
    assert "answered by: pg-slots" in capsys.readouterr().out


def test_the_corrective_graph_runs_with_and_without(load, capsys):
    pytest.importorskip("langgraph")
    pytest.importorskip("qdrant_client")
    without, keywords, ours = load("corrective_rag").main(n_questions=2)
    assert (without.documents, without.answer_kept, without.answerable) == (16, 2, 2)
    assert 0 < ours.documents < without.documents
    assert 0 < keywords.documents < without.documents
    assert ours.seconds > 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["node", "no", "keywords", "relgrade"]
