import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration_case import QUERY, TEXTS, AsyncWordGrader, WordGrader
from relgrade.errors import InvalidInput
from relgrade.shadow import ShadowGrader, read_log, replay


class Llm:
    """Keeps everything but the first document."""

    def __init__(self, verdicts=None):
        self.verdicts = verdicts
        self.asked = []

    def __call__(self, query, documents):
        self.asked.append(query)
        return self.verdicts or [False] + [True] * (len(documents) - 1)

    async def later(self, query, documents):
        return self(query, documents)


def test_in_the_shadow_the_llm_decides_and_both_are_written(tmp_path):
    with ShadowGrader(Llm(), WordGrader(), log=tmp_path / "shadow.jsonl") as shadow:
        result = shadow.grade(QUERY, TEXTS)
    assert (result.documents, result.decided_by, result.error) == (tuple(TEXTS[1:]), "llm", None)
    found = list(read_log(tmp_path / "shadow.jsonl"))
    assert [each.is_relevant for each in found] == [False, True, True, True, True]
    assert [each.own.is_relevant for each in found] == [False, True, False, True, False]
    assert all(each.latency_s is not None and each.own.latency_s > 0 for each in found)
    compared = replay(found, None)  # nothing is left to grade
    assert sum(each.is_agreed for each in compared) == 3


def test_an_enforced_query_is_ours_and_asks_no_llm(tmp_path):
    llm = Llm()
    with ShadowGrader(llm, WordGrader(), enforce=1.0, log=tmp_path / "s.jsonl") as shadow:
        result = shadow.grade(QUERY, TEXTS)
    assert (result.documents, result.decided_by) == ((TEXTS[1], TEXTS[3]), "relgrade")
    assert not llm.asked
    assert list(read_log(tmp_path / "s.jsonl")) == []  # nothing to compare


def test_some_enforced_queries_are_compared_all_the_same(tmp_path):
    llm = Llm()
    with ShadowGrader(llm, WordGrader(), enforce=1.0, recheck=1.0, log=tmp_path / "s.jsonl") as shadow:
        result = shadow.grade(QUERY, TEXTS)
    assert (result.decided_by, len(llm.asked)) == ("relgrade", 1)
    assert len(list(read_log(tmp_path / "s.jsonl"))) == 5


@pytest.mark.parametrize("enforce", [0.0, 1.0])
def test_our_failure_leaves_the_verdict_to_the_llm(enforce, caplog):
    rows = []
    with (
        caplog.at_level(logging.WARNING, "relgrade.shadow"),
        ShadowGrader(Llm(), WordGrader(fails=True), enforce=enforce, log=rows.append) as shadow,
    ):
        result = shadow.grade(QUERY, TEXTS)
    assert (result.documents, result.decided_by) == (tuple(TEXTS[1:]), "llm")
    assert result.error == "GradingError: the model gave nan"
    assert "nan" in caplog.text
    assert {row["relgrade_error"] for row in rows} == {result.error}


def test_the_failure_of_the_llm_is_the_callers_as_before():
    def broken(query, documents):
        raise TimeoutError("llm")

    with ShadowGrader(broken, WordGrader()) as shadow, pytest.raises(TimeoutError):
        shadow.grade(QUERY, TEXTS)
    with ShadowGrader(Llm([True]), WordGrader()) as shadow, pytest.raises(InvalidInput, match="1 verdicts for 5"):
        shadow.grade(QUERY, TEXTS)


@pytest.mark.parametrize(("keep_unread", "kept"), [(True, ("a", "b")), (False, ("b",))])
def test_no_verdict_is_kept_or_not_as_told(keep_unread, kept):
    with ShadowGrader(Llm([None, True, False]), WordGrader(), keep_unread=keep_unread) as shadow:
        result = shadow.grade(QUERY, ["a", "b", "c"])
    assert result.documents == kept
    assert result.relevant == (None, True, False)


def test_a_log_that_cannot_be_written_does_not_stop_the_application(caplog):
    def full(row):
        raise OSError("disk full")

    with caplog.at_level(logging.WARNING, "relgrade.shadow"), ShadowGrader(Llm(), WordGrader(), log=full) as shadow:
        assert shadow.grade(QUERY, TEXTS).documents
    assert "disk full" in caplog.text


@given(st.text(min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_only_adds_queries(query, one, other):
    small, large = (ShadowGrader(Llm(), None, enforce=share) for share in sorted((one, other)))
    assert not small.is_enforced(query) or large.is_enforced(query)
    assert not ShadowGrader(Llm(), None, enforce=0.0).is_enforced(query)
    assert ShadowGrader(Llm(), None, enforce=1.0).is_enforced(query)


def test_the_share_is_about_what_was_asked_for():
    shadow = ShadowGrader(Llm(), None, enforce=0.3)
    enforced = [shadow.is_enforced(f"query {i}") for i in range(2000)]
    assert 0.25 < sum(enforced) / 2000 < 0.35
    assert enforced == [ShadowGrader(Llm(), None, enforce=0.3).is_enforced(f"query {i}") for i in range(2000)]


@pytest.mark.parametrize("grader", [WordGrader(), AsyncWordGrader()])
@pytest.mark.parametrize("enforce", [0.0, 1.0])
def test_asynchronous_calls_give_the_same(grader, enforce):
    async def run():
        with ShadowGrader(Llm().later, grader, enforce=enforce) as shadow:
            return await shadow.grade_async(QUERY, TEXTS)

    with ShadowGrader(Llm(), WordGrader(), enforce=enforce) as shadow:
        assert asyncio.run(run()) == shadow.grade(QUERY, TEXTS)


def test_no_documents_ask_nobody():
    llm = Llm()
    with ShadowGrader(llm, WordGrader(fails=True)) as shadow:
        assert shadow.grade(QUERY, []).documents == ()
    assert not llm.asked


@pytest.mark.parametrize("options", [{"enforce": 1.5}, {"enforce": True}, {"recheck": -0.1}])
def test_shares_out_of_range_are_refused(options):
    with pytest.raises(InvalidInput, match=r"is a share in \[0, 1\]"):
        ShadowGrader(Llm(), WordGrader(), **options)
