"""A smaller encoder that begins near the one it is to imitate: some of its layers, or thinner layers on its best guess.

It knows BERT's parts and no training. States of the original are compared by cosine, so they may be turned and cut to
the directions that hold most of their length; the smaller encoder then has states of that width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from relgrade.errors import OutputError, TrainingError
from relgrade.student.distillation_settings import DistillationSettings

RIDGE = 1e-4  # of the mean squared entry, in the least squares that guess final states from embeddings
HEAD_WIDTH = 32
QUIET = 0.1  # scale of what a new layer adds at first


@dataclass(frozen=True, slots=True)
class Statistics:
    """Sums over tokens of some text, from which the first guess is made."""

    embedded: Tensor  # (n + 1, n + 1) products of the original's embeddings with themselves, a one appended
    crossed: Tensor  # (n + 1, n) products of these with the final states
    final: Tensor  # (n, n) products of the final states


def check_original(encoder: Any) -> None:
    """Raises TrainingError unless the encoder is a BERT."""
    if not isinstance(encoder, BertModel):
        raise TrainingError(
            f"distillation knows encoders of type bert, the base is {encoder.config.model_type!r}; "
            "choose a BERT-like base such as sentence-transformers/all-MiniLM-L6-v2"
        )


@torch.no_grad()
def gather_statistics(encoder: Any, batches: Sequence[tuple[Tensor, Tensor]]) -> Statistics:
    """Sums over the tokens of some batches of (ids, mask), each of shape (n_texts, n_tokens)."""
    n = encoder.config.hidden_size
    embedded, crossed, final = (
        torch.zeros(shape, dtype=torch.float64) for shape in ((n + 1, n + 1), (n + 1, n), (n, n))
    )
    for ids, mask in batches:
        found = encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        first, last = (found[i][mask == 1].double() for i in (0, -1))  # (n_tokens_of_all, n)
        first = torch.cat([first, torch.ones_like(first[:, :1])], dim=1)
        embedded += first.T @ first
        crossed += first.T @ last
        final += last.T @ last
    return Statistics(embedded, crossed, final)


def main_directions(statistics: Statistics, width: int) -> Tensor:
    """Orthonormal directions that hold most of the final states' length, the longest first; shape (n, width)."""
    vectors = torch.linalg.eigh(statistics.final).eigenvectors  # rising
    chosen = vectors.flip(1)[:, :width]
    # The sign of a direction is free: fixed, so that a continued run has the same target.
    signs = torch.sign(chosen.gather(0, chosen.abs().argmax(0, keepdim=True)))
    return (chosen * signs).float()


def build_smaller(original: Any, settings: DistillationSettings, statistics: Statistics) -> BertModel:
    """The encoder to train, in evaluation mode.

    Args:
        original: of type bert.
        settings: `layers` are kept as they are, or `width`, `n_layers` and `feed_forward` say what new ones are like.
        statistics: of the original.

    Raises:
        TrainingError: the original is no BERT or has no such layer.
    """
    check_original(original)
    n_found = len(original.encoder.layer)
    if settings.width is None:
        if max(settings.layers) >= n_found:
            raise TrainingError(f"layers is {list(settings.layers)}, the original has layers 0 to {n_found - 1}")
        return _with_layers(original, settings.layers)
    if settings.width > original.config.hidden_size:
        raise TrainingError(
            f"width is {settings.width}, the original's states have {original.config.hidden_size} numbers"
        )
    return _thinner(original, settings, statistics)


def _with_layers(original: Any, layers: Sequence[int]) -> BertModel:
    config = BertConfig(**{**original.config.to_dict(), "num_hidden_layers": len(layers)})
    smaller = BertModel(config, add_pooling_layer=False)
    smaller.embeddings.load_state_dict(original.embeddings.state_dict())
    # Already right, and most of the weights: words that the texts do not hold stay comparable with those they do.
    smaller.embeddings.word_embeddings.requires_grad_(False)
    for number, layer in enumerate(layers):
        smaller.encoder.layer[number].load_state_dict(original.encoder.layer[layer].state_dict())
    return smaller.eval()


@torch.no_grad()
def _thinner(original: Any, settings: DistillationSettings, statistics: Statistics) -> BertModel:
    """Embeddings that already are the best linear guess of a token's final state, below layers that add little yet."""
    width = settings.width
    assert width is not None
    config = BertConfig(
        **{
            **original.config.to_dict(),
            "num_hidden_layers": settings.n_layers,
            "hidden_size": width,
            "intermediate_size": settings.feed_forward,
            "num_attention_heads": 1 if width % HEAD_WIDTH else width // HEAD_WIDTH,
        }
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        smaller = BertModel(config, add_pooling_layer=False)
    n = original.config.hidden_size
    ridge = RIDGE * statistics.embedded.diagonal().mean() * torch.eye(n + 1, dtype=torch.float64)
    guess = torch.linalg.solve(statistics.embedded + ridge, statistics.crossed).float()  # (n + 1, n)
    directions = main_directions(statistics, width)  # (n, width)
    table, words = original.embeddings, smaller.embeddings
    plain = table.LayerNorm(table.word_embeddings.weight + table.token_type_embeddings.weight[0])
    guessed = (plain @ guess[:-1] + guess[-1]) @ directions  # (n_vocabulary, width)
    # The norm that follows takes mean and length away; a scale near the states' own keeps attention soft.
    words.word_embeddings.weight.copy_(guessed / guessed.std())
    words.position_embeddings.weight.mul_(QUIET)
    words.token_type_embeddings.weight.zero_()
    for layer in smaller.encoder.layer:
        for dense in (layer.attention.output.dense, layer.output.dense):
            dense.weight.mul_(QUIET)
    return smaller.eval()


def count_parameters(encoder: nn.Module) -> int:
    """Numbers in all weights."""
    return sum(weight.numel() for weight in encoder.parameters())


def save_encoder(encoder: Any, tokenizer: Tokenizer, folder: Path) -> None:
    """Write weights, configuration and tokenizer as `AutoModel` and `AutoTokenizer` read them.

    Raises:
        OutputError: a file cannot be written.
    """
    known = tokenizer.get_vocab(with_added_tokens=True)
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    special: dict[str, Any] = {name: token for name, token in names.items() if token in known}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        encoder.save_pretrained(folder, safe_serialization=True)
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    except OSError as error:
        raise OutputError.from_os_error(error, path=folder) from error
