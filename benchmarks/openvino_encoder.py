"""Would OpenVINO read documents faster? Milliseconds a sequence of an encoder's graphs, one thread, processor time.

    python -m benchmarks.openvino_encoder --float RUN/graphs/encoder.fp32.onnx --int8 RUN/graphs/encoder.int8.onnx

RUN is a run of `relgrade train`; it needs `pip install openvino`. Contenders: onnxruntime on both graphs, OpenVINO on
the float graph in float32 and in bfloat16. Beside them the least cosine of a token's state and that of onnxruntime's
float graph. The last line is JSON.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.limits import best_seconds

LENGTHS = (30, 170, 256)
Run = Callable[[Mapping[str, NDArray[np.int64]]], NDArray[np.float32]]


def onnxruntime_run(path: Path) -> Run:
    """The graph as a grader runs it."""
    from relgrade.grade.sessions import open_session

    session = open_session(path)
    return lambda feed: np.asarray(session.run(None, dict(feed))[0])


def openvino_run(path: Path, precision: str) -> Run:
    """The same in OpenVINO."""
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    model = core.compile_model(core.read_model(path), "CPU", settings)
    request = model.create_infer_request()
    return lambda feed: np.array(request.infer(dict(feed))[model.output(0)])


def main() -> None:
    """Time, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--float", type=Path, required=True, dest="floats")
    parser.add_argument("--int8", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each cell")
    given = parser.parse_args()
    runs: dict[str, Run] = {
        "onnxruntime float32": onnxruntime_run(given.floats),
        "onnxruntime two-digit": onnxruntime_run(given.int8),
        "OpenVINO float32": openvino_run(given.floats, "f32"),
        "OpenVINO bfloat16": openvino_run(given.floats, "bf16"),
    }
    found: dict[str, dict[str, float]] = {name: {} for name in runs}
    print(f"{'':24}{'tokens':>8}{'ms':>8}{'least cosine':>14}")
    for n_tokens in LENGTHS:
        ids = np.random.default_rng(0).integers(1000, 20000, (1, n_tokens))
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        aim = next(iter(runs.values()))(feed)[0]
        for name, run in runs.items():
            states = run(feed)[0]
            norms = np.linalg.norm(states, axis=1) * np.linalg.norm(aim, axis=1)
            cosine = float(((states * aim).sum(axis=1) / norms).min())
            # of all threads: OpenVINO computes in one of its own
            ms = 1000 * best_seconds(partial(run, feed), seconds=given.seconds, clock=time.process_time)
            found[name][str(n_tokens)] = round(ms, 2)
            print(f"{name:24}{n_tokens:>8}{ms:>8.1f}{cosine:>14.6f}", flush=True)
    print(json.dumps({"benchmark": "openvino_encoder", "ms": found}))


if __name__ == "__main__":
    main()
