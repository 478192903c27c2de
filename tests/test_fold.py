"""Folding a two-class checkpoint keeps its verdicts: the one logit is z1 - z0."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    GemmaConfig,
    GemmaForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from relgrade.errors import InvalidInput, OutputError, UnsafeBundle
from relgrade.export import fold_two_logits
from relgrade.records import Pair
from relgrade.settings import StudentSettings
from relgrade.student import build_student, load_student

SMALL = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "pad_token_id": 3,
}


def build(kind, **changes):
    torch.manual_seed(0)
    settings = {**SMALL, **({} if "id2label" in changes else {"num_labels": 2}), **changes}
    if kind == "bert":
        model = BertForSequenceClassification(BertConfig(**settings))
    elif kind == "roberta":
        model = RobertaForSequenceClassification(RobertaConfig(**settings))
    elif kind == "llama":
        model = LlamaForSequenceClassification(LlamaConfig(num_key_value_heads=1, **settings))
    else:
        model = GemmaForSequenceClassification(GemmaConfig(num_key_value_heads=1, head_dim=8, **settings))
    with torch.no_grad():  # fresh heads have no bias and logits near 0, where errors would not show
        for name, weight in model.named_parameters():
            if name.startswith(("classifier", "score")):
                weight.normal_()
    return model.eval()


def logits(model):
    ids = torch.arange(4, 40).reshape(3, 12)
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    ids = torch.where(mask == 1, ids, model.config.pad_token_id)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask).logits


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama", "gemma"])
@pytest.mark.parametrize("shard", ["5GB", "6KB"])
def test_one_logit_is_the_difference_of_two(tmp_path, kind, shard):
    model = build(kind, id2label={0: "NO", 1: "YES"})
    model.save_pretrained(tmp_path / "two", max_shard_size=shard)
    assert (tmp_path / "two/model.safetensors.index.json").exists() == (shard == "6KB")
    fold_two_logits(tmp_path / "two", tmp_path / "one")
    folded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "one").eval()
    expected = logits(model)
    found = logits(folded)
    assert found.shape == (3, 1)
    assert torch.allclose(found[:, 0], expected[:, 1] - expected[:, 0], atol=1e-5)
    assert (expected[:, 1] - expected[:, 0]).abs().min() > 1e-3
    assert folded.config.num_labels == 1
    assert folded.config.id2label == {0: "YES"}
    assert folded.config.problem_type == "multi_label_classification"
    assert folded.config.pad_token_id == 3


def test_table_of_token_types_is_not_taken_for_the_head(tmp_path):
    model = build("bert")
    model.save_pretrained(tmp_path / "two")
    fold_two_logits(tmp_path / "two", tmp_path / "one")
    before = load_file(tmp_path / "two/model.safetensors")
    after = load_file(tmp_path / "one/model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert before.keys() == after.keys()


def test_bfloat16_head_is_folded_without_rounding(tmp_path):
    model = build("llama").to(torch.bfloat16)
    model.save_pretrained(tmp_path / "two")
    fold_two_logits(tmp_path / "two", tmp_path / "one")
    head = load_file(tmp_path / "one/model.safetensors")["score.weight"]
    rows = model.score.weight.detach().float()
    assert head.dtype == torch.float32
    assert torch.equal(head, rows[1:] - rows[:1])
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "one")


def test_index_counts_the_folded_weights(tmp_path):
    build("bert").save_pretrained(tmp_path / "two", max_shard_size="6KB")
    fold_two_logits(tmp_path / "two", tmp_path / "one")
    before, after = (json.loads((tmp_path / d / "model.safetensors.index.json").read_text()) for d in ("two", "one"))
    assert before["weight_map"] == after["weight_map"]
    assert before["metadata"]["total_size"] - after["metadata"]["total_size"] == 4 * (16 + 1)


def test_student_stays_a_student(tmp_path, tiny_bert_folder):
    settings = StudentSettings(base=str(tiny_bert_folder), n_labels=2, max_tokens=64, max_query_tokens=8)
    student = build_student(settings, seed=0)
    student.save(tmp_path / "two")
    fold_two_logits(tmp_path / "two", tmp_path / "one")
    folded = load_student(tmp_path / "one")
    pairs = [Pair(query_id="q", query="what is red", doc_id=d, document=d) for d in ("a red apple", "the cat")]
    assert folded.settings.n_labels == 1
    assert folded.backbone.config.num_labels == 1
    assert folded.score(pairs) == pytest.approx(student.score(pairs), abs=1e-5)


def test_code_and_pickles_are_left_behind(tmp_path):
    build("bert").save_pretrained(tmp_path / "two")
    for name in ("modeling.py", "training_args.bin", "tokenizer.json", "LICENSE"):
        (tmp_path / "two" / name).write_text("{}")
    fold_two_logits(tmp_path / "two", tmp_path / "one")
    assert {path.name for path in (tmp_path / "one").iterdir()} == {
        "LICENSE",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }


@pytest.mark.parametrize("n_labels", [1, 3])
def test_other_heads_are_refused(tmp_path, n_labels):
    build("bert", num_labels=n_labels).save_pretrained(tmp_path / "two")
    with pytest.raises(InvalidInput, match="one head of two classes"):
        fold_two_logits(tmp_path / "two", tmp_path / "one")
    assert not (tmp_path / "one").exists()


def test_independent_labels_are_refused(tmp_path):
    build("bert", problem_type="multi_label_classification").save_pretrained(tmp_path / "two")
    with pytest.raises(InvalidInput, match="problem_type"):
        fold_two_logits(tmp_path / "two", tmp_path / "one")


def test_pickled_weights_are_never_opened(tmp_path):
    (tmp_path / "two").mkdir()
    (tmp_path / "two/config.json").write_text("{}")
    (tmp_path / "two/pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UnsafeBundle, match="safetensors"):
        fold_two_logits(tmp_path / "two", tmp_path / "one")


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_what_is_no_checkpoint_is_named(tmp_path, content):
    (tmp_path / "two").mkdir()
    if content is not None:
        (tmp_path / "two/config.json").write_text(content)
    with pytest.raises(InvalidInput, match=r"config\.json"):
        fold_two_logits(tmp_path / "two", tmp_path / "one")


def test_index_that_points_out_of_the_folder_is_refused(tmp_path):
    build("bert").save_pretrained(tmp_path / "two")
    (tmp_path / "two/model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    index = {"weight_map": {"classifier.weight": "../elsewhere.safetensors"}}
    (tmp_path / "two/model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidInput, match="no file of this folder"):
        fold_two_logits(tmp_path / "two", tmp_path / "one")


def sharded(tmp_path):
    build("bert").save_pretrained(tmp_path / "two", max_shard_size="6KB")
    return tmp_path / "two" / "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"index\.json: not JSON"),
        ("[]", r"index\.json: an object with weight_map"),
        ("{}", r"index\.json: an object with weight_map"),
        ('{"weight_map": {"classifier.weight": 1}}', r"index\.json: an object with weight_map"),
    ],
)
def test_an_index_that_is_none(tmp_path, text, message):
    sharded(tmp_path).write_text(text)
    with pytest.raises(InvalidInput, match=message):
        fold_two_logits(tmp_path / "two", tmp_path / "one")
    assert not (tmp_path / "one").exists()


def test_an_index_that_names_a_weight_its_shard_lacks(tmp_path):
    path = sharded(tmp_path)
    index = json.loads(path.read_text())
    index["weight_map"]["bert.encoder.layer.9.bias"] = index["weight_map"]["classifier.weight"]
    path.write_text(json.dumps(index))
    with pytest.raises(InvalidInput, match=r"lacks 1 weights .* among them 'bert\.encoder\.layer\.9\.bias'"):
        fold_two_logits(tmp_path / "two", tmp_path / "one")
    assert not (tmp_path / "one").exists()


@pytest.mark.parametrize("is_sharded", [True, False])
@pytest.mark.parametrize("n_left", [0, 4, -1])
def test_damaged_weights_are_named(tmp_path, is_sharded, n_left):
    if is_sharded:
        sharded(tmp_path)
    else:
        build("bert").save_pretrained(tmp_path / "two")
    path = sorted((tmp_path / "two").glob("*.safetensors"))[-1]
    path.write_bytes(path.read_bytes()[:n_left])
    with pytest.raises(InvalidInput, match=rf"{path.name}: damaged, or no safetensors file"):
        fold_two_logits(tmp_path / "two", tmp_path / "one")
    assert not (tmp_path / "one").exists()


def test_a_file_where_a_folder_should_be(tmp_path):
    build("bert").save_pretrained(tmp_path / "two")
    (tmp_path / "one").write_text("mine")
    with pytest.raises(InvalidInput, match="an empty or new folder was expected, this is a file"):
        fold_two_logits(tmp_path / "two", tmp_path / "one")
    with pytest.raises(OutputError, match="cannot be written"):
        fold_two_logits(tmp_path / "two", tmp_path / "one" / "below")
    with pytest.raises(InvalidInput, match="a Hugging Face checkpoint was expected"):
        fold_two_logits(tmp_path / "one", tmp_path / "three")
    assert (tmp_path / "one").read_text() == "mine"


def test_a_folder_with_files_is_not_overwritten(tmp_path):
    build("bert").save_pretrained(tmp_path / "two")
    (tmp_path / "one").mkdir()
    (tmp_path / "one/notes.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="empty or new"):
        fold_two_logits(tmp_path / "two", tmp_path / "one")
    assert (tmp_path / "one/notes.txt").read_text() == "mine"
