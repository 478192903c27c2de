"""What the machine can do at most: matrix products alone, in onnxruntime, with the shapes of the encoder."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

N_TOKENS, N_IN, N_OUT = 256, 384, 1536
CONTRIB = "com.microsoft"

# Multiplications and additions of one token in the matrices of a six-layer encoder, 384 wide (no attention scores).
FLOP_PER_TOKEN = 2 * 6 * (4 * 384 * 384 + 2 * 384 * 1536)


def product_rates(*, seconds: float = 1.0) -> dict[str, float]:
    """Best rate of one thread in 10^9 operations a second, by CPU time: `fp32` and `int8`."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(N_IN, N_OUT)).astype(np.float32)
    fp32 = _session(["x", "w"], "MatMul", TensorProto.FLOAT, [numpy_helper.from_array(weights, "w")])
    stored = np.clip(np.rint(weights * 30), -127, 127).astype(np.int8)
    constants = [("w", stored), ("one", np.float32(1)), ("t", np.ones(N_OUT, np.float32)), ("z", np.uint8(64))]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants]
    int8 = _session(["x", "w", "one", "t", "z"], "MatMulIntegerToFloat", TensorProto.UINT8, tensors, domain=CONTRIB)
    x = random.normal(size=(N_TOKENS, N_IN)).astype(np.float32)
    return {
        "fp32": _rate(fp32, x, seconds=seconds),
        "int8": _rate(int8, np.clip(x * 30 + 64, 0, 127).astype(np.uint8), seconds=seconds),
    }


def encoder_rate(path: Any, *, n_tokens: int = 170, seconds: float = 1.0) -> float:
    """Tokens a CPU second of an encoder graph on one sequence, one thread, best run."""
    from relgrade.grade.sessions import open_session

    session = open_session(path)
    ids = np.random.default_rng(0).integers(1000, 20000, (1, n_tokens))
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    feed = {each.name: feed[each.name] for each in session.get_inputs()}
    return n_tokens / best_seconds(lambda: session.run(None, feed), seconds=seconds)


def _rate(session: ort.InferenceSession, x: Any, *, seconds: float) -> float:
    return 2 * N_TOKENS * N_IN * N_OUT / best_seconds(lambda: session.run(None, {"x": x}), seconds=seconds) / 1e9


def best_seconds(run: Any, *, seconds: float, clock: Callable[[], float] = time.thread_time) -> float:
    """CPU seconds of the quickest run: others on the machine make a run slower, never quicker."""
    best, spent = float("inf"), 0.0
    while spent < seconds:
        start = clock()
        run()
        used = clock() - start
        best, spent = min(best, used), spent + used
    return best


def _session(inputs: list[str], kind: str, of: Any, tensors: list[Any], *, domain: str = "") -> ort.InferenceSession:
    graph = helper.make_graph(
        [helper.make_node(kind, inputs, ["y"], domain=domain)],
        "product",
        [helper.make_tensor_value_info("x", of, [None, N_IN])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, N_OUT])],
        tensors,
    )
    sets = [helper.make_opsetid("", 17), helper.make_opsetid(CONTRIB, 1)]
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    model = helper.make_model(graph, opset_imports=sets, ir_version=9).SerializeToString()
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
