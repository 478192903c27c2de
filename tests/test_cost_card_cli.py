import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("bm25s")

from card_case import WORDS, SameWord, WordVectors, count_tokens
from fake_runtime import fake_bundle
from relgrade.candidates.settings import METHODS
from relgrade.cli import card as command
from relgrade.cli import card_run, main
from relgrade.grade import grader as grader_module
from relgrade.grade.grader import Grader

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "card.md"


@pytest.fixture
def runtime():
    return SameWord()


@pytest.fixture
def run(tmp_path, monkeypatch, runtime):
    """Run the command in an empty folder with a grader that knows eight words."""

    def load(source, *, operating_point, n_threads):
        return Grader(fake_bundle(tmp_path / "bundle"), runtime, operating_point=operating_point)

    monkeypatch.setattr(card_run.Grader, "load", load)
    monkeypatch.setattr(card_run, "_encoder", lambda grader, n_threads: WordVectors())
    monkeypatch.setattr(card_run, "token_counter", lambda grader: count_tokens)
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments):
        return CliRunner().invoke(main, ["card", "--draws", "20", "--timed", "1", *map(str, arguments)])

    return invoke


@pytest.fixture
def files(tmp_path):
    """Questions with lists of their own, other questions, and a corpus."""

    def write(name, rows):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def questions(words):
        return [{"id": f"q-{word}", "query": f"where is {word}", "relevant": [f"{word}0"]} for word in words]

    corpus = [{"id": f"{word}{n}", "text": f"The {word} is {n}. Rain fell."} for word in WORDS for n in range(2)]
    write("corpus.jsonl", corpus)
    write("questions.jsonl", questions(WORDS[:4]))
    write("calibration.jsonl", questions(WORDS[4:]))
    retrieved = [{"id": each["id"], "text": each["text"]} for each in corpus]
    write("with_lists.jsonl", [{**each, "retrieved": retrieved} for each in questions(WORDS[:4])])
    rows = [
        {"query_id": each["id"], "query": each["query"], "doc_id": found["id"], "document": found["text"]}
        for each in questions(WORDS[:4])
        for found in corpus
    ]
    write("lists.jsonl", rows)
    return tmp_path


def test_the_methods_are_those_of_candidates():
    assert command._METHODS == METHODS


def test_a_card_of_a_corpus(run, files, runtime):
    arguments = ["--queries", "questions.jsonl", "--corpus", "corpus.jsonl", "--calibration", "calibration.jsonl"]
    written = ["--json", "out/card.json", "--html", "out/card.html", "--markdown", "out/card.md"]
    result = run(*arguments, *written)
    assert result.exit_code == 0, result.output
    made = json.loads((files / "out" / "card.json").read_text())
    rows = {row["filter"]: row for row in made["rows"]}
    assert made["sample"]["n_calibration_questions"] == 4
    assert made["limits"]["chosen_on"] == "the calibration questions"
    assert made["about"]["n_documents"] == 16
    assert rows["relgrade balanced"]["recall"]["value"] == 1.0
    assert "| relgrade + compress " in result.stdout
    assert "<h1>questions.jsonl: what grading is worth</h1>" in (files / "out" / "card.html").read_text()
    assert "| relgrade + compress | 0.50" in (files / "out" / "card.md").read_text()
    # What was read stays beside the card, and is not read again.
    runtime.calls.clear()
    again = run(*arguments, *written)
    assert again.exit_code == 0
    assert runtime.calls == []


@pytest.mark.parametrize("source", [["with_lists.jsonl"], ["questions.jsonl", "--lists", "lists.jsonl"]])
def test_a_card_of_the_systems_own_lists(run, files, source):
    result = run("--queries", *source, "--top", "6", "--no-compress", "--json", "card.json")
    assert result.exit_code == 0, result.output
    made = json.loads((files / "card.json").read_text())
    assert made["sample"]["n_top"] == 6
    assert made["limits"]["chosen_on"] == "the other half of the questions"
    assert "relgrade + compress" not in {row["filter"] for row in made["rows"]}
    assert {path.name for path in files.iterdir()} >= {"card.json", "card.json.work"}


def test_nothing_is_left_behind_without_a_place(run, files):
    before = set(files.iterdir())
    result = run("--queries", "with_lists.jsonl")
    assert result.exit_code == 0, result.output
    assert set(files.iterdir()) - before == {files / "bundle"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--queries", "missing.jsonl", "--corpus", "corpus.jsonl"], "missing.jsonl"),
        (["--queries", "questions.jsonl"], "no question has a list in `retrieved`; bring lists with --lists"),
        (["--queries", "questions.jsonl", "--corpus", "corpus.jsonl", "--lists", "lists.jsonl"], "give one"),
        (["--queries", "with_lists.jsonl", "--calibration-lists", "lists.jsonl"], "belongs to --calibration"),
        (
            ["--queries", "questions.jsonl", "--corpus", "corpus.jsonl", "--calibration", "with_lists.jsonl"],
            "a limit must be chosen on other questions",
        ),
        (["--queries", "questions.jsonl", "--corpus", "corpus.jsonl", "--point", "x"], "x"),
    ],
)
def test_what_contradicts_itself_is_said_in_a_line(run, files, arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_an_interrupted_run_says_how_to_go_on(run, files, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(card_run, "read_lists", stop)
    result = run("--queries", "with_lists.jsonl", "--work", "kept")
    assert result.exit_code == 130
    assert "what was read stays in kept" in result.stderr


# --- the page


@pytest.fixture
def example(tmp_path, monkeypatch):
    if not grader_module.DEFAULT_BUNDLE.is_dir():
        pytest.skip("this checkout has no embedded grader")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def test_the_page_runs(example, capsys):
    """The command and the code of the page, on the example corpus and the embedded grader."""
    text = PAGE.read_text(encoding="utf-8")
    shell = "".join(re.findall(r"^```sh\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE))
    lines = [line for line in shell.replace("\\\n", " ").splitlines() if "examples/" in line]
    assert lines
    for line in lines:
        result = CliRunner().invoke(main, shlex.split(line, comments=True)[1:])
        assert result.exit_code == 0, result.output
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    exec(compile(code, str(PAGE), "exec"), {})
    said = [line.removeprefix("# -> ") for line in code.splitlines() if line.startswith("# -> ")]
    assert said
    assert capsys.readouterr().out.splitlines() == said
