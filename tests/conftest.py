"""Tiny real models, made in memory: two layers, sixteen dimensions, sixty words. No test needs the network.

The folders are shared by the whole session: read them, copy them before changing anything.
"""

import os
import shutil
import signal

import pytest
from hypothesis import settings

# Models of sixteen dimensions gain nothing from threads, and lose much where other processes hold the cores. Set before
# anything imports torch or numpy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell that runs the tests in the background has them ignore Ctrl-C, and what they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Busy machines miss deadlines, and a red run must be red again: the same examples every time.
settings.register_profile("relgrade", deadline=None, derandomize=True)
settings.load_profile("relgrade")

VOCABULARY = (
    "red green blue grey black white gold pink apple pear plum fig grape melon lemon peach cat dog cow horse goat "
    "sheep duck hen river lake sea hill rock sand wood leaf is was the of in on a an what where who when which did "
    "does how one two three four"
)
WORDS = VOCABULARY.split()

SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 128,
}

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] | trim }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


def make_wordpiece():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "##s", "##ed", *WORDS]
    ids = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return tokenizer


def make_decoder_tokenizer(special):
    from tokenizers import Tokenizer, models, pre_tokenizers

    # Single characters stand for what is no word, so that the prompt of a template differs from nothing.
    pieces = ["<unk>", "<s>", "</s>", *special, *WORDS, "question", "documents", "pass", "fail", ":", ",", ".", "\n"]
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>", *special])
    return tokenizer


def save_tokenizer(tokenizer, folder, **special):
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """A `tokenizers.Tokenizer`: WordPiece of some sixty words with BERT's special tokens, [PAD] is 0."""
    return make_wordpiece()


@pytest.fixture(scope="session")
def tiny_tokenizer_folder(tmp_path_factory, tiny_tokenizer):
    """The tokenizer of `tiny_bert_folder` alone, as a folder without a model."""
    folder = tmp_path_factory.mktemp("tiny-tokenizer")
    save_tokenizer(tiny_tokenizer, folder, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")
    return folder


@pytest.fixture(scope="session")
def tiny_bert_folder(tmp_path_factory, tiny_tokenizer):
    """A BERT encoder without a trained head, as `from_pretrained` reads it."""
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny-bert")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertModel(BertConfig(vocab_size=tiny_tokenizer.get_vocab_size(), pad_token_id=0, **SHAPE))
    model.save_pretrained(folder)
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    save_tokenizer(tiny_tokenizer, folder, **{f"{name}_token": token for name, token in names.items()})
    return folder


@pytest.fixture(scope="session")
def tiny_llama_folder(tmp_path_factory):
    """A Llama decoder with a chat template; its padding token is there but not named, as in Llama 3.2."""
    torch = pytest.importorskip("torch")
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny-llama")
    tokenizer = make_decoder_tokenizer(["<|finetune_right_pad_id|>", "<|start|>", "<|end|>"])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=tokenizer.get_vocab_size(), num_key_value_heads=1, bos_token_id=1, eos_token_id=2, **SHAPE
        )
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder, unk_token="<unk>", bos_token="<s>", eos_token="</s>", chat_template=CHAT_TEMPLATE)
    return folder


@pytest.fixture(scope="session")
def speaker_folder(tiny_llama_folder, tmp_path_factory):
    """The tiny Llama with the words PASS and FAIL in its vocabulary."""
    folder = tmp_path_factory.mktemp("speaker") / "llama"
    shutil.copytree(tiny_llama_folder, folder)
    path = folder / "tokenizer.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"pass"', '"PASS"').replace('"fail"', '"FAIL"'), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_gemma_folder(tmp_path_factory):
    """A Gemma decoder without a chat template; its padding token is `<pad>`."""
    torch = pytest.importorskip("torch")
    from transformers import GemmaConfig, GemmaForCausalLM

    folder = tmp_path_factory.mktemp("tiny-gemma")
    tokenizer = make_decoder_tokenizer(["<pad>"])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GemmaConfig(
            vocab_size=tokenizer.get_vocab_size(),
            num_key_value_heads=1,
            head_dim=8,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=3,
            **SHAPE,
        )
        model = GemmaForCausalLM(config)
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    return folder
