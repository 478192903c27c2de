"""A trained interaction student becomes graphs: one reads a text, and two judge texts that were read.

Of these one judges a query with many documents in few operators, and the other a pair with an echo of its question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from relgrade.encoding import clean_text
from relgrade.errors import InvalidInput
from relgrade.export.cross_encoder import eager_attention
from relgrade.export.graph import Fusion, export_onnx, fuse
from relgrade.export.list_evidence import BLOCK, N_SPARE, ListEvidence
from relgrade.export.parity import BatchScorer, ParityReport, measure_parity
from relgrade.export.quantise import quantise
from relgrade.grade.interaction import InteractionRuntime
from relgrade.grade.sessions import open_session
from relgrade.records import Pair
from relgrade.settings import ExportSettings

if TYPE_CHECKING:
    from relgrade.student.interaction import InteractionStudent

FP32_NAME, INT8_NAME = "encoder.fp32.onnx", "encoder.int8.onnx"
HEAD_NAME, LIST_HEAD_NAME = "head.onnx", "head.list.onnx"
HEAD_INPUTS = ("query_ids", "query_states", "query_vector", "document_ids", "document_states", "window_vectors")


@dataclass(frozen=True, slots=True)
class InteractionGraphs:
    """The graphs of one student."""

    fp32: Path  # encoder
    int8: Path | None  # encoder; None when the settings ask for no quantisation
    head: Path  # fp32: it costs next to nothing, and the verdict hangs on it
    fusion: Fusion
    list_head: Path | None = None  # fp32; None: exported before there was one

    @property
    def shipped(self) -> Path:
        """The encoder a bundle takes: int8 where there is one."""
        return self.fp32 if self.int8 is None else self.int8


def export_interaction(student: InteractionStudent, folder: Path | str, settings: ExportSettings) -> InteractionGraphs:
    """Write `encoder.fp32.onnx`, `head.onnx`, `head.list.onnx` and, unless switched off, `encoder.int8.onnx`.

    The encoder reads `input_ids` and `attention_mask`, shape (n_texts, n_tokens), and gives `states` and `vector`, the
    mean over real tokens. The head reads one pair, without padding. The list head reads one query and documents as
    `ListEvidence` takes them, and gives their logits and the number of tokens in each that echo the query; where there
    are any, the head is to be asked.

    Args:
        student: on the CPU, in float32.
        folder: where to write; made.
        settings: `quantise` and `arithmetic` are read here; `measure_interaction` and `check_parity` hold the limits.
    """
    folder = Path(folder)
    fp32, head, list_head = folder / FP32_NAME, folder / HEAD_NAME, folder / LIST_HEAD_NAME
    config = student.encoder.config
    ids = torch.randint(0, config.vocab_size, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    with eager_attention(student.encoder):
        export_onnx(
            _Encoder(student),
            (ids, mask),
            fp32,
            input_names=["input_ids", "attention_mask"],
            output_names=["states", "vector"],
            dynamic_axes={
                **{name: {0: "n_texts", 1: "n_tokens"} for name in ("input_ids", "attention_mask", "states")},
                "vector": {0: "n_texts"},
            },
        )
    fusion = fuse(
        fp32,
        model_type=config.model_type,
        n_heads=config.num_attention_heads,
        hidden=config.hidden_size,
        probes=[{"input_ids": ids.numpy(), "attention_mask": mask.numpy()}, _probe(ids[:1, :5])],
    )
    _export_head(student, head)
    export_list_head(student, list_head)
    int8 = folder / INT8_NAME if settings.quantise else None
    if int8 is not None:
        quantise(fp32, int8, arithmetic=settings.arithmetic)
    return InteractionGraphs(fp32, int8, head, fusion, list_head)


def measure_interaction(
    student: InteractionStudent,
    pairs: Sequence[Pair],
    *,
    graphs: InteractionGraphs,
    threshold: float,
    seed: int = 0,
) -> ParityReport:
    """Score pairs with the student and its graphs; `check_parity` judges the report.

    Args:
        student: the model that was exported.
        pairs: real ones, of the kind the grader will meet.
        graphs: of `export_interaction`.
        threshold: logit from which a pair is relevant.
        seed: of the shuffled batches.

    Raises:
        InvalidInput: no pairs.
    """
    if not pairs:
        raise InvalidInput("parity needs pairs to measure on, got none")
    return measure_parity(
        student.score(pairs),
        _scorer(student, graphs.fp32, graphs, pairs),
        None if graphs.int8 is None else _scorer(student, graphs.int8, graphs, pairs),
        lengths=[len(pair.document) for pair in pairs],
        threshold=threshold,
        seed=seed,
    )


class _Encoder(nn.Module):
    def __init__(self, student: InteractionStudent) -> None:
        super().__init__()
        self.student = student

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        return self.student.encode_window(input_ids, attention_mask)


class _Head(nn.Module):
    """Evidence and head over one pair; nothing is padded, so every mask is one."""

    def __init__(self, student: InteractionStudent) -> None:
        super().__init__()
        self.evidence = student.evidence
        self.head = student.head

    def forward(
        self,
        query_ids: Tensor,
        query_states: Tensor,
        query_vector: Tensor,
        document_ids: Tensor,
        document_states: Tensor,
        window_vectors: Tensor,
    ) -> Tensor:
        measures = self.evidence(
            query_ids,
            torch.ones_like(query_ids, dtype=torch.float32),
            query_states,
            query_vector,
            document_ids,
            torch.ones_like(document_ids, dtype=torch.float32),
            document_states,
            window_vectors,
            torch.ones_like(window_vectors[:, :, 0]),
        )
        logits: Tensor = self.head(measures)
        return logits


class _ListHead(nn.Module):
    """`ListEvidence` and head over a query and documents."""

    def __init__(self, student: InteractionStudent) -> None:
        super().__init__()
        self.evidence = ListEvidence(student.evidence, student.template.max_query_tokens)
        self.head = student.head

    def forward(self, *texts: Tensor) -> tuple[Tensor, Tensor]:
        measures, echoes = self.evidence(*texts)
        logits: Tensor = self.head(functional.pad(measures, (0, 0, 0, N_SPARE)))
        return logits[:-N_SPARE], echoes


def _export_head(student: InteractionStudent, path: Path) -> None:
    export_onnx(
        _Head(student),
        _examples(student, n_documents=1, n_tokens=70),
        path,
        input_names=HEAD_INPUTS,
        output_names=["logit"],
        dynamic_axes={
            "query_ids": {1: "n_query"},
            "query_states": {1: "n_query"},
            "document_ids": {1: "n_document"},
            "document_states": {1: "n_document"},
            "window_vectors": {1: "n_windows"},
        },
    )


def export_list_head(student: InteractionStudent, path: Path) -> None:
    """Write the list head of a student; it says what the head says, so a finished bundle can be given one."""
    export_onnx(
        _ListHead(student),
        _examples(student, n_documents=3, n_tokens=4 * BLOCK),
        path,
        input_names=HEAD_INPUTS,
        output_names=["logits", "echoes"],
        dynamic_axes={
            "query_ids": {1: "n_query"},
            "query_states": {1: "n_query"},
            "document_ids": {0: "n_documents", 1: "n_document"},
            "document_states": {0: "n_documents", 1: "n_document"},
            "window_vectors": {0: "n_documents", 1: "n_windows"},
        },
    )


def _examples(student: InteractionStudent, *, n_documents: int, n_tokens: int) -> tuple[Tensor, ...]:
    """A query of a few tokens with documents of two windows, in the order of `HEAD_INPUTS`."""
    hidden, vocabulary = student.encoder.config.hidden_size, len(student.evidence.idf)
    n_query = min(9, student.template.max_query_tokens)
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randint(0, vocabulary, (1, n_query), generator=generator),
        torch.randn(1, n_query, hidden, generator=generator),
        torch.randn(1, hidden, generator=generator),
        torch.randint(0, vocabulary, (n_documents, n_tokens), generator=generator),
        torch.randn(n_documents, n_tokens, hidden, generator=generator),
        torch.randn(n_documents, 2, hidden, generator=generator),
    )


def _probe(ids: Tensor) -> dict[str, NDArray[np.int64]]:
    return {"input_ids": ids.numpy(), "attention_mask": np.ones(tuple(ids.shape), np.int64)}


def _scorer(
    student: InteractionStudent, encoder: Path, graphs: InteractionGraphs, pairs: Sequence[Pair]
) -> BatchScorer:
    list_head = {} if graphs.list_head is None else {"list_head": open_session(graphs.list_head)}
    runtime = InteractionRuntime(
        open_session(encoder),
        open_session(graphs.head),
        **list_head,
        tokenizer=student.tokenizer,
        template=student.template,
    )
    texts = [(clean_text(pair.query), clean_text(pair.document)) for pair in pairs]

    def score(indices: Sequence[int]) -> NDArray[np.float64]:
        return runtime.score([texts[i] for i in indices]).logits

    return score
