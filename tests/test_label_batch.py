import json
import random

import pytest

from fake_teacher import FakeTeacher, Judge, completion
from relgrade.errors import InvalidData, InvalidSettings
from relgrade.label.batch import export_batch, import_batch
from relgrade.label.labelling import label_pairs
from relgrade.label.output import read_labels
from relgrade.label.plan import Plan
from relgrade.label.rubric import Sampling, read_rubric
from relgrade.label.teacher import Price, Teacher
from relgrade.records import Pair


@pytest.fixture
def pairs():
    return [Pair(query_id="q", query="what", doc_id=f"d{i}", document=f"t{i} {'answer' * (i % 2)}") for i in range(20)]


def make_plan(url="http://localhost/v1", **teacher):
    return Plan(
        read_rubric("answer-bearing"), (Teacher(url=url, model="m", price=Price(input=1, output=1), **teacher),)
    )


@pytest.fixture
def export(tmp_path, pairs):
    def run(**options):
        return export_batch(lambda: pairs, make_plan(), journal=tmp_path / "j", output=tmp_path / "b.jsonl", **options)

    return run


def serve(paths):
    """What a batch service answers: lines of results, in order."""
    rows = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    return [result(row["custom_id"], Judge()(row["body"], row["url"]).body) for row in rows]


def result(key, body, *, status=200):
    return {
        "id": "x",
        "custom_id": key,
        "response": {"status_code": status, "request_id": "r", "body": body},
        "error": None,
    }


def labels_of(pairs, tmp_path):
    return [label.label for _, label in read_labels(lambda: pairs, make_plan(), journal=tmp_path / "j")]


def write(path, rows):
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def test_requests_are_lines_of_the_batch_format(export, tmp_path):
    done = export()
    assert (done.n_requests, [path.name for path in done.files]) == (20, ["b.jsonl"])
    rows = [json.loads(line) for line in done.files[0].read_text().splitlines()]
    assert {(row["method"], row["url"]) for row in rows} == {("POST", "/v1/chat/completions")}
    assert len({row["custom_id"] for row in rows}) == 20
    assert all(len(row["custom_id"]) <= 64 for row in rows)
    assert rows[0]["body"]["response_format"]["json_schema"]["schema"]["properties"]["answer"]["enum"] == ["Yes", "No"]


@pytest.mark.parametrize("method", ["json_schema", "logprobs", "text"])
def test_shuffled_results_become_labels(export, tmp_path, pairs, method):
    rows = serve(export(method=method).files)
    random.Random(0).shuffle(rows)
    report = import_batch(write(tmp_path / "r.jsonl", rows), journal=tmp_path / "j")
    assert (report.n_answers, report.n_unknown, report.bad_lines) == (20, 0, ())
    assert labels_of(pairs, tmp_path) == [i % 2 for i in range(20)]


def test_what_is_out_is_neither_exported_nor_asked_again(export, tmp_path, pairs):
    first = export()
    assert export().n_requests == 0
    with FakeTeacher() as server:
        done = label_pairs(lambda: pairs, make_plan(server.url), journal=tmp_path / "j")
        assert (server.n_paid, done.n_exported) == (0, 20)
        import_batch(write(tmp_path / "r.jsonl", serve(first.files)[:15]), journal=tmp_path / "j")
        again = export()
        assert (again.n_found, again.n_out, again.n_requests) == (15, 5, 0)
    assert labels_of(pairs, tmp_path).count(None) == 5


def test_what_was_answered_is_not_exported(tmp_path, pairs, export):
    with FakeTeacher() as server:
        label_pairs(lambda: pairs[:12], make_plan(server.url), journal=tmp_path / "j")
    done = export()
    assert (done.n_requests, done.n_found) == (8, 12)


def test_files_are_cut_at_the_limit(export):
    done = export(max_requests=8)
    assert [path.name for path in done.files] == ["b.jsonl", "b-2.jsonl", "b-3.jsonl"]
    assert [len(path.read_text().splitlines()) for path in done.files] == [8, 8, 4]


def test_errors_duplicates_strangers_and_torn_lines(export, tmp_path, pairs):
    rows = serve(export().files)
    other = {**rows[0], "response": {"status_code": 200, "body": completion('{"answer": "Yes"}')}}
    failed = result(rows[1]["custom_id"], {"error": {"message": "overloaded"}}, status=500)
    expired = {"custom_id": rows[2]["custom_id"], "response": None, "error": {"code": "batch_expired"}}
    unusable = result(rows[3]["custom_id"], completion("hm", refusal="I will not"))
    stranger = result("0" * 32, completion("Yes"))
    odd = [failed, expired, unusable, rows[0], other, stranger, '{"custom_id": "torn', "\n[]\n", "\n"]
    report = import_batch(write(tmp_path / "r.jsonl", odd), journal=tmp_path / "j")
    assert (report.n_answers, report.n_unusable, report.n_failed) == (1, 1, 2)
    assert (report.n_repeated, report.n_unknown, [bad.line for bad in report.bad_lines]) == (1, 1, [7, 8])
    assert labels_of(pairs, tmp_path)[:4] == [0, None, None, None], "the first answer stands"
    errors = [label.error for _, label in read_labels(lambda: pairs, make_plan(), journal=tmp_path / "j")]
    assert "overloaded" in errors[1]
    assert "batch_expired" in errors[2]
    assert errors[3].startswith("refusal")
    assert "out in the batch b.jsonl" in errors[5]
    assert export().n_requests == 2, "what failed may go out again"


def test_a_later_answer_takes_the_place_of_an_error_and_an_error_never_that_of_an_answer(export, tmp_path, pairs):
    rows = serve(export().files)
    key = rows[1]["custom_id"]
    unusable, failed = result(key, completion("", refusal="no")), result(key, {}, status=500)
    for lines, label in [([failed], None), ([unusable], None), ([rows[1]], 1), ([failed, unusable], 1)]:
        export()
        import_batch(write(tmp_path / "r.jsonl", lines), journal=tmp_path / "j")
        assert labels_of(pairs, tmp_path)[1] == label


def test_importing_twice_counts_and_pays_once(export, tmp_path):
    path = write(tmp_path / "r.jsonl", serve(export().files))
    assert import_batch(path, journal=tmp_path / "j").n_answers == 20
    report = import_batch(path, journal=tmp_path / "j")
    assert (report.n_answers, report.n_repeated) == (0, 20)
    from relgrade.label.journal import Journal

    with Journal(tmp_path / "j") as book:
        assert book.totals().requests == 20


def test_what_cannot_go_by_batch(tmp_path, pairs):
    for plan, method in [
        (make_plan(api="decisions"), "text"),
        (make_plan(method="text"), "json_schema"),
        (Plan(read_rubric("pass-fail"), (Teacher(url="http://x/v1", model="m"),)), "json_schema"),
    ]:
        with pytest.raises(InvalidSettings):
            export_batch(lambda: pairs, plan, journal=tmp_path / "j", output=tmp_path / "b.jsonl", method=method)
    with pytest.raises(InvalidData, match=r"missing\.jsonl"):
        import_batch(tmp_path / "missing.jsonl", journal=tmp_path / "j")


def test_samples_go_out_with_their_seeds(tmp_path, pairs):
    teacher = Teacher(url="http://x/v1", model="m", sampling=Sampling(temperature=0.5, seed=3))
    plan = Plan(read_rubric("answer-bearing"), (teacher,), n_samples=2)
    (path,) = export_batch(lambda: pairs[:1], plan, journal=tmp_path / "j", output=tmp_path / "b.jsonl").files
    assert [json.loads(line)["body"]["seed"] for line in path.read_text().splitlines()] == [3, 4]
