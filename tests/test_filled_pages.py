"""Pages whose tables are filled by a script show what the results hold."""

import importlib.util
import re
from pathlib import Path

import pytest
from benchmarks.speed import tables

DOCS = Path(__file__).parent.parent / "docs"
NAMES = {
    "paper.md": {
        *("rows on multihop_rag_top20", "rows on multihop_rag", "balance", "head and pooling", "cost"),
        *("transfer", "trained transfer", "noise", "size", "more queries"),
    },
    "performance.md": {"race, 1 thread", "race, 2 threads", "tiers", "growth"},
}


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("make_tables", DOCS / "make_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_the_tables_are_those_of_the_results(maker, name):
    page = (DOCS / name).read_text(encoding="utf-8")
    assert maker.filled(page, maker.tables_of_pages()[name]) == page, "run python docs/make_tables.py"
    assert {part["name"] for part in maker.PART.finditer(page)} == NAMES[name]
    assert len(re.findall("<!-- table", page)) == len(re.findall("<!-- /table", page)) == len(NAMES[name])


def test_a_table_without_results_is_an_error(maker):
    with pytest.raises(KeyError, match="nothing"):
        maker.filled("<!-- table nothing -->\n<!-- /table -->", maker.tables_of_pages()["paper.md"])


def test_a_race_says_rate_latency_and_ratios():
    cell = {"pairs_a_second": 35.44, "p50_ms": 585.2, "p95_ms": 796.1, "cpu_ratio": [3.874, 3.32, 4.66]}
    found = tables.race({"contenders": {"ours": {**dict.fromkeys(tables.KINDS, cell), "peak_mb": 1202.4}}})
    assert "| ours | 35.4 | 585 | 796 | 3.87 [3.32, 4.66] | 3.87 [3.32, 4.66] | 3.87 [3.32, 4.66] | 1,202 |" in found
