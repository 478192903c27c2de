"""Pages whose tables are filled by a script show what the results hold."""

import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
TABLES = {
    "paper": {
        *("rows on multihop_rag_top20", "rows on multihop_rag", "balance", "head and pooling", "cost"),
        *("transfer", "trained transfer", "noise", "size"),
    },
    "performance": {"race, 1 thread", "race, 2 threads", "tiers", "growth"},
}


@pytest.fixture(scope="module")
def makers():
    found = {}
    for name in TABLES:
        spec = importlib.util.spec_from_file_location(f"make_{name}", DOCS / f"make_{name}.py")
        found[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found[name])
    return found


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_are_those_of_the_results(makers, name):
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert makers[name].filled(page) == page, f"run python docs/make_{name}.py"
    assert {part["name"] for part in makers[name].PART.finditer(page)} == TABLES[name]
    assert len(re.findall("<!-- table", page)) == len(re.findall("<!-- /table", page)) == len(TABLES[name])


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_results_is_an_error(makers, name):
    with pytest.raises(KeyError, match="nothing"):
        makers[name].filled("<!-- table nothing -->\n<!-- /table -->")


def test_a_race_says_rate_latency_and_ratios(makers):
    maker = makers["performance"]
    cell = {"pairs_a_second": 35.44, "p50_ms": 585.2, "p95_ms": 796.1, "cpu_ratio": [3.874, 3.32, 4.66]}
    found = maker.race({"contenders": {"ours": {**dict.fromkeys(maker.KINDS, cell), "peak_mb": 1202.4}}})
    assert "| ours | 35.4 | 585 | 796 | 3.87 [3.32, 4.66] | 3.87 [3.32, 4.66] | 3.87 [3.32, 4.66] | 1,202 |" in found
