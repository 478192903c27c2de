"""Runs the code of the pages on frameworks, and of two more; a page is skipped where its framework is not there."""

import contextlib
import importlib
import importlib.metadata
import io
import os
import re
from pathlib import Path

import pytest

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # DSPy's library would fetch a list of prices

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {
    "langchain": "langchain_core",
    "langgraph": "langgraph",
    "llamaindex": "llama_index.core",
    "haystack": "haystack",
    "mcp": "mcp",
    "dspy": "dspy",
    "pydantic-ai": "pydantic_ai",
    "shadow": "relgrade",
    "cache": "relgrade",
}
BLOCK = re.compile(r"^```python *(?P<needs>[^\n]*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
OUTPUT = "# -> "


def is_met(needs):
    """Whether `name>=1.8` is installed; nothing is always met."""
    if not needs:
        return True
    name, version = needs.split(">=")
    found = importlib.metadata.version(name).split(".")
    return [int(part) for part in found[:2]] >= [int(part) for part in version.split(".")]


@pytest.mark.parametrize("page", PAGES, ids=[f"page_of_{name}" for name in PAGES])
@pytest.mark.filterwarnings("default")
def test_the_code_prints_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # pages may make folders
    pytest.importorskip(PAGES[page], exc_type=ImportError)
    namespace = {"__name__": "page"}
    blocks = [match for match in BLOCK.finditer((DOCS / f"{page}.md").read_text(encoding="utf-8"))]
    assert blocks
    for block in blocks:
        if not is_met(block["needs"]):
            continue
        said = [line.removeprefix(OUTPUT) for line in block["code"].splitlines() if line.startswith(OUTPUT)]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block["code"], f"{page}.md", "exec"), namespace)
        assert printed.getvalue().splitlines() == said


def test_every_page_of_a_framework_is_listed_and_linked():
    index = (DOCS / "integrations.md").read_text(encoding="utf-8")
    for page in set(PAGES) - {"shadow", "cache"}:
        assert f"]({page}.md)" in index
        assert (DOCS / f"{page}.md").is_file()
