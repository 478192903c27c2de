"""ONNX sessions, and many single sequences run through one of them in parallel.

A grade must not depend on its neighbours, so no batch is ever formed here: every job is one unpadded sequence, and
throughput comes from running several one-thread jobs at once. On two cores this was also faster than padded batches.
Nothing is known of models: names and arrays in, arrays out.
"""

import itertools
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from relgrade.errors import BundleError, BundleIncomplete, InvalidInput

MAX_DEFAULT_THREADS = 8  # more rarely pays for sequences of a few hundred tokens, and a library must leave some cores

_LOG_ERRORS_ONLY = 3  # onnxruntime: 0 verbose, 1 info, 2 warning, 3 error, 4 fatal


def default_threads() -> int:
    """Cores this process may run on, at most `MAX_DEFAULT_THREADS`."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(n_cores, MAX_DEFAULT_THREADS))


def open_session(path: Path | str, *, n_threads: int = 1) -> ort.InferenceSession:
    """Open a graph for the CPU, without touching anything global.

    Args:
        path: the .onnx file.
        n_threads: threads inside one operator. 1 starts no threads: the caller's thread does the work, which is what
            `SequencePool` wants and what survives a fork.

    Raises:
        BundleIncomplete: there is no such file.
        BundleError: onnxruntime cannot load it: damaged, or made for a newer onnxruntime.
    """
    if not Path(path).is_file():
        raise BundleIncomplete(f"{path}: the graph is not there; restore the bundle from where it came")
    options = ort.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    # Without the arena large buffers are mapped and unmapped at every run, which cost up to a third of it; with it the
    # process holds less, since blocks of one length serve the next (docs/performance.md).
    options.enable_cpu_mem_arena = True
    # A memory pattern is of use only when the same shape returns; sequences come in every length.
    options.enable_mem_pattern = False
    # int8 weights become floats once, now; without this, at every run.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        return ort.InferenceSession(str(path), sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        raise BundleError(
            f"{path}: onnxruntime {ort.__version__} cannot load this graph ({_first_line(error)}); "
            "upgrade onnxruntime, or export the bundle again"
        ) from error


class SequencePool:
    """Runs single-sequence jobs over a fixed number of threads. Safe to share between threads, and after a fork.

    Args:
        n_threads: jobs in flight at once, the caller's own thread included; None takes the cores of this process.
    """

    def __init__(self, n_threads: int | None = None) -> None:
        if n_threads is not None and (isinstance(n_threads, bool) or not isinstance(n_threads, int) or n_threads < 1):
            raise InvalidInput(f"n_threads must be a whole number >= 1 or None, got {n_threads!r}")
        self.n_threads = n_threads or default_threads()
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._owner = 0  # process that started the threads; a forked child has none of them

    def run_each(
        self, session: ort.InferenceSession, feeds: Sequence[Mapping[str, NDArray[Any]]]
    ) -> list[list[NDArray[Any]]]:
        """Run the session once per feed.

        Args:
            session: a session of one thread, see `open_session`.
            feeds: the inputs of each run, by name; usually arrays of shape (1, n_tokens). Each is asked for once.

        Returns:
            The outputs of each run, in the order of `feeds`, each in the order of the session's outputs.

        Raises:
            Exception: the first error of onnxruntime; runs not begun by then are left out.
        """
        results: list[list[NDArray[Any]]] = [[] for _ in range(len(feeds))]  # feeds may be made as they are asked for
        turns = itertools.count()  # next() on it is atomic: a thread takes the next feed as soon as it is free
        stop = threading.Event()

        def work() -> None:
            try:
                while not stop.is_set() and (turn := next(turns)) < len(feeds):
                    results[turn] = session.run(None, dict(feeds[turn]))
            except BaseException:
                stop.set()
                raise

        helpers = self._start_helpers(work, min(self.n_threads, len(feeds)) - 1)
        work()
        for helper in helpers:
            # One that never started, because other calls hold the threads, has nothing left to do.
            if not helper.cancel():
                helper.result()
        return results

    def _start_helpers(self, work: Any, n_helpers: int) -> list[Future[None]]:
        if n_helpers < 1:
            return []
        with self._lock:
            if self._executor is None or self._owner != os.getpid():
                self._executor = ThreadPoolExecutor(self.n_threads - 1, thread_name_prefix="relgrade")
                self._owner = os.getpid()
            return [self._executor.submit(work) for _ in range(n_helpers)]


def as_input(values: Sequence[int]) -> NDArray[np.int64]:
    """Token ids or marks of one sequence as a graph input, shape (1, n_tokens)."""
    return np.asarray([values], dtype=np.int64)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
