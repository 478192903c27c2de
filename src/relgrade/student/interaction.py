"""A student that reads query and document apart with one encoder and judges by the evidence between them.

What a pretrained bi-encoder knows is kept: its vectors are compared, not overwritten. The head sees measures that mean
the same on any collection, and a bias per source that exists in training alone, so that differences in base rate
between sources are not learned as evidence. Document states do not depend on the query.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from relgrade.encoding import EncodedText, TextEncoder, TextTemplate, clean_text
from relgrade.errors import InvalidInput
from relgrade.records import Pair
from relgrade.settings import StudentSettings
from relgrade.student.echo import asking_tokens
from relgrade.student.evidence import DIRECTIONS, Evidence
from relgrade.student.evidence_cache import EvidenceCache
from relgrade.student.evidence_head import EvidenceHead
from relgrade.student.states import pad_texts, read_windows
from relgrade.student.student import Student
from relgrade.student.student_file import StudentFile
from relgrade.student.text_backbone import load_encoder, load_text_backbone

TOKENIZER_NAME = "tokenizer.json"
WEIGHTS_NAME = "interaction.safetensors"
ENCODER_FOLDER = "encoder"
N_SAMPLE = 2000  # pairs whose measures set the scale of the head when the encoder is trained too


class InteractionStudent(Student):
    """One encoder, the measures of `Evidence`, and a small head.

    Args:
        encoder: transformers' BERT-like model with `last_hidden_state`.
        tokenizer: of the encoder.
        template: how texts become windows.
        settings: what the student was made from.
        seed: of the head's weights.
    """

    architecture: ClassVar[str] = "interaction"

    def __init__(
        self, encoder: Any, tokenizer: Tokenizer, *, template: TextTemplate, settings: StudentSettings, seed: int
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.template = template
        self.settings = settings
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        n_vocabulary = max(max(vocabulary.values()) + 1, int(encoder.config.vocab_size))
        is_number = torch.zeros(n_vocabulary)
        for token, index in vocabulary.items():
            is_number[index] = float(token.removeprefix("##").isdigit())
        asking = asking_tokens(vocabulary, n_vocabulary)
        self.evidence = Evidence(torch.zeros(n_vocabulary), is_number, asking)
        self.head = EvidenceHead(DIRECTIONS, settings.hidden, dropout=settings.dropout, seed=seed, kind=settings.head)
        self._texts = TextEncoder(tokenizer, template)
        self._sources: dict[str | None, int] = {}
        self._cache: EvidenceCache | None = None
        if not settings.train_encoder:
            encoder.requires_grad_(False)

    @classmethod
    def build(cls, settings: StudentSettings, *, seed: int) -> Self:
        """A student over `settings.base`.

        Raises:
            TrainingError: the base cannot be loaded.
        """
        backbone = load_text_backbone(settings)
        template = TextTemplate(
            prefix=backbone.prefix,
            suffix=backbone.suffix,
            max_query_tokens=settings.max_query_tokens,
            window_tokens=settings.max_tokens - len(backbone.prefix) - len(backbone.suffix),
            max_windows=settings.max_windows,
        )
        return cls(backbone.encoder, backbone.tokenizer, template=template, settings=settings, seed=seed)

    def prepare(self, pairs: Sequence[Pair], *, cache_folder: Path) -> None:
        """Fix the idf table and the scale of the measures from `pairs`; with a frozen encoder, cache all measures.

        Raises:
            InvalidInput: no pairs.
        """
        if not pairs:
            raise InvalidInput("an interaction student is prepared on its training pairs, got none")
        documents = self._encode(list(dict.fromkeys(pair.document for pair in pairs)), kind="document")
        self.evidence.idf.copy_(torch.from_numpy(_idf(documents, len(self.evidence.idf), self.template)))
        if not self._sources:
            self._sources = {source: i for i, source in enumerate(sorted({p.source for p in pairs}, key=str))}
            self.head.set_sources(len(self._sources))
        if self.settings.train_encoder:
            step = max(1, len(pairs) // N_SAMPLE)
            measures = np.stack([self._measure([pair])[0].numpy() for pair in pairs[::step]])
        else:
            self._cache = EvidenceCache(cache_folder, self._measure, fingerprint=self._fingerprint())
            self._cache.fill(pairs, lengths=self._lengths(pairs))
            measures = self._cache.rows(pairs)
        self.head.set_scale(torch.from_numpy(measures))

    def count_tokens(self, pairs: Sequence[Pair]) -> list[int]:
        """Tokens of query and document; 1 where the measures are cached, since nothing is padded then."""
        if self._cache is not None and self._cache.has_all(pairs):
            return [1] * len(pairs)
        lengths = self._lengths(pairs)
        return [lengths[pair.query] + lengths[pair.document] for pair in pairs]

    def collate(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        """Measures where they are cached, else token ids; and the source of each pair (-1 for an unknown one)."""
        sources = torch.tensor([self._sources.get(pair.source, -1) for pair in pairs])
        if self._cache is not None and self._cache.has_all(pairs):
            return {"measures": torch.from_numpy(self._cache.rows(pairs)), "sources": sources}
        return {**self._inputs(pairs), "sources": sources}

    def forward(self, **inputs: Tensor) -> Tensor:
        """Logits, shape (n_pairs,)."""
        sources = inputs.pop("sources")
        measures = inputs["measures"] if "measures" in inputs else self._evidence_of(inputs)
        logits: Tensor = self.head(measures, sources if self.training else None)
        return logits

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """`encoder`: the pretrained weights, empty when frozen; `head`: the head."""
        trainable = [weight for weight in self.encoder.parameters() if weight.requires_grad]
        return {"encoder": trainable, "head": [weight for weight in self.head.parameters() if weight.requires_grad]}

    def save(self, folder: Path) -> None:
        """Write the encoder (Hugging Face layout), the head with its tables, the tokenizer and `student.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.encoder.save_pretrained(folder / ENCODER_FOLDER, safe_serialization=True)
        (folder / TOKENIZER_NAME).write_text(self.tokenizer.to_str(), encoding="utf-8")
        tensors = {f"head.{name}": value for name, value in self.head.state_dict().items()}
        tensors["idf"] = self.evidence.idf
        save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, folder / WEIGHTS_NAME)
        details = {
            "template": self.template.to_json(),
            "sources": sorted(self._sources, key=lambda source: self._sources[source]),
        }
        StudentFile(architecture=self.architecture, settings=self.settings, details=details).write(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Inverse of `save`.

        Raises:
            InvalidInput: a file is missing or damaged.
        """
        described = StudentFile.read(folder)
        try:
            tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_NAME))
            tensors = load_file(folder / WEIGHTS_NAME)
            template = TextTemplate.from_json(described.details["template"])
        except (OSError, KeyError, TypeError, SafetensorError) as error:
            raise InvalidInput(f"{folder}: not a whole interaction student: {error}") from error
        encoder = load_encoder(described.settings, source=str(folder / ENCODER_FOLDER))
        student = cls(encoder, tokenizer, template=template, settings=described.settings, seed=0)
        student.evidence.idf.copy_(tensors.pop("idf"))
        student._sources = {source: i for i, source in enumerate(described.details["sources"])}
        student.head.set_sources(len(student._sources))
        student.head.load_state_dict({name.removeprefix("head."): value for name, value in tensors.items()})
        return student.eval()

    def encode_window(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """States (n, n_tokens, n_hidden) of padded sequences, and their mean over real tokens (n, n_hidden)."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        return states, (states * mask).sum(1) / mask.sum(1).clamp_min(1.0)

    def _lengths(self, pairs: Sequence[Pair]) -> dict[str, int]:
        """Tokens that are read of each text, by text; one that is both query and document has the document's."""
        limits: dict[str, int] = {pair.query: self.template.max_query_tokens for pair in pairs}
        limits |= {pair.document: self.template.window_tokens * self.template.max_windows for pair in pairs}
        encodings = self.tokenizer.encode_batch_fast(list(limits))
        return {text: min(len(each.ids), limits[text]) for text, each in zip(limits, encodings, strict=True)}

    def _encode(self, texts: Sequence[str], *, kind: Any) -> list[EncodedText]:
        return self._texts.encode([clean_text(text) for text in texts], kind=kind)

    def _inputs(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        """Tensors of the distinct texts of a batch: each is read once, however many pairs it stands in."""
        inputs: dict[str, Tensor] = {}
        for kind, texts in (("query", [p.query for p in pairs]), ("document", [p.document for p in pairs])):
            row = {text: i for i, text in enumerate(dict.fromkeys(texts))}
            inputs |= pad_texts(self._encode(list(row), kind=kind), self.template, kind=kind)
            inputs[f"{kind}_row"] = torch.tensor([row[text] for text in texts])
        return inputs

    def _evidence_of(self, inputs: dict[str, Tensor]) -> Tensor:
        query = read_windows(self.encode_window, inputs, kind="query")
        document = read_windows(self.encode_window, inputs, kind="document")
        q, d = inputs["query_row"], inputs["document_row"]
        measures: Tensor = self.evidence(
            inputs["query_ids"][q],
            inputs["query_mask"][q],
            query.states[q],
            query.window_vectors[q, 0],
            inputs["document_ids"][d],
            inputs["document_mask"][d],
            document.states[d],
            document.window_vectors[d],
            document.window_mask[d],
        )
        return measures

    @torch.no_grad()
    def _measure(self, pairs: Sequence[Pair]) -> Tensor:
        """Measures of a batch in evaluation mode, shape (n_pairs, n_measures)."""
        was_training = self.encoder.training
        self.encoder.eval()
        device = self.evidence.idf.device
        measures = self._evidence_of({name: value.to(device) for name, value in self._inputs(pairs).items()})
        self.encoder.train(was_training)
        return measures.float().cpu()

    def _fingerprint(self) -> str:
        """Changes when the measures would: encoder weights, tables, template."""
        sums = [float(weight.double().sum()) for weight in self.encoder.parameters()]
        tables = [float(table.double().sum()) for table in (self.evidence.idf, self.evidence.asking)]
        return repr((sums, tables, self.template.to_json(), Evidence.n_measures))


def _idf(documents: Sequence[EncodedText], n_vocabulary: int, template: TextTemplate) -> NDArray[np.float32]:
    """log(1 + (N - n + 0.5) / (n + 0.5)) of each token id over N documents (Robertson and Zaragoza 2009)."""
    head, tail = len(template.prefix), len(template.suffix)
    counts = np.zeros(n_vocabulary)
    for document in documents:
        ids = {i for window in document.windows for i in window[head : len(window) - tail]}
        counts[list(ids)] += 1
    return np.log1p((len(documents) - counts + 0.5) / (counts + 0.5)).astype(np.float32)
