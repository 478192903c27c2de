import math
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_runtime import GOLDENS, INF_WORD, MAX_CHARACTERS, NAN_WORD, FakeRuntime, fake_bundle, fake_logit
from relgrade.errors import BundleError, BundleIncomplete, GradingError, InvalidInput, ParityError
from relgrade.grade import grader as grader_module
from relgrade.grade import judging
from relgrade.grade.grader import Grader
from relgrade.grade.judging import EMPTY_LOGIT
from relgrade.grade.runtime import RuntimeOutput
from relgrade.grade.runtimes import RUNTIMES
from relgrade.records import Document, KeepPolicy, OperatingPoint, Pair

TEXTS = ["alpha", "beta beta", "", "gamma " * 300, {"text": "delta", "title": "D", "id": 4}, Document("epsilon")]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return fake_bundle(tmp_path_factory.mktemp("bundles") / "b")


@pytest.fixture
def grader(bundle):
    return Grader(bundle, FakeRuntime())


@pytest.fixture
def fake_architecture(monkeypatch):
    monkeypatch.setitem(RUNTIMES, "cross-encoder", ("fake_runtime", "FakeRuntime"))


def values(grade):
    return (grade.logit, grade.probability, grade.relevant, grade.truncated, grade.windows, grade.id)


def test_a_grade_says_everything(grader, bundle):
    graded = grader.grade("what is up", TEXTS)
    assert [grade.index for grade in graded] == list(range(6))
    assert all(grade.document is text for grade, text in zip(graded, TEXTS, strict=True))
    assert graded.documents == TEXTS
    assert (graded.query, graded.bundle_hash, graded.operating_point.name) == ("what is up", bundle.hash, "balanced")
    first, titled = graded[0], graded[4]
    assert first.logit == fake_logit("what is up", "alpha")
    assert first.probability == pytest.approx(1 / (1 + math.exp(-(1.5 * first.logit - 0.25))), abs=1e-15)
    assert first.relevant == (first.probability >= 0.5)
    assert (first.operating_point, first.truncated, first.windows, first.id) == ("balanced", False, 1, None)
    assert (titled.logit, titled.id) == (fake_logit("what is up", "title: D\ndelta"), "4")
    assert (graded[3].truncated, graded[3].windows) == (True, 1 + 1800 // MAX_CHARACTERS)
    assert [type(value) for value in values(titled)] == [float, float, bool, bool, int, str]


def test_no_documents_are_no_error(grader):
    assert len(grader.grade("q", [])) == 0
    assert not grader.grade("q", []).any_relevant
    assert len(grader.filter("q", [], policy=KeepPolicy(min_keep=3, max_tokens=5))) == 0
    assert list(grader.grade_pairs([])) == []


@given(st.lists(st.text(max_size=8), min_size=1, max_size=12), st.randoms(), st.integers(1, 5), st.integers(1, 40))
def test_a_grade_depends_on_its_pair_alone(bundle, texts, random, chunk_size, chunk_characters):
    """Not on neighbours, order, or how the call is cut."""
    grader = Grader(bundle, FakeRuntime())
    alone = [values(grader.grade("q", [text])[0]) for text in texts]
    assert [values(grade) for grade in grader.grade("q", texts)] == alone
    order = random.sample(range(len(texts)), len(texts))
    assert [values(grade) for grade in grader.grade("q", [texts[i] for i in order])] == [alone[i] for i in order]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judging, "CHUNK_CHARACTERS", chunk_characters)
        streamed = list(grader.grade_pairs((("q", text) for text in texts), chunk_size=chunk_size))
    assert [values(grade) for grade in streamed] == alone
    assert [grade.index for grade in streamed] == list(range(len(texts)))


@pytest.mark.parametrize("text", ["", " \n ", "\0\0", {"text": "\t", "title": "a title is no document"}])
@pytest.mark.parametrize("threshold", [0.0, 1e-30, 0.5])
def test_a_document_without_text_is_judged_by_rule(tmp_path, text, threshold):
    points = (OperatingPoint("balanced", threshold),)
    runtime = FakeRuntime()
    grader = Grader(fake_bundle(tmp_path / "b", operating_points=points), runtime)
    grade = grader.grade("q", [text])[0]
    assert (grade.logit, grade.relevant, grade.windows, grade.truncated) == (EMPTY_LOGIT, False, 0, False)
    assert 0.0 <= grade.probability < 1e-20
    assert runtime.calls == []


def test_the_threshold_itself_is_relevant(tmp_path):
    found = Grader(fake_bundle(tmp_path / "b"), FakeRuntime()).grade("q", ["alpha"])[0].probability
    points = (OperatingPoint("balanced", found), OperatingPoint("above", math.nextafter(found, 1)))
    grader = Grader(fake_bundle(tmp_path / "c", operating_points=points), FakeRuntime())
    assert grader.grade("q", ["alpha"])[0].relevant
    assert not grader.with_point("above").grade("q", ["alpha"])[0].relevant


@pytest.mark.parametrize("shift", [1e4, -1e4, 1e300, -1e300])
def test_extreme_logits_saturate_without_warning(bundle, shift):
    grade = Grader(bundle, FakeRuntime(shift=shift)).grade("q", ["alpha"])[0]
    assert grade.probability == (1.0 if shift > 0 else 0.0)


@pytest.mark.parametrize("word", [NAN_WORD, INF_WORD])
def test_no_finite_logit_is_an_error_with_its_index(grader, word):
    with pytest.raises(GradingError, match=r"document 2: the model returned (nan|inf)") as caught:
        grader.grade("q", ["a", "", word, "b"])
    assert caught.value.index == 2


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 100])
def test_a_stream_yields_all_before_an_error(grader, chunk_size):
    for bad, error in (((None, "d"), InvalidInput), (("q", None), InvalidInput), (("q", NAN_WORD), GradingError)):
        stream = grader.grade_pairs([("q", "a"), ("q", ""), ("r", "b"), bad, ("q", "c")], chunk_size=chunk_size)
        assert [next(stream).index for _ in range(3)] == [0, 1, 2]
        with pytest.raises(error, match=r"(pair|document) 3"):
            next(stream)


def test_a_stream_reads_at_most_a_chunk_ahead(grader):
    n_read = 0

    def endless():
        nonlocal n_read
        while True:
            n_read += 1
            yield "q", f"document {n_read}"

    stream = grader.grade_pairs(endless(), chunk_size=7)
    assert n_read == 0
    for _ in range(15):
        next(stream)
    assert n_read == 21


def test_a_chunk_ends_by_characters_and_the_next_starts_anew(bundle, monkeypatch):
    monkeypatch.setattr(judging, "CHUNK_CHARACTERS", 10)
    runtime = FakeRuntime()
    list(Grader(bundle, runtime).grade_pairs([("q", "four")] * 9, chunk_size=100))
    assert [len(call) for call in runtime.calls] == [3, 3, 3]


def test_many_queries_share_a_call_of_the_model(bundle):
    runtime = FakeRuntime()
    pairs = [Pair(query_id=str(i), query=f"q{i}", doc_id=f"d{i}", document="text") for i in range(5)]
    grades = list(Grader(bundle, runtime).grade_pairs(pairs, chunk_size=10))
    assert runtime.calls == [[(f"q{i}", "text") for i in range(5)]]
    assert [grade.id for grade in grades] == ["d0", "d1", "d2", "d3", "d4"]
    assert all(grade.document is pair for grade, pair in zip(grades, pairs, strict=True))


@pytest.mark.parametrize("value", [0, -1, 1.5, True, None, "3"])
def test_counts_are_checked_at_the_call(grader, value):
    with pytest.raises(InvalidInput, match="chunk_size must be a whole number >= 1"):
        grader.grade_pairs([], chunk_size=value)
    if value is not None:
        with pytest.raises(InvalidInput, match="top_k must be a whole number >= 1"):
            grader.rerank("q", ["a"], top_k=value)


def test_a_runtime_counts_from_its_own_first_pair(bundle):
    runtime = FakeRuntime()

    def fail(pairs):
        raise GradingError("no", index=1)

    runtime.score = fail
    with pytest.raises(GradingError) as caught:
        Grader(bundle, runtime).grade("q", ["", "a", "", "b"])
    assert caught.value.index == 3


def test_a_runtime_that_loses_a_pair_is_found_out(bundle):
    runtime = FakeRuntime()
    runtime.score = lambda pairs: RuntimeOutput(np.zeros(1), np.zeros(1, bool), np.ones(1, int))
    with pytest.raises(GradingError, match=r"shape \(1,\) for 2 documents"):
        Grader(bundle, runtime).grade("q", ["a", "b"])


def test_filter_keeps_the_relevant_in_the_order_of_the_call(grader):
    texts = [{"text": f"text {i}", "id": i} for i in range(30)]
    graded = grader.grade("q", texts)
    kept = grader.filter("q", texts)
    assert kept.grades == tuple(grade for grade in graded if grade.relevant)
    assert 0 < len(kept) < 30
    assert all(document is texts[grade.index] for grade, document in zip(kept, kept.documents, strict=True))


def test_filter_counts_the_tokens_of_what_could_fit(bundle):
    runtime = FakeRuntime()
    texts = ["word " * 4, "other " * 6, "", "x" * 1000, {"text": "more words", "title": "T"}]
    kept = Grader(bundle, runtime).filter("q", texts, policy=KeepPolicy(min_keep=5, max_tokens=10))
    assert runtime.counted == [texts[0], texts[1], "title: T\nmore words"]  # neither the blank nor the hopeless one
    assert sum(len(text.split()) for text in [runtime.counted[i] for i in (0, 1)]) == 10
    assert 3 not in [grade.index for grade in kept]
    assert 2 in [grade.index for grade in kept]  # costs nothing
    with pytest.raises(InvalidInput, match="policy: a KeepPolicy was expected, got dict"):
        Grader(bundle, runtime).filter("q", texts, policy={"min_keep": 1})


def test_tokens_are_not_counted_without_need(bundle):
    runtime = FakeRuntime()
    Grader(bundle, runtime).filter("q", TEXTS, policy=KeepPolicy(min_keep=2, max_keep=4))
    assert runtime.counted == []


def test_rerank_sorts_by_falling_logit(grader):
    texts = ["same", "other", "", "same", "more"]
    ranked = grader.rerank("q", texts)
    logits = [grade.logit for grade in ranked]
    assert logits == sorted(logits, reverse=True)
    assert sorted(grade.index for grade in ranked) == [0, 1, 2, 3, 4]
    same = [grade.index for grade in ranked if grade.document == "same"]
    assert same == [0, 3]
    assert ranked[-1].index == 2
    assert grader.rerank("q", texts, top_k=2).grades == ranked.grades[:2]
    assert len(grader.rerank("q", texts, top_k=99)) == 5


def test_the_callers_documents_are_left_alone(grader):
    texts = [{"text": "a", "metadata": {"n": [1]}}, {"text": "b"}]
    grader.filter("q", texts, policy=KeepPolicy(min_keep=1))
    grader.rerank("q", texts)
    assert texts == [{"text": "a", "metadata": {"n": [1]}}, {"text": "b"}]


def test_operating_points(grader, bundle):
    assert [point.name for point in grader.operating_points] == ["balanced", "strict"]
    strict = grader.with_point("strict")
    assert (strict.operating_point.threshold, grader.operating_point.threshold) == (0.9, 0.5)
    assert strict.bundle is grader.bundle
    texts = [f"text {i}" for i in range(50)]
    assert len(strict.filter("q", texts)) < len(grader.filter("q", texts))
    assert [grade.logit for grade in strict.grade("q", texts)] == [grade.logit for grade in grader.grade("q", texts)]
    for make in (grader.with_point, lambda name: Grader(bundle, FakeRuntime(), operating_point=name)):
        with pytest.raises(InvalidInput, match=r"no operating point 'lax' .*; it has: balanced, strict"):
            make("lax")


def test_threads_share_a_grader(grader):
    expected = [grade.logit for grade in grader.grade("q", TEXTS)]
    found = []

    def work():
        found.append([grade.logit for grade in grader.grade("q", TEXTS)])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


def test_goldens_come_out_as_they_were_made(grader, bundle):
    report = grader.verify_goldens()
    assert (report.n_pairs, report.largest_difference) == (len(GOLDENS), 0.0)
    assert Grader(bundle, FakeRuntime(shift=0.05)).verify_goldens().largest_difference == pytest.approx(0.05)
    with pytest.raises(ParityError, match=r"golden pair \d: expected logit .* more than 0.1 apart"):
        Grader(bundle, FakeRuntime(shift=-0.2)).verify_goldens()
    with pytest.raises(ParityError):
        Grader(bundle, FakeRuntime(shift=0.05)).verify_goldens(tolerance=0.01)


def test_load_from_a_folder(bundle, fake_architecture):
    for source in (bundle.folder, str(bundle.folder)):
        grader = Grader.load(source, operating_point="strict", n_threads=3)
        assert grader.bundle.hash == bundle.hash
        assert grader.operating_point.name == "strict"
        assert grader._runtime.n_threads == 3
    with pytest.raises(InvalidInput, match="no operating point 'lax'"):
        Grader.load(bundle.folder, operating_point="lax")
    with pytest.raises(InvalidInput, match="is a folder and has no revision"):
        Grader.load(bundle.folder, revision="a" * 40)


def test_load_the_embedded_one(bundle, fake_architecture, monkeypatch, tmp_path):
    monkeypatch.setattr(grader_module, "DEFAULT_BUNDLE", bundle.folder)
    assert Grader.load().bundle.hash == bundle.hash
    with pytest.raises(InvalidInput, match="revision belongs to a Hub id"):
        Grader.load(revision="a" * 40)
    monkeypatch.setattr(grader_module, "DEFAULT_BUNDLE", tmp_path / "default")
    with pytest.raises(BundleIncomplete, match="this installation has no embedded grader"):
        Grader.load()


def test_load_another_embedded_one_by_its_name(bundle, fake_architecture, monkeypatch, tmp_path):
    shutil.copytree(bundle.folder, tmp_path / "bundles" / "nano")
    monkeypatch.setattr(grader_module, "DEFAULT_BUNDLE", tmp_path / "bundles" / "default")
    monkeypatch.chdir(tmp_path)
    assert Grader.load("nano").bundle.folder == tmp_path / "bundles" / "nano"
    for elsewhere in ("mini", "../bundles/nano", Path("nano")):
        with pytest.raises(BundleIncomplete, match="no such folder"):
            Grader.load(elsewhere)
    (tmp_path / "nano").mkdir()  # a folder of the user's own goes first
    with pytest.raises(BundleIncomplete, match=r"bundle\.json"):
        Grader.load("nano")


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("nowhere", BundleIncomplete, "no such folder"),
        ("nanoo", BundleIncomplete, r"embedded one \(default, nano\), or a Hub id organisation/name@COMMIT"),
        ("a" * 300, BundleIncomplete, "no such folder"),
        (Path("a" * 300), BundleIncomplete, "no such folder"),
        ("a/b@" + "c" * 300, InvalidInput, "40 hexadecimal digits"),
        ("./a/b/c", BundleIncomplete, "no such folder"),
        ("organisation/name", InvalidInput, "a Hub id needs the 40 hexadecimal digits of a commit.*got none"),
        (7, InvalidInput, "a folder, a Hub id or None was expected, got int"),
        (b"x", InvalidInput, "got bytes"),
    ],
)
def test_what_cannot_be_loaded(source, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        Grader.load(source)


def test_an_unknown_architecture_says_upgrade(tmp_path):
    folder = fake_bundle(tmp_path / "b", architecture="oracle").folder
    with pytest.raises(BundleError, match=r"'oracle' is unknown here.*cross-encoder, interaction.*upgrade"):
        Grader.load(folder)
