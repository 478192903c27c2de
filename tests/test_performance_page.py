"""docs/performance.md shows what benchmarks/results hold."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("make_performance", ROOT / "docs" / "make_performance.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_those_of_the_results(maker):
    assert maker.filled(PAGE) == PAGE, "run python docs/make_performance.py"
    assert {part["name"] for part in maker.PART.finditer(PAGE)} == {
        "race, 1 thread",
        "race, 2 threads",
        "tiers",
        "growth",
    }


def test_a_race_says_rate_latency_and_ratios(maker):
    cell = {"pairs_a_second": 35.44, "p50_ms": 585.2, "p95_ms": 796.1, "cpu_ratio": [3.874, 3.32, 4.66]}
    found = maker.race({"contenders": {"ours": {**dict.fromkeys(maker.KINDS, cell), "peak_mb": 1202.4}}})
    assert "| ours | 35.4 | 585 | 796 | 3.87 [3.32, 4.66] | 3.87 [3.32, 4.66] | 3.87 [3.32, 4.66] | 1,202 |" in found
