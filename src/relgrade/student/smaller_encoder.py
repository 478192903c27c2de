"""A smaller encoder that begins near the one it is to imitate: its upper layers over a guess of what enters them.

The lower layers are replaced by a table: for each word piece the state that it has, on average, where the first kept
layer begins. The upper layers then read these as they read what the lower ones gave. It knows BERT's parts and no
training.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from relgrade.errors import OutputError, TrainingError

Inputs = tuple[Tensor, Tensor]  # ids and mask of texts, each of shape (n_texts, n_tokens)

RIDGE = 1e-4  # of the mean squared entry, in the least squares that guess the state of a piece from its embedding
PIECE_WEIGHT = 8.0  # times that a piece has to be seen before its own mean weighs as much as that guess
PLACE_WEIGHT = 30.0  # the same of a place in the window
LEAST_SCALE = 1e-2  # of a norm, below which a direction is not divided by it


def build_smaller(original: Any, layers: Sequence[int], batches: Sequence[Inputs]) -> BertModel:
    """The encoder to train, in evaluation mode; its table of word pieces is frozen.

    Args:
        original: of type bert, in evaluation mode.
        layers: of the original, rising, counted from 0. From 0 on, its own embeddings are kept; else those of the
            guess. Layers left out between two that are kept are left out, not guessed.
        batches: texts for the guess.

    Raises:
        TrainingError: the original is no BERT or has no such layer.
    """
    if not isinstance(original, BertModel):
        raise TrainingError(
            f"distillation knows encoders of type bert, the base is {original.config.model_type!r}; "
            "choose a BERT-like base such as sentence-transformers/all-MiniLM-L6-v2"
        )
    n_found = len(original.encoder.layer)
    if max(layers) >= n_found:
        raise TrainingError(f"layers is {list(layers)}, the original has layers 0 to {n_found - 1}")
    smaller = BertModel(
        BertConfig(**{**original.config.to_dict(), "num_hidden_layers": len(layers)}), add_pooling_layer=False
    )
    for number, layer in enumerate(layers):
        smaller.encoder.layer[number].load_state_dict(original.encoder.layer[layer].state_dict())
    smaller.embeddings.load_state_dict(original.embeddings.state_dict())
    if layers[0] > 0:
        _guess_entry(smaller.embeddings, original, layers[0], batches)
    # Right as it is, and most of the weights: words that the texts do not hold stay comparable with those they do.
    smaller.embeddings.word_embeddings.requires_grad_(False)
    return smaller.eval()


@torch.no_grad()
def _guess_entry(embeddings: Any, original: Any, layer: int, batches: Sequence[Inputs]) -> None:
    """Set tables and norm so that what enters `layer` of the original comes out."""
    norm = original.encoder.layer[layer - 1].output.LayerNorm
    scale = torch.where(norm.weight.abs() < LEAST_SCALE, torch.full_like(norm.weight, LEAST_SCALE), norm.weight)
    table = original.embeddings
    plain = table.LayerNorm(table.word_embeddings.weight + table.token_type_embeddings.weight[0])  # (n_pieces, n)
    plain = torch.cat([plain, torch.ones_like(plain[:, :1])], dim=1).double()
    n_pieces, n = table.word_embeddings.weight.shape
    n_places = table.position_embeddings.weight.shape[0]
    moments, crossed = torch.zeros(n + 1, n + 1, dtype=torch.float64), torch.zeros(n + 1, n, dtype=torch.float64)
    of_piece, of_place = torch.zeros(n_pieces, n + 1), torch.zeros(n_places, n + 1)  # sums of states, and counts
    for ids, mask in batches:
        states = original(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[layer].float()
        pieces, places = ids[mask == 1], torch.arange(ids.shape[1]).expand_as(ids)[mask == 1]
        # What stands before scale and shift of the norm: the tables are added up there.
        entering = ((states - norm.bias) / scale)[mask == 1]  # (n_tokens, n)
        moments += plain[pieces].T @ plain[pieces]
        crossed += plain[pieces].T @ entering.double()
        counted = torch.cat([entering, torch.ones_like(entering[:, :1])], dim=1)
        of_piece.index_add_(0, pieces, counted)
        of_place.index_add_(0, places, counted)
    ridge = RIDGE * moments.diagonal().mean() * torch.eye(n + 1, dtype=torch.float64)
    linear = (plain @ torch.linalg.solve(moments + ridge, crossed)).float()  # (n_pieces, n)
    words = (of_piece[:, :-1] + PIECE_WEIGHT * linear) / (of_piece[:, -1:] + PIECE_WEIGHT)
    for ids, mask in batches:  # what the place explains beyond the piece
        places = torch.arange(ids.shape[1]).expand_as(ids)[mask == 1]
        of_place[:, :-1].index_add_(0, places, -words[ids[mask == 1]])
    embeddings.word_embeddings.weight.copy_(words)
    embeddings.position_embeddings.weight.copy_(of_place[:, :-1] / (of_place[:, -1:] + PLACE_WEIGHT))
    embeddings.token_type_embeddings.weight.zero_()
    embeddings.LayerNorm.weight.copy_(norm.weight)
    embeddings.LayerNorm.bias.copy_(norm.bias)


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
