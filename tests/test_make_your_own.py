import html
import importlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from relgrade.bundle import load_bundle
from relgrade.settings import Recipe

pytest.importorskip("bm25s")
pytest.importorskip("httpx")
pytest.importorskip("jinja2")

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
TOP = 4  # documents per query, to be quick


def start(folder, *arguments):
    command = [sys.executable, EXAMPLES / "make_your_own.py", "--output", folder, "--top", str(TOP), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    output, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    assert not errors
    return output


def line_of(output, step):
    """What a step said in the end."""
    block = re.split(rf"(?m)^\d+ {step}\b.*\n", output)[1]
    return next(line.strip() for line in block.splitlines() if not line.startswith("  $ "))


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def n_answers(folder):
    """Answers of the teacher in the journal."""
    path = folder / "labels.jsonl.journal"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path, timeout=30)) as journal:
        try:
            return journal.execute("select count(*) from answers").fetchone()[0]
        except sqlite3.OperationalError:  # the table is being made
            return 0


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A story killed while the teacher answered: its folder, what the next run printed, the answers that one found."""
    folder = tmp_path_factory.mktemp("story") / "story"
    process = start(folder, "--answer-seconds", "0.2")
    end = time.monotonic() + 300
    while n_answers(folder) < 40:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder / "labels.jsonl").exists()
    n_there = n_answers(folder)
    return folder, finish(start(folder)), n_there


@pytest.fixture(scope="module")
def scripts():
    """The modules beside the story, importable as its folder is."""
    sys.path.insert(0, str(EXAMPLES))
    names = ("scripted_person", "scripted_teacher", "story_ledger", "story_table")
    yield type("Scripts", (), {name: importlib.import_module(name) for name in names})
    sys.path.remove(str(EXAMPLES))
    for name in names:
        del sys.modules[name]


@pytest.fixture(scope="module")
def gold():
    queries = rows(EXAMPLES / "story_queries.jsonl") + rows(EXAMPLES / "queries.jsonl")
    return {row["id"]: set(row["relevant"]) for row in queries}


# --- the whole story


def test_a_killed_story_goes_on_and_pays_for_no_label_twice(told):
    folder, output, n_there = told
    assert "1 candidates (unchanged)" in output
    assert "2 hold out (unchanged)" in output
    pairs = [row for row in rows(folder / "pairs.jsonl") if row["split"] == "train"]
    labels = rows(folder / "labels.jsonl")
    key = [(row["query_id"], row["doc_id"]) for row in labels]
    assert sorted(key) == sorted((row["query_id"], row["doc_id"]) for row in pairs)
    assert len(set(key)) == len(key)
    n_asked = int(line_of(output, "label").split(" labels, ")[1].split()[0])
    assert n_there >= 40
    assert n_asked == len(labels) - n_there > 0


def test_what_it_counts_is_what_the_files_hold(told, gold):
    folder, output, _ = told

    def n_wrong(name):
        return sum((row["label"] >= 0.5) != (row["doc_id"] in gold[row["query_id"]]) for row in rows(folder / name))

    before, after = n_wrong("labels.jsonl"), n_wrong("labels.corrected.jsonl")
    assert after < before
    assert f"gold knows that {before} are wrong" in line_of(output, "label")
    assert f"wrong labels before {before}, now {after}" in line_of(output, "relabel")
    corrected = [row for row in rows(folder / "labels.corrected.jsonl") if row.get("label_by") == "scripted-person"]
    assert corrected
    assert all(row["label"] == (row["doc_id"] in gold[row["query_id"]]) for row in corrected)


def test_the_test_queries_are_judged_by_people_and_seen_by_nobody_else(told, gold):
    folder, _, _ = told
    test = rows(folder / "test.jsonl")
    assert all(row["label"] == (row["doc_id"] in gold[row["query_id"]]) for row in test)
    held_out = {row["query_id"] for row in test}
    assert len(held_out) >= 20
    for name in ("labels.jsonl", "labels.corrected.jsonl"):
        assert not held_out & {row["query_id"] for row in rows(folder / name)}
    # The judgements do not travel with what the teacher and the grader are given.
    assert "near_misses" not in (folder / "pairs.jsonl").read_text(encoding="utf-8")


def test_the_table_and_the_page_say_what_was_measured(told):
    folder, output, _ = told
    table = {line.split()[0]: line for line in output.split("log loss\n")[1].splitlines()[:4]}
    assert list(table) == ["shipped", "on-teacher", "mine", "BM25"]
    for name in ("shipped", "on-teacher", "mine"):
        report = json.loads((folder / f"evaluation-{name}.json").read_text(encoding="utf-8"))
        measured = report["contenders"][0]["evaluation"]
        assert f"{measured['f1']['value']:.2f} ({measured['f1']['low']:.2f} to" in table[name]
    mine = load_bundle(folder / "mine").manifest
    assert f"{mine.point().threshold:.3f}" in table["mine"]
    assert "scripted person" in (folder / "mine" / "README.md").read_text(encoding="utf-8")
    mistakes = json.loads((folder / "evaluation-mine.json").read_text(encoding="utf-8"))["mistakes"]
    page = html.unescape((folder / "report.html").read_text(encoding="utf-8"))
    assert all(each["query"] in page for each in mistakes["false_drops"])


def test_run_again_it_does_nothing_and_says_the_same(told):
    folder, output, _ = told
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = finish(start(folder))
    assert again.count("(unchanged)") == 7
    assert "$ relgrade" not in again
    assert again.split("threshold  ")[-1] == output.split("threshold  ")[-1]
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- its parts


def test_the_queries_point_at_documents_and_are_enough_to_calibrate(gold):
    ids = {row["id"] for row in rows(EXAMPLES / "corpus" / "documents.jsonl")}
    queries = rows(EXAMPLES / "story_queries.jsonl")
    texts = [row["query"] for row in queries + rows(EXAMPLES / "queries.jsonl")]
    assert len(set(texts)) == len(texts) == len(gold) >= 80
    for row in queries:
        assert set(row["relevant"]) | set(row["near_misses"]) <= ids
        assert not set(row["relevant"]) & set(row["near_misses"])
    assert sum(not row["relevant"] for row in queries) >= 8


def test_the_teacher_is_wrong_as_often_as_it_says_and_always_in_the_same_places(scripts):
    teacher = scripts.scripted_teacher
    near = {f"q{i}": frozenset({"near"}) for i in range(2000)}
    gold = scripts.scripted_person.Gold({name: frozenset({"answer"}) for name in near}, near, {})
    for document, share in (
        ("answer", teacher.WRONG_ANSWER),
        ("near", teacher.WRONG_NEAR_MISS),
        ("far", teacher.WRONG_OTHER),
    ):
        said = [teacher.teacher_probability(gold, name, document) for name in near]
        assert said == [teacher.teacher_probability(gold, name, document) for name in near]
        wrong = sum((each >= 0.5) != (document == "answer") for each in said) / len(said)
        assert wrong == pytest.approx(share, abs=0.03)


def test_the_teacher_refuses_what_it_does_not_know(scripts):
    import httpx

    with scripts.scripted_teacher.ScriptedTeacher(scripts.scripted_person.Gold({}, {}, {})) as teacher:
        request = {"model": "m", "messages": [{"role": "user", "content": "Query:\nWhy?"}]}
        assert httpx.post(f"{teacher.url}/chat/completions", json=request, trust_env=False).status_code == 400
        assert httpx.post(f"{teacher.url}/elsewhere", json=request, trust_env=False).status_code == 404
        assert teacher.n_answered == 0


def test_steps_are_redone_from_the_first_that_changed(scripts, tmp_path):
    ledger, folder, done = scripts.story_ledger, tmp_path / "story", []

    def step(name, **about):
        path = folder / name

        def act():
            assert not path.exists(), "what another story left must be gone"
            path.write_text(name)
            done.append(name)
            return f"{name} done"

        return ledger.Step(name, act, (path,), about=about)

    def run(*steps, inputs=b"x"):
        done.clear()
        ledger.run_steps(steps, folder, inputs=[inputs], say=lambda line: None)
        return list(done)

    assert run(step("a"), step("b"), step("c")) == ["a", "b", "c"]
    assert run(step("a"), step("b"), step("c")) == []
    assert run(step("a"), step("b", n=2), step("c")) == ["b", "c"]
    (folder / "b").unlink()
    assert run(step("a"), step("b", n=2), step("c")) == ["b"]
    assert run(step("a"), step("b", n=2), step("c"), inputs=b"y") == ["a", "b", "c"]


def test_a_folder_with_other_files_is_left_alone(scripts, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    process = start(tmp_path)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert errors.startswith("make_your_own: ")
    assert "--output" in errors
    assert len(errors.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_command_that_fails_ends_the_story_with_its_reason(scripts, tmp_path):
    with pytest.raises(scripts.story_ledger.StoryError, match="nowhere"):
        scripts.story_ledger.run_relgrade("pairs", "stats", tmp_path / "nowhere.jsonl", say=lambda line: None)


def test_the_recipe_of_the_training_step_is_one():
    recipe = Recipe.read(EXAMPLES / "story_recipe.toml")
    assert recipe.student.architecture == "interaction"
    assert [Path(source.path).name for source in recipe.sources] == ["labels.corrected.jsonl"]
