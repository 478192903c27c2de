import gzip
import json

import numpy as np
import pytest

pytest.importorskip("bm25s")

from benchmarks import rag, rag_generator
from benchmarks.rag_answers import find_case, year_of
from benchmarks.rag_corpora import read_corpus

from fake_runtime import FakeRuntime, fake_bundle
from relgrade.errors import InvalidData
from relgrade.grade.grader import Grader
from relgrade.grade.runtime import RuntimeOutput

WORDS = ["apple", "bread", "cedar", "delta", "ember", "fjord", "grape", "heron", "ivory", "jolly", "koala", "lemon"]


class SameWord(FakeRuntime):
    """Relevant is what holds the last word of the query."""

    def score(self, pairs):
        logits = [3.0 if query.split()[-1] in text else -3.0 for query, text in pairs]
        return RuntimeOutput(np.array(logits), np.zeros(len(pairs), bool), np.ones(len(pairs), int))


class WordVectors:
    name = "words"
    dimension = len(WORDS)
    tokenizer = None

    def encode(self, texts, *, kind):
        counts = np.array([[word in text for word in WORDS] for text in texts], np.float32) + 0.01
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def rows_of(split):
    """Six questions a split: one gold document and two others each; the last has no gold one."""
    rows = []
    for i, word in enumerate(WORDS[:6] if split == "test" else WORDS[6:]):
        texts = [
            f"The {word} is here in {split}. Some rain fell.",
            f"No such thing {i} {split}. Snow fell.",
            f"{i} {split}",
        ]
        for n, text in enumerate(texts):
            label = int(n == 0 and i < 5)
            document = f"title: T{i}\n{text if label or n else 'Nothing at all of it.'}"
            rows.append({"query_id": f"{split}{i}", "query": f"where is {word}", "document": document, "label": label})
    return [{**row, "split": split, "doc_id": "d"} for row in rows]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name in ("nq_oracle", "squad2_dev", "multihop_rag"):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            for row in [*rows_of("train"), *rows_of("test")]:
                file.write(json.dumps({**row, "query_id": f"{name}-{row['query_id']}"}) + "\n")
    return folder


@pytest.fixture
def load(tmp_path):
    def opened(options):
        grader = Grader(fake_bundle(tmp_path / "b"), SameWord())
        return rag.Tools(grader, WordVectors(), lambda texts: [len(t.split()) for t in texts], options.cache)

    return opened


def test_the_benchmark_measures_what_the_grader_keeps(data, load, tmp_path, capsys):
    output = tmp_path / "rag.json"
    arguments = [
        "--data",
        str(data),
        "--queries",
        "12",
        "--train-queries",
        "6",
        "--draws",
        "50",
        "--output",
        str(output),
    ]
    assert rag.main([*arguments, "--cache", str(tmp_path / "cache")], load=load) == 0
    report = json.loads(output.read_text())
    for retriever in rag.RETRIEVERS:
        card = report["corpora"]["wiki"][retriever]
        assert (card["sample"]["n_questions"], card["sample"]["n_unanswerable"]) == (12, 2)
        assert card["sample"]["n_calibration_questions"] == 6
        assert card["limits"]["chosen_on"] == "the calibration questions"
        filters = {row["filter"]: row for row in card["rows"]}
        everything, graded = filters["no filter"], filters["relgrade balanced"]
        assert everything["recall"]["value"] == graded["recall"]["value"] == 1.0
        assert (graded["precision"]["value"], graded["empty_unanswerable"]["value"]) == (1.0, 1.0)
        if retriever == "dense":  # words alone find nothing but the one document here
            assert everything["precision"]["value"] < 0.2
            assert everything["empty_unanswerable"]["value"] == 0.0
        compressed = filters["relgrade + compress"]
        assert compressed["precision"] == graded["precision"]
        # "title: T0" and "The apple is here in test."; "Some rain fell." is gone.
        assert graded["tokens"]["value"] == pytest.approx(11 * 10 / 12)
        assert compressed["tokens"]["value"] == pytest.approx(8 * 10 / 12)
    printed = capsys.readouterr().out
    assert "| relgrade + compress | 1.00 [1.00, 1.00] |" in printed
    assert json.loads(printed.splitlines()[-1])["wiki/bm25"]["relgrade balanced"][0] == 1.0


def test_scores_are_read_back(data, load, tmp_path, monkeypatch):
    arguments = ["--data", str(data), "--queries", "4", "--draws", "5", "--corpora", "news"]
    arguments += ["--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "rag.json")]

    def measured():
        rag.main(arguments, load=load)
        cards = json.loads((tmp_path / "rag.json").read_text())["corpora"]["news"]
        # Words and vectors are so quick that they are timed anew.
        rows = [row for card in cards.values() for row in card["rows"] if row["filter"].startswith("relgrade")]
        return rows, [card["limits"] for card in cards.values()]

    first = measured()
    for name in ("grade", "grade_pairs", "compress"):
        monkeypatch.setattr(Grader, name, None)
    assert measured() == first


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidData, match="nq_oracle"):
        read_corpus(tmp_path, "wiki", split="test", n_questions=2, seed=0)


def test_the_corpus_of_test_questions_holds_no_train_paragraph(data):
    corpus = read_corpus(data, "wiki", split="test", n_questions=4, seed=0)
    assert not any("train" in text for text in corpus.documents)
    assert len(corpus.questions) == 4
    news = read_corpus(data, "news", split="test", n_questions=4, seed=0)
    assert any("train" in text for text in news.documents)
    for question in corpus.questions:
        assert all(question.query.split()[-1] in corpus.documents[row] for row in question.gold)


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("when was it built", "It rose in 1887."),
        ("what year was it", "It rose in 1887."),
        ("how many people live there", None),  # two sentences hold a number
        ("who built it", None),
    ],
)
def test_the_sentence_that_must_hold_the_answer(query, answer):
    document = "title: Tower 3\nThe tower is tall. It rose in 1887. Two people live there."
    case = find_case(query, document)
    assert (case and document[case.start : case.end]) == answer


@pytest.mark.parametrize(
    ("query", "year"),
    [("when was it built", "1887"), ("when was the one of 1887 painted", "1901"), ("who built it", None)],
)
def test_the_year_that_is_taken_for_the_answer(query, year):
    more = " It was painted in 1901." if "1887" in query else ""
    assert year_of(query, f"title: Tower of 1805\nIt rose in 1887, and cost 12000.{more}") == year
    assert year_of("when was it built", "It rose in 1887 and fell in 1901.") is None


class Parrot:
    """Says the first year that it reads."""

    def __init__(self):
        self.prompts = []

    def count(self, text):
        return len(text.split())

    def __call__(self, prompt):
        self.prompts.append(prompt)
        found = rag_generator.YEAR.findall(prompt)
        return f"In {found[0]}." if found else "I do not know"


def test_a_generator_reads_what_filters_leave(tmp_path, capsys):
    rows = []
    for i, word in enumerate(WORDS[:4]):
        texts = [f"The {word} was built in {1900 + i}.", f"Some {word}s were sold in 1850 and 1860.", f"Snow {i}"]
        query = f"when was it built, the {word}"
        rows += [
            {"query_id": f"q{i}", "query": query, "document": text, "label": int(n == 0), "split": "test"}
            for n, text in enumerate(texts)
        ]
    for name in ("nq_oracle", "squad2_dev"):
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt", encoding="utf-8") as file:
            file.writelines(json.dumps({**row, "query_id": name + row["query_id"]}) + "\n" for row in rows)
    grader, model = Grader(fake_bundle(tmp_path / "b"), SameWord()), Parrot()
    arguments = ["--data", str(tmp_path), "--questions", "5", "--journal", str(tmp_path / "j" / "replies.jsonl")]
    arguments += ["--output", str(tmp_path / "generator.json")]
    assert rag_generator.main(arguments, model=model, grader=grader) == 0
    report = json.loads((tmp_path / "generator.json").read_text())
    assert report["n_questions"] == 5
    right = {name: each["right"] for name, each in report["contexts"].items()}
    assert right["gold paragraph alone"] == 1.0
    assert right["nothing"] == 0.0
    for each in report["contexts"].values():
        assert each["gain"]["value"] == pytest.approx(each["right"] - right["no filter"])
        assert each["gain"]["low"] <= each["gain"]["value"] <= each["gain"]["high"]
    assert report["contexts"]["nothing"]["year_in_context"] == 0.0
    assert report["contexts"]["relgrade balanced"]["prompt_tokens"] < report["contexts"]["no filter"]["prompt_tokens"]
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == right
    n_asked = len(model.prompts)
    assert n_asked == 5 * len(rag_generator.CONTEXTS)
    rag_generator.main(arguments, model=model, grader=grader)
    assert len(model.prompts) == n_asked  # the journal is read back
    lines = (tmp_path / "j" / "replies.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "j" / "replies.jsonl").write_text("".join(lines[:-1]))
    rag_generator.main([*arguments, "--only-finished"], model=model, grader=grader)
    report = json.loads((tmp_path / "generator.json").read_text())
    assert (report["n_questions"], report["n_sampled"], len(model.prompts)) == (4, 5, n_asked)
