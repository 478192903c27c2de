"""Language models that answer in words: which bases are taken, and what is saved of them."""

import copy
import json
import shutil

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
)

from conftest import SHAPE, make_decoder_tokenizer, save_tokenizer
from paper_case import rows_of, settings_of, write_data
from relgrade.errors import InvalidInput, InvalidSettings, TrainingError
from relgrade.paper.memory import estimate_memory
from relgrade.paper.table import run_rows
from relgrade.pipeline.exporting import export_student
from relgrade.records import Pair
from relgrade.settings import ExportSettings, StudentSettings, TrainingSettings
from relgrade.student import fit, load_student
from relgrade.student.generative import GenerativeStudent
from relgrade.student.student_file import STUDENT_FILE_NAME

NAMES = ("query_id", "query", "doc_id", "document", "label", "split")
TOKENS = ("<|finetune_right_pad_id|>", "PASS", "FAIL")


@pytest.fixture(scope="module")
def pairs():
    return [Pair(**{name: row[name] for name in NAMES}) for row in rows_of(8, split="train", seed=0)]


@pytest.fixture(scope="module")
def base_of(tmp_path_factory):
    """A folder with a tiny model, made once by its name."""
    tokenizer = make_decoder_tokenizer(TOKENS)
    bert = {"vocab_size": tokenizer.get_vocab_size(), "pad_token_id": 3, **SHAPE}
    llama = {**bert, "num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2}
    makers = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**llama)),
        "tied llama": lambda: LlamaForCausalLM(LlamaConfig(**llama, tie_word_embeddings=True)),
        "llama without head": lambda: LlamaModel(LlamaConfig(**llama)),
        "tied llama without head": lambda: LlamaModel(LlamaConfig(**llama, tie_word_embeddings=True)),
        "encoder": lambda: BertForMaskedLM(BertConfig(**bert)),
        "decoder with a layer in its head": lambda: BertLMHeadModel(BertConfig(**bert, is_decoder=True)),
        "decoder with scaled logits": lambda: GraniteForCausalLM(GraniteConfig(**llama, logits_scaling=2.0)),
    }
    made = {}

    def get(name):
        if name not in made:
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = makers[name]()
            made[name] = tmp_path_factory.mktemp("base")
            model.save_pretrained(made[name])
            save_tokenizer(tokenizer, made[name], unk_token="<unk>", bos_token="<s>", eos_token="</s>")
        return made[name]

    return get


def build(folder, **changes):
    options = {"n_labels": 2, "max_tokens": 112, "max_query_tokens": 16, "template": "pass-fail", **changes}
    return GenerativeStudent.build(StudentSettings(base=str(folder), **options), seed=0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("encoder", "is no language model: what it makes of a token depends on later ones"),
        ("llama without head", r"is no language model: its checkpoint lacks lm_head\.weight"),
        ("decoder with a layer in its head", "its logits are not its output embeddings times its last state"),
        ("decoder with scaled logits", "its logits are not its output embeddings times its last state"),
    ],
)
def test_a_base_that_does_not_answer_in_words(base_of, name, message):
    with pytest.raises(TrainingError, match=message):
        build(base_of(name))


@pytest.mark.parametrize("name", ["llama", "tied llama", "tied llama without head"])
def test_a_base_that_does(base_of, name, pairs):
    assert len(set(build(base_of(name)).score(pairs[:4]))) == 4


def test_more_tokens_than_the_base_reads(base_of):
    with pytest.raises(InvalidSettings, match=r"max_tokens is 121, and a reply has 8 more; .* reads 128 tokens"):
        build(base_of("llama"), max_tokens=121)


@pytest.mark.parametrize("name", ["llama", "tied llama"])
def test_what_is_saved_answers_as_before(base_of, name, pairs, tmp_path):
    student = build(base_of(name))
    untrained = student.score(pairs)
    settings = TrainingSettings(max_steps=4, learning_rate=1e-2, batch_pairs=8, checkpoint_steps=4)
    fit(student, pairs, [], settings, output=tmp_path / "fit", seed=0)
    expected = student.score(pairs)
    assert max(abs(a - b) for a, b in zip(expected, untrained, strict=True)) > 1e-3
    student.save(tmp_path / "student")
    again = load_student(tmp_path / "student")
    assert again.score(pairs) == expected
    assert again.reply(pairs[0]) == student.reply(pairs[0])
    assert again.settings == student.settings


def test_what_a_row_keeps_is_loaded_and_not_exported(base_of, tmp_path):
    table = settings_of(
        write_data(tmp_path), base_of("llama"), [{"name": "a", "method": "A"}], template="pass-fail", n_draws=2
    )
    run_rows(table, output=tmp_path / "run", results=tmp_path / "results")
    (row,) = (tmp_path / "run" / "rows").iterdir()
    replies = [json.loads(line) for line in (row / "replies.jsonl").read_text(encoding="utf-8").splitlines()]
    student = load_student(row / "student")
    judged = {
        (each["query_id"], each["doc_id"]): Pair(**{name: each[name] for name in NAMES})
        for each in [*rows_of(24, split="train", seed=0), *rows_of(8, split="test", seed=1, start=100)]
    }
    said = student.score([judged[reply["query_id"], reply["doc_id"]] for reply in replies])
    assert said == pytest.approx([reply["logit"] for reply in replies], abs=1e-5)
    output = tmp_path / "graphs"
    output.mkdir()
    (output / "model.onnx").write_text("of another student")
    with pytest.raises(InvalidInput, match="a language model that answers in words is not exported"):
        export_student(row / "student", output, ExportSettings())
    assert (output / "model.onnx").exists()


def test_words_after_a_prompt_leave_its_verdict_alone(base_of, pairs):
    student = build(base_of("llama"))
    words = student._answers
    assert [len(tokens) for tokens in words] == [2, 2]  # a word, and the end
    student._answers = ((words[0][0], 5, 6, words[0][1]), words[1])  # a word of three tokens beside one of one
    inputs = student.collate(pairs[:6])
    expected = student.eval()(**inputs)
    assert student.auxiliary_loss() is None
    assert torch.allclose(student.train()(**inputs), expected, atol=1e-5)
    ends, masses = [], []
    for pair in pairs[:6]:  # written out, one at a time
        ids = student.collate([pair])["input_ids"]
        tokens = student._answers[int(ids.sum()) % 2]
        whole = torch.cat([ids, torch.tensor([tokens])], dim=1)
        shares = student.backbone(input_ids=whole).logits[0].detach().log_softmax(dim=1)
        first = ids.shape[1] - 1
        masses.append(-shares[first, [words[0][0], words[1][0]]].logsumexp(dim=0))
        ends.append(-sum(shares[first + i, tokens[i]] for i in range(1, len(tokens))))
    assert student.auxiliary_loss().item() == pytest.approx(float(sum(masses) + sum(ends)) / 6, abs=1e-4)


@pytest.mark.parametrize(
    ("of_base", "of_tokenizer", "expected"),
    [
        ([7, 2], "</s>", 2),  # both stop at it
        ([7, 8], "</s>", 7),  # the base does not stop where the tokenizer ends, nor at its padding
        (2, "</s>", 2),
        (None, "</s>", 2),
        (7, None, 7),
    ],
)
def test_which_token_ends_a_reply(base_of, of_base, of_tokenizer, expected):
    student = build(base_of("llama"))
    student.backbone.config.eos_token_id = of_base
    tokenizer = AutoTokenizer.from_pretrained(base_of("llama"))
    tokenizer.eos_token = of_tokenizer
    student.set_answers(tokenizer)
    assert [tokens[-1] for tokens in student._answers] == [expected, expected]
    assert expected in student._stops()


def test_a_base_without_an_end(base_of):
    student = build(base_of("llama"))
    student.backbone.config.eos_token_id = None
    tokenizer = AutoTokenizer.from_pretrained(base_of("llama"))
    tokenizer.eos_token = None
    with pytest.raises(InvalidSettings, match="has no end of a text: eos_token_id is set neither"):
        student.set_answers(tokenizer)


def test_it_can_be_copied_after_its_memory_was_estimated(base_of):
    student = build(base_of("llama"))
    estimate_memory(student, TrainingSettings(batch_pairs=8))  # as the first of several processes does
    assert set(copy.deepcopy(student).state_dict()) == set(student.state_dict())


@pytest.mark.parametrize("answers", [None, [1, 2], [[1], [2, 3]], [[1, 3], [2, "3"]], [[1, 3], [2, 10**6]]])
def test_a_folder_that_does_not_say_which_tokens_answer(base_of, tmp_path, answers):
    build(base_of("llama")).save(tmp_path / "student")
    path = tmp_path / "student" / STUDENT_FILE_NAME
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "answers": answers}), encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"student\.json: answers must be the tokens of PASS and FAIL, each"):
        load_student(tmp_path / "student")


def test_a_folder_without_a_head(base_of, tmp_path):
    build(base_of("llama")).save(tmp_path / "student")
    bare = base_of("llama without head")
    shutil.copyfile(bare / "model.safetensors", tmp_path / "student" / "model.safetensors")
    with pytest.raises(InvalidInput, match=r"weights are missing, among them lm_head\.weight"):
        load_student(tmp_path / "student")
