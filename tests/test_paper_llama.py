"""The Llama preset on a Llama of sixteen dimensions: one step, sharded, loaded, folded, read as servers do."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from paper_case import rows_of
from relgrade.export import fold_two_logits
from relgrade.paper.settings import PaperSettings
from relgrade.records import Pair
from relgrade.student import fit, load_student
from relgrade.student.cross_encoder import CrossEncoderStudent
from relgrade.student.templates import INSTRUCTION

PRESET = Path(__file__).parent.parent / "recipes" / "llama-3.2-1b-paper.toml"
NAMES = ("query_id", "query", "doc_id", "document", "label", "split")


@pytest.fixture(scope="module")
def pairs():
    rows = rows_of(9, split="train", seed=0)
    rows[0]["document"] = " ".join(["red"] * 400)  # longer than the 300 words that are read
    rows[1]["document"] = "red <|finetune_right_pad_id|> </s>"  # text, not markers
    return [Pair(**{name: row[name] for name in NAMES}) for row in rows]


@pytest.fixture(scope="module")
def trained(tiny_llama_folder, pairs, tmp_path_factory):
    """One step of the preset; only the lengths are cut to what the tiny model reads."""
    preset = PaperSettings.read(PRESET)
    settings = replace(preset.student, base=str(tiny_llama_folder), max_tokens=112, max_query_tokens=16)
    student = CrossEncoderStudent.build(settings, seed=0)
    training = replace(preset.training, max_steps=1, bf16="off")
    before = [weight.clone() for weight in student.parameters()]
    report = fit(student, pairs[:40], [], training, output=tmp_path_factory.mktemp("fit"), seed=0)
    assert report.steps == 1
    assert report.n_parameters_trained == sum(weight.numel() for weight in before)  # every parameter, and the head
    assert any(not torch.equal(old, new) for old, new in zip(before, student.parameters(), strict=True))
    return student


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("student")
    trained.save(folder, max_shard_size="8KB")
    return folder


@pytest.fixture(scope="module")
def folded(saved, tmp_path_factory):
    folder = tmp_path_factory.mktemp("folded") / "reranker"
    fold_two_logits(saved, folder)
    return folder


def test_the_preset_pads_with_the_token_reserved_for_it(trained):
    pad = trained.backbone.config.pad_token_id
    assert trained.tokenizer.id_to_token(pad) == "<|finetune_right_pad_id|>"
    assert pad not in (trained.backbone.config.eos_token_id, trained.backbone.config.bos_token_id)


def test_the_prompt_is_a_system_text_and_the_two_parts_in_the_roles_of_the_chat(trained):
    template = trained.template
    text = trained.tokenizer.decode(list(template.prefix), skip_special_tokens=False)
    assert text.startswith("<s>")
    assert template.max_document_words == 300
    assert len(template.prefix) > len(INSTRUCTION.split()) // 2


def test_scores_of_a_batch_are_those_of_single_pairs(trained, pairs):
    batch = trained.score(pairs, batch_pairs=len(pairs))
    assert batch == pytest.approx([trained.score([pair])[0] for pair in pairs], abs=1e-5)


def test_the_checkpoint_is_sharded_and_loads(saved, trained, pairs):
    index = json.loads((saved / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    assert not list(saved.glob("*.bin"))
    assert load_student(saved).score(pairs) == pytest.approx(trained.score(pairs), abs=1e-6)


def test_the_folded_checkpoint_is_a_reranker_for_transformers(folded, trained, pairs):
    model = AutoModelForSequenceClassification.from_pretrained(folded)
    assert model.config.num_labels == 1
    assert type(model).__name__ == "LlamaForSequenceClassification"
    inputs = trained.collate(pairs)
    with torch.no_grad():
        logits = model.float().eval()(**inputs).logits
    assert logits.shape == (len(pairs), 1)
    assert logits[:, 0].tolist() == pytest.approx(trained.score(pairs), abs=1e-4)
    assert load_student(folded).score(pairs) == pytest.approx(trained.score(pairs), abs=1e-4)


def test_the_fields_that_other_servers_read(folded):
    """TEI tells a reranker by its architecture and one entry of id2label; vLLM by num_labels, and by problem_type."""
    config = json.loads((folded / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["model_type"] == "llama"
    assert list(config["id2label"]) == ["0"]
    assert len(config["label2id"]) == 1
    assert config["problem_type"] == "multi_label_classification"  # one logit, through sigmoid
    tokenizer = AutoTokenizer.from_pretrained(folded)
    assert config["pad_token_id"] == tokenizer.pad_token_id
    assert tokenizer.padding_side == "right"
    assert (folded / "tokenizer.json").is_file()
    weights = json.loads((folded / "model.safetensors.index.json").read_text())["weight_map"]
    assert "score.weight" in weights
