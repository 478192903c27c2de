import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_runtime import fake_bundle, fake_manifest
from relgrade.bundle import render_card
from relgrade.bundle.card import RUBRICS, escape
from relgrade.records import Calibration, OperatingPoint

PROVENANCE = {
    "base": {"name": "all-MiniLM-L6-v2", "sha256": "5" * 64},
    "sources": [
        {"name": "squad2", "licence": "CC BY-SA 4.0", "n_pairs": 1200, "n_queries": 300},
        {"licence": "MIT", "name": "chunking", "n_pairs": 400, "n_queries": 90},
    ],
    "metrics": {"macro_ap": 0.61234, "nq": {"ap": 0.94, "brier": 0.1}, "squad2": {"ap": 0.5, "n": 10}},
    "seed": 7,
}


@pytest.fixture
def card():
    return render_card(fake_manifest(provenance=PROVENANCE, rubric="answer-bearing or partial evidence"))


def rows(card, heading):
    section = card.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("|")]


def test_a_card_says_what_the_manifest_says(card):
    assert card.startswith("# fake\n")
    assert RUBRICS["answer-bearing or partial evidence"] in card
    assert "(answer\\-bearing or partial evidence)" in card
    assert "Licence: Apache\\-2.0." in card
    assert 'Grader.load("path/to/this/folder")' in card
    assert "probability = sigmoid(1.5 logit - 0.25), method platt" in card
    assert "- n\\_queries: 40" in card
    assert "- **balanced** (default): threshold 0.5000\n  - f1: 0.8" in card
    assert "- **strict**: threshold 0.9000\n  - no evidence recorded" in card
    assert "- seed: 7" in card
    assert "  - name: all\\-MiniLM\\-L6\\-v2" in card


def test_sources_and_metrics_are_tables(card):
    assert rows(card, "Training data") == [
        "| name | licence | n\\_pairs | n\\_queries |",
        "| --- | --- | --- | --- |",
        "| squad2 | CC BY\\-SA 4.0 | 1200 | 300 |",
        "| chunking | MIT | 400 | 90 |",
    ]
    assert rows(card, "Measured quality") == [
        "| measure | value |",
        "| --- | --- |",
        "| macro\\_ap | 0.6123 |",
        "|  | ap | brier | n |",
        "| --- | --- | --- | --- |",
        "| nq | 0.94 | 0.1 |  |",
        "| squad2 | 0.5 |  | 10 |",
    ]


def test_what_is_not_known_is_not_invented():
    card = render_card(fake_manifest(rubric="house rules", calibration=Calibration()))
    assert "The name of the rubric is all that is recorded." in card
    assert "## Training data\n\nNot recorded." in card
    assert "## Measured quality" not in card


def test_the_card_in_a_bundle_is_the_card_of_its_manifest(tmp_path):
    bundle = fake_bundle(tmp_path / "b", provenance=PROVENANCE)
    assert (bundle.folder / "README.md").read_text(encoding="utf-8") == render_card(bundle.manifest)
    for name, entry in bundle.manifest.files.items():
        assert (entry.sha256 in render_card(bundle.manifest)) == (name != "README.md")


HOSTILE = [
    "<script>alert(1)</script>",
    "[click](javascript:alert(1))",
    "![x](http://example.com/x.png)",
    "a | b\n| --- |\n# heading",
    "`code` **bold** ~~no~~ $math$",
    "\u202egnp.exe \x1b[31m \ud800",
    "&lt;b&gt;",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_untrusted_text_stays_text(text):
    benign = render_card(fake_manifest(description="x", provenance={"sources": [{"name": "x"}], "x": {"x": "x"}}))
    hostile = render_card(fake_manifest(description=text, provenance={"sources": [{"name": text}], text: {text: text}}))
    hostile.encode("utf-8")
    assert len(hostile.splitlines()) == len(benign.splitlines())
    prose = re.sub(r"```python.*?```", "", hostile, flags=re.DOTALL)
    for pattern in ("<", r"(?<!\\)\[", r"(?<!\\)!\[", "\u202e", "\x1b"):
        assert not re.search(pattern, prose), pattern


@given(st.text())
def test_escaped_text_is_one_line_without_markup(text):
    escaped = escape(text)
    escaped.encode("utf-8")
    assert len(escaped.splitlines()) <= 1
    assert len(escaped) <= 5 * 300
    assert not re.search(r"(?<!\\)(\\\\)*[`*_\[\]|]", escaped)
    assert "<" not in escaped


def test_long_tables_are_cut_and_say_so():
    points = tuple(OperatingPoint(f"p{i}", 0.5) for i in range(3))
    sources = [{"name": f"s{i}"} for i in range(70)]
    provenance = {"sources": sources}
    card = render_card(fake_manifest(operating_points=points, default_point="p1", provenance=provenance))
    assert "10 more rows stand in bundle.json." in card
    assert "- **p1** (default)" in card
