"""The cross-encoder student over tiny real encoders and decoders."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from tokenizers import Tokenizer, normalizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from relgrade.encoding import PairTemplate
from relgrade.errors import InvalidInput, InvalidSettings, TrainingError
from relgrade.records import Pair
from relgrade.settings import StudentSettings
from relgrade.student import CrossEncoderStudent, build_student, load_student

KINDS = ["bert", "llama", "gemma"]
LONG = " ".join(["the red cat is in the green wood of a white hill"] * 20)
DOCUMENTS = ["the cat", "a dog in the lake", "gold", "what is the grey rock", LONG]
PAIRS = [Pair(query_id="q", query="who is the cat", doc_id=str(i), document=text) for i, text in enumerate(DOCUMENTS)]


@pytest.fixture
def folder_of(tiny_bert_folder, tiny_llama_folder, tiny_gemma_folder):
    return {"bert": tiny_bert_folder, "llama": tiny_llama_folder, "gemma": tiny_gemma_folder}.__getitem__


@pytest.fixture
def make(folder_of):
    """kind, settings -> a student whose weights are so large that whatever is lost moves the logit."""

    def build(kind, **changes):
        template = {} if kind == "bert" else {"template": "pass-fail"}
        options = {"base": str(folder_of(kind)), "max_tokens": 112, "max_query_tokens": 8, **template, **changes}
        student = build_student(StudentSettings(**options), seed=0)
        torch.manual_seed(0)
        with torch.no_grad():
            for weight in student.parameters():
                if weight.ndim == 2:
                    weight.normal_(std=0.3)
        return student.eval()

    return build


@pytest.fixture
def copy_of(folder_of, tmp_path):
    """kind, changed keys of tokenizer_config.json (None removes one) -> a folder to damage."""

    def copy(kind, **changes):
        folder = shutil.copytree(folder_of(kind), tmp_path / "base")
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.normalizer = normalizers.Lowercase()  # the prompt has capitals, the words of the tiny models have not
        if kind == "gemma":
            tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        tokenizer.save(str(folder / "tokenizer.json"))
        path = folder / "tokenizer_config.json"
        config = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
        return folder

    return copy


def text_of(student, ids):
    return " ".join(student.tokenizer.id_to_token(i) for i in ids)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_labels", [1, 2])
def test_batch_scores_as_single(make, kind, n_labels):
    student = make(kind, n_labels=n_labels)
    single = [student.score([pair])[0] for pair in PAIRS]
    assert student.score(PAIRS) == pytest.approx(single, abs=1e-4)
    assert student.score(PAIRS[::-1], batch_pairs=2)[::-1] == pytest.approx(single, abs=1e-4)
    assert min(abs(a - b) for i, a in enumerate(single) for b in single[:i]) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_saved_student_scores_alike(make, kind, tmp_path):
    student = make(kind, n_labels=2)
    expected = student.score(PAIRS)
    student.save(tmp_path / "student")
    loaded = load_student(tmp_path / "student")
    assert isinstance(loaded, CrossEncoderStudent)
    # Weights are equal to the bit; where they lie in memory moves the last digit of a sum.
    weights = loaded.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in student.state_dict().items())
    assert loaded.score(PAIRS) == pytest.approx(expected, abs=1e-5)
    assert loaded.template == student.template
    assert loaded.settings == student.settings
    assert loaded.tokenizer.to_str() == student.tokenizer.to_str()
    for name, group in student.parameter_groups().items():
        assert len(loaded.parameter_groups()[name]) == len(group)
    loaded.save(tmp_path / "again")
    assert load_student(tmp_path / "again").score(PAIRS) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_folder_is_one_that_others_load(make, kind, tmp_path):
    student = make(kind)
    student.save(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.pad_token_id == model.config.pad_token_id
    assert not list(tmp_path.glob("*.bin"))
    with torch.no_grad():
        logits = model(**student.collate(PAIRS)).logits[:, 0].tolist()
    assert logits == pytest.approx(student.score(PAIRS), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_a_token_of_its_own(make, kind):
    student = make(kind)
    config = student.backbone.config
    pad = student.tokenizer.id_to_token(config.pad_token_id)
    assert pad == {"bert": "[PAD]", "llama": "<|finetune_right_pad_id|>", "gemma": "<pad>"}[kind]
    assert config.pad_token_id != config.eos_token_id
    inputs = student.collate(PAIRS)
    lengths = inputs["attention_mask"].sum(dim=1)
    assert lengths.tolist() == student.count_tokens(PAIRS)
    for row, length in zip(inputs["input_ids"], lengths, strict=True):
        assert (row[length:] == config.pad_token_id).all()
        assert (row[:length] != config.pad_token_id).all()


def test_end_of_text_does_not_pad_even_where_the_tokenizer_says_so(copy_of, make, tmp_path):
    student = make("llama", base=str(copy_of("llama", pad_token="</s>")))
    assert student.tokenizer.id_to_token(student.backbone.config.pad_token_id) == "<|finetune_right_pad_id|>"


def test_pad_token_is_added_where_none_is_to_spare(copy_of, make, tmp_path):
    folder = copy_of("gemma", pad_token="</s>")
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("<pad>", "<other>"))
    n_before = AutoConfig.from_pretrained(folder).vocab_size
    student = make("gemma", base=str(folder))
    config = student.backbone.config
    assert config.pad_token_id == n_before
    assert config.vocab_size == n_before + 1
    assert student.backbone.get_input_embeddings().num_embeddings == n_before + 1
    single = [student.score([pair])[0] for pair in PAIRS]
    assert student.score(PAIRS) == pytest.approx(single, abs=1e-4)
    student.save(tmp_path / "student")
    assert load_student(tmp_path / "student").score(PAIRS) == pytest.approx(student.score(PAIRS), abs=1e-5)
    assert AutoConfig.from_pretrained(tmp_path / "student").pad_token_id == n_before


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_backbone_does_not_move(make, kind):
    student = make(kind, train_encoder=False).train()
    groups = student.parameter_groups()
    assert groups["encoder"] == []
    assert groups["head"]
    assert not any(part.training for part in student.backbone.base_model.modules())
    before = {name: weight.clone() for name, weight in student.state_dict().items()}
    optimiser = torch.optim.AdamW(student.parameters(), lr=0.1, weight_decay=0.1)
    student(**student.collate(PAIRS)).sum().backward()
    optimiser.step()
    moved = {name for name, weight in student.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved
    assert all(name.startswith(("backbone.classifier", "backbone.score")) for name in moved)


def test_new_layers_learn_as_the_head_even_inside_the_backbone(copy_of):
    """A checkpoint without BERT's pooler: freezing the random one would leave the head nothing to read."""
    from safetensors.torch import load_file, save_file

    folder = copy_of("bert")
    path = folder / "model.safetensors"
    weights = {name: weight for name, weight in load_file(path).items() if "pooler" not in name}
    save_file(weights, path, metadata={"format": "pt"})
    student = build_student(
        StudentSettings(base=str(folder), max_tokens=64, max_query_tokens=8, train_encoder=False), seed=0
    )
    n_bare = len(weights)
    assert len(student.parameter_groups()["head"]) == 4  # weight and bias of pooler and classifier
    assert sum(not weight.requires_grad for weight in student.parameters()) == n_bare


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_all_in_one_group(make, kind):
    student = make(kind)
    groups = student.parameter_groups()
    grouped = [id(weight) for group in groups.values() for weight in group]
    assert sorted(grouped) == sorted(id(weight) for weight in student.parameters())
    assert len(groups["head"]) == (2 if kind == "bert" else 1)


@pytest.mark.parametrize("kind", KINDS)
def test_two_logits_are_folded(make, kind):
    student = make(kind, n_labels=2)
    inputs = student.collate(PAIRS)
    with torch.no_grad():
        raw = student.backbone(**inputs).logits
        found = student(**inputs)
    assert found.dtype == torch.float32
    assert torch.allclose(torch.sigmoid(found), raw.softmax(dim=1)[:, 1], atol=1e-6)


def test_token_types_reach_the_model(make):
    student = make("bert")
    inputs = student.collate(PAIRS)
    sep = student.tokenizer.token_to_id("[SEP]")
    for ids, types in zip(inputs["input_ids"].tolist(), inputs["token_type_ids"].tolist(), strict=True):
        first, second = (i for i, token in enumerate(ids) if token == sep)
        assert types[: first + 1] == [0] * (first + 1)
        assert types[first + 1 : second + 1] == [1] * (second - first)
    flat = {**inputs, "token_type_ids": torch.zeros_like(inputs["token_type_ids"])}
    with torch.no_grad():
        assert (student(**inputs) - student(**flat)).abs().min() > 1e-3


@pytest.mark.parametrize("kind", ["llama", "gemma"])
def test_decoders_have_no_token_types(make, kind):
    assert set(make(kind).collate(PAIRS)) == {"input_ids", "attention_mask"}


def test_pair_is_encoded_as_the_tokenizer_itself_would(make, tiny_bert_folder):
    student = make("bert")
    expected = Tokenizer.from_file(str(tiny_bert_folder / "tokenizer.json")).encode(PAIRS[1].query, PAIRS[1].document)
    found = student.collate([PAIRS[1]])
    assert found["input_ids"][0].tolist() == expected.ids
    assert found["token_type_ids"][0].tolist() == expected.type_ids


def test_prompt_is_the_chat_of_the_base(copy_of, make):
    student = make("llama", base=str(copy_of("llama")))
    text = text_of(student, student.collate([PAIRS[2]])["input_ids"][0].tolist())
    assert text.startswith("<s> <|start|>")
    assert text.endswith("question : who is the cat documents : gold <|end|> <|start|> <unk>")
    assert text.count("<s>") == 1
    assert student.template.max_document_words == 300
    assert student.template.has_type_ids is False


def test_prompt_without_a_chat_has_the_special_tokens_of_the_base(copy_of, make):
    student = make("gemma", base=str(copy_of("gemma")))
    text = text_of(student, student.collate([PAIRS[2]])["input_ids"][0].tolist())
    assert text.startswith("<s> <unk>")
    assert text.endswith("question : who is the cat documents : gold pass <unk> fail :")


def test_chat_that_knows_no_system_role_gets_the_instruction_with_the_question(copy_of, make):
    refusing = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for m in messages %}<|start|>{{ m['content'] }}<|end|>{% endfor %}"
    )
    folder = copy_of("llama")
    (folder / "chat_template.jinja").write_text(refusing)
    student = make("llama", base=str(folder))
    text = text_of(student, student.template.prefix)
    assert text.count("<|start|>") == 1
    assert "documents" in text
    assert text.endswith("question :")


@pytest.mark.parametrize("chat", ["{{ 'hello' }}", "{{ messages[-1]['content'] * 2 }}"])
def test_chat_that_does_not_show_the_texts_is_refused(copy_of, make, chat):
    folder = copy_of("llama")
    (folder / "chat_template.jinja").write_text(chat)
    with pytest.raises(InvalidSettings, match="chat template"):
        make("llama", base=str(folder))


def test_same_seed_same_head_and_the_global_state_is_left(folder_of):
    settings = StudentSettings(base=str(folder_of("bert")), max_tokens=64, max_query_tokens=8)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, second, other = (build_student(settings, seed=seed).backbone.classifier.weight for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_head_of_the_base_is_kept_where_it_fits(make, tmp_path):
    make("bert").save(tmp_path)
    head = load_student(tmp_path).backbone.classifier.weight
    options = {"base": str(tmp_path), "max_tokens": 64, "max_query_tokens": 8}
    kept = build_student(StudentSettings(**options), seed=1)
    assert torch.equal(kept.backbone.classifier.weight, head)
    replaced = build_student(StudentSettings(n_labels=2, **options), seed=1)
    assert replaced.backbone.classifier.weight.shape == (2, 16)
    assert {id(w) for w in replaced.parameter_groups()["head"]} == {
        id(w) for w in replaced.backbone.classifier.parameters()
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("train_encoder", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(make, kind, train_encoder):
    gradients = []
    for checkpointing in (False, True):
        student = make(kind, gradient_checkpointing=checkpointing, train_encoder=train_encoder)
        for part in student.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        student.train()
        student(**student.collate(PAIRS)).square().sum().backward()
        groups = student.parameter_groups()
        gradients.append([weight.grad for weight in [*groups["encoder"], *groups["head"]]])
    plain, checkpointed = gradients
    assert [a is None for a in plain] == [b is None for b in checkpointed]
    pairs = [(a, b) for a, b in zip(plain, checkpointed, strict=True) if a is not None]
    assert any(a.abs().max() > 1e-3 for a, _ in pairs)
    assert all(torch.allclose(a, b, atol=1e-4, rtol=1e-3) for a, b in pairs)


def test_dropout_setting_is_that_of_the_head(make):
    assert make("bert", dropout=0.37).backbone.dropout.p == 0.37


@pytest.mark.parametrize("kind", KINDS)
def test_lone_surrogates_and_no_text_are_scored(make, kind):
    pairs = [Pair(query_id="q", query="cat", doc_id=str(i), document=t) for i, t in enumerate(["", "\ud800 \0 cat"])]
    assert all(abs(logit) < 1e6 for logit in make(kind).score(pairs))


def test_limits_of_the_base_are_respected(folder_of):
    with pytest.raises(InvalidSettings, match=r"max_tokens is 4096; .* reads 128"):
        build_student(StudentSettings(base=str(folder_of("bert")), max_tokens=4096), seed=0)


def test_template_without_room_is_named(folder_of):
    options = {"base": str(folder_of("llama")), "max_tokens": 24, "max_query_tokens": 8, "template": "pass-fail"}
    with pytest.raises(InvalidSettings, match="no room for a document"):
        build_student(StudentSettings(**options), seed=0)


def test_hub_failure_names_the_ways_out(monkeypatch):
    def refuse(*args, **kwargs):
        assert kwargs["trust_remote_code"] is False
        assert kwargs["revision"] == "abc"
        raise OSError("You are trying to access a gated repo.\nmore")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", refuse)
    settings = StudentSettings(base="somebody/gated", revision="abc")
    with pytest.raises(TrainingError, match=r"gated repo.*licence.*log in.*local folder.*another base"):
        build_student(settings, seed=0)


def test_pickled_weights_are_not_opened(copy_of):
    folder = copy_of("bert")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(TrainingError, match="never pickle"):
        build_student(StudentSettings(base=str(folder), max_tokens=64, max_query_tokens=8), seed=0)


def test_code_of_a_base_is_not_run(copy_of, tmp_path):
    folder = copy_of("bert")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    names = {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}
    path.write_text(json.dumps({**config, "model_type": "evil", "auto_map": names}))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(TrainingError):
        build_student(StudentSettings(base=str(folder), max_tokens=64, max_query_tokens=8), seed=0)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("damage", ["no file", "not json", "architecture", "settings", "template", "weights"])
def test_damaged_student_is_named(make, tmp_path, damage):
    make("bert").save(tmp_path)
    path = tmp_path / "student.json"
    content = json.loads(path.read_text())
    if damage == "no file":
        path.unlink()
    elif damage == "not json":
        path.write_text("{")
    elif damage == "weights":
        (tmp_path / "model.safetensors").write_bytes(b"nothing")
    else:
        path.write_text(json.dumps({**content, damage: {"unknown": 1}}))
    with pytest.raises(InvalidInput, match=str(tmp_path)):
        load_student(tmp_path)


def test_backbone_without_pad_token_is_refused(make):
    student = make("bert")
    student.backbone.config.pad_token_id = None
    template = PairTemplate((), (), (), max_tokens=16, max_query_tokens=4)
    with pytest.raises(InvalidInput, match="pad token"):
        CrossEncoderStudent(
            student.backbone, student.tokenizer, template=template, settings=student.settings, head_names=frozenset()
        )


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_missing_package_names_the_extra(package):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from relgrade.errors import MissingExtra\n"
        "try:\n    import relgrade.student\n"
        "except MissingExtra as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'relgrade[train]'" in done.stdout
