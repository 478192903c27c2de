"""A trained cross-encoder becomes one graph: token ids of pairs in, one logit a pair out."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from relgrade.encoding import EncodedPair, PairEncoder, clean_text
from relgrade.errors import InvalidInput, ParityError
from relgrade.export.graph import Fusion, evaluation_mode, export_onnx, fuse, run_graph
from relgrade.export.parity import BatchScorer, ParityReport, measure_parity
from relgrade.export.quantise import quantise
from relgrade.grade.sessions import open_session
from relgrade.records import Pair
from relgrade.settings import ExportSettings

if TYPE_CHECKING:
    from relgrade.student.cross_encoder import CrossEncoderStudent

FP32_NAME = "model.fp32.onnx"
INT8_NAME = "model.int8.onnx"
OUTPUT_NAME = "logits"

_PROBE_SHAPES = ((3, 24), (1, 24), (1, 7), (5, 13))  # (pairs, tokens) of the batches that graphs are first tried on


@dataclass(frozen=True, slots=True)
class ExportedGraphs:
    """The graphs of one student."""

    fp32: Path
    int8: Path | None  # None when the settings ask for no quantisation
    inputs: tuple[str, ...]  # names of the inputs, each of shape (n_pairs, n_tokens), int64
    fusion: Fusion
    max_probe_error: float  # largest |fp32 - torch| on random token ids

    @property
    def shipped(self) -> Path:
        """The graph a bundle takes: int8 where there is one."""
        return self.fp32 if self.int8 is None else self.int8


def export_cross_encoder(student: CrossEncoderStudent, folder: Path | str, settings: ExportSettings) -> ExportedGraphs:
    """Write `model.fp32.onnx` and, unless switched off, `model.int8.onnx`.

    The graphs read `input_ids`, `attention_mask` and, where the template marks a second segment, `token_type_ids`,
    with any number of pairs and tokens, and give `logits`, shape (n_pairs,). Two classes are folded inside.

    Args:
        student: left as it is: mode, dtype, device and attention.
        folder: where to write; made.
        settings: `max_logit_error` already holds here, on random token ids; `measure_cross_encoder` takes real pairs.

    Raises:
        ParityError: the fp32 graph does not say what the student says.
    """
    folder = Path(folder)
    fp32 = folder / FP32_NAME
    int8 = folder / INT8_NAME if settings.quantise else None
    exported = _as_exported(student)
    inputs = ("input_ids", "attention_mask", *(["token_type_ids"] if student.template.has_type_ids else []))
    config = exported.backbone.config.get_text_config()  # some multimodal models keep it one level down
    pad_id = exported.backbone.config.pad_token_id
    probes = _probes(inputs, vocabulary=config.vocab_size, pad_id=pad_id, longest=_longest(config))
    with eager_attention(exported.backbone):
        export_onnx(
            _Positional(exported, inputs),
            tuple(torch.from_numpy(probes[0][name]) for name in inputs),
            fp32,
            input_names=inputs,
            output_names=[OUTPUT_NAME],
            dynamic_axes={**{name: {0: "n_pairs", 1: "n_tokens"} for name in inputs}, OUTPUT_NAME: {0: "n_pairs"}},
        )
    fusion = fuse(
        fp32,
        model_type=config.model_type,
        n_heads=config.num_attention_heads,
        hidden=config.hidden_size,
        probes=probes,
    )
    error = _probe_error(exported, fp32, probes)
    if not error <= settings.max_logit_error:  # NaN fails too
        raise ParityError(
            f"{fp32}: differs from the student by {error:.3g} on random tokens, at most {settings.max_logit_error:g} "
            f"was expected; this {config.model_type} cannot be exported faithfully, choose another base model"
        )
    if int8 is not None:
        quantise(fp32, int8, arithmetic=settings.arithmetic)
    return ExportedGraphs(fp32, int8, inputs, fusion, error)


def measure_cross_encoder(
    student: CrossEncoderStudent,
    pairs: Sequence[Pair],
    *,
    fp32: Path,
    int8: Path | None,
    threshold: float,
    seed: int = 0,
) -> ParityReport:
    """Score pairs with the student and its graphs, for every way of batching; `check_parity` judges the report.

    Args:
        student: the model that was exported.
        pairs: real ones, of the kind the grader will meet; the share of flips is no finer than 1 / len(pairs).
        fp32: the graph that must say the same.
        int8: the graph that must judge the same, None where there is none.
        threshold: logit from which a pair is relevant.
        seed: of the shuffled batches.

    Raises:
        InvalidInput: no pairs, or the student itself gives a logit that is not finite.
        BundleError: a graph is missing or damaged.
    """
    if not pairs:
        raise InvalidInput("parity needs pairs to measure on, got none")
    encoder = PairEncoder(student.tokenizer, student.template)
    encoded = encoder.encode([(clean_text(pair.query), clean_text(pair.document)) for pair in pairs])
    pad_id = student.backbone.config.pad_token_id
    return measure_parity(
        student.score(pairs),
        _graph_scorer(fp32, encoded, pad_id=pad_id),
        None if int8 is None else _graph_scorer(int8, encoded, pad_id=pad_id),
        lengths=[len(pair.ids) for pair in encoded],
        threshold=threshold,
        seed=seed,
    )


class _Positional(nn.Module):
    """The student with its inputs in a fixed order, as the exporter wants them."""

    def __init__(self, student: CrossEncoderStudent, names: Sequence[str]) -> None:
        super().__init__()
        self.student = student
        self.names = tuple(names)

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self.student(**dict(zip(self.names, inputs, strict=True)))
        return logits


def _as_exported(student: CrossEncoderStudent) -> CrossEncoderStudent:
    """The student itself where it is float32 on the CPU, else a copy that is."""
    if all(weight.dtype == torch.float32 and weight.device.type == "cpu" for weight in student.parameters()):
        return student
    return copy.deepcopy(student).to(device="cpu", dtype=torch.float32)


@contextmanager
def eager_attention(backbone: Any) -> Iterator[None]:
    """Attention written out as matrix products: the only form that onnxruntime's fusion recognises.

    The key-value cache of decoders is switched off too; it would end up in the graph.
    """
    attention, cache = backbone.config._attn_implementation, getattr(backbone.config, "use_cache", None)
    backbone.set_attn_implementation("eager")
    if cache is not None:
        backbone.config.use_cache = False
    try:
        yield
    finally:
        backbone.set_attn_implementation(attention)
        if cache is not None:
            backbone.config.use_cache = cache


def _longest(config: Any) -> int:
    """Tokens a probe may have; a few positions are set aside by some models (RoBERTa)."""
    return max(2, int(getattr(config, "max_position_embeddings", 512)) - 4)


def _probes(inputs: Sequence[str], *, vocabulary: int, pad_id: int, longest: int) -> list[dict[str, NDArray[Any]]]:
    """Batches of random ids, every second row padded to half, the latter half of a row marked as second segment."""
    random = np.random.default_rng(0)
    probes = []
    for n_pairs, n_tokens in _PROBE_SHAPES:
        shape = (n_pairs, min(n_tokens, longest))
        ids = random.integers(0, vocabulary - 1, shape)
        ids += ids >= pad_id  # the pad id never stands inside a text; decoders find the end of the text by it
        positions = np.arange(shape[1])[None, :]  # (1, n_tokens)
        lengths = np.where(np.arange(n_pairs) % 2 == 1, max(1, shape[1] // 2), shape[1])[:, None]  # (n_pairs, 1)
        mask = (positions < lengths).astype(np.int64)
        values = {
            "input_ids": np.where(mask == 1, ids, pad_id),
            "attention_mask": mask,
            "token_type_ids": mask * (positions >= lengths // 2),
        }
        probes.append({name: values[name].astype(np.int64) for name in inputs})
    return probes


@torch.no_grad()
def _probe_error(student: CrossEncoderStudent, path: Path, probes: Sequence[Mapping[str, NDArray[Any]]]) -> float:
    with evaluation_mode(student):
        expected = [student(**{name: torch.from_numpy(a) for name, a in probe.items()}).numpy() for probe in probes]
    found = [outputs[0] for outputs in run_graph(path, probes)]
    return float(np.max([np.abs(a - b).max() for a, b in zip(expected, found, strict=True)]))


def _graph_scorer(path: Path, encoded: Sequence[EncodedPair], *, pad_id: int) -> BatchScorer:
    session = open_session(path)
    names = [item.name for item in session.get_inputs()]

    def score(indices: Sequence[int]) -> NDArray[np.float32]:
        batch = [encoded[i] for i in indices]
        shape = (len(batch), max(len(pair.ids) for pair in batch))
        feeds = {name: np.zeros(shape, np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
        feeds["input_ids"][:] = pad_id
        for row, pair in enumerate(batch):
            feeds["input_ids"][row, : len(pair.ids)] = pair.ids
            feeds["attention_mask"][row, : len(pair.ids)] = 1
            feeds["token_type_ids"][row, : len(pair.ids)] = pair.type_ids
        logits: NDArray[np.float32] = session.run([OUTPUT_NAME], {name: feeds[name] for name in names})[0]
        return logits

    return score
