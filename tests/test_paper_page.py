"""docs/paper.md shows what benchmarks/paper/results hold."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("make_paper", ROOT / "docs" / "make_paper.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_those_of_the_results(maker):
    assert maker.filled(PAGE) == PAGE, "run python docs/make_paper.py"


def test_every_question_has_a_table(maker):
    names = {part["name"] for part in maker.PART.finditer(PAGE)}
    assert names >= {"rows on multihop_rag_top20", "balance", "head and pooling", "cost", "noise", "size", "transfer"}
    assert len(re.findall("<!-- table", PAGE)) == len(re.findall("<!-- /table", PAGE)) == len(names)


def test_a_table_without_results_is_an_error(maker):
    with pytest.raises(KeyError, match="nothing"):
        maker.filled("<!-- table nothing -->\n<!-- /table -->")
