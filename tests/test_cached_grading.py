"""Grading with a document cache, from bundle to command line: nothing is read twice, no grade depends on it."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner  # noqa: E402

from interaction_case import write_interaction_bundle  # noqa: E402
from relgrade.bundle import load_bundle  # noqa: E402
from relgrade.cli import main  # noqa: E402
from relgrade.errors import InvalidInput  # noqa: E402
from relgrade.export.interaction import export_interaction  # noqa: E402
from relgrade.grade.cache_build import build_cache  # noqa: E402
from relgrade.grade.document_cache import DocumentCache  # noqa: E402
from relgrade.grade.grader import Grader  # noqa: E402
from relgrade.grade.runtimes import require_document_cache  # noqa: E402
from relgrade.records import Document, Pair  # noqa: E402
from relgrade.settings import ExportSettings, StudentSettings  # noqa: E402
from relgrade.student.build import build_student  # noqa: E402

DOCUMENTS = [
    "red apple",
    "the cat is on the hill",
    "blue " * 40 + "river",
    "zzz",
    "a sheep, a goat and a duck " * 3,
    " ",
]
LONG = "where is the black horse of the lake, one two three four green plum. " * 12  # more than all windows hold
QUERIES = ["where is the cat", "red", "what was the black horse of the lake"]


@pytest.fixture(scope="module")
def folder(tiny_bert_folder, tmp_path_factory):
    settings = StudentSettings(
        architecture="interaction",
        base=str(tiny_bert_folder),
        max_tokens=16,
        max_query_tokens=8,
        max_windows=4,
        train_encoder=False,
        hidden=8,
    )
    student = build_student(settings, seed=3)
    pairs = [
        Pair(query_id=str(i), query=query, doc_id=str(j), document=text, label=float(i == j % 3))
        for i, query in enumerate(QUERIES)
        for j, text in enumerate(DOCUMENTS[:5])
    ]
    student.prepare(pairs, cache_folder=tmp_path_factory.mktemp("cache"))
    with torch.no_grad():
        student.head.network.free.linear.weight.normal_(0.0, 3.0, generator=torch.Generator().manual_seed(5))
    graphs = export_interaction(student.eval(), tmp_path_factory.mktemp("graphs"), ExportSettings())
    made = tmp_path_factory.mktemp("bundle") / "b"
    write_interaction_bundle(made, student, graphs)
    return made


class Counting:
    """A session that counts its runs."""

    def __init__(self, session):
        self._session = session
        self.n_runs = 0

    def run(self, *arguments):
        self.n_runs += 1
        return self._session.run(*arguments)

    def __getattr__(self, name):
        return getattr(self._session, name)


def open_grader(folder, cache):
    grader = Grader.load(folder, n_threads=1, document_cache=cache)
    reader = grader._runtime.reader
    reader._encoder = Counting(reader._encoder)
    return grader, reader._encoder


def logits(grader, documents=(*DOCUMENTS, LONG)):
    return [[each.logit for each in grader.grade(query, documents).grades] for query in QUERIES]


def test_a_warm_cache_reads_queries_alone_and_changes_no_grade(folder, tmp_path):
    grader, encoder = open_grader(folder, tmp_path / "c")
    cold = logits(grader)
    n_cold = encoder.n_runs
    assert n_cold > len(QUERIES)
    assert logits(grader) == cold
    assert encoder.n_runs - n_cold == len(QUERIES), "no document is read again, the parts of a long one neither"
    grader.document_cache.close()
    other, encoder = open_grader(folder, tmp_path / "c")
    assert logits(other) == cold
    assert encoder.n_runs == len(QUERIES), "nor in another process"
    assert other.document_cache.stats.n_misses == 0
    assert other.document_cache.stats.hit_ratio == 1.0


def test_grades_do_not_depend_on_what_the_cache_holds(folder):
    grader, _ = open_grader(folder, DocumentCache(memory_bytes=3000))  # a few documents at a time
    expected = logits(open_grader(folder, DocumentCache())[0])
    assert logits(grader) == expected
    assert [logits(grader, [text]) for text in DOCUMENTS] == [[[row[i]] for row in expected] for i in range(6)]
    assert grader.document_cache.stats.n_bytes <= 3000


def test_int8_states_move_logits_little_and_windows_not_at_all(folder):
    plain, cached = Grader.load(folder, n_threads=1), open_grader(folder, DocumentCache())[0]
    assert plain.document_cache is None
    for query in QUERIES:
        one, other = plain.grade(query, DOCUMENTS).grades, cached.grade(query, DOCUMENTS).grades
        assert [each.windows for each in one] == [each.windows for each in other]
        assert [each.truncated for each in one] == [each.truncated for each in other]
        np.testing.assert_allclose([each.logit for each in one], [each.logit for each in other], atol=0.2)


def test_a_bundle_without_states_of_documents_is_refused(folder):
    from dataclasses import replace

    bundle = load_bundle(folder)
    other = replace(bundle, manifest=replace(bundle.manifest, architecture="cross-encoder"))
    with pytest.raises(InvalidInput, match="reads query and document together"):
        require_document_cache(other)
    with pytest.raises(InvalidInput, match="document_cache"):
        Grader.load(folder, document_cache=3)


def test_a_corpus_that_was_built_is_never_read_again(folder, tmp_path):
    documents = [*(Document(text) for text in (*DOCUMENTS, LONG)), Document("red apple", title="fig")]
    seen = []
    report = build_cache(load_bundle(folder), documents, tmp_path / "c", n_threads=1, advance=seen.append)
    assert (report.n_documents, report.n_blank, report.n_known, report.is_full) == (8, 1, 0, False)
    assert report.n_new == report.info.n_documents > 7, "a long document is kept in parts"
    assert sum(seen) == 8
    again = build_cache(load_bundle(folder), documents, tmp_path / "c", n_threads=1)
    assert (again.n_new, again.n_known) == (0, report.n_new)
    grader, encoder = open_grader(folder, tmp_path / "c")
    grader.grade("red", documents)
    assert encoder.n_runs == 1


def test_a_build_goes_on_where_it_was_cut_off(folder, tmp_path):
    def cut_off():
        yield from (Document(f"{text} {number}") for number in range(20) for text in DOCUMENTS[:5])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(load_bundle(folder), cut_off(), tmp_path, n_threads=1)
    report = build_cache(load_bundle(folder), [Document(f"{DOCUMENTS[0]} 0")], tmp_path, n_threads=1)
    assert (report.n_new, report.n_known) == (0, 1)
    assert report.info.n_documents == 64, "whole chunks are stored"


def test_the_commands_build_grade_tell_and_clear(folder, tmp_path):
    corpus, cache = tmp_path / "corpus.jsonl", str(tmp_path / "c")
    corpus.write_text("".join(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(DOCUMENTS[:5])))
    run = CliRunner().invoke
    built = run(main, ["cache", "build", str(corpus), "--cache", cache, "--bundle", str(folder)])
    assert built.exit_code == 0, built.output
    assert "5 documents: 5 texts new" in built.output
    graded = run(main, ["grade", "-q", "red", str(corpus), "--cache", cache, "--bundle", str(folder), "-f", "jsonl"])
    assert "100.0% of the documents were in the cache" in graded.output
    told = run(main, ["cache", "info", "--cache", cache])
    assert "5 texts" in told.output
    assert "100.0% of 5 lookups" in told.output
    assert run(main, ["cache", "clear", "--cache", cache]).exit_code == 0
    assert "0 texts" in run(main, ["cache", "info", "--cache", cache]).output
    missing = run(main, ["cache", "info", "--cache", str(tmp_path / "none")])
    assert missing.exit_code == 2
    assert "no document cache here" in missing.output
    assert not (tmp_path / "none").exists()


def test_a_build_that_reaches_the_bound_says_so(folder, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    texts = [f"{'black horse of the lake ' * 10} {number}" for number in range(900)]
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    options = ["--cache", str(tmp_path / "c"), "--bundle", str(folder), "--max-bytes", "1000000"]
    built = CliRunner().invoke(main, ["cache", "build", str(corpus), *options])
    assert built.exit_code == 1
    assert "the bound is reached" in built.output


def test_the_server_tells_what_was_found(folder, tmp_path):
    pytest.importorskip("prometheus_client")
    from relgrade.serve.measures import Measures

    cache = DocumentCache(tmp_path)
    measures = Measures()
    measures.watch_documents(cache)
    grader, _ = open_grader(folder, cache)
    grader.grade("red", DOCUMENTS[:2])
    grader.grade("fig", DOCUMENTS[:2])
    told = measures.exposition().decode()
    assert 'relgrade_document_cache_lookups_total{outcome="memory"} 2.0' in told
    assert 'relgrade_document_cache_lookups_total{outcome="miss"} 2.0' in told
    assert "relgrade_document_cache_hit_ratio 0.5" in told
