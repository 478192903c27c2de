"""An encoder for the training step where there is none: a BERT of random weights, which knows nothing.

It is there to show the path of training. Its vectors mean nothing: what a student gets from it is little more than
which words query and document share. With `--base` the story trains on a real encoder.
"""

from collections.abc import Sequence
from pathlib import Path

SEED = 0
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_tiny_encoder(folder: Path, texts: Sequence[str]) -> int:
    """Write an encoder of two layers and 32 dimensions, with word pieces learnt from `texts`; returns its parameters.

    Raises:
        MissingExtra: torch and transformers are not installed.
    """
    from relgrade.student.backbone import silence

    silence()  # first: the door of student names the extra where torch is missing
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=2000, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    names = {f"{token[1:-1].lower()}_token": token for token in SPECIAL}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        config = BertConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=512,
            pad_token_id=0,
        )
        model = BertModel(config)
    model.save_pretrained(folder)
    return sum(each.numel() for each in model.parameters())
