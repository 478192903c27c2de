"""A student that reads query and document as one sequence, under any sequence-classification backbone.

Encoders (BERT, MiniLM) mark the document by token types; decoders (Llama, Gemma) are read at the last token that is
not padding, which stands on the right.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from relgrade.encoding import EncodedPair, PairEncoder, PairTemplate, clean_text
from relgrade.errors import InvalidInput
from relgrade.records import Pair
from relgrade.settings import StudentSettings
from relgrade.student.backbone import check_length, load_pretrained
from relgrade.student.student import Student
from relgrade.student.student_file import StudentFile
from relgrade.student.templates import build_template

TOKENIZER_NAME = "tokenizer.json"


class CrossEncoderStudent(Student):
    """A pretrained classifier over pairs.

    Args:
        backbone: transformers' ...ForSequenceClassification with 1 or 2 logits; its `config.pad_token_id` pads.
        tokenizer: padding and truncation are switched off in it.
        template: how a pair becomes one sequence.
        settings: what the student was made from; `train_encoder` and `gradient_checkpointing` take effect here.
        head_names: parameters of `backbone` that learn at the rate of the head: the head, and what else is new.

    Raises:
        InvalidInput: a backbone with another number of logits, or without a pad token.
    """

    architecture: ClassVar[str] = "cross-encoder"
    _kind: ClassVar[Any] = AutoModelForSequenceClassification  # that a saved backbone is read as

    def __init__(
        self,
        backbone: Any,
        tokenizer: Tokenizer,
        *,
        template: PairTemplate,
        settings: StudentSettings,
        head_names: frozenset[str],
    ) -> None:
        super().__init__()
        if backbone.config.num_labels not in (1, 2):
            raise InvalidInput(f"a backbone with 1 or 2 logits was expected, this has {backbone.config.num_labels}")
        if backbone.config.pad_token_id is None:
            raise InvalidInput("config.pad_token_id of the backbone is not set; a dedicated pad token was expected")
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.template = template
        self.settings = settings
        self._pad_id = int(backbone.config.pad_token_id)
        self._head_names = head_names
        self._encoder = PairEncoder(tokenizer, template)
        if not settings.train_encoder:
            for name, weight in backbone.named_parameters():
                weight.requires_grad_(name in head_names)
        if settings.gradient_checkpointing:
            # The reentrant kind loses the gradients of a head over frozen embeddings.
            options = {"use_reentrant": False}
            if hasattr(backbone, "activation_checkpointing_enable"):  # its name in newer transformers
                backbone.activation_checkpointing_enable(options)
            else:
                backbone.gradient_checkpointing_enable(options)

    @classmethod
    def build(cls, settings: StudentSettings, *, seed: int) -> Self:
        """A pretrained backbone under a head; see `build_student`."""
        pretrained = load_pretrained(settings, seed=seed)
        check_length(pretrained, settings)
        backbone, tokenizer = pretrained.backbone, pretrained.tokenizer
        config = backbone.config.get_text_config()
        template = build_template(tokenizer, settings, has_type_ids=getattr(config, "type_vocab_size", 0) >= 2)
        inside = {id(weight) for weight in backbone.base_model.parameters()}
        head = {name for name, weight in backbone.named_parameters() if id(weight) not in inside}
        return cls(
            backbone,
            tokenizer.backend_tokenizer,
            template=template,
            settings=settings,
            head_names=frozenset(head) | pretrained.new_weights,
        )

    def count_tokens(self, pairs: Sequence[Pair]) -> list[int]:
        """Length of each pair with its template, at most `template.max_tokens`."""
        return [len(encoded.ids) for encoded in self._encode(pairs)]

    def collate(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        """Inputs of shape (n_pairs, n_tokens), int64, padded on the right; token types where the model has them."""
        encoded = self._encode(pairs)
        width = max(len(pair.ids) for pair in encoded)

        def padded(rows: Sequence[Sequence[int]], value: int) -> Tensor:
            return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], dtype=torch.int64)

        inputs = {
            "input_ids": padded([pair.ids for pair in encoded], self._pad_id),
            "attention_mask": padded([[1] * len(pair.ids) for pair in encoded], 0),
        }
        if self.template.has_type_ids:
            inputs["token_type_ids"] = padded([pair.type_ids for pair in encoded], 0)
        return inputs

    def forward(self, **inputs: Tensor) -> Tensor:
        """Logits, shape (n_pairs,), float32; of two classes the difference, sigmoid(z1 - z0) = softmax(z)[1]."""
        logits: Tensor = self.backbone(**inputs).logits.float()  # (n_pairs, n_labels)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits[:, 0]

    def train(self, mode: bool = True) -> Self:
        """As in torch; a frozen backbone stays in evaluation mode, so that its dropout does not blur what it says."""
        super().train(mode)
        if not self.settings.train_encoder:
            self.backbone.base_model.eval()
        return self

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """`encoder`, empty when frozen, and `head`."""
        groups: dict[str, list[nn.Parameter]] = {"encoder": [], "head": []}
        for name, weight in self.backbone.named_parameters():
            if weight.requires_grad:
                groups["head" if name in self._head_names else "encoder"].append(weight)
        return groups

    def save(self, folder: Path, *, max_shard_size: str = "5GB") -> None:
        """Write a Hugging Face folder (config, safetensors, tokenizer) that others can load too, and `student.json`.

        Weights over `max_shard_size` are written in several files with an index.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.backbone.save_pretrained(folder, max_shard_size=max_shard_size)
        pad = self.tokenizer.id_to_token(self._pad_id)
        wrapped = PreTrainedTokenizerFast(tokenizer_object=self.tokenizer, pad_token=pad, padding_side="right")
        wrapped.model_max_length = self.template.max_tokens
        wrapped.save_pretrained(folder)
        self.tokenizer.save(str(folder / TOKENIZER_NAME))
        StudentFile(architecture=self.architecture, settings=self.settings, details=self._details()).write(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Inverse of `save`; float32, on the CPU.

        Raises:
            InvalidInput: the folder holds no student of this architecture, or a damaged one.
        """
        folder = Path(folder)
        found = StudentFile.read(folder)
        if found.architecture != cls.architecture:
            raise InvalidInput(
                f"{folder}: a student of architecture {cls.architecture} was expected, this is {found.architecture}"
            )
        try:
            backbone, info = cls._kind.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
            tokenizer = Tokenizer.from_str((folder / TOKENIZER_NAME).read_text(encoding="utf-8"))
            template = PairTemplate.from_json(found.details["template"])
            head_names = frozenset(found.details["head"])
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise InvalidInput(f"{folder}: the student cannot be read: {error}") from error
        if info["missing_keys"]:
            raise InvalidInput(f"{folder}: weights are missing, among them {sorted(info['missing_keys'])[0]}")
        return cls(backbone, tokenizer, template=template, settings=found.settings, head_names=head_names)

    def _details(self) -> dict[str, Any]:
        """What `student.json` says beside the settings; `load` reads it."""
        return {"template": self.template.to_json(), "head": sorted(self._head_names)}

    def _encode(self, pairs: Sequence[Pair]) -> list[EncodedPair]:
        return self._encoder.encode([(clean_text(pair.query), clean_text(pair.document)) for pair in pairs])
