"""The benchmarks of the server judge as they say: growth of memory, what counts as lost, latencies and refusals."""

import itertools

import pytest
from benchmarks.healthy_clients import HealthyClients
from benchmarks.load_http import Bodies, Outcome
from benchmarks.serve_soak import MAX_GROWTH, growth

MINUTES = [i / 6 for i in range(180)]


class NothingKnown:
    bodies: tuple[()] = ()
    logits: tuple[()] = ()


def samples(memory_of):
    return [{"minute": minute, "rss_mb": memory_of(minute)} for minute in MINUTES]


def test_memory_that_settles_before_minute_five_has_not_grown():
    found = growth(samples(lambda minute: 200 + 20 * min(minute, 4)), "rss_mb")
    assert (found["begin_mb"], found["end_mb"], found["growth"]) == (280.0, 280.0, 0.0)


def test_a_leak_of_a_megabyte_a_minute_is_seen():
    found = growth(samples(lambda minute: 200 + minute), "rss_mb")
    assert found["growth"] > MAX_GROWTH
    assert found["slope_mb_per_hour"] == pytest.approx(60.0)


def test_one_long_request_is_a_peak_and_no_growth():
    found = growth(samples(lambda minute: 300 if 15 < minute < 16 else 200), "rss_mb")
    assert found["growth"] == 0.0
    assert found["peak_over_begin"] == 0.5


def test_both_sides_get_the_same_requests():
    bodies = Bodies(3, n_documents=2, n_words=5)
    first, second = (list(itertools.islice(bodies.made(), 3)) for _ in range(2))
    assert first == second
    assert first[0] != first[1]


def test_only_what_was_in_flight_at_a_kill_may_be_lost():
    clients = HealthyClients("http://127.0.0.1:9", NothingKnown())
    clients.counts.update({"right": 5, "lost": 2})
    clients.lost = [(10.0, 12.0), (12.5, 12.6)]
    assert clients.told(deaths=[(11.0, 13.0)])["ok"]
    told = clients.told(deaths=[(11.0, 12.2)])
    assert (told["lost_in_flight"], told["lost_beyond"], told["ok"]) == (1, 1, False)
    assert not clients.told()["ok"]


@pytest.mark.parametrize("outcome", ["wrong", "status 500"])
def test_a_wrong_grade_and_an_unknown_status_fail_a_row(outcome):
    clients = HealthyClients("http://127.0.0.1:9", NothingKnown())
    clients.counts.update({"right": 5, outcome: 1})
    assert not clients.told()["ok"]


def test_an_outcome_tells_latencies_of_answers_only():
    outcome = Outcome(seconds=2.0, n_sent=4, latencies_s=[0.1, 0.3, 0.2], statuses={200: 3, 429: 1})
    outcome.refused_s, outcome.n_retry_after = [0.004], 1
    told = outcome.told()
    assert (told["answered_per_s"], told["p50_ms"], told["p99_ms"]) == (1.5, 200.0, 300.0)
    assert (told["refusal_p50_ms"], told["refusals_with_retry_after"]) == (4.0, 1)
