"""Load a pretrained classifier and its tokenizer from a folder or the Hub, with a pad token of its own.

It runs no code of a model's repository and opens no pickle. It knows nothing of templates or training.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from relgrade.errors import InvalidSettings, TrainingError
from relgrade.settings import StudentSettings

# Tokens that vocabularies reserve for padding, or for nothing, when their tokenizer names no pad token.
_PAD_CANDIDATES = (
    "<|finetune_right_pad_id|>",  # Llama 3.1 and later
    "<pad>",  # Gemma, T5, many sentencepiece models
    "[PAD]",
    "<|pad|>",
    "<|fim_pad|>",  # Qwen 2.5
    "<|reserved_special_token_0|>",  # Llama 3.0
)
_NEW_PAD = "<|pad|>"


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A backbone ready to be trained."""

    backbone: Any  # transformers' ...ForSequenceClassification, float32, on the CPU
    tokenizer: Any  # transformers' fast tokenizer
    new_weights: frozenset[str]  # parameters that the checkpoint did not bring


def silence() -> None:
    """Keep transformers' notes and progress bars off the terminal from now on; errors still show."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep transformers' load report and progress bars off the terminal; its settings are put back afterwards."""
    verbosity, had_bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    silence()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bars:
            transformers_logging.enable_progress_bar()


def load_pretrained(settings: StudentSettings, *, seed: int, is_generator: bool = False) -> Pretrained:
    """Load `settings.base` with a head of `settings.n_labels` logits.

    A head of that size that the checkpoint brings is kept, any other is replaced.

    Args:
        settings: `base`, `revision`, `n_labels` and `dropout` are read.
        seed: of the new weights.
        is_generator: load it with the head that its language model has instead, which makes the next token.

    Raises:
        TrainingError: no such folder or model, no access, no safetensors, or an architecture without a
            sequence-classification head.
    """
    is_folder = Path(settings.base).is_dir()
    place: dict[str, Any] = {"revision": None if is_folder else settings.revision, "trust_remote_code": False}
    if is_folder:
        place["local_files_only"] = True
    # The new weights are drawn from torch's global generator, which is put back afterwards.
    with quiet_loading(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            tokenizer = AutoTokenizer.from_pretrained(settings.base, **place)
            config = AutoConfig.from_pretrained(settings.base, **place)
            if not is_generator:
                _set_head(config, settings)
            kind = AutoModelForCausalLM if is_generator else AutoModelForSequenceClassification
            backbone, info = kind.from_pretrained(
                settings.base,
                config=config,
                dtype=torch.float32,  # the master weights; the training loop may compute in bfloat16
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **place,
            )
        except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
            raise cannot_load(settings, error, is_folder=is_folder) from error
        if not getattr(tokenizer, "is_fast", False):
            raise TrainingError(
                f"base model {settings.base!r} has no fast tokenizer (tokenizer.json), which a grader is shipped with; "
                "convert it or choose another base"
            )
        _set_pad_token(backbone, tokenizer)
    new = {*info["missing_keys"], *(key if isinstance(key, str) else key[0] for key in info["mismatched_keys"])}
    return Pretrained(backbone, tokenizer, frozenset(new))


def check_length(pretrained: Pretrained, settings: StudentSettings, *, n_written: int = 0) -> None:
    """Raise InvalidSettings where `settings.max_tokens` and `n_written` more are more than the base reads."""
    config = pretrained.backbone.config.get_text_config()
    # Of a tokenizer that does not say what its model reads, the limit is a huge number.
    limit = int(pretrained.tokenizer.model_max_length)
    longest = min(getattr(config, "max_position_embeddings", None) or limit, limit)
    if settings.max_tokens + n_written > longest:
        written = f", and a reply has {n_written} more" if n_written else ""
        raise InvalidSettings(
            f"student.max_tokens is {settings.max_tokens}{written}; base model {settings.base!r} reads {longest} tokens"
        )


def _set_head(config: Any, settings: StudentSettings) -> None:
    # As `export.fold` writes them: other servers choose the activation by problem_type.
    if settings.n_labels == 1:
        config.id2label, config.label2id = {0: "RELEVANT"}, {"RELEVANT": 0}
        config.problem_type = "multi_label_classification"
    else:
        config.id2label = {0: "NOT_RELEVANT", 1: "RELEVANT"}
        config.label2id = {"NOT_RELEVANT": 0, "RELEVANT": 1}
        config.problem_type = "single_label_classification"
    if hasattr(config, "classifier_dropout"):
        config.classifier_dropout = settings.dropout
    if hasattr(config, "use_cache"):
        config.use_cache = False  # nothing is generated: keys and values need not be kept


def _set_pad_token(backbone: Any, tokenizer: Any) -> None:
    """Give tokenizer and model one pad token that no text ends with.

    A decoder's logit is read at the last token that is not padding: were padding the end-of-text token, the logit
    would be read at another place whenever a text ends with it.
    """
    config = backbone.config.get_text_config()
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    taken = {*ends, tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id} - {None}
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id in taken:
        vocabulary = tokenizer.get_vocab()
        free = [name for name in _PAD_CANDIDATES if name in vocabulary and vocabulary[name] not in taken]
        tokenizer.add_special_tokens({"pad_token": free[0] if free else _NEW_PAD})
    if backbone.get_input_embeddings().num_embeddings < len(tokenizer):
        backbone.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    for part in (backbone.config, config):
        part.pad_token_id = tokenizer.pad_token_id
    tokenizer.padding_side = "right"


def cannot_load(settings: StudentSettings, error: Exception, *, is_folder: bool) -> TrainingError:
    """The error for a base that did not load: what was tried, why it failed, the ways out."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if is_folder:
        return TrainingError(
            f"base model {settings.base!r} cannot be loaded from this folder: {reason}; a Hugging Face folder with "
            "config.json, tokenizer.json and safetensors weights (never pickle) was expected"
        )
    revision = f" at revision {settings.revision!r}" if settings.revision else ""
    return TrainingError(
        f"base model {settings.base!r}{revision} is no folder here and cannot be loaded from the Hugging Face Hub: "
        f"{reason}. Ways out: if it is gated, accept its licence on its Hub page and log in with `hf auth login`; set "
        "student.base to a local folder with the model; or choose another base"
    )
