"""A judge behind a server is a row: its unparsed replies are a third state, and it is paid once."""

import gzip
import json
from pathlib import Path

import pytest

from fake_teacher import FakeTeacher, Reply, completion, document_of
from paper_case import settings_of, write_data
from relgrade.errors import InvalidSettings, TeacherError
from relgrade.paper.readings import Reply as Verdict
from relgrade.paper.reply_diagnoses import diagnose_replies
from relgrade.paper.results import read_results
from relgrade.paper.settings import PaperSettings
from relgrade.paper.table import run_rows


def table_of(folder, url):
    row = {"name": "judge", "method": "judge", "url": url, "model": "tiny-70b"}
    return settings_of(write_data(folder), "unused", [row])


def test_a_judge_is_asked_once_and_counted_in_both_ways(tmp_path):
    n_asked = 0

    def script(request, path):
        nonlocal n_asked
        n_asked += 1
        words = document_of(request).split()
        return Reply(body=completion("I would rather not say" if len(words) % 2 else "PASS"))

    with FakeTeacher(script) as teacher:
        table = table_of(tmp_path, teacher.url)
        (path,) = run_rows(table, output=tmp_path / "run", results=tmp_path / "results")
        path.unlink()  # the row is lost, its journal is not
        (path,) = run_rows(table, output=tmp_path / "run", results=tmp_path / "results")
    (row,) = read_results([path])
    found = {reading["rule"]: reading for reading in row["readings"]}
    # Relevant documents have eight words, the others seven: those are the ones it does not judge.
    assert found["replies that parse"]["precision"]["value"] == 1.0
    assert found["replies that parse"]["n_pairs"] == 12
    assert found["unparsed as FAIL"]["n_unparsed"] == 28
    assert found["unparsed as FAIL"]["accuracy"]["value"] == 1.0
    assert "argmax" not in found  # words alone: there is no probability to read
    assert n_asked == 40
    assert row["cost"]["n_parameters"] is None
    assert row["cost"]["n_requests"] == 40  # of both runs
    unparsed, same = row["diagnoses"]
    assert unparsed.startswith("28 of 40 replies hold no answer, or two")
    assert same.startswith("all 12 replies that parse say relevant, whatever the pair; give another rubric")


def test_replies_that_differ_have_no_diagnosis():
    said = [Verdict(True, "PASS"), Verdict(False, "FAIL"), Verdict(None, "well")]
    assert not list(diagnose_replies(said, "judge"))
    assert not list(diagnose_replies([Verdict(True, "PASS"), Verdict(None, "")], "judge"))  # half of two, one verdict
    assert not list(diagnose_replies([], "judge"))


def test_advice_is_what_the_method_can_follow():
    same = [Verdict(False, "FAIL")] * 3
    judge, stock, trained = (next(diagnose_replies(same, method)) for method in ("judge", "stock", "A"))
    assert "rubric" in judge
    assert "rubric" not in stock
    assert "rubric" not in trained
    assert "more pairs" in trained


RUBRIC = """
name = "mine"
version = 1
kind = "binary"
methods = ["text"]
question = "Is it?"
system = "Say Yes or No."
user = "{query} {document}"
[answers]
Yes = 1
No = 0
[criteria]
Yes = "it is"
No = "it is not"
[sampling]
max_tokens = 4
"""
TABLE = """
name = "judged"
train = "pairs.jsonl.gz"
calibration_pairs = 30
n_draws = 2
[[tests]]
name = "test"
path = "pairs.jsonl.gz"
[student]
base = "someone/unused"
n_labels = 2
[[rows]]
name = "judge"
method = "judge"
url = "{url}"
model = "tiny-70b"
rubric = "mine.toml"
"""


def test_a_rubric_lies_beside_its_table_and_a_changed_one_is_asked_again(tmp_path):
    write_data(tmp_path)
    asked, told, states = [], [], []

    def script(request, path):
        asked.append(request["messages"][0]["content"])
        return Reply(body=completion("Yes"))

    def run():
        table = PaperSettings.read(tmp_path / "judged.toml")
        where = {"output": tmp_path / "run", "results": tmp_path / "results"}
        (path,) = run_rows(
            table,
            on_row=lambda name, state: states.append(state),
            on_piece=lambda stage, done, total: told.append((stage, done, total)),
            **where,
        )
        return json.loads(path.read_text(encoding="utf-8"))

    with FakeTeacher(script) as teacher:
        (tmp_path / "judged.toml").write_text(TABLE.replace("{url}", teacher.url), encoding="utf-8")
        (tmp_path / "mine.toml").write_text(RUBRIC, encoding="utf-8")
        row = run()
        run()
        assert states.count("unchanged") == 1
        assert len(asked) == 40
        (tmp_path / "mine.toml").write_text(RUBRIC.replace("Say", "Answer"), encoding="utf-8")
        run()
        assert len(asked) == 80
        (tmp_path / "mine.toml").write_text(RUBRIC.replace("Say", "Answer") + "temperature = 0.5", encoding="utf-8")
        run()
        assert len(asked) == 120
    assert row["row"]["rubric"] == "mine.toml"  # not where it lay
    assert ("ask", 40, 40) in told
    (tmp_path / "mine.toml").unlink()
    with pytest.raises(InvalidSettings, match=r"mine\.toml: cannot be read"):
        run()


def test_a_request_without_a_reply_is_no_verdict(tmp_path):
    refuses = True

    def script(request, path):
        if refuses and "blue" in document_of(request):
            return Reply(422, {"error": {"message": "not today"}})
        return Reply(body=completion("PASS"))

    with FakeTeacher(script) as teacher:
        table = table_of(tmp_path, teacher.url)
        where = {"output": tmp_path / "run", "results": tmp_path / "results"}
        with pytest.raises(TeacherError, match=r"of 40 requests had no reply.*not today.*asks for the rest alone"):
            run_rows(table, **where)
        assert not list((tmp_path / "results").glob("*.json"))
        refuses = False
        (row,) = read_results(run_rows(table, **where))
    assert row["readings"][0]["n_unparsed"] == 0
    assert row["cost"]["n_requests"] == 40


def test_another_base_costs_a_judge_nothing(tmp_path):
    n_asked = 0

    def script(request, path):
        nonlocal n_asked
        n_asked += 1
        return Reply(body=completion("PASS"))

    with FakeTeacher(script) as teacher:
        table = table_of(tmp_path, teacher.url)
        for name in ("one", "other"):
            base = tmp_path / name
            base.mkdir()
            (base / "model.safetensors").write_text(name)
            (path,) = run_rows(table, output=tmp_path / "run", results=tmp_path / "results", base_folder=base)
            path.unlink()
    assert n_asked == 40


def test_a_judge_reads_as_many_words_as_a_student(tmp_path):
    longest = 0

    def script(request, path):
        nonlocal longest
        longest = max(longest, len(document_of(request).split()))
        return Reply(body=completion("FAIL"))

    with FakeTeacher(script) as teacher:
        table = table_of(tmp_path, teacher.url)
        path = Path(table.tests[0].path)
        rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        rows = [{**row, "document": row["document"] + " red" * 400} for row in rows]
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
        run_rows(table, output=tmp_path / "run", results=tmp_path / "results")
    assert longest == 300
