"""Exported graphs say what the trained student says, with token types, padding, two classes, and decoders."""

import logging
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GemmaConfig,
    GemmaForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from relgrade.encoding import PairTemplate
from relgrade.errors import InvalidInput, ParityError
from relgrade.export import check_parity, export_cross_encoder, export_onnx, fuse, measure_cross_encoder, quantise
from relgrade.grade.cross_encoder import CrossEncoderRuntime
from relgrade.grade.sessions import open_session
from relgrade.records import Pair
from relgrade.settings import ExportSettings, StudentSettings
from relgrade.student import CrossEncoderStudent, build_student, load_student

WORDS = [f"w{i}" for i in range(56)]
PAD = 1  # not 0, so that a pad id taken for granted would show
KINDS = ["bert", "llama", "gemma"]


def make_tokenizer():
    special = ["[UNK]", "[PAD]", "[CLS]", "[SEP]"]
    ids = {token: i for i, token in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def make_student(kind, *, n_labels=1):
    torch.manual_seed(0)
    shape = {
        "vocab_size": 60,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 56,
        "num_labels": n_labels,
        "pad_token_id": PAD,
    }
    if kind == "bert":
        backbone = BertForSequenceClassification(BertConfig(**shape))
    elif kind == "llama":
        backbone = LlamaForSequenceClassification(LlamaConfig(num_key_value_heads=1, **shape))
    else:
        backbone = GemmaForSequenceClassification(GemmaConfig(num_key_value_heads=1, head_dim=16, **shape))
    with torch.no_grad():  # weights so large that whatever is lost moves the logit
        for name, weight in backbone.named_parameters():
            if weight.ndim == 2:
                weight.normal_(std=0.5 if name.startswith(("score", "classifier")) else 0.2)
    template = PairTemplate((2,), (3,), (3,), max_tokens=48, max_query_tokens=8, has_type_ids=kind == "bert")
    settings = StudentSettings(max_tokens=48, max_query_tokens=8, n_labels=n_labels)
    student = CrossEncoderStudent(
        backbone, make_tokenizer(), template=template, settings=settings, head_names=frozenset()
    )
    return student.eval()


def make_pairs(n_pairs):
    random = np.random.default_rng(0)

    def text(longest):
        return " ".join(random.choice(WORDS, random.integers(1, longest)))

    return [Pair(query_id="q", query=text(8), doc_id=str(i), document=text(60)) for i in range(n_pairs)]


def measure(student, graphs, pairs, *, threshold):
    return measure_cross_encoder(student, pairs, fp32=graphs.fp32, int8=graphs.int8, threshold=threshold)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """kind, n_labels -> (student, graphs), each made once."""
    made = {}

    def get(kind, n_labels=1):
        if (kind, n_labels) not in made:
            student = make_student(kind, n_labels=n_labels)
            folder = tmp_path_factory.mktemp("graphs")
            made[kind, n_labels] = student, export_cross_encoder(student, folder, ExportSettings())
        return made[kind, n_labels]

    return get


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_labels", [1, 2])
def test_fp32_says_what_torch_says_however_batched(exported, kind, n_labels):
    student, graphs = exported(kind, n_labels)
    report = measure(student, graphs, make_pairs(40), threshold=0.0)
    assert report.max_logit_error <= 1e-4
    assert all(row.fp32.max <= 1e-4 for row in report.compositions)
    assert np.std(student.score(make_pairs(40))) > 0.05  # logits that are all alike would prove nothing


@pytest.mark.parametrize("kind", KINDS)
def test_int8_is_near_fp32_and_small(exported, kind):
    student, graphs = exported(kind)
    report = measure(student, graphs, make_pairs(40), threshold=0.0)
    spread = np.std(student.score(make_pairs(40)))
    assert report.shipped.int8.mean < 0.2 * spread
    assert report.shipped.int8_moved.max == 0.0
    weights = onnx.load(str(graphs.int8)).graph.initializer
    # Matrices and embedding tables alike: no float matrix of the model's width is left.
    assert not [w.name for w in weights if w.data_type == onnx.TensorProto.FLOAT and len(w.dims) == 2 and 60 in w.dims]


def test_padded_batches_move_int8_no_more_than_rounding_does(exported):
    """Weights alone are int8: no scale is shared between the pairs of a batch."""
    student, graphs = exported("bert")
    report = measure(student, graphs, make_pairs(40), threshold=0.0)
    assert max(row.int8_moved.max for row in report.compositions) < 1e-5


def test_token_types_are_read_by_both_graphs(exported):
    student, graphs = exported("bert")
    inputs = student.collate(make_pairs(6))
    flat = {**inputs, "token_type_ids": torch.zeros_like(inputs["token_type_ids"])}
    with torch.no_grad():
        expected, without = student(**inputs).numpy(), student(**flat).numpy()
    assert np.abs(expected - without).min() > 1e-3  # they matter to this model
    for path, tolerance in ((graphs.fp32, 1e-4), (graphs.int8, None)):
        session = open_session(path)
        assert [item.name for item in session.get_inputs()] == ["input_ids", "attention_mask", "token_type_ids"]
        found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})[0]
        other = session.run(None, {name: tensor.numpy() for name, tensor in flat.items()})[0]
        assert np.abs(found - other).min() > 1e-4
        assert tolerance is None or np.abs(found - expected).max() <= tolerance


def test_export_fails_when_token_types_get_lost(tmp_path, monkeypatch):
    from relgrade.export import cross_encoder

    class Forgetful(cross_encoder._Positional):
        def forward(self, *inputs):
            kept = dict(zip(self.names, inputs, strict=True))
            kept["token_type_ids"] = kept["token_type_ids"] * 0
            return self.student(**kept)

    monkeypatch.setattr(cross_encoder, "_Positional", Forgetful)
    with pytest.raises(ParityError, match="on random tokens"):
        export_cross_encoder(make_student("bert"), tmp_path, ExportSettings())


@pytest.mark.parametrize("kind", ["llama", "gemma"])
def test_decoders_have_no_token_types(exported, kind):
    _, graphs = exported(kind)
    assert graphs.inputs == ("input_ids", "attention_mask")


@pytest.mark.parametrize("kind", KINDS)
def test_runtime_runs_the_graph(exported, kind):
    student, graphs = exported(kind)
    pairs = make_pairs(12)
    runtime = CrossEncoderRuntime(open_session(graphs.fp32), student.tokenizer, template=student.template, n_threads=2)
    found = runtime.score([(pair.query, pair.document) for pair in pairs]).logits
    assert np.allclose(found, student.score(pairs), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", ["pair", "pass-fail"])
def test_student_goes_from_base_model_to_runtime(request, tmp_path, kind, template):
    """Built, saved, loaded, exported, run: two classes, the template of the base model's own tokenizer."""
    settings = StudentSettings(
        base=str(request.getfixturevalue(f"tiny_{kind}_folder")),
        template=template,
        n_labels=2,
        max_tokens=120,
        max_query_tokens=8,
    )
    built = build_student(settings, seed=0)
    built.save(tmp_path / "student")
    student = load_student(tmp_path / "student")
    graphs = export_cross_encoder(student, tmp_path / "graphs", ExportSettings())
    documents = ["the cat is in the red wood", "a dog", "which river of the rock did the goat", "pink melon"]
    pairs = [Pair(query_id="q", query="where is the cat", doc_id=d, document=d) for d in documents]
    report = measure(student, graphs, pairs, threshold=0.0)
    assert report.max_logit_error <= 1e-4
    runtime = CrossEncoderRuntime(open_session(graphs.fp32), student.tokenizer, template=student.template)
    found = runtime.score([(pair.query, pair.document) for pair in pairs]).logits
    assert np.allclose(found, built.score(pairs), atol=1e-4)


def test_bert_attention_is_fused_and_decoders_are_left(exported):
    fusion = exported("bert")[1].fusion
    assert fusion.is_fused
    assert fusion.operators["Attention"] == 2
    assert fusion.operators["EmbedLayerNormalization"] == 1
    other = exported("llama")[1].fusion
    assert not other.is_fused
    assert "llama" in other.note


def test_fusion_that_changes_results_is_not_taken(tmp_path, monkeypatch, exported):
    student, _ = exported("bert")
    from relgrade.export import graph

    monkeypatch.setattr(graph, "FUSION_TOLERANCE", -1.0)
    graphs = export_cross_encoder(student, tmp_path, ExportSettings(quantise=False))
    assert not graphs.fusion.is_fused
    assert "differ" in graphs.fusion.note
    assert "Attention" not in {node.op_type for node in onnx.load(str(graphs.fp32)).graph.node}


def test_export_leaves_the_student_as_it_was(tmp_path):
    student = make_student("llama")
    student.backbone.set_attn_implementation("sdpa")
    student.train()
    student.backbone.model.embed_tokens.eval()  # a frozen part
    modes = [part.training for part in student.modules()]
    weights = {name: weight.clone() for name, weight in student.state_dict().items()}
    export_cross_encoder(student, tmp_path, ExportSettings())
    assert [part.training for part in student.modules()] == modes
    assert student.backbone.config._attn_implementation == "sdpa"
    assert student.backbone.config.use_cache is True
    assert all(torch.equal(weight, weights[name]) for name, weight in student.state_dict().items())


def test_dropout_is_off_in_the_graph(tmp_path):
    student = make_student("bert").train()
    graphs = export_cross_encoder(student, tmp_path, ExportSettings(quantise=False))
    assert graphs.max_probe_error <= 1e-4


def test_bfloat16_student_is_exported_in_float32(tmp_path):
    student = make_student("bert").to(torch.bfloat16)
    graphs = export_cross_encoder(student, tmp_path, ExportSettings(quantise=False))
    assert next(student.parameters()).dtype == torch.bfloat16
    assert graphs.max_probe_error <= 1e-4
    assert graphs.int8 is None
    assert graphs.shipped == graphs.fp32


def test_only_the_graphs_are_left_in_the_folder(exported):
    graphs = exported("bert")[1]
    assert {path.name for path in graphs.fp32.parent.iterdir()} == {"model.fp32.onnx", "model.int8.onnx"}
    assert graphs.shipped == graphs.int8


def test_planted_flip_fails_the_check(exported, tmp_path):
    """An int8 graph of another model: verdicts flip, and the message names a pair and quotes no text."""
    student, graphs = exported("bert")
    pairs = make_pairs(40)
    other = export_cross_encoder(make_student("bert", n_labels=2), tmp_path, ExportSettings())
    swapped = replace(graphs, int8=other.int8)
    threshold = float(np.median(student.score(pairs)))
    report = measure(student, swapped, pairs, threshold=threshold)
    assert report.verdict_flips > 0.005
    with pytest.raises(ParityError, match=r"worst: pair \d+;") as caught:
        check_parity(report, ExportSettings())
    assert not any(pair.document in str(caught.value) for pair in pairs)


def test_parity_needs_pairs(exported):
    student, graphs = exported("bert")
    with pytest.raises(InvalidInput, match="needs pairs"):
        measure(student, graphs, [], threshold=0.0)


class Unused(nn.Module):
    def forward(self, x, unused):
        return x * 2


def test_input_that_gets_lost_is_an_error(tmp_path):
    with pytest.raises(ParityError, match="an input got lost"):
        export_onnx(
            Unused(),
            (torch.ones(2, 3), torch.ones(2, 3)),
            tmp_path / "g.onnx",
            input_names=["x", "unused"],
            output_names=["y"],
            dynamic_axes={"x": {0: "n"}},
        )
    assert not (tmp_path / "g.onnx").exists()


def test_weights_beside_the_graph_are_kept_together(tmp_path):
    """Beyond 2 GB torch writes one file per weight; they become one, which moves with the graph."""
    from relgrade.export.graph import move_graph, save_graph

    export_onnx(
        nn.Linear(64, 64),
        (torch.ones(2, 64),),
        tmp_path / "whole.onnx",
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
    )
    x = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    expected = open_session(tmp_path / "whole.onnx").run(None, {"x": x})[0]
    save_graph(onnx.load(str(tmp_path / "whole.onnx")), tmp_path / "parts.onnx")
    assert (tmp_path / "parts.onnx.data").stat().st_size >= 64 * 64 * 4
    assert np.array_equal(open_session(tmp_path / "parts.onnx").run(None, {"x": x})[0], expected)
    quantise(tmp_path / "parts.onnx", tmp_path / "int8.onnx")
    assert np.allclose(open_session(tmp_path / "int8.onnx").run(None, {"x": x})[0], expected, atol=0.1)
    assert not fuse(tmp_path / "parts.onnx", model_type="bert", n_heads=2, hidden=64, probes=[{"x": x}]).is_fused
    (tmp_path / "sub").mkdir()
    move_graph(tmp_path / "parts.onnx", tmp_path / "sub/parts.onnx")
    assert np.array_equal(open_session(tmp_path / "sub/parts.onnx").run(None, {"x": x})[0], expected)
    move_graph(tmp_path / "whole.onnx", tmp_path / "sub/parts.onnx")
    assert {path.name for path in (tmp_path / "sub").iterdir()} == {"parts.onnx"}  # no weights of the old graph


def test_nothing_global_is_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])
    filters = list(warnings.filters)
    export_cross_encoder(make_student("bert"), tmp_path, ExportSettings())
    assert logging.root.handlers == []
    assert logging.root.filters == []
    assert warnings.filters == filters


def test_missing_torch_names_the_extra():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from relgrade.errors import MissingExtra\n"
        "try:\n    import relgrade.export\n"
        "except MissingExtra as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'relgrade[train]'" in done.stdout
