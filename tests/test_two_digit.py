"""Products in two digits: what they lose, what a graph of them depends on, and what is left as it was."""

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from relgrade.export.interaction import export_interaction, measure_interaction  # noqa: E402
from relgrade.export.quantise import quantise  # noqa: E402
from relgrade.grade.sessions import open_session  # noqa: E402
from relgrade.records import Pair  # noqa: E402
from relgrade.settings import ExportSettings, StudentSettings  # noqa: E402
from relgrade.student.build import build_student  # noqa: E402

PAIRS = [
    Pair(query_id=str(i), query=query, doc_id=str(j), document=document)
    for i, query in enumerate(["where is the cat", "red", "what was the black horse of the lake"])
    for j, document in enumerate(["red apple", "the cat is on the hill", "zzz", "a sheep, a goat and a hen " * 4])
]


@pytest.fixture(scope="module")
def student(tiny_bert_folder, tmp_path_factory):
    settings = StudentSettings(
        architecture="interaction",
        base=str(tiny_bert_folder),
        max_tokens=16,
        max_query_tokens=8,
        train_encoder=False,
        hidden=8,
    )
    made = build_student(settings, seed=3)
    made.prepare(PAIRS, cache_folder=tmp_path_factory.mktemp("cache"))
    with torch.no_grad():
        made.head.network.free.linear.weight.normal_(0.0, 3.0, generator=torch.Generator().manual_seed(5))
    return made.eval()


def export(student, folder, arithmetic):
    return export_interaction(student, folder, ExportSettings(arithmetic=arithmetic))


def product(weights, path):
    """One product of an input of three axes with a matrix."""
    n_in, n_out = weights.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, None, n_in])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None, n_out])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def both_products(weights, x, folder):
    source = product(weights, folder / "fp32.onnx")
    found = []
    for arithmetic in ("float", "two-digit"):
        quantise(source, folder / "int8.onnx", arithmetic=arithmetic)
        found.append(open_session(folder / "int8.onnx").run(None, {"x": x})[0])
    return found


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_a_product_is_that_of_the_same_weights_in_floats(tmp_path, size):
    random = np.random.default_rng(0)
    weights = random.normal(size=(64, 48)).astype(np.float32)
    x = (random.normal(size=(2, 7, 64)) * size).astype(np.float32)
    x[0, 1] = 0.0  # a token of zeros has no largest value
    x[1, 2, 5] = 50 * size  # an outlier takes away digits from its own token alone
    in_floats, in_digits = both_products(weights, x, tmp_path)
    step = np.abs(x).max(axis=-1, keepdims=True) / (63 * 128)
    limit = step * 0.51 * np.abs(weights).sum(axis=0) + 1e-4 * np.abs(in_floats)  # half a step of every input
    assert np.all(np.abs(in_digits - in_floats) <= limit + 1e-12)
    assert np.all(in_digits[0, 1] == 0.0)


def test_a_token_does_not_see_its_neighbours(tmp_path):
    random = np.random.default_rng(1)
    weights = random.normal(size=(64, 48)).astype(np.float32)
    x = random.normal(size=(1, 9, 64)).astype(np.float32)
    beside = x.copy()
    beside[0, 1:] *= 1000
    _, alone = both_products(weights, x, tmp_path)
    _, together = both_products(weights, beside, tmp_path)
    np.testing.assert_array_equal(alone[0, 0], together[0, 0])


def test_digits_stay_within_seven_bits(tmp_path):
    """Two products of 8 bits in a row would overflow 16 bits on processors without VNNI."""
    source = product(np.eye(64, dtype=np.float32), tmp_path / "fp32.onnx")
    quantise(source, tmp_path / "int8.onnx", arithmetic="two-digit")
    model = onnx.load(str(tmp_path / "int8.onnx"))
    digits = [node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert len(digits) == 2
    for name in digits:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.UINT8, None))
    onnx.save(model, str(tmp_path / "shown.onnx"))
    x = np.random.default_rng(2).standard_cauchy(size=(1, 200, 64)).astype(np.float32)
    _, first, second = open_session(tmp_path / "shown.onnx").run(None, {"x": x})
    assert first.min() >= 1
    assert first.max() <= 127
    assert second.max() <= 128
    assert 2 * 128 * 127 < 2**15


def test_a_student_is_judged_the_same(student, tmp_path):
    graphs = export(student, tmp_path, "two-digit")
    floats = export(student, tmp_path / "floats", "float")
    report = measure_interaction(student, PAIRS, graphs=graphs, threshold=0.0)
    same = measure_interaction(student, PAIRS, graphs=floats, threshold=0.0)
    assert report.shipped.int8.max == pytest.approx(same.shipped.int8.max, abs=2e-3)  # the loss is that of the weights
    operators = {node.op_type for node in onnx.load(str(graphs.int8)).graph.node}
    assert {"MatMulIntegerToFloat", "MultiHeadAttention", "InstanceNormalization"} <= operators
    assert not operators & {"Attention", "SkipLayerNormalization"}


def test_padding_is_still_masked(student, tmp_path):
    session = open_session(export(student, tmp_path, "two-digit").int8)
    ids = np.asarray([[3, 5, 7, 9, 11, 4, 6, 8]], np.int64)
    alone = session.run(None, {"input_ids": ids[:, :5], "attention_mask": np.ones((1, 5), np.int64)})
    mask = np.asarray([[1, 1, 1, 1, 1, 0, 0, 0]], np.int64)
    padded = session.run(None, {"input_ids": ids, "attention_mask": mask})
    np.testing.assert_allclose(padded[0][:, :5], alone[0], atol=1e-5)
    np.testing.assert_allclose(padded[1], alone[1], atol=1e-5)


def test_small_matrices_stay_floats(tmp_path):
    source = product(np.eye(8, dtype=np.float32), tmp_path / "fp32.onnx")
    quantise(source, tmp_path / "int8.onnx", arithmetic="two-digit")
    assert [node.op_type for node in onnx.load(str(tmp_path / "int8.onnx")).graph.node] == ["MatMul"]
