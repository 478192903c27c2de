import multiprocessing
import os
import threading
import time

import numpy as np
import pytest

from relgrade.errors import BundleError, BundleIncomplete, InvalidInput
from relgrade.grade.sessions import SequencePool, as_input, default_threads, open_session


class Session:
    """Adds one, waits a little for even numbers, and knows how many run at once."""

    def __init__(self, *, delay_s=0.0, bad=None):
        self.delay_s = delay_s
        self.bad = bad
        self.lock = threading.Lock()
        self.n_running = self.most_running = self.n_done = 0

    def run(self, _names, feed):
        value = int(feed["x"][0, 0])
        with self.lock:
            self.n_running += 1
            self.most_running = max(self.most_running, self.n_running)
        time.sleep(self.delay_s * (1 + value % 2))
        with self.lock:
            self.n_running -= 1
            self.n_done += 1
        if value == self.bad:
            raise RuntimeError("bad feed")
        return [feed["x"] + 1]


def feeds_of(n):
    return [{"x": as_input([i])} for i in range(n)]


def run_in_child(pool, queue):
    session = Session(delay_s=0.02)
    queue.put(([int(out[0][0, 0]) for out in pool.run_each(session, feeds_of(5))], session.most_running))


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("n_feeds", [0, 1, 2, 40])
def test_outputs_stand_in_the_order_of_the_feeds(n_threads, n_feeds):
    session = Session(delay_s=0.001)
    outputs = SequencePool(n_threads).run_each(session, feeds_of(n_feeds))
    assert [int(output[0][0, 0]) for output in outputs] == list(range(1, n_feeds + 1))
    assert session.most_running <= n_threads
    if n_feeds == 40 and n_threads > 1:
        assert session.most_running > 1


@pytest.mark.parametrize("n_threads", [1, 3])
def test_an_error_comes_out_and_stops_the_rest(n_threads):
    pool, session = SequencePool(n_threads), Session(delay_s=0.001, bad=4)
    with pytest.raises(RuntimeError, match="bad feed"):
        pool.run_each(session, feeds_of(500))
    time.sleep(0.2)  # time for threads that go on to show
    assert session.n_done < 100
    assert len(pool.run_each(Session(), feeds_of(9))) == 9  # and the pool goes on


def test_several_callers_share_the_threads():
    pool, found = SequencePool(3), []
    callers = [
        threading.Thread(target=lambda: found.append(len(pool.run_each(Session(delay_s=0.001), feeds_of(20)))))
        for _ in range(6)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=60)
    assert found == [20] * 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # forking with threads is what is tested
def test_a_forked_child_starts_threads_of_its_own():
    pool = SequencePool(3)
    pool.run_each(Session(delay_s=0.001), feeds_of(9))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=run_in_child, args=(pool, queue))
    child.start()
    try:
        outputs, most_running = queue.get(timeout=60)
        assert outputs == [1, 2, 3, 4, 5]
        assert most_running > 1
        child.join(timeout=60)
    finally:
        child.kill()


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2"])
def test_threads_are_counted_in_whole_numbers(value):
    with pytest.raises(InvalidInput, match="n_threads must be a whole number >= 1 or None"):
        SequencePool(value)


def test_the_default_is_the_cores_of_this_process():
    assert 1 <= SequencePool().n_threads == default_threads() <= 8


def test_ids_become_one_row_of_int64():
    assert as_input([3, 4]).tolist() == [[3, 4]]
    assert as_input([3, 4]).dtype == np.int64


def test_a_graph_that_cannot_be_opened(tmp_path):
    with pytest.raises(BundleIncomplete, match="the graph is not there"):
        open_session(tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"onnxruntime [\d.]+ cannot load this graph"):
        open_session(tmp_path / "model.onnx")
