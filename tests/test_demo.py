import importlib.util
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from relgrade import Grade, GradedList, OperatingPoint

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("relgrade_demo", ROOT / "examples" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


class ScriptedGrader:
    """Keeps exactly the documents that `keeps(query, document)` names."""

    operating_point = OperatingPoint("balanced", 0.5)
    bundle = SimpleNamespace(hash="f" * 64)

    def __init__(self, keeps):
        self.keeps = keeps

    def grade(self, query, documents):
        grades = []
        for index, document in enumerate(documents):
            relevant = self.keeps(query, document)
            logit = (2.0 if relevant else -2.0) - index / 1000
            probability = 0.875 if relevant else 0.125
            grades.append(Grade(index, logit, probability, relevant, "balanced", False, 1, document["id"], document))
        return GradedList(query, tuple(grades), self.operating_point, self.bundle.hash)


@pytest.fixture
def gold(demo):
    """Query text -> ids of the relevant documents."""
    return {row["query"]: set(row["relevant"]) for row in demo.read_jsonl(demo.QUERIES)}


def run(demo, grader, *arguments):
    file = io.StringIO()
    assert demo.main([*arguments], grader=grader, file=file) == 0
    return file.getvalue()


# --- the corpus


def test_the_corpus_is_what_the_readme_says(demo):
    documents = demo.read_jsonl(demo.DOCUMENTS)
    assert 40 <= len(documents) <= 45
    assert len({document["id"] for document in documents}) == len(documents)
    assert {document["metadata"]["subject"] for document in documents} == {"postgresql", "beekeeping", "space probes"}
    assert all(60 <= len(document["text"].split()) <= 220 for document in documents)
    assert all(document["title"] for document in documents)


def test_the_queries_point_at_documents_and_hold_the_hard_cases(demo):
    ids = {document["id"] for document in demo.read_jsonl(demo.DOCUMENTS)}
    queries = [demo.read_query(row) for row in demo.read_jsonl(demo.QUERIES)]
    assert len(queries) == len({query.query for query in queries}) == 12
    for query in queries:
        assert query.relevant | query.near_misses <= ids
        assert not query.relevant & query.near_misses
        assert query.note
    assert sum(not query.is_answerable for query in queries) == 2
    assert sum(bool(query.near_misses) for query in queries) >= 8


# --- the tables


def test_a_grader_that_is_always_right_is_counted_as_such(demo, gold):
    grader = ScriptedGrader(lambda query, document: document["id"] in gold[query])
    summary = json.loads(run(demo, grader, "--json"))["summary"]
    n_gold = sum(map(len, gold.values()))
    assert summary["kept"] == summary["relevant"] == summary["relevant_kept"] == n_gold
    assert summary["precision"] == summary["recall"] == 1.0
    assert summary["near_misses_kept"] == summary["queries_losing_all"] == summary["unanswerable_with_a_keep"] == 0


def test_a_grader_that_keeps_everything_is_counted_as_such(demo, gold):
    summary = json.loads(run(demo, ScriptedGrader(lambda *_: True), "--json"))["summary"]
    assert summary["kept"] == summary["pairs"] == 12 * len(demo.read_jsonl(demo.DOCUMENTS))
    assert summary["recall"] == 1.0
    assert summary["precision"] == pytest.approx(sum(map(len, gold.values())) / summary["pairs"])
    assert summary["near_misses_kept"] == summary["near_misses"] > 0
    assert summary["unanswerable_with_a_keep"] == summary["unanswerable"] == 2


def test_a_grader_that_keeps_nothing_has_no_precision(demo):
    output = run(demo, ScriptedGrader(lambda *_: False))
    assert "precision - (0 of 0), recall 0.00 (0 of 12)" in " ".join(output.split())
    assert "lost every answer: 10 of 10" in " ".join(output.split())


def test_kept_documents_come_first_and_the_rest_is_counted(demo, gold):
    kept_id = "sp-osiris-rex"  # the last of the corpus
    n_documents = len(demo.read_jsonl(demo.DOCUMENTS))
    output = run(demo, ScriptedGrader(lambda _, document: document["id"] == kept_id), "--rows", "2")
    block = output.split("q04 ")[1].split("q05 ")[0].splitlines()
    assert block[1].startswith("unanswerable")
    assert [cell in block[3] for cell in ("0.875", "kept", "OSIRIS-REx at Bennu")] == [True] * 3
    assert [cell in block[4] for cell in ("0.125", "dropped")] == [True] * 2
    assert f"and {n_documents - 2} more: 0 kept, {n_documents - 2} dropped" in block[5]


def test_a_relevant_document_that_was_dropped_is_shown_however_low(demo):
    output = run(demo, ScriptedGrader(lambda *_: False), "--rows", "1")
    block = output.split("q11 ")[1].split("q12 ")[0]
    (line,) = [line for line in block.splitlines() if "Hayabusa2 at Ryugu" in line]
    assert "dropped" in line
    assert " * " in line


@pytest.mark.parametrize("columns", ["80", "50"])
def test_tables_fit_the_terminal_and_a_pipe_gets_no_colour(demo, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    output = run(demo, ScriptedGrader(lambda *_: True))
    assert max(map(len, output.splitlines())) <= int(columns)
    assert "\x1b" not in output


def test_titles_are_never_read_as_markup(demo, monkeypatch, tmp_path):
    documents = [{"id": "x", "title": "[red]alarm[/red] [/] :bee:", "text": "t", "metadata": {}}]
    path = tmp_path / "documents.jsonl"
    path.write_text(json.dumps(documents[0]) + "\n", encoding="utf-8")
    monkeypatch.setattr(demo, "DOCUMENTS", path)
    assert "[red]alarm[/red] [/] :bee:" in run(demo, ScriptedGrader(lambda *_: True))


def test_a_terminal_without_unicode_gets_ascii(demo):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    assert demo.main([], grader=ScriptedGrader(lambda *_: True), file=file) == 0
    file.flush()
    assert b"#########" in raw.getvalue()


def test_json_holds_every_grade_in_the_order_of_the_table(demo, gold):
    n_documents = len(demo.read_jsonl(demo.DOCUMENTS))
    found = json.loads(run(demo, ScriptedGrader(lambda query, document: document["id"] in gold[query]), "--json"))
    assert len(found["queries"]) == 12
    for query in found["queries"]:
        kept = [document["kept"] for document in query["documents"]]
        assert len(kept) == n_documents
        assert kept == sorted(kept, reverse=True)
        assert query["answerable"] == any(document["relevant"] for document in query["documents"])


def test_a_missing_bundle_is_one_line_and_exit_code_2(demo, capsys, tmp_path):
    assert demo.main(["--bundle", str(tmp_path / "nowhere")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("demo: ")
    assert len(message.splitlines()) == 1
