import asyncio
import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_runtime import FakeRuntime, fake_bundle
from integration_case import (
    BEST_FIRST,
    BUNDLE_HASH,
    KEPT_SPANS,
    KEPT_TEXTS,
    PAGES,
    QUERY,
    RELEVANT,
    TEXTS,
    AsyncWordGrader,
    WordGrader,
    check_evidence,
    fake_client,
)
from relgrade.errors import BundleError, GradingError, InvalidInput
from relgrade.integrations.screening import Screen, Screened, as_document
from relgrade.integrations.source import is_url, open_grader
from relgrade.records import Document, GradedList, KeepPolicy

DOCUMENTS = [Document(text, id=str(i)) for i, text in enumerate(TEXTS)]


# --- which grader


def test_an_object_that_grades_is_used_as_it_is():
    grader = WordGrader()
    assert open_grader(grader) is grader


def test_a_url_becomes_a_client(monkeypatch):
    made = fake_client(monkeypatch)
    grader = open_grader("HTTP://localhost:8000", operating_point="high-recall", api_key="k")
    assert (made[0].url, made[0].api_key, made[0].operating_point) == ("HTTP://localhost:8000", "k", "high-recall")
    assert grader is made[0].client


def test_a_name_without_a_scheme_is_a_folder(tmp_path):
    with pytest.raises(BundleError, match="nowhere"):
        open_grader(str(tmp_path / "nowhere"))
    assert not is_url(tmp_path)
    assert not is_url("https/folder")


@pytest.mark.parametrize("source", [3, WordGrader, object(), ["a"], b"http://x"])
def test_what_is_no_grader_is_refused(source):
    with pytest.raises(InvalidInput, match=r"None for the embedded grader, .* was expected, got"):
        open_grader(source)


def test_the_point_of_an_object_is_changed_where_it_can_be():
    assert open_grader(WordGrader(), operating_point="high-recall").point.name == "high-recall"
    with pytest.raises(InvalidInput, match="no operating point 'none'"):
        open_grader(WordGrader(), operating_point="none")
    with pytest.raises(InvalidInput, match="has no with_point"):
        open_grader(AsyncWordGrader(), operating_point="balanced")


def test_a_key_is_for_a_server_alone():
    with pytest.raises(InvalidInput, match="api_key belongs to the URL"):
        open_grader(WordGrader(), api_key="k")


# --- what is kept


def test_the_part_of_a_long_document_that_decided_is_noted():
    at_once = WordGrader().grade(QUERY, DOCUMENTS[:2])
    long = replace(at_once[0], best_window=(30, 90))
    screened = Screened(kept=(0, 1), rejected=(), grades=(long, at_once[1]))
    assert (screened.notes(0)["relgrade_window_start"], screened.notes(0)["relgrade_window_end"]) == (30, 90)
    assert "relgrade_window_start" not in screened.notes(1)


@pytest.mark.parametrize(("order", "kept"), [("score", BEST_FIRST), ("input", RELEVANT)])
def test_kept_and_rejected_are_told_apart_in_the_order_asked_for(order, kept):
    screened = Screen(WordGrader(), order=order).run(QUERY, DOCUMENTS)
    assert list(screened.kept) == kept
    assert screened.rejected == (0, 2, 4)
    assert screened.is_any_relevant
    assert (screened.error, screened.bundle_hash, screened.operating_point) == (None, BUNDLE_HASH, "balanced")


def test_notes_are_plain_values():
    notes = Screen(WordGrader()).run(QUERY, DOCUMENTS).notes(1)
    assert 0.5 < notes["relevance_score"] < 1.0
    assert notes["relevance_verdict"] == "relevant"
    assert notes["relgrade_bundle"] == BUNDLE_HASH
    assert all(isinstance(value, str | float | bool) for value in notes.values())


def test_nothing_to_grade_does_not_ask_the_grader():
    grader = WordGrader(fails=True)
    assert Screen(grader).run(QUERY, []) == Screened((), (), ())
    assert not grader.calls


def test_a_policy_fills_up_and_cuts_off():
    none = Screen(WordGrader(), policy=KeepPolicy(min_keep=1), order="input").run("plum", DOCUMENTS)
    assert len(none.kept) == 1
    assert not none.is_any_relevant  # it was kept, and is not relevant all the same
    assert Screen(WordGrader(), policy=KeepPolicy(max_keep=1)).run(QUERY, DOCUMENTS).kept == (3,)


def test_a_token_budget_is_left_to_the_grader_that_counts_them():
    screened = Screen(WordGrader(), policy=KeepPolicy(max_tokens=4)).run(QUERY, DOCUMENTS)
    assert screened.kept == (1,)
    assert screened.rejected == (0, 2, 3, 4)
    assert screened.grades[3] is None
    assert screened.notes(3) == {"relgrade_bundle": BUNDLE_HASH, "relgrade_point": "balanced"}


@given(st.lists(st.sampled_from(TEXTS), max_size=8), st.integers(0, 3), st.sampled_from(["score", "input"]))
def test_every_document_is_kept_or_rejected_once(texts, min_keep, order):
    documents = [Document(text) for text in texts]  # duplicates too
    screened = Screen(WordGrader(), policy=KeepPolicy(min_keep=min_keep), order=order).run(QUERY, documents)
    assert sorted(screened.kept + screened.rejected) == list(range(len(texts)))
    assert len(screened.kept) >= min(min_keep, len(texts))
    assert {i for i in range(len(texts)) if texts[i] in (TEXTS[1], TEXTS[3])} <= set(screened.kept)


# --- when the grader fails


def test_a_failure_is_raised_unless_told_otherwise():
    with pytest.raises(GradingError, match="nan"):
        Screen(WordGrader(fails=True)).run(QUERY, DOCUMENTS)


@pytest.mark.parametrize(("on_error", "n_kept"), [("keep_all", 5), ("drop_all", 0)])
def test_a_failure_keeps_or_drops_everything_and_is_heard(on_error, n_kept, caplog):
    with caplog.at_level(logging.WARNING, "relgrade.integrations"):
        screened = Screen(WordGrader(fails=True), on_error=on_error).run(QUERY, DOCUMENTS)
    assert len(screened.kept) == n_kept
    assert len(screened.rejected) == 5 - n_kept
    assert screened.error == "GradingError: the model gave nan"
    assert screened.summary()["error"] == screened.error
    assert screened.notes(0) == {"relgrade_error": screened.error}
    assert screened.is_any_relevant is bool(n_kept)
    assert screened.error in caplog.text


class Forgetful(WordGrader):
    def grade(self, query, documents, *, evidence=False):
        graded = super().grade(query, documents, evidence=evidence)
        return GradedList(query, graded.grades[:-1], graded.operating_point, graded.bundle_hash)


def test_a_missing_grade_is_a_failure_and_no_verdict():
    with pytest.raises(GradingError, match="no grade for document 4 of 5") as caught:
        Screen(Forgetful()).run(QUERY, DOCUMENTS)
    assert caught.value.index == 4
    assert len(Screen(Forgetful(), on_error="keep_all").run(QUERY, DOCUMENTS).kept) == 5


class HalfServed(WordGrader):
    """A client that keeps what its server did not judge: the documents at `lost`."""

    lost = (0, 3)

    def grade(self, query, documents, *, evidence=False):
        graded = super().grade(query, documents, evidence=evidence)
        kept = [replace(grade, logit=float("nan"), relevant=True) for grade in graded]
        grades = tuple(kept[i] if i in self.lost else graded[i] for i in range(len(kept)))
        failure = SimpleNamespace(policy="keep_all", message="server: gone", documents=self.lost)
        return SimpleNamespace(
            grades=grades, failure=failure, bundle_hash=BUNDLE_HASH, operating_point=graded.operating_point
        )


def test_a_client_that_lost_some_verdicts_says_which(caplog):
    with caplog.at_level(logging.WARNING, "relgrade.integrations"):
        screened = Screen(HalfServed()).run(QUERY, DOCUMENTS)
    assert screened.kept == (1, 0, 3)  # judged ones first
    assert (screened.error, screened.rejected) == ("server: gone", (2, 4))
    assert screened.notes(0) == {"relgrade_error": "server: gone"}
    assert screened.notes(1)["relevance_score"] > 0.5
    assert Screen(HalfServed()).run("plum", DOCUMENTS).is_any_relevant
    assert "2 of 5 documents were not judged" in caplog.text


def test_an_empty_query_is_the_callers_mistake_whatever_on_error_says():
    with pytest.raises(InvalidInput, match="empty"):
        Screen(WordGrader(), on_error="keep_all").run(" ", DOCUMENTS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_error": "ignore"}, "on_error is one of 'raise', 'keep_all', 'drop_all', got 'ignore'"),
        ({"order": "random"}, "order is one of"),
        ({"policy": 3}, "a KeepPolicy was expected, got int"),
    ],
)
def test_unknown_choices_are_refused(options, message):
    with pytest.raises(InvalidInput, match=message):
        Screen(WordGrader(), **options)


# --- asynchronous


def test_an_asynchronous_call_gives_the_same_in_another_thread():
    grader = WordGrader()
    screen = Screen(grader)
    assert asyncio.run(screen.run_async(QUERY, DOCUMENTS)) == screen.run(QUERY, DOCUMENTS)
    assert len(grader.threads) == 2


def test_an_asynchronous_client_is_awaited_and_refused_elsewhere():
    screen = Screen(AsyncWordGrader())
    assert asyncio.run(screen.run_async(QUERY, DOCUMENTS)) == Screen(WordGrader()).run(QUERY, DOCUMENTS)
    with pytest.raises(InvalidInput, match="answers asynchronous calls alone"):
        screen.run(QUERY, DOCUMENTS)
    failing = Screen(AsyncWordGrader(fails=True), on_error="drop_all")
    assert asyncio.run(failing.run_async(QUERY, DOCUMENTS)).error is not None


# --- evidence and compression

PAGE_DOCUMENTS = [Document(text, id=str(i)) for i, text in enumerate(PAGES)]


@pytest.mark.parametrize("policy", [None, KeepPolicy(max_tokens=100)])
def test_evidence_is_one_key_of_the_notes(policy):
    screened = Screen(WordGrader(), evidence=True, policy=policy, order="input").run(QUERY, PAGE_DOCUMENTS)
    assert screened.kept == (0, 2)
    for i in screened.kept:
        assert screened.text(i) is None
        assert check_evidence(screened.notes(i)["relgrade_evidence"], PAGES[i])
    if policy is None:
        assert screened.notes(1)["relgrade_evidence"] == []
    plain = Screen(WordGrader(), policy=policy).run(QUERY, PAGE_DOCUMENTS)
    assert "relgrade_evidence" not in plain.notes(0)


@pytest.mark.parametrize(
    ("compress", "asked"),
    [
        (True, {"point": None, "threshold": None}),
        ("high-recall", {"point": "high-recall", "threshold": None}),
        (0.25, {"point": None, "threshold": 0.25}),
        (0.0, {"point": None, "threshold": 0.0}),
        (1, {"point": None, "threshold": 1.0}),
    ],
)
@pytest.mark.parametrize("evidence", [False, True])
def test_texts_are_replaced_and_their_places_told(compress, asked, evidence):
    grader = WordGrader()
    screened = Screen(grader, compress=compress, evidence=evidence, order="input").run(QUERY, PAGE_DOCUMENTS)
    assert grader.compressions == [asked]
    assert (screened.kept, screened.rejected) == ((0, 2), (1,))
    assert {i: screened.text(i) for i in screened.kept} == KEPT_TEXTS
    assert {i: screened.notes(i)["relgrade_spans"] for i in screened.kept} == KEPT_SPANS
    notes = screened.notes(0)
    assert (notes["relgrade_tokens_before"], notes["relgrade_tokens_after"]) == (18, 12)
    assert notes["relevance_score"] > 0.5
    rejected = screened.notes(1)
    assert rejected["relevance_score"] < 0.5, "those that were dropped have their verdict too"
    assert not {"relgrade_spans", "relgrade_tokens_after"} & set(rejected)
    assert ("relgrade_evidence" in notes, rejected.get("relgrade_evidence")) == (evidence, [] if evidence else None)
    if evidence:
        assert len(check_evidence(notes["relgrade_evidence"], PAGES[0])) == 2
    nothing = Screen(grader, compress=compress, evidence=evidence).run("plum", PAGE_DOCUMENTS)
    assert (nothing.kept, nothing.notes(0).get("relgrade_evidence")) == ((), [] if evidence else None)


def test_the_policy_chooses_among_what_is_compressed():
    screened = Screen(WordGrader(), compress=True, policy=KeepPolicy(max_keep=1)).run(QUERY, PAGE_DOCUMENTS)
    assert len(screened.kept) == 1
    best = Screen(WordGrader(), compress=True).run(QUERY, PAGE_DOCUMENTS)
    assert best.kept == Screen(WordGrader()).run(QUERY, PAGE_DOCUMENTS).kept


@pytest.mark.parametrize("options", [{"evidence": True}, {"compress": True}, {"compress": 0.3, "evidence": True}])
def test_asynchronous_graders_find_the_same(options):
    screen = Screen(AsyncWordGrader(), **options)
    found = asyncio.run(screen.run_async(QUERY, PAGE_DOCUMENTS))
    expected = Screen(WordGrader(), **options).run(QUERY, PAGE_DOCUMENTS)
    for i in range(len(PAGES)):
        assert (found.notes(i), found.text(i)) == (expected.notes(i), expected.text(i))


class Plain:
    """An object of the caller's that knows nothing of sentences."""

    def grade(self, query, documents):
        return WordGrader().grade(query, documents)

    def filter(self, query, documents, *, policy):
        return WordGrader().filter(query, documents, policy=policy)


@pytest.mark.parametrize(
    ("grader", "options", "message"),
    [
        (Plain(), {"evidence": True}, r"evidence: grade\(\) of Plain does not take it"),
        (Plain(), {"compress": True}, r"compress: Plain has no compress\(\)"),
        (WordGrader(), {"compress": 1.5}, "compress: a flag, the name of a point or a probability"),
        (WordGrader(), {"compress": ""}, "compress: a flag"),
        (WordGrader(), {"compress": None}, "compress: a flag"),
    ],
)
def test_what_cannot_be_done_is_said_when_it_is_made(grader, options, message):
    with pytest.raises(InvalidInput, match=message):
        Screen(grader, **options)
    assert Screen(Plain()).run(QUERY, PAGE_DOCUMENTS).kept


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A bundle's folder, the grader of it, and a client of a server with it: what they find must be the same."""
    pytest.importorskip("fastapi")
    httpx = pytest.importorskip("httpx")
    from relgrade.client import Client
    from relgrade.grade.grader import Grader
    from serve_case import Bridge, make_app

    folder = tmp_path_factory.mktemp("sources") / "bundle"
    bundle = fake_bundle(folder)
    client = Client("http://127.0.0.1", transport=Bridge(make_app(folder)))
    gone = httpx.MockTransport(lambda request: httpx.Response(401, json={"message": "who are you"}))
    yield Grader(bundle, FakeRuntime()), client, Client("http://x", transport=gone, on_error="keep_all")
    client.close()


@pytest.mark.parametrize("options", [{"evidence": True}, {"compress": True}, {"compress": 0.3, "evidence": True}])
def test_a_grader_and_a_server_note_the_same(sources, options):
    grader, client, _ = sources
    here, there = (Screen(each, **options).run(QUERY, PAGE_DOCUMENTS) for each in (grader, client))
    assert here.kept == there.kept
    for i in range(len(PAGES)):
        assert (here.notes(i), here.text(i)) == (there.notes(i), there.text(i))
    assert any(here.notes(i).get("relgrade_evidence") or here.text(i) for i in here.kept)


def test_a_server_that_is_away_leaves_the_texts_as_they_are(sources):
    screened = Screen(sources[2], compress=True, evidence=True).run(QUERY, PAGE_DOCUMENTS)
    assert [screened.text(i) for i in screened.kept] == PAGES
    assert "who are you" in screened.notes(0)["relgrade_error"]


# --- parts of documents


def test_no_text_is_an_empty_text_and_metadata_is_cut_to_plain_values():
    document = as_document(None, {"a": 1, "title": "T", "when": object()}, id="x", title_key="title")
    assert document == Document("", "T", "x", {"a": 1, "title": "T"})
    assert as_document("t", {"title": 3}, id=None, title_key="title").title is None
    with pytest.raises(InvalidInput, match="a str was expected as its text, got int"):
        as_document(3, {}, id="x", title_key=None)
