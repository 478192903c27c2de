"""The cross-encoder runtime: a pair's logit is its own, whatever stands beside it and however it is run."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from relgrade.bundle import GoldenPair, Manifest, goldens_to_bytes, load_bundle, write_bundle
from relgrade.encoding import PairEncoder, PairTemplate
from relgrade.errors import BundleCorrupt, BundleIncomplete
from relgrade.export import export_onnx, quantise
from relgrade.grade import cross_encoder
from relgrade.grade.cross_encoder import CrossEncoderRuntime
from relgrade.grade.runtime import Runtime
from relgrade.grade.sessions import open_session
from relgrade.records import Calibration, OperatingPoint

WORDS = [f"w{i}" for i in range(56)]
TEMPLATE = PairTemplate(prefix=(2,), separator=(3,), suffix=(3,), max_tokens=48, max_query_tokens=8)
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Scorer(nn.Module):
    """A tiny BERT with one logit, weights large enough that int8 and neighbours would show."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.bert = BertForSequenceClassification(
            BertConfig(
                vocab_size=60,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=64,
                num_labels=1,
                attn_implementation="eager",
            )
        )
        with torch.no_grad():
            for weight in self.bert.parameters():
                if weight.ndim == 2:
                    weight.normal_(std=0.3)

    def forward(self, input_ids, attention_mask, token_type_ids):
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        return self.bert(**inputs).logits[:, 0]


def make_tokenizer():
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(5)  # as many a tokenizer.json says; the runtime must not obey
    tokenizer.enable_padding(length=40)
    return tokenizer


@pytest.fixture(scope="module")
def scorer():
    return Scorer().eval()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, scorer):
    folder = tmp_path_factory.mktemp("cross-encoder")
    ids = torch.randint(4, 60, (2, 12))
    export_onnx(
        scorer,
        (ids, torch.ones_like(ids), torch.zeros_like(ids)),
        folder / "fp32.onnx",
        input_names=INPUTS,
        output_names=["logits"],
        dynamic_axes={**{name: {0: "n_pairs", 1: "n_tokens"} for name in INPUTS}, "logits": {0: "n_pairs"}},
    )
    quantise(folder / "fp32.onnx", folder / "int8.onnx")
    manifest = Manifest(
        name="tiny",
        architecture="cross-encoder",
        rubric="answer-bearing",
        graphs={"model": "model.int8.onnx"},
        template=TEMPLATE.to_json(),
        calibration=Calibration(),
        operating_points=(OperatingPoint("balanced", 0.5),),
        default_point="balanced",
        relgrade_version="0",
    )
    files = {
        "model.int8.onnx": folder / "int8.onnx",
        "model.fp32.onnx": folder / "fp32.onnx",
        "tokenizer.json": make_tokenizer().to_str().encode(),
        "goldens.jsonl": goldens_to_bytes([GoldenPair("w1", "w2", 0.0)]),
    }
    write_bundle(folder / "bundle", manifest, files)
    return load_bundle(folder / "bundle")


@pytest.fixture(scope="module")
def runtime(bundle):
    return CrossEncoderRuntime.from_bundle(bundle, n_threads=2)


def make_pairs(n_pairs, *, seed=0):
    random = np.random.default_rng(seed)
    return [
        (" ".join(random.choice(WORDS, random.integers(1, 6))), " ".join(random.choice(WORDS, random.integers(1, 60))))
        for _ in range(n_pairs)
    ]


PAIRS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=10).map(" ".join),
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=60).map(" ".join),
    ),
    max_size=12,
)


def test_it_is_a_runtime(runtime):
    checked: Runtime = runtime
    output = checked.score([("w1", "w2")])
    assert output.logits.dtype == np.float64
    assert output.truncated.dtype == np.bool_
    assert output.windows.tolist() == [1]


def test_no_pairs_give_no_rows(runtime):
    output = runtime.score([])
    assert output.logits.shape == output.truncated.shape == output.windows.shape == (0,)


def test_fp32_graph_says_what_torch_says(bundle, scorer):
    manifest = replace(bundle.manifest, graphs={"model": "model.fp32.onnx"})
    runtime = CrossEncoderRuntime.from_bundle(replace(bundle, manifest=manifest), n_threads=2)
    pairs = make_pairs(20)
    expected, swapped = [], []
    for pair in PairEncoder(make_tokenizer(), TEMPLATE).encode(pairs):
        ids, types = torch.tensor([pair.ids]), torch.tensor([pair.type_ids])
        with torch.no_grad():
            expected.append(scorer(ids, torch.ones_like(ids), types).item())
            swapped.append(scorer(ids, torch.ones_like(ids), torch.zeros_like(ids)).item())
    assert np.allclose(runtime.score(pairs).logits, expected, atol=1e-4)
    assert np.abs(np.subtract(expected, swapped)).min() > 1e-3  # a runtime without token types would fail


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=PAIRS, neighbours=PAIRS, order=st.randoms(use_true_random=False))
def test_logit_is_bitwise_free_of_neighbours_and_order(runtime, pairs, neighbours, order):
    alone = [runtime.score([pair]).logits[0] for pair in pairs]
    mixed = [*pairs, *neighbours]
    places = list(range(len(mixed)))
    order.shuffle(places)
    found = runtime.score([mixed[i] for i in places]).logits
    for position, i in enumerate(places):
        if i < len(pairs):
            assert found[position] == alone[i]


def test_chunks_change_nothing(runtime, monkeypatch):
    pairs = make_pairs(23)
    whole = runtime.score(pairs)
    monkeypatch.setattr(cross_encoder, "CHUNK_PAIRS", 5)
    parts = runtime.score(pairs)
    assert np.array_equal(whole.logits, parts.logits)
    assert np.array_equal(whole.truncated, parts.truncated)


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_threads_change_nothing(bundle, runtime, n_threads):
    pairs = make_pairs(30)
    other = CrossEncoderRuntime.from_bundle(bundle, n_threads=n_threads)
    assert np.array_equal(other.score(pairs).logits, runtime.score(pairs).logits)


def test_many_threads_may_call_at_once(runtime):
    sets = [make_pairs(15, seed=seed) for seed in range(8)]
    expected = [runtime.score(pairs).logits for pairs in sets]
    found = [None] * len(sets)

    def work(i):
        found[i] = runtime.score(sets[i]).logits

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(sets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


def test_equal_pairs_are_computed_once(runtime, monkeypatch):
    runs = []
    run_each = runtime._pool.run_each
    monkeypatch.setattr(
        runtime._pool, "run_each", lambda session, feeds: runs.extend(feeds) or run_each(session, feeds)
    )
    output = runtime.score([("w1", "w2 w3"), ("w1", "w4"), ("w1", "w2 w3"), ("w4", "w1")])
    assert len(runs) == 3
    assert output.logits[0] == output.logits[2]
    assert len(set(output.logits)) == 3


def test_what_was_cut_is_said(runtime):
    fits = " ".join(WORDS[:40])  # 48 tokens less 3 of the template, less 5 of the query
    output = runtime.score([("w1 w2 w3 w4 w5", fits), ("w1 w2 w3 w4 w5", fits + " w1"), (" ".join(WORDS[:9]), "w1")])
    assert output.truncated.tolist() == [False, True, True]
    assert runtime.score([("w1 w2 w3 w4 w5", fits + " w1")]).logits[0] == output.logits[0]


def test_tokens_are_counted_without_the_tokenizers_own_limits(runtime):
    assert runtime.count_tokens(["", "w1", "w1 w2 unheard", " ".join(WORDS)]) == [0, 1, 3, 56]
    assert runtime.count_tokens([]) == []


def test_logit_that_is_not_finite_is_handed_on(runtime, monkeypatch):
    answers = [[np.array([np.nan], np.float32)], [np.array([np.inf], np.float32)]]
    monkeypatch.setattr(runtime._pool, "run_each", lambda session, feeds: answers)
    logits = runtime.score([("w1", "w2"), ("w1", "w3")]).logits
    assert np.isnan(logits[0])
    assert np.isposinf(logits[1])


def test_other_roles_and_templates_are_refused(bundle):
    wrong = replace(bundle.manifest, graphs={"encoder": "model.int8.onnx"})
    with pytest.raises(BundleCorrupt, match="role 'model'"):
        CrossEncoderRuntime.from_bundle(replace(bundle, manifest=wrong))
    wrong = replace(bundle.manifest, template={"prefix": [1]})
    with pytest.raises(BundleCorrupt, match="template"):
        CrossEncoderRuntime.from_bundle(replace(bundle, manifest=wrong))
    wrong = replace(bundle.manifest, graphs={"model": "other.onnx"})
    with pytest.raises(BundleIncomplete, match=r"other\.onnx"):
        CrossEncoderRuntime.from_bundle(replace(bundle, manifest=wrong))


def test_graph_with_other_inputs_is_refused(tmp_path):
    export_onnx(
        nn.Linear(3, 1),
        (torch.ones(2, 3),),
        tmp_path / "g.onnx",
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={},
    )
    with pytest.raises(BundleCorrupt, match="no cross-encoder"):
        CrossEncoderRuntime(open_session(tmp_path / "g.onnx"), make_tokenizer(), template=TEMPLATE)
