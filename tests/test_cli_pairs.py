"""`relgrade pairs` on small files: what it writes, what it says, and its exit codes."""

import json

import pytest
from click.testing import CliRunner

from relgrade.cli import main
from relgrade.formats import read_pairs

FILLER = "alpha beta gamma delta epsilon zeta eta theta iota kappa"


def run(*arguments, code=0):
    result = CliRunner().invoke(main, ["pairs", *map(str, arguments)], env={"COLUMNS": "100"})
    assert result.exit_code == code, result.output
    return result


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def labelled(tmp_path):
    rows = [
        {"query": f"question {i}", "document": f"{i} {j} {FILLER} {i * j}", "label": int(j == 0), "rank": j}
        for i in range(40)
        for j in range(4)
    ]
    return write(tmp_path / "a.jsonl", rows)


@pytest.fixture
def leaking(tmp_path):
    rows = [
        {"query": "one", "document": "a", "split": "train", "label": 1},
        {"query": "ONE?", "document": "b", "split": "test", "label": 0},
        {"query": "two", "document": "c", "split": "train", "label": 0},
    ]
    return write(tmp_path / "leaking.jsonl", rows)


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".csv", ".parquet"])
def test_convert_keeps_the_pairs(tmp_path, labelled, suffix):
    result = run("convert", labelled, tmp_path / f"b{suffix}")
    assert result.stdout == ""
    assert result.stderr == f"relgrade: 160 pairs written to {tmp_path / f'b{suffix}'}\n"
    assert list(read_pairs(tmp_path / f"b{suffix}")) == list(read_pairs(labelled))


def test_convert_names_the_source_and_takes_one_split(tmp_path, leaking):
    run("convert", leaking, tmp_path / "b.csv", "--source", "mine", "--split", "test")
    (pair,) = read_pairs(tmp_path / "b.csv")
    assert (pair.query, pair.source) == ("ONE?", "mine")


def test_convert_takes_trec_judgements(tmp_path):
    (tmp_path / "qrels").write_text("1 0 d 1\n")
    (tmp_path / "q.tsv").write_text("1\twhat?\n")
    write(tmp_path / "d.jsonl", [{"id": "d", "text": "this"}])
    texts = ["--queries", tmp_path / "q.tsv", "--documents", tmp_path / "d.jsonl"]
    run("convert", tmp_path / "qrels", tmp_path / "b.csv", *texts, "--cut", "2", "--source", "trec")
    (pair,) = read_pairs(tmp_path / "b.csv")
    assert (pair.label, pair.fields, pair.source) == (0.0, {"grade": 1}, "trec")
    assert "need both" in run("convert", tmp_path / "qrels", tmp_path / "c.csv", *texts[:2], code=2).stderr
    assert "need both" in run("convert", tmp_path / "qrels", tmp_path / "c.csv", *texts, "--skip-bad", code=2).stderr
    assert not (tmp_path / "c.csv").exists()


def test_a_bad_line_stops_with_its_number_or_is_skipped(tmp_path, labelled):
    with labelled.open("a") as file:
        file.write('{"query": ""}\nnothing\n')
    result = run("convert", labelled, tmp_path / "b.csv", code=2)
    assert result.stderr == f"relgrade: {labelled}:161: `query` must be a text that is not blank, got ''\n"
    assert not (tmp_path / "b.csv").exists()
    result = run("convert", labelled, tmp_path / "b.csv", "--skip-bad", code=1)
    assert f"skipped: {labelled}:161:" in result.stderr
    assert f"skipped: {labelled}:162: not JSON" in result.stderr
    assert result.stderr.endswith("relgrade: 2 lines skipped\n")
    assert len(list(read_pairs(tmp_path / "b.csv"))) == 160
    run("stats", labelled, "--skip-bad", code=1)


def test_split_is_the_same_for_a_seed_and_never_divides_a_query(tmp_path, labelled):
    shares = ["--validation", "0.2", "--calibration", "0.2", "--test", "0.2"]
    for name, seed in [("b", 3), ("c", 3), ("d", 4)]:
        run("split", labelled, "-o", tmp_path / f"{name}.jsonl", *shares, "--seed", seed)
    first, second, other = (tmp_path.joinpath(f"{name}.jsonl").read_bytes() for name in "bcd")
    assert first == second != other
    pairs = list(read_pairs(tmp_path / "b.jsonl"))
    assert {pair.split for pair in pairs} == {"train", "validation", "calibration", "test"}
    assert len({(pair.query, pair.split) for pair in pairs}) == 40
    result = run("split", labelled, "-o", tmp_path / "e.jsonl", "--validation", "0.7", "--test", "0.5", code=2)
    assert "leave nothing to train on" in result.stderr


def test_split_reports_drops_or_refuses_leaks(tmp_path, leaking):
    more = write(tmp_path / "more.jsonl", [{"query": "three", "document": "b", "split": "train"}])
    arguments = ["split", leaking, more, "-o", tmp_path / "b.jsonl", "--validation", "0", "--calibration", "0"]
    result = run(*arguments)
    assert "relgrade: 1 of 2 documents of train are in test too" in result.stderr
    assert "4 pairs written" in result.stderr
    splits = {pair.query: pair.split for pair in read_pairs(tmp_path / "b.jsonl")}
    assert splits == {"one": "test", "ONE?": "test", "two": "train", "three": "train"}
    assert "1 leaking training pairs dropped" in run(*arguments, "--on-leak", "drop").stderr
    assert "three" not in {pair.query for pair in read_pairs(tmp_path / "b.jsonl")}
    (tmp_path / "b.jsonl").unlink()
    assert "documents of train" in run(*arguments, "--on-leak", "raise", code=2).stderr
    assert not (tmp_path / "b.jsonl").exists()


def test_leaks_are_exit_code_1(tmp_path, leaking, labelled):
    result = run("leaks", leaking, code=1)
    assert result.stdout == "1 of 2 queries of train are in test too\n  for example one\n"
    assert "has no split" in run("leaks", labelled, code=2).stderr
    run("split", labelled, "-o", tmp_path / "b.csv")
    assert "no query and no document" in run("leaks", tmp_path / "b.csv").stdout
    # Any two documents of this file share most of their words; from a low similarity on they are the same.
    assert "nearly the same as one in" in run("leaks", tmp_path / "b.csv", "--near-duplicate", "0.4", code=1).stdout


def test_leaks_between_files(tmp_path):
    train = write(tmp_path / "train.jsonl", [{"query": "one", "document": "a", "split": "train"}])
    test = write(tmp_path / "test.jsonl", [{"query": "One.", "document": "b", "split": "test"}])
    run("leaks", train)
    run("leaks", test)
    run("leaks", train, test, code=1)


def test_balance_tells_what_it_did_to_the_odds(tmp_path, labelled):
    run("split", labelled, "-o", tmp_path / "b.csv", "--validation", "0", "--calibration", "0")
    result = run("balance", tmp_path / "b.csv", "-o", tmp_path / "c.csv", "--method", "oversample")
    assert result.stderr.endswith(f"240 pairs written to {tmp_path / 'c.csv'}, 160 read; log-odds moved by +1.099\n")
    result = run(
        "balance",
        tmp_path / "b.csv",
        "-o",
        tmp_path / "d.csv",
        "--method",
        "undersample",
        "--negatives-per-positive",
        2,
    )
    assert len(list(read_pairs(tmp_path / "d.csv"))) == 120
    result = run("balance", labelled, "-o", tmp_path / "e.csv", "--method", "undersample", code=2)
    assert "positive and negative pairs of split train" in result.stderr


def test_stats_counts_by_source_and_split(tmp_path):
    rows = [
        {"query": "a", "document": "1", "label": 1, "split": "train", "source": "x\x1b[2J[red]"},
        {"query": "a", "document": "2", "label": 0.4, "split": "train", "source": "x\x1b[2J[red]"},
        {"query": "b", "document": "2", "split": "test"},
    ]
    result = run("stats", write(tmp_path / "a.jsonl", rows))
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["source", "split", "queries", "pairs", "labelled", "positive"],
        ["-", "test", "1", "1", "0", "-"],
        ["x\\x1b[2J[red]", "train", "1", "2", "2", "50.0%"],
        ["all", "2", "3", "2", "50.0%"],
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "none.jsonl", "b.csv"],
        ["convert", "{a}", "b.xlsx"],
        ["convert", "{a}", "none/b.csv"],
        ["split", "none.jsonl", "-o", "b.csv"],
        ["split", "{a}"],
        ["leaks", "{a}", "--near-duplicate", "0"],
        ["balance", "{a}", "-o", "b.csv", "--method", "class-weights"],
        ["stats", "none.jsonl"],
        ["stats"],
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(labelled, monkeypatch, tmp_path, arguments):
    monkeypatch.chdir(tmp_path)
    result = run(*[argument.format(a=labelled) for argument in arguments], code=2)
    assert result.stderr.strip()
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl"]
