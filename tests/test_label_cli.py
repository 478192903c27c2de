import json

import pytest
from click.testing import CliRunner

from fake_teacher import FakeTeacher, Judge, Reply, completion
from relgrade.cli import main
from relgrade.cli.label_progress import LabelProgress
from relgrade.formats import read_pairs
from relgrade.label.journal_schema import Totals
from relgrade.label.labelling import Progress


@pytest.fixture
def files(tmp_path):
    rows = [{"query": "what", "doc_id": f"d{i}", "document": f"t{i} {'answer' * (i % 2)}"} for i in range(10)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def relgrade(*arguments):
    return CliRunner().invoke(main, ["label", *map(str, arguments)])


def label(files, url, *options, output="labels.jsonl"):
    return relgrade(files / "pairs.jsonl", "-o", files / output, "--teacher", url, "--model", "m", *options)


def test_label_is_short_for_label_run(files):
    with FakeTeacher() as server:
        assert label(files, server.url).exit_code == 0
        result = relgrade("run", files / "pairs.jsonl", "-o", files / "l2.csv", "--teacher", server.url, "--model", "m")
    assert result.exit_code == 0, result.output
    pairs = list(read_pairs(files / "labels.jsonl"))
    assert [pair.label > 0.5 for pair in pairs] == [i % 2 == 1 for i in range(10)]
    assert [pair.label for pair in read_pairs(files / "l2.csv")] == [pair.label for pair in pairs]
    assert (files / "labels.jsonl.journal").exists()


def test_errors_are_exit_code_1_and_a_file_beside(files):
    def script(request, path):
        is_bad = "t3 " in request["messages"][1]["content"]
        return Reply(body=completion("", refusal="no")) if is_bad else Judge()(request, path)

    with FakeTeacher(script) as server:
        result = label(files, server.url)
        assert result.exit_code == 1
        assert "1 pairs have no label" in result.output
        assert len(list(read_pairs(files / "labels.jsonl"))) == 9
        assert len((files / "labels.errors.jsonl").read_text().splitlines()) == 1
        server.script = Judge()
        assert label(files, server.url, "--retry-errors").exit_code == 0
    assert not (files / "labels.errors.jsonl").exists()


def test_one_reason_for_all_is_told(files):
    def script(request, path):
        return Reply(body=completion("", refusal="no"))

    with FakeTeacher(script) as server:
        result = label(files, server.url)
        assert result.exit_code == 1
        assert "10 pairs have no label, all for one reason: refusal: the teacher refused; see" in result.stderr
        (files / "pairs.jsonl").write_text((files / "pairs.jsonl").read_text().splitlines()[0] + "\n")
        result = label(files, server.url, output="one.jsonl")
    assert "1 pairs have no label: refusal: the teacher refused; see" in result.stderr


def test_several_reasons_are_in_the_file_alone(files):
    def script(request, path):
        is_third = "t3 " in request["messages"][1]["content"]
        return Reply(body=completion("", refusal="no" if is_third else None))

    with FakeTeacher(script) as server:
        result = label(files, server.url, "--retries", 0)
    assert "10 pairs have no label; see" in result.stderr


def test_a_missing_folder_is_told_before_anything_is_asked(files):
    with FakeTeacher() as server:
        for options, output, message in (
            ((), "no/labels.jsonl", "make it, or name a file elsewhere with -o"),
            (("--journal", files / "j"), "no/labels.jsonl", "make it, or name a file elsewhere with -o"),
            (("--journal", files / "no" / "j"), "labels.jsonl", "make it, or name another journal (--journal)"),
        ):
            result = label(files, server.url, *options, output=output)
            assert result.exit_code == 2
            assert f"there is no folder {files / 'no'}; {message}" in result.stderr
        assert not server.requests


def test_a_dry_run_asks_nothing_and_writes_nothing(files):
    prices = files / "prices.toml"
    prices.write_text("[m]\ninput = 1\noutput = 2\n")
    result = label(files, "http://127.0.0.1:9/v1", "--dry-run", "--prices", prices)
    assert result.exit_code == 0
    assert "requests to make              10" in result.output
    assert "cost" in result.output
    assert sorted(path.name for path in files.iterdir()) == ["pairs.jsonl", "prices.toml"]


def test_a_limit_writes_what_there_is_and_says_how_to_go_on(files):
    with FakeTeacher() as server:
        result = label(files, server.url, "--max-tokens", 1000, "--concurrency", 1)
    assert result.exit_code == 1
    assert "stopped: the limit of 1,000 tokens is near" in result.output
    assert 0 < len(list(read_pairs(files / "labels.jsonl"))) < 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rubric", "nope"], "no rubric 'nope'"),
        (["--samples", "2"], "set a temperature above 0"),
        (["--max-cost", "1"], "needs the price of m"),
        (["--teacher", "http://x/v1", "--teacher", "http://y/v1"], "one --teacher"),
        (["--api-key-env", "RELGRADE_NO_SUCH_KEY"], "RELGRADE_NO_SUCH_KEY is not set"),
        (["--model", "m"], "two teachers are the same model"),
    ],
)
def test_bad_usage_is_one_line(files, options, message):
    result = label(files, "http://127.0.0.1:9/v1", *options)
    assert result.exit_code == 2
    assert message in result.output


def test_a_dead_teacher_is_exit_code_2(files):
    with FakeTeacher([Reply(401, {"error": {"message": "bad key"}})]) as server:
        result = label(files, server.url)
    assert result.exit_code == 2
    assert "bad key" in result.output
    assert "--api-key-env" in result.output


def test_batch_out_and_back(files):
    out, journal = files / "batch.jsonl", files / "j"
    shared = ("--model", "m", "--journal", journal)
    assert relgrade("export-batch", files / "pairs.jsonl", "-o", out, *shared).exit_code == 0
    judge = Judge()
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    results = [
        {"custom_id": row["custom_id"], "response": {"status_code": 200, "body": judge(row["body"], "").body}}
        for row in rows
    ]
    text = "".join(json.dumps(row) + "\n" for row in reversed(results))
    (files / "r.jsonl").write_text(text + '{"torn')
    back = ("--pairs", files / "pairs.jsonl", "-o", files / "labels.jsonl")
    result = relgrade("import-batch", files / "r.jsonl", *shared, *back)
    assert result.exit_code == 1, "a torn line is told"
    assert "10 answers" in result.output
    assert len(list(read_pairs(files / "labels.jsonl"))) == 10
    (files / "r.jsonl").write_text(text)
    result = relgrade("import-batch", files / "r.jsonl", *shared, *back)
    assert result.exit_code == 0
    assert "10 repeated" in result.output


def test_import_of_labels_that_exist(tmp_path):
    (tmp_path / "log.jsonl").write_text(
        '{"question": "what", "document": "a", "grade": "yes"}\n{"question": "what", "document": "b", "grade": "hm"}\n'
    )
    result = relgrade(
        "import", tmp_path / "log.jsonl", "--format", "yes-no", "-o", tmp_path / "l.jsonl", "--rubric", "own"
    )
    assert result.exit_code == 1
    assert "none of them counts as not relevant" in result.output
    (pair,) = read_pairs(tmp_path / "l.jsonl")
    assert (pair.document, pair.label, pair.fields["rubric"]) == ("a", 1, "own")


def test_import_of_qrels(tmp_path):
    (tmp_path / "qrels").write_text("q1 0 d1 2\nq1 0 d2 0\n")
    (tmp_path / "q.tsv").write_text("q1\twhat\n")
    (tmp_path / "d.tsv").write_text("d1\tone\nd2\ttwo\n")
    texts = ("--queries", tmp_path / "q.tsv", "--documents", tmp_path / "d.tsv")
    result = relgrade("import", tmp_path / "qrels", "--format", "qrels", "--cut", 2, "-o", tmp_path / "l.jsonl", *texts)
    assert result.exit_code == 0, result.output
    assert [(pair.label, pair.fields["grade"]) for pair in read_pairs(tmp_path / "l.jsonl")] == [(1, 2), (0, 0)]
    assert relgrade("import", tmp_path / "qrels", "--format", "qrels", "-o", tmp_path / "l.jsonl").exit_code == 2


def test_progress_says_rate_cost_and_time_left():
    progress = LabelProgress(1000, has_bar=False, has_cost=True)
    state = Progress(n_found=100, n_answered=390, n_errors=10, spent=Totals(cost=1.25))
    assert progress.describe(state, rate=5.0) == "5.0/s, 10 errors, cost 1.2500, 2 min left"
    assert LabelProgress(10).describe(Progress(), rate=0.0) == "-/s, 0 tokens"
