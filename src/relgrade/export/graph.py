"""A torch module becomes an ONNX graph, and a graph becomes a faster one that says the same.

It knows tensors, names and files, and nothing of pairs or architectures.

Torch's TorchScript exporter is used, although a newer one exists. Measured with torch 2.13 and onnxruntime 1.32 on a
6-layer BERT: only its graphs, traced with eager attention, come out of onnxruntime's optimiser with fused attention;
the newer one needs onnxscript besides and takes 10 to 30 times as long for small models.
"""

import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from relgrade.errors import ParityError
from relgrade.grade.sessions import open_session

OPSET = 17  # the first with LayerNormalization, which the fusions below look for

# onnxruntime's BERT optimiser knows the attention of these, by config.model_type. It is tried on no others: decoders
# with rotary positions and grouped heads match none of its patterns.
FUSED_TYPES = frozenset({"bert", "camembert", "electra", "roberta", "xlm-roberta"})

FUSION_TOLERANCE = 1e-4  # absolute and relative; fused kernels sum in another order, no more

# Said by torch while it traces; true and known, and nothing the caller could act on.
_TRACING_WARNINGS = (
    (DeprecationWarning, "You are using the legacy TorchScript-based ONNX export"),
    (DeprecationWarning, "The feature will be removed. Please remove usage of this function"),
    (UserWarning, "Exporting aten::index operator"),
    (UserWarning, "Constant folding - Only steps=1 can be constant folded"),
    # What tracing froze shows when the graph is run on batches of other shapes; every export here does that.
    (torch.jit.TracerWarning, ""),  # type: ignore[attr-defined]
)


@dataclass(frozen=True, slots=True)
class Fusion:
    """What became of an attempt to fuse a graph."""

    is_fused: bool
    operators: Mapping[str, int]  # fused operators in the graph, by name: how many
    note: str = ""  # why the graph was left as it was


def export_onnx(
    module: nn.Module,
    example_inputs: tuple[Tensor, ...],
    path: Path | str,
    *,
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_axes: Mapping[str, Mapping[int, str]],
) -> None:
    """Trace a module in evaluation mode and write it as one graph.

    The file appears whole or not at all. Weights beyond 2 GB, which one protobuf cannot hold, go to `<path>.data`.

    Args:
        module: called as `module(*example_inputs)`; each part is back in its own mode afterwards.
        example_inputs: a batch of several rows with padding, so that no branch for the easy case is what gets traced.
        path: the .onnx file; its folder is made.
        input_names: one per example, in order.
        output_names: one per output, in order.
        dynamic_axes: name of an input or output -> axis -> name of the dimension that may vary.

    Raises:
        ParityError: the graph does not read exactly `input_names`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        traced = Path(folder) / "traced" / path.name
        traced.parent.mkdir()
        with evaluation_mode(module), warnings.catch_warnings():
            for category, message in _TRACING_WARNINGS:
                warnings.filterwarnings("ignore", message=message, category=category)
            torch.onnx.export(
                module,
                example_inputs,
                str(traced),
                dynamo=False,
                opset_version=OPSET,
                input_names=list(input_names),
                output_names=list(output_names),
                dynamic_axes={name: dict(axes) for name, axes in dynamic_axes.items()},
            )
        found = [item.name for item in onnx.load(str(traced), load_external_data=False).graph.input]
        if found != list(input_names):
            raise ParityError(f"the graph reads {found}, {list(input_names)} was expected; an input got lost")
        if len(list(traced.parent.iterdir())) > 1:  # torch wrote one file per weight
            save_graph(onnx.load(str(traced)), path)
        else:
            move_graph(traced, path)


def fuse(
    path: Path | str,
    *,
    model_type: str,
    n_heads: int,
    hidden: int,
    probes: Sequence[Mapping[str, NDArray[Any]]],
) -> Fusion:
    """Replace attention, layer norm and GELU of a graph by single operators, in place.

    The graph stays as it was when its type is not known to fuse, nothing fused, or an output changed.

    Args:
        path: the .onnx file.
        model_type: as in a Hugging Face config: "bert", "llama" ...
        n_heads: attention heads of a layer.
        hidden: width of a layer.
        probes: inputs by name that both graphs are run on; give lengths and paddings that differ.
    """
    path = Path(path)
    if model_type not in FUSED_TYPES:
        return Fusion(False, {}, f"{model_type} is not known to fuse")
    if path.with_name(path.name + ".data").exists():
        return Fusion(False, {}, "graphs beyond 2 GB are left as they are")
    from onnxruntime.transformers.optimizer import optimize_model  # slow to import, and needed here alone

    optimised = optimize_model(str(path), "bert", num_heads=n_heads, hidden_size=hidden, opt_level=0)
    operators = {name: count for name, count in optimised.get_fused_operator_statistics().items() if count}
    if not operators:
        return Fusion(False, {}, "no pattern matched")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        candidate = Path(folder) / path.name
        optimised.save_model_to_file(str(candidate))  # also declares the domain of the fused operators
        error = _largest_excess(run_graph(path, probes), run_graph(candidate, probes))
        if not error <= FUSION_TOLERANCE:  # NaN fails too
            return Fusion(False, {}, f"fused outputs differ by {error:.2g}")
        move_graph(candidate, path)
    return Fusion(True, operators)


def run_graph(path: Path | str, feeds: Sequence[Mapping[str, NDArray[Any]]]) -> list[list[NDArray[Any]]]:
    """The outputs of a graph for each of the feeds."""
    session = open_session(path)
    return [session.run(None, dict(feed)) for feed in feeds]


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write a model with all its weights in `<path>.data`, both files whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        written = Path(folder) / path.name
        onnx.save(
            model, str(written), save_as_external_data=True, all_tensors_to_one_file=True, location=path.name + ".data"
        )
        move_graph(written, path)


def move_graph(source: Path, target: Path) -> None:
    """Move a graph, and the weights beside it, over another of the same name."""
    weights = source.with_name(source.name + ".data")
    stale = target.with_name(target.name + ".data")
    if weights.exists():
        weights.replace(stale)
    else:
        stale.unlink(missing_ok=True)
    source.replace(target)


def _largest_excess(expected: list[list[NDArray[Any]]], found: list[list[NDArray[Any]]]) -> float:
    """Largest |a - b| / max(1, |a|) over all outputs; NaN when either side holds one."""
    pairs = [(a, b) for left, right in zip(expected, found, strict=True) for a, b in zip(left, right, strict=True)]
    errors = [np.abs(a - b) / np.maximum(1.0, np.abs(a)) for a, b in pairs]
    return float(np.max([np.max(error) for error in errors])) if errors else 0.0


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Dropout off. Torch restores one flag for the whole tree, and a frozen part would wake up in training mode."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, was_training in modes.items():
            part.training = was_training
