import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from candidates_case import WordEncoder, write_case
from relgrade.candidates import CandidateSettings, CorpusSettings, Mix, make_candidates
from relgrade.candidates.settings import METHODS
from relgrade.candidates.vectors import VectorCache
from relgrade.cli import candidates as command
from relgrade.cli import main
from relgrade.errors import InvalidData, InvalidInput, OutputError
from relgrade.formats import read_pairs

CASE = Path(__file__).with_name("candidates_case.py")
N_QUERIES, N_DOCUMENTS = 30, 200
MIX = Mix(top=3, mid=2, random=2)


@pytest.fixture
def case(tmp_path):
    """Queries and a corpus; a function that makes candidates of them."""
    write_case(tmp_path, n_queries=N_QUERIES, n_documents=N_DOCUMENTS)

    def make(name="pairs.jsonl", *, encoder=None, method="hybrid", seed=0, mix=MIX, **options):
        settings = CandidateSettings(method=method, mix=mix, depth=20, seed=seed)
        return make_candidates(
            tmp_path / "queries.jsonl",
            tmp_path / "corpus.jsonl",
            tmp_path / name,
            settings=settings,
            encoder=encoder or WordEncoder(),
            **options,
        )

    return tmp_path, make


def rows(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("method", METHODS)
def test_pairs_say_how_they_were_found_and_are_read_back(case, method):
    folder, make = case
    report = make(method=method)
    pairs = list(read_pairs(folder / "pairs.jsonl"))
    assert report.n_pairs == len(pairs) == N_QUERIES * MIX.total
    assert report.strata == {"top": 90, "mid": 60, "random": 60}
    assert (report.n_short, report.n_blank, report.n_repeated) == (0, 1, 1)
    for pair in pairs:
        assert pair.fields["method"] == method
        assert pair.fields["metadata"]["n"] == int(pair.doc_id[1:])
        assert pair.label is None
        if pair.fields["stratum"] != "random":
            assert pair.fields["rank"] <= 20
            assert {"bm25_rank", "dense_rank"} & set(pair.fields) or method != "hybrid"
    first = [pair.fields["rank"] for pair in pairs[: MIX.total] if pair.fields["stratum"] == "top"]
    assert first == [1, 2, 3]


def test_the_best_document_comes_first(case):
    folder, make = case
    for method in METHODS:
        make(f"{method}.jsonl", method=method)
        best = [row for row in rows(folder / f"{method}.jsonl") if row.get("rank") == 1]
        # The queries are made of a document's own words: see candidates_case.
        hits = [row["doc_id"] == f"d{int(row['query_id'][1:])}" for row in best]
        assert np.mean(hits) > 0.9, method


def test_the_same_command_gives_the_same_file_and_another_seed_another(case):
    folder, make = case
    for name, seed in (("a.jsonl", 0), ("b.jsonl", 0), ("c.jsonl", 1)):
        make(name, seed=seed)
    assert (folder / "a.jsonl").read_bytes() == (folder / "b.jsonl").read_bytes()
    assert (folder / "a.jsonl").read_bytes() != (folder / "c.jsonl").read_bytes()
    tops = [[row for row in rows(folder / name) if row["stratum"] == "top"] for name in ("a.jsonl", "c.jsonl")]
    assert tops[0] == tops[1]


def test_the_draw_of_a_query_does_not_depend_on_the_others(case):
    folder, make = case
    make("all.jsonl")
    lines = (folder / "queries.jsonl").read_text().splitlines(keepends=True)
    (folder / "queries.jsonl").write_text("".join(lines[20:25]))
    make("some.jsonl")
    expected = [row for row in rows(folder / "all.jsonl") if 20 <= int(row["query_id"][1:]) < 25]
    assert rows(folder / "some.jsonl") == expected


@pytest.mark.parametrize("n_bytes", [0, 1, 1000, 1001, 20_000])
def test_a_torn_output_is_continued_to_the_same_bytes(case, n_bytes):
    folder, make = case
    make("whole.jsonl")
    whole = (folder / "whole.jsonl").read_bytes()
    make("torn.jsonl")
    (folder / "torn.jsonl").write_bytes(whole[:n_bytes])
    encoder = WordEncoder()
    report = make("torn.jsonl", encoder=encoder)
    assert (folder / "torn.jsonl").read_bytes() == whole
    assert report.n_pairs_found == whole[:n_bytes].count(b"\n")
    assert encoder.n_texts == 0  # every vector was kept


def test_rows_of_another_run_are_not_continued(case):
    folder, make = case
    make()
    before = (folder / "pairs.jsonl").read_bytes()
    with pytest.raises(InvalidInput, match="were made with seed 0, this run has 1"):
        make(seed=1)
    with (folder / "corpus.jsonl").open("a") as file:
        file.write('{"id": "new", "text": "a new one"}\n')
    with pytest.raises(InvalidInput, match="were made with corpus"):
        make()
    assert (folder / "pairs.jsonl").read_bytes() == before
    make(seed=1, overwrite=True)
    assert (folder / "pairs.jsonl").read_bytes() != before
    (folder / "other.jsonl").write_text("{}\n")
    with pytest.raises(InvalidInput, match="nothing beside it says"):
        make("other.jsonl")


def test_a_corpus_too_small_for_the_mix_is_reported(case):
    folder, make = case
    (folder / "corpus.jsonl").write_text('{"id": "a", "text": "red cat"}\n{"id": "b", "text": "blue dog"}\n')
    report = make()
    assert report.n_short == N_QUERIES
    assert report.n_pairs == 2 * N_QUERIES


def test_what_cannot_work_is_said_before_anything_is_read(case, tmp_path):
    folder, make = case
    with pytest.raises(InvalidInput, match="needs an encoder"):
        make_candidates(folder / "gone", folder / "gone", folder / "out.jsonl")
    with pytest.raises(InvalidInput, match=r"written to \.jsonl"):
        make("out.csv")
    (folder / "corpus.jsonl").write_text('{"text": " "}\n')
    with pytest.raises(InvalidData, match="no document with text"):
        make()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["corpus.jsonl", "queries.jsonl"]


def test_kill_9_at_any_moment_loses_nothing(tmp_path):
    write_case(tmp_path, n_queries=N_QUERIES, n_documents=600)

    def start(name, delay_s):
        environment = {**os.environ, "ENCODER_DELAY_S": str(delay_s)}
        return subprocess.Popen([sys.executable, str(CASE), str(tmp_path), name], env=environment)

    assert start("whole.jsonl", 0).wait() == 0
    for delay_s in (0.2, 0.5):
        child = start("killed.jsonl", 0.3)
        keys = tmp_path / "killed.jsonl.vectors" / "keys.bin"
        while not keys.exists() or not keys.stat().st_size:
            assert child.poll() is None
            time.sleep(0.01)
        time.sleep(delay_s)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert start("killed.jsonl", 0).wait() == 0
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    left = sorted(each.name for each in tmp_path.iterdir() if "killed" in each.name)
    assert left == ["killed.jsonl", "killed.jsonl.state.json", "killed.jsonl.vectors"]


# --- the cache of vectors


@given(st.integers(0, 5 * 16 + 3), st.integers(0, 5 * 32 + 3))
def test_a_cache_cut_anywhere_gives_the_same_vectors(tmp_path_factory, n_keys, n_vectors):
    folder = tmp_path_factory.mktemp("cache")
    texts = ["red cat", "blue dog", "hen", "red cat", "hill", "sea"]
    with VectorCache(folder, WordEncoder()) as cache:
        expected = cache.read(cache.rows_of(texts, kind="document"))
        assert len(cache) == 5
    os.truncate(folder / "keys.bin", min(n_keys, (folder / "keys.bin").stat().st_size))
    os.truncate(folder / "vectors.f32", min(n_vectors, (folder / "vectors.f32").stat().st_size))
    encoder = WordEncoder()
    with VectorCache(folder, encoder) as cache:
        n_kept = len(cache)
        assert np.array_equal(cache.read(cache.rows_of(texts, kind="document")), expected)
    assert encoder.n_texts == 5 - n_kept
    assert n_kept >= min(n_keys // 16, n_vectors // (4 * encoder.dimension), 5)


def test_queries_and_documents_of_one_text_are_two_vectors(tmp_path):
    encoder = WordEncoder()
    with VectorCache(tmp_path, encoder) as cache:
        assert cache.rows_of(["cat"], kind="query") != cache.rows_of(["cat"], kind="document")
        with pytest.raises(InvalidInput, match="another process uses these vectors"):
            VectorCache(tmp_path, encoder)


def test_vectors_of_another_encoder_are_refused(tmp_path):
    VectorCache(tmp_path, WordEncoder()).__exit__(None, None, None)
    with pytest.raises(InvalidData, match="vectors of another encoder"):
        VectorCache(tmp_path, WordEncoder(name="other"))
    with pytest.raises(OutputError):
        VectorCache(tmp_path / "vectors.json", WordEncoder())


def test_an_encoder_that_gives_no_number_is_refused_and_leaves_the_cache_whole(tmp_path):
    class Broken(WordEncoder):
        def encode(self, texts, *, kind):
            return super().encode(texts, kind=kind) * np.nan

    with VectorCache(tmp_path, Broken()) as cache, pytest.raises(InvalidInput, match="finite numbers"):
        cache.rows_of(["cat"], kind="query")
    with VectorCache(tmp_path, WordEncoder()) as cache:
        assert len(cache) == 0


# --- the command


@pytest.fixture
def run(case, monkeypatch):
    folder, _ = case
    monkeypatch.setattr(command, "_encoder", lambda *_, **__: WordEncoder())

    def invoke(*options):
        arguments = ["candidates", "--queries", folder / "queries.jsonl", "-o", folder / "out.jsonl", *options]
        if "--corpus" not in options:
            arguments += ["--corpus", folder / "corpus.jsonl"]
        return CliRunner().invoke(main, [str(each) for each in arguments])

    return folder, invoke


def test_the_command_writes_what_the_function_writes(run, case):
    folder, invoke = run
    result = invoke("--mix", "top=3,mid=2,random=2", "--depth", "20", "--top", "7")
    assert result.exit_code == 0, result.output
    assert "210 pairs of 30 queries" in result.output
    case[1]("by_hand.jsonl")
    assert (folder / "out.jsonl").read_bytes() == (folder / "by_hand.jsonl").read_bytes()
    assert invoke("--mix", "top=3,mid=2,random=2", "--depth", "20").exit_code == 0
    assert "210 of them were written before" in invoke("--mix", "top=3,mid=2,random=2", "--depth", "20").output


def test_the_command_skips_bad_lines_when_told(run):
    folder, invoke = run
    with (folder / "corpus.jsonl").open("a") as file:
        file.write("broken\n")
    result = invoke("--top", "4", "--method", "bm25")
    assert result.exit_code == 2
    assert "corpus.jsonl:203: not JSON" in result.output
    assert not (folder / "out.jsonl").exists()
    result = invoke("--top", "4", "--method", "bm25", "--skip-bad")
    assert result.exit_code == 1
    assert "skipped 1 lines or files" in result.output
    assert len(rows(folder / "out.jsonl")) == 4 * N_QUERIES


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--top", "5", "--mix", "top=1"), "--top says 5"),
        (("--mix", "best=1"), "a mix looks like"),
        (("--collection", "x"), "belongs to a store"),
        (("--corpus", "qdrant:somewhere"), "collection is needed; name it with --collection"),
        (("--store-vectors",), "only a vector store brings vectors"),
        (("--chunk-overlap", "300"), "chunk_overlap must be"),
    ],
)
def test_the_command_says_what_is_wrong(run, options, message):
    _, invoke = run
    result = invoke(*options)
    assert result.exit_code == 2
    assert message in result.output


def test_the_encoder_is_opened_when_something_needs_it(monkeypatch):
    from relgrade.grade.text_vectors import TextVectors

    monkeypatch.setattr(TextVectors, "load", lambda *_, **__: "opened")
    whole, cut = CorpusSettings(), CorpusSettings(chunk_tokens=50)
    cases = [
        ("bm25", whole, "c.jsonl.gz"),
        ("bm25", whole, "folder"),
        ("bm25", cut, "c.csv"),
        ("dense", whole, "c.csv"),
    ]
    opened = [
        command._encoder(CandidateSettings(method=method), corpus_settings, None, None, corpus=corpus)
        for method, corpus_settings, corpus in cases
    ]
    assert opened == [None, "opened", "opened", "opened"]


def test_the_command_knows_the_methods():
    assert command._METHODS == METHODS


# --- the encoder of the embedded bundle


def test_the_embedded_encoder_finds_what_is_meant_and_reads_each_text_alone():
    from relgrade.grade.text_vectors import TextVectors

    encoder = TextVectors.load(n_threads=1)
    documents = ["A cat sat on the rug.", "The interest rate rose by a quarter point.", "Kittens sleep all day. " * 120]
    vectors = encoder.encode(documents, kind="document")
    assert vectors.shape == (3, encoder.dimension)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    for text, vector in zip(documents, vectors, strict=True):
        assert np.array_equal(encoder.encode([text], kind="document")[0], vector)
    (query,) = encoder.encode(["How long do young cats sleep?"], kind="query")
    assert np.argmax(vectors @ query) == 2
    assert encoder.encode([], kind="query").shape == (0, encoder.dimension)
    assert encoder.name == TextVectors.load(n_threads=2).name


def test_defaults_are_sound():
    assert CandidateSettings().mix.total == 20
    assert CorpusSettings().chunk_tokens is None
