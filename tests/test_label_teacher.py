import asyncio
import json
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_teacher import CUT, DRIP, HELD, RESET, FakeTeacher, Judge, Reply, completion
from relgrade.errors import InvalidSettings, TeacherError
from relgrade.label.labelling import label_pairs
from relgrade.label.limits import Limits, Pace
from relgrade.label.output import read_labels
from relgrade.label.plan import Plan
from relgrade.label.rubric import Sampling, read_rubric
from relgrade.label.teacher import Price, Teacher, read_prices
from relgrade.label.transport import _server_wait_s
from relgrade.records import Pair

KEY = "sk-secret-123"


def make_pairs(n, *, every=2):
    """Every second document is relevant in the eyes of `Judge`."""
    return [
        Pair(
            query_id=f"q{i // 4}",
            query=f"what {i // 4}",
            doc_id=f"d{i}",
            document=f"t{i} {'answer' * (i % every == 0)}",
        )
        for i in range(n)
    ]


@pytest.fixture
def ask(tmp_path):
    """Label pairs by the server's script; returns the labels, the run's progress as `ask.progress`."""

    def run(
        server, pairs=None, *, journal="j", rubric="answer-bearing", samples=1, limits=None, models=("m",), **teacher
    ):
        pairs = make_pairs(4) if pairs is None else pairs
        teachers = tuple(Teacher(url=server.url, model=model, **teacher) for model in models)
        limits = limits or Limits(concurrency=4, max_retries=2, timeout_s=2)
        plan = Plan(read_rubric(rubric), teachers, n_samples=samples, limits=limits)
        run.progress = label_pairs(lambda: pairs, plan, journal=tmp_path / journal)
        return [label for _, label in read_labels(lambda: pairs, plan, journal=tmp_path / journal)]

    return run


def methods_of(labels):
    return {label.method for label in labels}


# --- the ladder


def test_logprobs_give_soft_labels_with_their_mass(ask):
    with FakeTeacher() as server:
        labels = ask(server)
    assert methods_of(labels) == {"logprobs"}
    assert [label.label for label in labels] == [1, 0, 1, 0]
    assert labels[0].probability == pytest.approx(0.9168, abs=1e-4)
    assert labels[0].label_mass == pytest.approx(0.9869, abs=1e-4)
    assert (labels[0].rubric, labels[0].input_tokens, labels[0].output_tokens) == ("answer-bearing@1", 50, 1)
    assert server.requests[0]["top_logprobs"] == 20
    assert server.requests[0]["temperature"] == 0.0


@pytest.mark.parametrize(
    ("refused", "method"),
    [
        (["logprobs"], "json_schema"),
        (["logprobs", "json_schema"], "json_object"),
        (["logprobs", "response_format"], "text"),
        (["logprobs", "response_format", "temperature", "seed"], "text"),
    ],
)
def test_the_ladder_goes_down_by_what_the_server_refuses_and_remembers(ask, refused, method):
    with FakeTeacher(Judge(refuses=refused)) as server:
        labels = ask(server, sampling=Sampling(seed=1))
        assert methods_of(labels) == {method}
        assert [label.label for label in labels] == [1, 0, 1, 0]
        assert server.n_paid == 4
        n_before = len(server.requests)
        more = make_pairs(6)[4:]
        assert methods_of(ask(server, more, sampling=Sampling(seed=1))) == {method}
        assert len(server.requests) == n_before + 2, "the second run tried again what it knew"


def test_only_the_first_request_climbs_down(ask):
    with FakeTeacher(Judge(refuses=["logprobs", "response_format"])) as server:
        ask(server, make_pairs(40), limits=Limits(concurrency=8))
    assert len(server.requests) - server.n_paid <= 4


def test_missing_logprobs_are_noticed_and_the_paid_reply_is_used(ask):
    with FakeTeacher(Judge(ignores=["logprobs"])) as server:
        labels = ask(server)
    assert server.n_paid == 4
    assert [label.label for label in labels] == [1, 0, 1, 0]
    assert labels[0].label_mass is None
    assert labels[0].method == "text"
    assert "logprobs" not in server.requests[-1]


def test_a_server_that_passes_over_every_field_is_asked_in_words(ask):
    with FakeTeacher(Judge(ignores=["logprobs", "response_format"])) as server:
        labels = ask(server, make_pairs(6))
    assert server.n_paid == 6
    assert methods_of(labels) == {"text"}
    assert "response_format" not in server.requests[-1]
    assert "one word alone" in server.requests[-1]["messages"][1]["content"]


def test_a_first_token_that_is_no_answer_is_asked_again_in_another_way(ask):
    def thinks(request, path):
        if request.get("logprobs"):
            return Reply(body=completion("Based", logprobs={"Based": -0.01, "Yes": -9.0, "No": -9999.0}))
        return Judge()(request, path)

    with FakeTeacher(thinks) as server:
        labels = ask(server, make_pairs(12))
    assert methods_of(labels) == {"json_schema"}
    assert all(label.error is None for label in labels)
    assert sum("logprobs" in request for request in server.requests) <= 8, "low mass was not remembered"


def test_max_completion_tokens_and_fewer_alternatives_are_found(ask):
    def strict(request, path):
        if "max_tokens" in request:
            return Reply(400, {"error": {"message": "Use 'max_completion_tokens' instead of 'max_tokens'."}})
        if request.get("top_logprobs", 0) > 5:
            return Reply(422, {"detail": [{"msg": "top_logprobs must be at most 5"}]})
        return Judge()(request, path)

    with FakeTeacher(strict) as server:
        assert methods_of(ask(server)) == {"logprobs"}
    assert server.requests[-1]["top_logprobs"] == 5
    assert server.requests[-1]["max_completion_tokens"] == 4


def test_a_document_that_is_too_long_changes_nothing_for_the_others(ask):
    def short(request, path):
        if "t1 " in request["messages"][1]["content"]:
            return Reply(400, {"error": {"message": "maximum context length is 10 tokens, you asked max_tokens 4"}})
        return Judge()(request, path)

    with FakeTeacher(short) as server:
        labels = ask(server)
    assert methods_of(labels[:1] + labels[2:]) == {"logprobs"}
    assert labels[1].label is None
    assert "context length" in labels[1].error


def test_a_forced_method_is_kept(ask):
    with FakeTeacher() as server:
        assert methods_of(ask(server, method="json_schema")) == {"json_schema"}
    with pytest.raises(InvalidSettings, match="pass-fail is read by text"):
        ask(server, rubric="pass-fail", method="logprobs")


# --- other shapes


@pytest.mark.parametrize(("api", "yes", "no"), [("systemone", 0.9, 0.2), ("decisions", 0.8, 0.1)])
def test_decision_apis(ask, api, yes, no):
    with FakeTeacher() as server:
        labels = ask(server, api=api)
    assert [label.probability for label in labels] == [yes, no, yes, no]
    assert methods_of(labels) == {api}
    assert labels[0].input_tokens == 40


def test_grades_come_as_expected_grade_and_probability_of_the_relevant_ones(ask):
    shares = {"0": 0.1, "1": 0.2, "2": 0.3, "3": 0.4}
    answers = {"relevant": {"type": "score", "score": 2.0, "probabilities": shares}}
    with FakeTeacher([Reply(body={"answers": answers})]) as server:
        (label, *_) = ask(server, rubric="graded-0-3", api="systemone")
    assert label.grade == pytest.approx(2.0)
    assert label.probability == pytest.approx(0.7)


def test_several_samples_keep_their_disagreement(ask):
    def wavering(request, path):
        return Reply(body=completion(json.dumps({"answer": "No" if request["seed"] == 7 else "Yes"})))

    with FakeTeacher(wavering) as server:
        labels = ask(server, samples=3, sampling=Sampling(temperature=0.7, seed=7))
    assert {label.probability for label in labels} == {2 / 3}
    assert {(label.label, label.n_samples, label.disagreement) for label in labels} == {(1, 3, 2 / 3)}
    with pytest.raises(InvalidSettings, match="set a temperature above 0"):
        ask(server, samples=3)


def test_several_teachers_one_of_which_refuses(ask):
    def script(request, path):
        if request["model"] == "shy":
            return Reply(body=completion("", refusal="I cannot"))
        return Reply(body=completion("Yes" if request["model"] == "a" else "No", logprobs={"Yes": -0.7, "No": -0.7}))

    with FakeTeacher(script) as server:
        labels = ask(server, models=("a", "b", "shy"))
    assert {(label.n_samples, label.probability, label.model) for label in labels} == {(2, 0.5, "a + b + shy")}
    assert labels[0].error is None


# --- what fails


def test_refusals_nonsense_and_empty_replies_are_errors_never_not_relevant(ask):
    odd = [completion("", refusal="I cannot help"), completion("maybe"), completion(""), {"choices": []}, {"x": 1}]
    for i, body in enumerate(odd):
        with FakeTeacher([Reply(body=body)]) as server:
            labels = ask(server, make_pairs(1), journal=f"odd{i}")
        assert labels[0].label is None
        assert labels[0].probability is None
        assert labels[0].error


def test_a_paid_reply_without_an_answer_is_not_paid_again(ask):
    with FakeTeacher([Reply(body=completion("", refusal="no"))]) as server:
        ask(server)
        ask(server)
        assert server.n_paid == 4
    assert ask.progress.n_found == 4


def test_faults_of_the_network_are_retried(ask):
    good = Judge()
    faults = [
        Reply(500, {"error": "x"}, headers={"retry-after-ms": 1}),
        good,
        Reply(fault=RESET),
        good,
        Reply(body=completion("Yes"), fault=CUT),
        good,
        Reply(body="{not json"),
        good,
        Reply(429, "slow", headers={"Retry-After": "0.05"}),
        good,
    ]
    with FakeTeacher(faults) as server:
        labels = ask(server, make_pairs(5), limits=Limits(concurrency=1, max_retries=2))
    assert [label.error for label in labels] == [None] * 5
    assert ask.progress.spent.unconfirmed == 3  # reset, cut, not JSON


@pytest.mark.parametrize("fault", [HELD, DRIP])
def test_a_reply_that_takes_too_long_is_an_error_and_is_asked_again_by_the_next_run(ask, fault):
    limits = Limits(concurrency=2, max_retries=0, timeout_s=0.3)
    with FakeTeacher([Reply(body=completion("Yes"), fault=fault)]) as server:
        started_s = time.monotonic()
        labels = ask(server, make_pairs(2), limits=limits)
        assert time.monotonic() - started_s < 3
        assert [label.label for label in labels] == [None, None]
        assert "within 0.3 s" in labels[0].error
        server.script = Judge()
        assert [label.error for label in ask(server, make_pairs(2))] == [None, None]


def test_slow_replies_are_waited_for(ask):
    def slow(request, path):
        reply = Judge()(request, path)
        reply.delay_s = 0.2
        return reply

    with FakeTeacher(slow) as server:
        assert [label.label for label in ask(server)] == [1, 0, 1, 0]
        assert server.most_open <= 4


def test_retry_after_is_kept_by_all_requests(ask):
    state = {"n": 0, "first": 0.0, "early": 0}

    def busy(request, path):
        state["n"] += 1
        if state["n"] == 3:
            state["first"] = time.monotonic()
            return Reply(429, {"error": "busy"}, headers={"retry-after": "0.4"})
        if state["first"] and 0.1 < time.monotonic() - state["first"] < 0.39:
            state["early"] += 1
        return Judge()(request, path)

    with FakeTeacher(busy) as server:
        labels = ask(server, make_pairs(20), limits=Limits(concurrency=2))
    assert all(label.error is None for label in labels)
    assert state["early"] == 0


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_wrong_key_or_model_ends_the_run_at_once(ask, status, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    echo = {"error": {"message": f"no good: {KEY}"}}
    with (
        FakeTeacher([Reply(status, echo)]) as server,
        pytest.raises(TeacherError, match=f"answered {status}") as caught,
    ):
        ask(server, make_pairs(50))
    assert len(server.requests) == 1
    assert KEY not in str(caught.value)


def test_a_server_that_asks_to_wait_an_hour_ends_the_run(ask):
    with (
        FakeTeacher([Reply(429, {}, headers={"retry-after": "3600"})]) as server,
        pytest.raises(TeacherError, match="asks to wait 3600 s"),
    ):
        ask(server)


def test_a_teacher_that_is_gone_ends_the_run_and_keeps_what_came(ask):
    with FakeTeacher() as server:
        pass  # stopped: its port is closed
    with pytest.raises(TeacherError, match="20 requests in a row"):
        ask(server, make_pairs(60), limits=Limits(concurrency=4, max_retries=0))


# --- keys


def test_the_key_is_sent_and_never_written(ask, monkeypatch, tmp_path):
    monkeypatch.setenv("MY_KEY", KEY)
    echo = Reply(400, {"error": {"message": f"bad request from {KEY}"}})
    with FakeTeacher([Judge(), echo, Judge()]) as server:
        labels = ask(server, api_key_env="MY_KEY", limits=Limits(concurrency=1), method="text")
    assert f"authorization: bearer {KEY}" in server.headers[0].lower()
    assert "[key]" in next(label.error for label in labels if label.error)
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.iterdir())


def test_a_key_nobody_named_does_not_travel_in_the_clear(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert Teacher(url="http://127.0.0.1:1/v1", model="m").api_key() == KEY
    assert Teacher(url="https://example.org/v1", model="m").api_key() == KEY
    assert Teacher(url="http://example.org/v1", model="m").api_key() is None
    assert Teacher(url="http://example.org/v1", model="m", api_key_env="OPENAI_API_KEY").api_key() == KEY
    with pytest.raises(InvalidSettings, match="NO_SUCH is not set"):
        Teacher(url="https://example.org/v1", model="m", api_key_env="NO_SUCH").api_key()


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/v1", "http://u:p@x/v1", "http://x/v1?key=1", "http:///v1"])
def test_urls_that_are_none(url):
    with pytest.raises(InvalidSettings):
        Teacher(url=url, model="m")


# --- limits


def test_the_total_is_never_overdrawn(ask):
    price = Price(input=1e6, output=0.0)  # a token costs 1
    with FakeTeacher() as server:
        labels = ask(server, make_pairs(60), price=price, limits=Limits(concurrency=8, max_cost=3000.0))
        assert "limit of 3000 is near" in ask.progress.stopped
        assert 1500 < ask.progress.spent.cost <= 3000.0
        n_labels = sum(label.label is not None for label in labels)
        assert n_labels == server.n_paid < 60
        ask(server, make_pairs(60), price=price, limits=Limits(concurrency=8, max_cost=3000.0))
        assert server.n_paid == n_labels, "a second run spent past the limit of the journal"
        assert all(label.label is not None for label in ask(server, make_pairs(60), price=price))
        assert server.n_paid == 60


def test_a_request_over_its_limit_is_an_error_and_not_sent(ask):
    pairs = [*make_pairs(3), Pair(query_id="q", query="what", doc_id="long", document="word " * 5000)]
    with FakeTeacher() as server:
        labels = ask(server, pairs, limits=Limits(max_request_tokens=2000))
    assert server.n_paid == 3
    assert "the limit of a request is 2,000" in labels[-1].error


def test_requests_per_minute(ask):
    with FakeTeacher() as server:
        started_s = time.monotonic()
        ask(server, make_pairs(40), limits=Limits(concurrency=8, requests_per_minute=1200))
        # 20 a second, and a bucket of two seconds' worth that is full at the start: none of 40 waits; 60 wait a second.
        ask(server, make_pairs(100)[40:], limits=Limits(concurrency=8, requests_per_minute=1200))
    assert time.monotonic() - started_s > 0.9


@given(st.lists(st.floats(0.1, 50.0), min_size=1, max_size=30), st.floats(1.0, 6000.0))
def test_a_pace_never_lets_more_pass_than_its_rate_and_one_bucket(amounts, per_minute):
    now = [0.0]
    pace = Pace(per_minute, clock=lambda: now[0])
    passed = []
    for amount in amounts:
        wait_s = pace.reserve(amount)
        assert wait_s >= 0.0
        now[0] += wait_s
        passed.append(amount)
        capacity = max(1.0, per_minute / 60 * 2)
        # What is larger than the bucket passes on a full one, so one amount may be on top.
        assert sum(passed) <= capacity + now[0] * per_minute / 60 + max(passed) + 1e-6


def test_prices_are_read_and_checked(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text('["gpt-x"]\ninput = 0.5\noutput = 2\n')
    assert read_prices(path)["gpt-x"].of(1_000_000, 500_000) == 1.5
    path.write_text('["gpt-x"]\ninput = 0.5\n')
    with pytest.raises(InvalidSettings, match="gpt-x"):
        read_prices(path)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after-ms": "300", "retry-after": "9"}, 0.3),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, 0.0),
        ({}, None),
    ],
)
def test_waits_a_server_asks_for(headers, wait_s):
    assert _server_wait_s(headers) == wait_s


def test_jitter_only_ever_shortens():
    from relgrade.label.transport import Transport

    async def waits():
        transport = Transport(Teacher(url="http://127.0.0.1:1/v1", model="m"), Limits(), chance=random.Random(0))
        return [[transport._backoff_s(attempt) for _ in range(50)] for attempt in range(6)]

    for attempt, found in enumerate(asyncio.run(waits())):
        top = min(8.0, 0.5 * 2**attempt)
        assert 0.75 * top <= min(found) < max(found) <= top
