"""The model that every contender of the speed benchmark runs: its graphs say what torch says."""

import json

import numpy as np
import pytest

onnxruntime = pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

from benchmarks.speed.weights import make_model  # noqa: E402, after what it needs


@pytest.fixture(scope="module")
def folder(tiny_bert_folder, tmp_path_factory):
    made = tmp_path_factory.mktemp("speed")
    make_model(str(tiny_bert_folder), made)
    return made


def logits_of(path, feed):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits"], feed)[0]


@pytest.mark.parametrize(
    ("graph", "tolerance"),
    [("model.onnx", 1e-4), ("model_float.onnx", 0.1), ("model_digits.onnx", 0.1), ("model_qint8.onnx", 0.1)],
)
def test_each_graph_says_what_torch_says(folder, graph, tolerance):
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder / "model").eval()
    draw = np.random.default_rng(0)
    ids = draw.integers(5, model.config.vocab_size, (3, 11))
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    feed["attention_mask"][1, 7:] = 0
    with torch.inference_mode():
        expected = model(**{name: torch.from_numpy(array) for name, array in feed.items()}).logits.numpy()
    found = logits_of(folder / "model/onnx" / graph, feed)
    assert found.shape == expected.shape == (3, 1)
    assert np.abs(found - expected).max() <= tolerance * max(np.abs(expected).max(), 1e-3)


def test_the_tokenizer_reads_whole_texts(folder):
    tokenizer = json.loads((folder / "model/tokenizer.json").read_text(encoding="utf-8"))
    assert "truncation" not in tokenizer
    assert "padding" not in tokenizer
    assert (folder / "model/special_tokens_map.json").is_file()


def test_a_second_call_keeps_what_is_there(folder, monkeypatch):
    monkeypatch.setattr("benchmarks.speed.weights._make_model", lambda base, folder: pytest.fail("made again"))
    make_model("no such base", folder)
