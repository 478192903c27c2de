import csv
import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fake_grader import FakeGrader
from relgrade.cli import main
from relgrade.cli.documents import ReadReport, read_documents
from relgrade.cli.grading import CHUNK_CHARACTERS, CHUNK_ROWS, chunked, grade_each
from relgrade.cli.lines import Line, dump_object, parse_object
from relgrade.cli.render import Verdict, as_table
from relgrade.errors import GradingError, InvalidData, InvalidInput
from relgrade.records import Document

FAKE = Path(__file__).with_name("fake_grader.py")


@pytest.fixture
def fake(monkeypatch):
    grader = FakeGrader()
    loaded = []

    def load(bundle, **options):
        loaded.append((bundle, options))
        return grader

    monkeypatch.setattr("relgrade.cli.grade.load_grader", load)
    grader.loaded = loaded
    return grader


@pytest.fixture
def cli(fake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, stdin=None):
        return CliRunner().invoke(main, ["grade", *map(str, arguments)], input=stdin)

    return run


def write_pairs(path, rows):
    path.write_bytes(b"".join(row if isinstance(row, bytes) else dump_object(row) for row in rows))
    return path


def pair(i, **fields):
    return {"query": f"colour of thing {i}", "document": f"thing {i} is of colour red", "doc_id": f"d{i}", **fields}


def read_jsonl(content):
    return [json.loads(line) for line in content.splitlines()]


# --query


def test_documents_are_shown_kept_ones_first(cli, tmp_path):
    (tmp_path / "a.txt").write_text("nothing to see")
    (tmp_path / "b.md").write_text("the sky is blue")
    result = cli("--query", "sky blue", "a.txt", "b.md")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].strip() == "sky blue"
    assert "relevant" in lines[2]
    assert "b.md" in lines[2]
    assert "█" in lines[2]
    assert "a.txt" in lines[3]
    assert lines[4].startswith("1 of 2 relevant at balanced (p >= 0.500)")


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_long_document_leaves_room_for_its_verdict(monkeypatch, columns, is_terminal):
    monkeypatch.setenv("COLUMNS", str(columns))
    grader, page = FakeGrader(), io.StringIO()
    page.isatty = lambda: is_terminal
    documents = [Document("the sky is blue " * 13, id="sky.txt"), Document("nothing to see " * 14, id="none.txt")]
    results = grade_each(grader, [("sky blue", document) for document in documents])
    verdicts = [Verdict(document, result) for document, result in zip(documents, results, strict=True)]
    as_table(verdicts, query="sky blue", summary="", file=page)
    lines = [line for line in page.getvalue().splitlines() if ".txt" in line]
    for line, verdict, word in zip(lines, verdicts, ("relevant", "not"), strict=True):
        for part in (f"{verdict.result.probability:.3f}", word, verdict.document.id, verdict.document.text[:15]):
            assert part in line


def test_nothing_relevant_is_code_1(cli, tmp_path):
    (tmp_path / "a.txt").write_text("nothing to see")
    assert cli("--query", "sky blue", "a.txt").exit_code == 1


def test_a_folder_is_read_whole_in_order_and_the_rest_is_counted(cli, tmp_path):
    folder = tmp_path / "docs"
    for name in ("b/two.rst", "a/one.txt", "c.md", ".hidden.txt", ".git/x.txt", "page.html", "p.pdf", "q.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("blue sky")
    (folder / "b" / "loop").symlink_to(folder)
    (folder / "nul.txt").write_bytes(b"\x7fELF\0\0")
    result = cli("--query", "blue", "docs", "--format", "jsonl")
    assert result.exit_code == 0
    assert [row["id"] for row in read_jsonl(result.stdout)] == [
        "docs/a/one.txt",
        "docs/b/two.rst",
        "docs/c.md",
        "docs/page.html",
    ]
    assert "skipped 3 inputs: 1 binary, 2 no text file by its name" in result.stderr


def test_a_page_loses_its_tags_and_keeps_its_title(cli, tmp_path):
    (tmp_path / "p.html").write_text(
        "<html><head><title>Sky &amp; sea</title><style>p {}</style></head>"
        "<body><script>alert('blue')</script><p>It is <b>grey</b>.</p><p>Often</p></body></html>"
    )
    report = ReadReport()
    (document,) = read_documents(["p.html"], report, on_bad_line=None)
    assert (document.title, document.text) == ("Sky & sea", "It is grey.\nOften")


def test_json_documents_keep_their_fields(cli, tmp_path):
    rows = [{"id": 7, "text": "blue sky", "title": "T", "tags": ["x"]}, {"_id": "b", "text": "grey"}]
    write_pairs(tmp_path / "d.jsonl", rows)
    graded = read_jsonl(cli("--query", "blue", "d.jsonl", "--format", "jsonl").stdout)
    assert {key: graded[0][key] for key in rows[0]} == rows[0]
    assert graded[0]["relevant"] is True
    assert graded[1]["id"] == "b"
    assert list(graded[0]) == [
        *rows[0],
        "probability",
        "logit",
        "relevant",
        "verdict",
        "truncated",
        "windows",
        "operating_point",
    ]


@pytest.mark.parametrize(
    ("stdin", "ids"),
    [
        ("blue sky\n\ngrey\n", ["-:1", "-:3"]),
        ('{"text": "blue", "id": "x"}\n{"text": "grey", "id": "y"}\n', ["x", "y"]),
    ],
)
def test_stdin_is_one_document_a_line(cli, stdin, ids):
    result = cli("--query", "blue", "-", "--format", "jsonl", stdin=stdin)
    assert [row["id"] for row in read_jsonl(result.stdout)] == ids
    assert result.exit_code == 0


@pytest.mark.parametrize("sources", [["empty"], ["-"], ["empty", "only.pdf"]])
def test_no_documents_at_all_is_bad_input_not_a_verdict(cli, tmp_path, sources):
    (tmp_path / "empty").mkdir()
    (tmp_path / "only.pdf").write_bytes(b"%PDF\0")
    result = cli("--query", "blue", *sources, stdin="")
    assert result.exit_code == 2
    assert "no documents in" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("query", ["", "  \n"])
def test_an_empty_query_is_bad_input(cli, tmp_path, query):
    (tmp_path / "a.txt").write_text("blue")
    result = cli("--query", query, "a.txt")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "query is empty" in result.stderr


def test_a_missing_file_is_bad_input(cli):
    result = cli("--query", "blue", "nowhere.txt")
    assert result.exit_code == 2
    assert result.stderr == "relgrade: nowhere.txt: cannot be read: no such file or directory\n"


def test_bytes_that_are_not_utf8_are_replaced_and_said(cli, tmp_path):
    (tmp_path / "latin.txt").write_bytes("the sky is blue, c'est la vie en été".encode("latin-1"))
    (tmp_path / "noise.txt").write_bytes(bytes(range(128, 256)) * 4)
    result = cli("--query", "blue", "latin.txt", "noise.txt", "--format", "jsonl")
    assert [row["id"] for row in read_jsonl(result.stdout)] == ["latin.txt"]
    assert "latin.txt: 2 characters that are not UTF-8 were replaced" in result.stderr
    assert "1 binary" in result.stderr


def test_a_document_of_10_mb(cli, tmp_path):
    (tmp_path / "big.txt").write_text("blue sky " * 1_200_000)
    result = cli("--query", "blue", "big.txt", "--format", "jsonl")
    assert result.exit_code == 0
    assert read_jsonl(result.stdout)[0]["truncated"] is True


def test_a_document_cannot_style_or_drive_the_terminal(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "a.txt").write_text("blue [bold]x[/bold] [/] :smile: \x1b[31mred\x07 \u202eabc")
    result = cli("--query", "blue [red]q", "a.txt")
    assert "[bold]x[/bold] [/] :smile: \\x1b[31mred\\x07" in result.stdout
    assert "blue [red]q" in result.stdout
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout


def test_csv_keeps_values_as_they_are(cli, tmp_path):
    write_pairs(tmp_path / "d.jsonl", [{"id": "=1+1", "text": "blue", "title": '@sum, "x"\n+2'}])
    result = cli("--query", "blue", "d.jsonl", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert (row["id"], row["title"], row["relevant"]) == ("=1+1", '@sum, "x"\n+2', "True")


def test_a_document_without_a_number_is_an_error_row_not_a_rejection(cli, tmp_path):
    write_pairs(tmp_path / "d.jsonl", [{"text": "nonumber"}, {"text": "blue"}, {"text": "grey"}])
    result = cli("--query", "blue", "d.jsonl", "--format", "jsonl")
    rows = read_jsonl(result.stdout)
    assert [("relevant" in row, "error" in row) for row in rows] == [(True, False), (True, False), (False, True)]
    assert "1 of 3 documents have no verdict" in result.stderr
    assert "no verdict" in cli("--query", "blue", "d.jsonl").stdout


def test_bad_json_lines_stop_or_are_passed_over(cli, tmp_path):
    write_pairs(tmp_path / "d.jsonl", [{"text": "blue"}, b"{oops\n", {"title": "no text"}, {"text": "grey"}])
    stopped = cli("--query", "blue", "d.jsonl", "--format", "jsonl")
    assert (stopped.exit_code, stopped.stdout) == (2, "")
    assert "d.jsonl:2: not JSON" in stopped.stderr
    passed = cli("--query", "blue", "d.jsonl", "--format", "jsonl", "--skip-bad", "--bad", "bad.jsonl")
    assert (passed.exit_code, len(read_jsonl(passed.stdout))) == (0, 2)
    assert "skipped 2 bad lines" in passed.stderr
    assert (tmp_path / "bad.jsonl").read_bytes() == b'{oops\n{"title": "no text"}\n'


def test_top_k_shows_the_best(cli, tmp_path):
    write_pairs(tmp_path / "d.jsonl", [{"id": str(i), "text": "blue" if i > 1 else "grey"} for i in range(4)])
    rows = read_jsonl(cli("--query", "blue", "d.jsonl", "--format", "jsonl", "--top-k", 3).stdout)
    assert [row["id"] for row in rows] == ["2", "3", "0"]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--only-relevant"], ["b1", "b2"]),
        (["--only-relevant", "--top-k", 1], ["b1"]),
        (["--min-keep", 3], ["b1", "b2", "g1"]),
        (["--min-keep", 1], ["b1", "b2"]),
        (["--min-keep", 9], ["b1", "b2", "g1", "g2"]),
        (["--max-tokens", 3], ["b1"]),
        (["--max-tokens", 4], ["b1", "b2"]),
        (["--max-tokens", 100, "--min-keep", 3], ["b1", "b2", "g1"]),
        (["--max-tokens", 100, "--top-k", 1], ["b1"]),
    ],
)
def test_what_is_kept(cli, tmp_path, options, ids):
    texts = {"g1": "grey and old", "b1": "blue sky now", "x": "nonumber", "b2": "blue", "g2": "grey"}
    write_pairs(tmp_path / "d.jsonl", [{"id": key, "text": text} for key, text in texts.items()])
    result = cli("--query", "blue", "d.jsonl", "--format", "jsonl", *options)
    assert [row["id"] for row in read_jsonl(result.stdout)] == ids
    assert result.exit_code == 0
    assert "1 of 5 documents have no verdict" in result.stderr


def test_limits_that_contradict_each_other_are_refused(cli, tmp_path):
    (tmp_path / "a.txt").write_text("blue")
    result = cli("--query", "blue", "a.txt", "--min-keep", 3, "--top-k", 2)
    assert result.exit_code == 2
    assert "max_keep (2) is below min_keep (3)" in result.stderr


def test_an_output_is_not_overwritten_unasked(cli, tmp_path):
    (tmp_path / "a.txt").write_text("blue")
    (tmp_path / "out").write_text("precious")
    assert cli("--query", "blue", "a.txt", "-o", "out").exit_code == 2
    assert (tmp_path / "out").read_text() == "precious"
    assert cli("--query", "blue", "a.txt", "-o", "out", "--overwrite").exit_code == 0
    assert "a.txt" in (tmp_path / "out").read_text()


# pairs


def test_rows_keep_their_fields_and_order(cli, tmp_path):
    rows = [pair(i, label=i % 2, nested={"ü": [1, None, 0.1]}) for i in range(300)]
    write_pairs(tmp_path / "pairs.jsonl", rows)
    result = cli("pairs.jsonl", "-o", "graded.jsonl")
    assert (result.exit_code, result.output) == (0, "")
    graded = read_jsonl((tmp_path / "graded.jsonl").read_text())
    assert [{key: row[key] for key in rows[0]} for row in graded] == rows
    assert [row["id"] for row in graded] == [f"d{i}" for i in range(300)]
    assert list(graded[0])[len(rows[0]) :] == [
        "id",
        "probability",
        "logit",
        "relevant",
        "verdict",
        "truncated",
        "windows",
        "operating_point",
    ]


def test_a_pipe_gives_the_same_bytes_as_a_file(cli, tmp_path):
    path = write_pairs(tmp_path / "pairs.jsonl", [pair(i) for i in range(20)])
    cli("pairs.jsonl", "-o", "graded.jsonl")
    piped = cli("-", stdin=path.read_bytes())
    assert piped.stdout_bytes == (tmp_path / "graded.jsonl").read_bytes()
    (tmp_path / "pairs.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert cli("pairs.jsonl.gz").stdout_bytes == piped.stdout_bytes


@pytest.mark.parametrize("content", [b"", b"\n \n"])
@pytest.mark.parametrize("options", [[], ["-f", "csv"], ["-o", "graded.jsonl"], ["-o", "graded.csv", "-f", "csv"]])
def test_no_pairs_at_all_is_bad_input(cli, tmp_path, content, options):
    (tmp_path / "pairs.jsonl").write_bytes(content)
    for source in ("pairs.jsonl", "-"):
        result = cli(source, *options, "--overwrite", stdin=content)
        assert result.exit_code == 2
        assert result.stderr == f"relgrade: {source}: no pairs in it: nothing was graded\n"


def test_an_input_of_bad_lines_alone_was_not_empty(cli, tmp_path):
    write_pairs(tmp_path / "pairs.jsonl", [b"{oops\n"])
    result = cli("pairs.jsonl", "--skip-bad")
    assert (result.exit_code, "no pairs" in result.stderr) == (1, False)


def test_pairs_that_come_later_are_graded_and_a_finished_output_stays_one(cli, tmp_path):
    (tmp_path / "pairs.jsonl").write_bytes(b"")
    assert cli("pairs.jsonl", "-o", "graded.jsonl").exit_code == 2
    write_pairs(tmp_path / "pairs.jsonl", [pair(1)])
    for _ in range(2):
        assert cli("pairs.jsonl", "-o", "graded.jsonl").exit_code == 0
        assert len(read_jsonl((tmp_path / "graded.jsonl").read_text())) == 1


def test_a_graded_file_can_be_graded_again(cli, tmp_path):
    write_pairs(tmp_path / "pairs.jsonl", [pair(1), pair(2, document="nonumber")])
    cli("pairs.jsonl", "-o", "once.jsonl")
    cli("once.jsonl", "-o", "twice.jsonl")
    assert (tmp_path / "once.jsonl").read_bytes() == (tmp_path / "twice.jsonl").read_bytes()


BAD_LINES = {
    b"{oops\n": "not JSON",
    b"[1]\n": "a JSON object was expected, got list",
    b'{"document": "x"}\n': "`query`",
    b'{"query": "  ", "document": "x"}\n': "`query`",
    b'{"query": "q"}\n': "`document`",
    b'{"query": "q", "document": 3}\n': "`document`",
    b'{"query": "q", "document": null}\n': "`document`",
    b'{"query": "q", "document": "x", "title": 1}\n': "`title`",
    b'{"query": "q", "document": "\xff"}\n': "not UTF-8",
    b'{"query": "q", "document": "x", "n": NaN}\n': "NaN",
    b'{"query": "q", "document": "x", "n": 1e999}\n': "out of range",
    b"[" * 100_000 + b"\n": "not JSON",
    b"\0\n": "not JSON",
}


@pytest.mark.parametrize("bad", list(BAD_LINES), ids=range(len(BAD_LINES)))
def test_a_bad_line_stops_with_everything_before_it_written(cli, tmp_path, bad):
    write_pairs(tmp_path / "pairs.jsonl", [pair(1), b"\n", pair(2), bad, pair(3)])
    result = cli("pairs.jsonl", "-o", "graded.jsonl")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "pairs.jsonl:4: " in result.stderr
    assert BAD_LINES[bad] in result.stderr
    assert "--skip-bad" in result.stderr
    assert [row["id"] for row in read_jsonl((tmp_path / "graded.jsonl").read_text())] == ["d1", "d2"]


def test_skip_bad_grades_the_rest_counts_and_copies(cli, tmp_path):
    rows = [pair(1), *BAD_LINES, pair(2), b'{"query": "no newline"']
    write_pairs(tmp_path / "pairs.jsonl", rows)
    result = cli("pairs.jsonl", "-o", "graded.jsonl", "--skip-bad", "--bad", "bad.jsonl")
    assert result.exit_code == 1
    assert [row["id"] for row in read_jsonl((tmp_path / "graded.jsonl").read_text())] == ["d1", "d2"]
    assert (tmp_path / "bad.jsonl").read_bytes() == b"".join(BAD_LINES) + b'{"query": "no newline"\n'
    assert f"{len(BAD_LINES) + 1} bad lines were skipped, copied to bad.jsonl" in result.stderr
    assert "skipped pairs.jsonl:2: " in result.stderr
    write_pairs(tmp_path / "good.jsonl", [pair(1), pair(2)])
    cli("good.jsonl", "-o", "graded_good.jsonl")
    assert (tmp_path / "graded.jsonl").read_bytes() == (tmp_path / "graded_good.jsonl").read_bytes()


def test_a_stopped_run_goes_on_with_skip_bad(cli, fake, tmp_path):
    write_pairs(tmp_path / "pairs.jsonl", [pair(1), b"{oops\n", pair(2)])
    assert cli("pairs.jsonl", "-o", "graded.jsonl").exit_code == 2
    assert cli("pairs.jsonl", "-o", "graded.jsonl", "--skip-bad").exit_code == 1
    assert fake.n_graded == 2
    assert [row["id"] for row in read_jsonl((tmp_path / "graded.jsonl").read_text())] == ["d1", "d2"]


def test_documents_without_a_number_are_written_with_an_error(cli, tmp_path):
    rows = [pair(i, document="nonumber" if i in (0, 5, 6, 9) else "red") for i in range(10)]
    write_pairs(tmp_path / "pairs.jsonl", rows)
    result = cli("pairs.jsonl", "-o", "graded.jsonl")
    graded = read_jsonl((tmp_path / "graded.jsonl").read_text())
    assert [row["id"] for row in graded] == [f"d{i}" for i in range(10)]
    assert [i for i, row in enumerate(graded) if "error" in row] == [0, 5, 6, 9]
    assert all(("error" in row) != ("relevant" in row) for row in graded)
    assert result.exit_code == 1
    assert "4 rows have no verdict" in result.stderr
    assert cli("pairs.jsonl", "-o", "graded.jsonl").exit_code == 1  # nothing left to do, and still not whole


def test_pairs_as_csv(cli, tmp_path):
    write_pairs(tmp_path / "pairs.jsonl", [pair(1, query_id="=q", label=1), pair(2, document="nonumber")])
    first, second = csv.DictReader(io.StringIO(cli("pairs.jsonl", "--format", "csv").stdout))
    assert (first["id"], first["query_id"], first["label"], first["relevant"]) == ("d1", "=q", "1", "True")
    assert (second["relevant"], second["error"]) == ("", "the model gave nan")


def test_strange_texts_come_through(cli, tmp_path):
    texts = ["", "  \n", "\ud800 lone", "nul \0 inside", "👩‍🚀", "\u2028 line separator", "a" * 200_000]
    write_pairs(tmp_path / "pairs.jsonl", [pair(i, document=text) for i, text in enumerate(texts)])
    result = cli("pairs.jsonl", "-o", "graded.jsonl")
    assert result.exit_code == 0, result.stderr
    lines = (tmp_path / "graded.jsonl").read_bytes().split(b"\n")[:-1]
    assert [json.loads(line)["document"] for line in lines] == texts


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pairs.jsonl", "--top-k", "3"], "--top-k only with --query"),
        (["pairs.jsonl", "--only-relevant"], "--only-relevant only with --query"),
        (["pairs.jsonl", "--format", "table"], "a table needs --query"),
        (["pairs.jsonl", "other.jsonl"], "one file of pairs"),
        (["pairs.jsonl", "--bad", "x"], "--bad needs --skip-bad"),
        ([], "no INPUT"),
        (["--query", "q", "-", "-"], "can be read once"),
        (["pairs.jsonl", "--threads", "0"], "--threads"),
        (["nowhere.jsonl"], "nowhere.jsonl: cannot be read: no such file or directory"),
        (["."], "is a folder"),
        (["pairs.jsonl", "-o", "pairs.jsonl", "--overwrite"], "is the input"),
        (["pairs.jsonl", "-o", "no/such/folder.jsonl"], "no such file or directory"),
        (["pairs.jsonl", "-o", "x", "--skip-bad", "--bad", "x"], "both"),
        (["broken.jsonl.gz"], "not a whole gzip file"),
    ],
)
def test_usage_and_paths_are_checked(cli, tmp_path, arguments, words):
    path = write_pairs(tmp_path / "pairs.jsonl", [pair(1)])
    content = path.read_bytes()
    (tmp_path / "broken.jsonl.gz").write_bytes(gzip.compress(content * 100)[:-20])
    result = cli(*arguments, stdin="")
    assert result.exit_code == 2
    assert words in result.stderr
    assert path.read_bytes() == content


def test_options_reach_the_grader(cli, fake, tmp_path):
    write_pairs(tmp_path / "pairs.jsonl", [pair(1)])
    cli("pairs.jsonl", "--bundle", "b", "--revision", "r", "--operating-point", "o", "--threads", 3, "--cache", "c")
    cli("pairs.jsonl", "--point", "o", "--base-rate", 0.2)
    assert fake.loaded == [
        (
            "b",
            {"operating_point": "o", "base_rate": None, "revision": "r", "threads": 3, "document_cache": Path("c")},
        ),
        (
            None,
            {"operating_point": "o", "base_rate": 0.2, "revision": None, "threads": None, "document_cache": None},
        ),
    ]


# real processes


def run_fake(*arguments, cwd, **options):
    # Buffered, as users run it, whatever the machine of the tests sets: the last flush is part of what is tested.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment |= options.pop("extra_environment", {})
    command = [sys.executable, str(FAKE), "grade", *arguments]
    return subprocess.Popen(command, cwd=cwd, env=environment, stderr=subprocess.PIPE, **options)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "arguments", [["pairs.jsonl"], ["pairs.jsonl", "-o", "/dev/full"], ["-q", "red", "pairs.jsonl"]]
)
def test_a_full_device_is_one_clear_line(tmp_path, arguments):
    write_pairs(tmp_path / "pairs.jsonl", [pair(i) for i in range(5)])
    with open("/dev/full", "wb") as full:  # noqa: PTH123  # a device, not a path of ours
        process = run_fake(*arguments, cwd=tmp_path, stdout=full)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert stderr.startswith(b"relgrade: no space left")
    assert stderr.count(b"\n") == 1


@pytest.mark.parametrize("arguments", [["pairs.jsonl"], ["-q", "red", "pairs.jsonl", "-f", "jsonl"]])
def test_a_reader_that_leaves_early_is_met_with_silence(tmp_path, arguments):
    write_pairs(tmp_path / "pairs.jsonl", [pair(i, document="red " * 500) for i in range(500)])
    process = run_fake(*arguments, cwd=tmp_path, stdout=subprocess.PIPE)
    process.stdout.read(10)
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), stderr) == (141, b"")


@pytest.mark.parametrize("format_", ["table", "jsonl", "csv", "pairs", "--help"])
def test_a_reader_that_was_never_there_is_met_with_silence(tmp_path, format_):
    write_pairs(tmp_path / "pairs.jsonl", [pair(1)])
    arguments = {"pairs": ["pairs.jsonl"], "--help": ["--help"]}.get(format_, ["-q", "x", "pairs.jsonl", "-f", format_])
    reader, writer = os.pipe()
    os.close(reader)
    # Little output stays in the buffer until the interpreter's last flush, which must not complain either.
    process = run_fake(*arguments, cwd=tmp_path, stdout=writer)
    os.close(writer)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (141, b"")


def test_a_terminal_without_unicode_still_gets_a_table(tmp_path):
    (tmp_path / "a.txt").write_text("blue ☁ sky", encoding="utf-8")
    process = run_fake(
        "-q", "blue", "a.txt", cwd=tmp_path, stdout=subprocess.PIPE, extra_environment={"PYTHONIOENCODING": "ascii"}
    )
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, b"")
    assert b"##########" in stdout
    assert b"blue \\u2601 sky" in stdout


# chunks


@given(sizes=st.lists(st.integers(0, 3 * CHUNK_CHARACTERS // 2), max_size=20), n_small=st.integers(0, 3 * CHUNK_ROWS))
def test_chunks_are_bounded_and_lose_nothing(sizes, n_small):
    items = list(enumerate([*sizes, *[1] * n_small]))
    chunks = list(chunked((item, item[1]) for item in items))
    assert [item for chunk in chunks for item in chunk] == items
    for chunk in chunks:
        assert 1 <= len(chunk) <= CHUNK_ROWS
        assert sum(size for _, size in chunk[:-1]) < CHUNK_CHARACTERS


class FailingGrader(FakeGrader):
    """Fails at chosen texts: it names the place rightly, wrongly or not at all, before or after the good ones."""

    def __init__(self, *, is_lazy, place):
        super().__init__()
        self.is_lazy, self.place = is_lazy, place

    def grade_pairs(self, pairs):
        grades = []
        for index, (query, document) in enumerate(pairs):
            if document.text == "bad":
                raise InvalidInput("bad") if self.place is None else GradingError("bad", index=index + self.place)
            grade = self._grade(query, document, index)
            if self.is_lazy:
                yield grade
            grades.append(grade)
        if not self.is_lazy:
            yield from grades


@settings(max_examples=50)
@given(
    is_bad=st.lists(st.booleans(), max_size=40),
    is_lazy=st.booleans(),
    place=st.sampled_from([0, 10_000, -10_000, None]),
)
def test_an_error_costs_its_own_document_alone(is_bad, is_lazy, place):
    pairs = [("q", Document("bad" if bad else "good", id=str(i))) for i, bad in enumerate(is_bad)]
    results = grade_each(FailingGrader(is_lazy=is_lazy, place=place), pairs)
    assert [isinstance(result, Exception) for result in results] == is_bad
    assert all(result.id == str(i) for i, result in enumerate(results) if not is_bad[i])


# lines

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


# Unicode tables take their time on first use.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(row=st.dictionaries(st.text(alphabet=st.characters(codec=None, categories=None)), JSON, max_size=5))
def test_a_row_comes_back_as_it_was(row):
    raw = dump_object(row)
    assert raw.count(b"\n") == 1
    assert parse_object(Line(1, raw), name="x") == row


@given(raw=st.binary(max_size=60))
def test_any_bytes_are_a_row_or_bad_data(raw):
    try:
        row = parse_object(Line(1, raw), name="x")
    except InvalidData:
        return
    assert isinstance(row, dict)


# --- evidence

PAGE = "The sea is grey. A red 🍎 apple lies there! Gulls fly. Red is a colour."


@pytest.fixture
def pages(tmp_path):
    (tmp_path / "pages.txt").write_text(PAGE, encoding="utf-8")
    (tmp_path / "other.txt").write_text("Nothing at all. Of any interest.", encoding="utf-8")


def check_spans(spans):
    assert [span["text"] for span in spans] == ["A red 🍎 apple lies there!", "Red is a colour."]
    assert all(PAGE[span["start"] : span["end"]] == span["text"] for span in spans)
    assert all(set(span) == {"start", "end", "text", "probability", "logit"} for span in spans)


def test_evidence_of_a_query(cli, pages):
    command = ("-q", "red", "--evidence", "pages.txt", "other.txt")
    first, second = read_jsonl(cli(*command, "-f", "jsonl").stdout)
    check_spans(first["evidence"])
    assert second["evidence"] == []
    table = list(csv.DictReader(io.StringIO(cli(*command, "-f", "csv").stdout)))
    check_spans(json.loads(table[0]["evidence"]))
    assert table[1]["evidence"] == "[]"
    shown = cli(*command).stdout
    assert "A red 🍎 apple lies there!" in shown.replace("└ ", "\0").partition("\0")[2]
    plain = cli("-q", "red", "pages.txt", "-f", "csv").stdout
    assert "evidence" not in plain.splitlines()[0]
    assert "└" not in cli("-q", "red", "pages.txt").stdout


def test_a_long_sentence_is_shown_whole(cli, tmp_path):
    sentence = "Red " + "and yet another word " * 20 + "end."
    (tmp_path / "long.txt").write_text(f"First of all. {sentence}", encoding="utf-8")
    shown = cli("-q", "red", "--evidence", "long.txt").stdout
    assert sentence in " ".join(shown.partition("└ ")[2].split())


def test_evidence_of_pairs(cli, tmp_path):
    rows = [{"query": "red", "document": PAGE}, {"query": "red", "document": "No.", "evidence": "mine"}]
    write_pairs(tmp_path / "p.jsonl", rows)
    first, second = read_jsonl(cli("p.jsonl", "--evidence").stdout)
    check_spans(first["evidence"])
    assert second["evidence"] == []
    table = list(csv.DictReader(io.StringIO(cli("p.jsonl", "--evidence", "-f", "csv").stdout)))
    check_spans(json.loads(table[0]["evidence"]))
    plain = read_jsonl(cli("p.jsonl").stdout)
    assert ("evidence" in plain[0], plain[1]["evidence"]) == (False, "mine"), "a field of the caller's own stays"


def test_a_run_with_evidence_is_not_continued_without(cli, tmp_path):
    write_pairs(tmp_path / "p.jsonl", [{"query": "red", "document": PAGE}])
    assert cli("p.jsonl", "-o", "g.jsonl", "--evidence").exit_code == 0
    assert cli("p.jsonl", "-o", "g.jsonl", "--evidence").exit_code == 0
    refused = cli("p.jsonl", "-o", "g.jsonl")
    assert refused.exit_code == 2
    assert "written with evidence 'yes', this run has None" in refused.stderr
