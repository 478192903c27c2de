"""Tiny real models, saved as Hugging Face folders: 2 layers, 16 dimensions, 60 words. They are shared, so read only."""

import json

import pytest

WORDS = [*(f"w{i}" for i in range(40)), *"question documents pass fail or if and the are in to is with you : .".split()]
GEMMA_CHAT = (  # like the real one: no system role, `<bos>` first
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ bos_token }}{% for m in messages %}[S] {{ m['role'] }} {{ m['content'] | trim }} [E]{% endfor %}"
    "{% if add_generation_prompt %}[S] model{% endif %}"
)
LLAMA_CHAT = (
    "{{ bos_token }}{% for m in messages %}[S] {{ m['role'] }} {{ m['content'] }} [E]{% endfor %}"
    "{% if add_generation_prompt %}[S] pass{% endif %}"
)
SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 160,
    "initializer_range": 0.4,  # so large that whatever is lost moves the logit
}


def save_tokenizer(folder, special, *, template, chat_template=None, **names):
    """A WordPiece over the special tokens, WORDS and single letters; `names` are transformers' (pad_token, ...)."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = [prefix + chr(i) for prefix in ("", "##") for i in (*range(97, 123), *range(48, 58))]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*special, *WORDS, *letters]))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(special)
    single, pair = template
    used = [(token, vocabulary[token]) for token in special if token in pair]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=used)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 128, "unk_token": "[UNK]", **names}
    if chat_template:
        config["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return vocabulary


def save_bert_tokenizer(folder):
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return save_tokenizer(
        folder,
        ["[UNK]", "[PAD]", "[CLS]", "[SEP]"],  # padding is not 0, so that a pad id taken for granted would show
        template=("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
        **names,
    )


def save_model(folder, model):
    """Save weights without the head, as pretrained ones come."""
    model.base_model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer_folder(tmp_path_factory):
    """WordPiece with BERT's special tokens."""
    folder = tmp_path_factory.mktemp("models") / "tokenizer"
    save_bert_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_bert_folder(tmp_path_factory):
    """An encoder with token types."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("models") / "bert"
    vocabulary = save_bert_tokenizer(folder)
    torch.manual_seed(0)
    return save_model(folder, BertModel(BertConfig(vocab_size=len(vocabulary), pad_token_id=1, **SHAPE)))


@pytest.fixture(scope="session")
def tiny_llama_folder(tmp_path_factory):
    """A decoder whose tokenizer names no pad token and has none to spare; a chat template with a system role."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    folder = tmp_path_factory.mktemp("models") / "llama"
    vocabulary = save_tokenizer(
        folder,
        ["[UNK]", "<s>", "</s>", "[S]", "[E]"],
        template=("<s> $A", "<s> $A <s> $B"),
        chat_template=LLAMA_CHAT,
        bos_token="<s>",
        eos_token="</s>",
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary), num_key_value_heads=1, bos_token_id=1, eos_token_id=2, pad_token_id=None, **SHAPE
    )
    return save_model(folder, LlamaModel(config))


@pytest.fixture(scope="session")
def tiny_gemma_folder(tmp_path_factory):
    """A decoder with `<pad>`, and a chat template that refuses a system role."""
    import torch
    from transformers import GemmaConfig, GemmaModel

    folder = tmp_path_factory.mktemp("models") / "gemma"
    vocabulary = save_tokenizer(
        folder,
        ["<pad>", "<eos>", "<bos>", "[UNK]", "[S]", "[E]"],
        template=("<bos> $A", "<bos> $A <bos> $B"),
        chat_template=GEMMA_CHAT,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
    )
    torch.manual_seed(0)
    config = GemmaConfig(
        vocab_size=len(vocabulary),
        num_key_value_heads=1,
        head_dim=8,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=2,
        **SHAPE,
    )
    return save_model(folder, GemmaModel(config))
