"""Micro-batches: budgets, fairness between requests and models, deadlines, and what a failing pair does to others."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fake_runtime import FakeRuntime, fake_logit
from tests.serve_case import BrokenRuntime, SlowRuntime

from relgrade.serve.refusals import DeadlinePassed, Overloaded
from relgrade.serve.scheduler import Job, Scheduler, score_each


class Model:
    """Something that jobs share."""


def job(model, runtime, n, *, cost=10, name="d", seconds=30.0):
    pairs = [("q", f"{name} {i}") for i in range(n)]
    return Job(model, runtime, pairs, [cost] * n, time.monotonic() + seconds)


async def ended(*jobs):
    for each in jobs:
        while not each.is_ended:
            each.progress.clear()
            await asyncio.wait_for(each.progress.wait(), 20)


def run(steps, **options):
    reports = []
    values = {"batch_tokens": 100, "n_workers": 1, "max_pairs": 1000, "max_wait_s": 60.0, **options}

    async def inside():
        with ThreadPoolExecutor(values["n_workers"]) as executor:
            await steps(Scheduler(executor, on_batch=reports.append, **values))

    asyncio.run(inside())
    return reports


def test_every_pair_gets_its_logit_and_batches_keep_the_budget():
    runtime, model = FakeRuntime(), Model()
    jobs = [job(model, runtime, n, name=f"job{n}") for n in (1, 7, 2, 30)]

    async def steps(scheduler):
        for each in jobs:
            scheduler.submit(each)
        await ended(*jobs)
        assert (scheduler.n_pairs, scheduler.tokens) == (0, 0)

    reports = run(steps)
    for each in jobs:
        np.testing.assert_array_equal(each.logits, [fake_logit(*pair) for pair in each.pairs])
    assert all(report.tokens <= 100 for report in reports)
    assert max(report.n_jobs for report in reports) > 1, "requests share a micro-batch"


def test_the_longest_pairs_of_a_batch_come_first():
    runtime = FakeRuntime()
    each = Job(Model(), runtime, [("q", "a"), ("q", "bbb"), ("q", "cc")], [1, 3, 2], time.monotonic() + 9)

    async def steps(scheduler):
        scheduler.submit(each)
        await ended(each)

    run(steps)
    assert [document for _, document in runtime.calls[0]] == ["bbb", "cc", "a"]


def test_a_short_request_is_not_stuck_behind_a_long_one():
    runtime, model = SlowRuntime(), Model()
    long, short = job(model, runtime, 200, name="long"), job(model, runtime, 3, name="short")

    async def steps(scheduler):
        runtime.gate.clear()
        scheduler.submit(long)
        await asyncio.to_thread(runtime.started.wait)
        scheduler.submit(short)
        runtime.gate.set()
        await ended(short)
        assert long.is_done.sum() < 40
        await ended(long)

    run(steps)


def test_a_short_request_does_not_wait_for_pairs_of_a_long_one_beside_its_own():
    runtime, model = SlowRuntime(), Model()
    long, short = job(model, runtime, 200, name="long"), job(model, runtime, 3, name="short")

    async def steps(scheduler):
        runtime.gate.clear()
        scheduler.submit(long)
        await asyncio.to_thread(runtime.started.wait)
        scheduler.submit(short)
        runtime.gate.set()
        await ended(short, long)

    run(steps)
    assert len(runtime.calls[0]) < 10, "half of a micro-batch, or whoever comes next would wait for the whole"
    beside = next(call for call in runtime.calls if ("q", "short 0") in call)
    assert len(beside) == 5, "three of its own, and the share of the oldest"


def test_the_oldest_needs_no_share_of_a_second_micro_batch():
    runtime, model = SlowRuntime(), Model()
    long, short = job(model, runtime, 200, name="long"), job(model, runtime, 3, name="short")

    async def steps(scheduler):
        runtime.gate.clear()
        scheduler.submit(long)
        scheduler.submit(short)  # both workers took of the long one, and hold it until the gate opens
        await asyncio.to_thread(runtime.started.wait)
        runtime.gate.set()
        await ended(short, long)

    run(steps, n_workers=2)
    beside = next(call for call in runtime.calls if ("q", "short 0") in call)
    assert [document for _, document in beside] == ["short 0", "short 1", "short 2"]


def test_a_long_request_goes_on_while_short_ones_keep_coming():
    runtime, model = FakeRuntime(), Model()
    long = job(model, runtime, 40, name="long")

    async def steps(scheduler):
        scheduler.submit(long)
        for i in range(60):
            short = job(model, runtime, 9, name=f"short{i}")
            scheduler.submit(short)
            await ended(short)
            if long.is_ended:
                return
        pytest.fail("the long request starved")

    run(steps)


def test_models_take_turns():
    runtime, first, second = SlowRuntime(), Model(), Model()
    long, other = job(first, runtime, 100, name="long"), job(second, runtime, 30, name="other")

    async def steps(scheduler):
        runtime.gate.clear()
        scheduler.submit(long)
        await asyncio.to_thread(runtime.started.wait)
        scheduler.submit(other)
        runtime.gate.set()
        await ended(other)
        assert long.is_done.sum() < 70
        await ended(long)

    run(steps)
    for call in runtime.calls:
        assert len({document.split()[0] for _, document in call}) == 1, "a micro-batch is of one model"


def test_a_pair_beyond_the_budget_still_runs():
    runtime, model = FakeRuntime(), Model()
    huge, small = job(model, runtime, 3, cost=10_000, name="huge"), job(model, runtime, 3, name="small")

    async def steps(scheduler):
        scheduler.submit(huge)
        scheduler.submit(small)
        await ended(huge, small)

    run(steps)
    assert np.isfinite(huge.logits).all()


def test_work_that_is_too_late_is_not_begun():
    runtime, model = SlowRuntime(), Model()
    first, late = job(model, runtime, 1, name="first"), job(model, runtime, 5, name="late", seconds=0.05)

    async def steps(scheduler):
        runtime.gate.clear()
        scheduler.submit(first)
        await asyncio.to_thread(runtime.started.wait)
        scheduler.submit(late)
        await asyncio.sleep(0.1)
        runtime.gate.set()
        await ended(late)
        assert isinstance(late.error, DeadlinePassed)
        assert scheduler.n_pairs == 0

    run(steps)
    assert len(runtime.calls) == 1


def test_room_is_bounded_and_one_request_alone_always_fits():
    runtime, model = SlowRuntime(), Model()
    first = job(model, runtime, 50)

    async def steps(scheduler):
        scheduler.require_room(5000, tokens=10)
        runtime.gate.clear()
        scheduler.submit(first)
        with pytest.raises(Overloaded) as caught:
            scheduler.require_room(60, tokens=10)
        assert "Retry-After" in caught.value.headers
        scheduler.require_room(10, tokens=10)
        runtime.gate.set()
        await ended(first)
        scheduler.require_room(60, tokens=10)

    run(steps, max_pairs=100)


def test_what_would_miss_its_deadline_is_refused_early():
    runtime, model = SlowRuntime(delay_s=0.002), Model()
    first, second = job(model, runtime, 20), job(model, runtime, 100)

    async def steps(scheduler):
        scheduler.submit(first)
        await ended(first)
        assert 1000 < scheduler.tokens_per_s < 6000
        scheduler.submit(second)
        with pytest.raises(Overloaded, match="deadline"):
            scheduler.require_room(10, tokens=100, remaining_s=0.01)
        scheduler.require_room(10, tokens=100, remaining_s=20)
        await ended(second)

    run(steps)


def test_a_long_request_does_not_make_short_ones_be_refused():
    runtime, model = SlowRuntime(delay_s=0.002), Model()
    first, long = job(model, runtime, 10), job(model, runtime, 500, name="long")

    async def steps(scheduler):
        scheduler.submit(first)
        await ended(first)
        scheduler.submit(long)
        scheduler.require_room(3, tokens=30)
        with pytest.raises(Overloaded, match="are waiting"):
            scheduler.require_room(600, tokens=6000)
        scheduler.abandon(long, DeadlinePassed("over"))
        await asyncio.sleep(0.3)
        assert scheduler.n_pairs == 0

    run(steps, max_wait_s=0.5, max_pairs=10_000)


def test_one_bad_pair_leaves_the_others_their_logits():
    pairs = [("q", f"d {i}") for i in range(9)] + [("q", "breakword")]
    output = score_each(BrokenRuntime(), pairs)
    assert np.isnan(output.logits[-1])
    np.testing.assert_array_equal(output.logits[:-1], [fake_logit(*pair) for pair in pairs[:-1]])


def test_a_runtime_that_answers_for_other_pairs_is_not_believed():
    class Short(FakeRuntime):
        def score(self, pairs):
            return super().score(pairs[1:])

    assert np.isnan(score_each(Short(), [("q", "a"), ("q", "b")]).logits).all()


def test_a_pair_that_ends_its_thread_leaves_the_others_their_logits():
    class Ending(FakeRuntime):
        def score(self, pairs):
            if any("endword" in document for _, document in pairs):
                raise SystemExit(1)
            return super().score(pairs)

    runtime, model = Ending(), Model()
    ending, sound = job(model, runtime, 1, name="endword"), job(model, runtime, 5)

    async def steps(scheduler):
        for _ in range(3):  # more often than there are threads
            scheduler.submit(job(model, runtime, 1, name="endword"))
        scheduler.submit(ending)
        scheduler.submit(sound)
        await ended(ending, sound)

    run(steps, n_workers=2)
    assert np.isnan(ending.logits).all()
    np.testing.assert_array_equal(sound.logits, [fake_logit(*pair) for pair in sound.pairs])


def test_without_threads_every_pair_is_told_so_and_none_waits():
    runtime, model = FakeRuntime(), Model()
    jobs = [job(model, runtime, 30, name=f"job{i}") for i in range(3)]

    async def inside():
        executor = ThreadPoolExecutor(1)
        executor.shutdown()
        scheduler = Scheduler(executor, batch_tokens=100, n_workers=2, max_pairs=1000, max_wait_s=60.0)
        for each in jobs:
            scheduler.submit(each)
        await ended(*jobs)
        assert (scheduler.n_pairs, scheduler.tokens) == (0, 0)

    asyncio.run(inside())
    assert all(np.isnan(each.logits).all() and each.is_done.all() for each in jobs)


def test_it_is_stuck_when_no_worker_comes_back():
    runtime, model = SlowRuntime(), Model()
    first, second = job(model, runtime, 1, name="first"), job(model, runtime, 1, name="second")

    async def steps(scheduler):
        runtime.gate.clear()
        assert not scheduler.is_stuck(0.0)
        scheduler.submit(first)
        await asyncio.to_thread(runtime.started.wait)
        assert not scheduler.is_stuck(0.0), "the other worker is free"
        scheduler.submit(second)
        await asyncio.sleep(0.05)
        assert scheduler.is_stuck(0.01)
        assert not scheduler.is_stuck(60.0), "they have only begun"
        runtime.gate.set()
        await ended(first, second)
        assert not scheduler.is_stuck(0.0)

    run(steps, n_workers=2)


def test_the_log_of_a_bad_pair_has_none_of_its_text(caplog):
    score_each(BrokenRuntime(), [("q", "breakword")])
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text
    assert "breakword" not in caplog.text


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(1, 150), min_size=1, max_size=12), min_size=1, max_size=8), st.integers(1, 3))
def test_whatever_is_submitted_ends_with_the_logits_of_its_pairs(shapes, n_workers):
    runtime, models = FakeRuntime(), (Model(), Model())
    jobs = [
        Job(models[k % 2], runtime, [("q", f"{k} {i}") for i in range(len(costs))], costs, time.monotonic() + 30)
        for k, costs in enumerate(shapes)
    ]

    async def steps(scheduler):
        for each in jobs:
            scheduler.submit(each)
        await ended(*jobs)
        assert (scheduler.n_pairs, scheduler.tokens) == (0, 0)

    run(steps, n_workers=n_workers)
    for each in jobs:
        np.testing.assert_array_equal(each.logits, [fake_logit(*pair) for pair in each.pairs])
