"""Steps `export` and `parity`: the graphs of a student, and the proof that they judge as it does."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relgrade.errors import InvalidInput
from relgrade.pipeline.graphs import TOKENIZER_NAME, GraphsFile
from relgrade.records import Pair
from relgrade.settings import ExportSettings

if TYPE_CHECKING:
    from relgrade.export import ParityReport


def export_student(student_folder: Path, output: Path, settings: ExportSettings) -> list[str]:
    """Write the graphs, the tokenizer beside them, and `graphs.json`.

    Args:
        student_folder: that `Student.save` wrote.
        output: folder; what an earlier export left there is replaced.
        settings: whether to quantise, and what may be lost.

    Raises:
        InvalidInput: no student there, or of an architecture that cannot be exported.
        ParityError: the fp32 graph does not say what the student says.
    """
    from relgrade.student import load_student
    from relgrade.student.student_file import StudentFile

    if StudentFile.read(student_folder).architecture == "generative":  # read alone: its weights may be gigabytes
        raise InvalidInput(
            f"{student_folder}: a language model that answers in words is not exported; a student with a head was "
            "expected, as the architectures cross-encoder and interaction have"
        )
    student: Any = load_student(student_folder)
    output.mkdir(parents=True, exist_ok=True)
    for left in output.glob("*.onnx*"):
        left.unlink()
    if student.architecture == "cross-encoder":
        from relgrade.export import export_cross_encoder

        graphs: Any = export_cross_encoder(student, output, settings)
        shipped, fp32 = {"model": graphs.shipped.name}, {"model": graphs.fp32.name}
    elif student.architecture == "interaction":
        from relgrade.export.interaction import export_interaction

        graphs = export_interaction(student, output, settings)
        heads = {"head": graphs.head.name, "list_head": graphs.list_head.name}
        shipped = {"encoder": graphs.shipped.name, **heads}
        fp32 = {"encoder": graphs.fp32.name, **heads}
    else:
        raise InvalidInput(f"{student_folder}: no export for the architecture {student.architecture!r}")
    shutil.copyfile(student_folder / TOKENIZER_NAME, output / TOKENIZER_NAME)
    GraphsFile(
        architecture=student.architecture,
        template=student.template.to_json(),
        graphs=shipped,
        fp32=fp32,
        is_quantised=graphs.int8 is not None,
        operators=dict(graphs.fusion.operators),
        note=graphs.fusion.note,
    ).write(output)
    return _describe(output, graphs)


def measure_graphs(
    student_folder: Path, graphs_folder: Path, pairs: Sequence[Pair], *, threshold: float, seed: int = 0
) -> ParityReport:
    """Hold exported graphs against their student on real pairs.

    Args:
        student_folder: that `Student.save` wrote.
        graphs_folder: that `export_student` wrote.
        pairs: at least one.
        threshold: logit from which a pair is relevant.
        seed: of the shuffled batches.

    Raises:
        InvalidInput: no pairs, no student or no graphs.
    """
    from relgrade.student import load_student

    student: Any = load_student(student_folder)
    described = GraphsFile.read(graphs_folder)
    if described.architecture != student.architecture:
        raise InvalidInput(
            f"{graphs_folder} holds graphs of a {described.architecture}, {student_folder} a {student.architecture}"
        )
    shipped = {role: graphs_folder / name for role, name in described.graphs.items()}
    fp32 = {role: graphs_folder / name for role, name in described.fp32.items()}
    if described.architecture == "cross-encoder":
        from relgrade.export import measure_cross_encoder

        int8 = shipped["model"] if described.is_quantised else None
        return measure_cross_encoder(student, pairs, fp32=fp32["model"], int8=int8, threshold=threshold, seed=seed)
    from relgrade.export import Fusion
    from relgrade.export.interaction import InteractionGraphs, measure_interaction

    graphs = InteractionGraphs(
        fp32["encoder"],
        shipped["encoder"] if described.is_quantised else None,
        shipped["head"],
        Fusion(bool(described.operators), described.operators, described.note),
        shipped.get("list_head"),
    )
    return measure_interaction(student, pairs, graphs=graphs, threshold=threshold, seed=seed)


def _describe(folder: Path, graphs: Any) -> list[str]:
    """Sizes in 10^6 bytes with the weights beside a graph, what was fused, and the error where it was measured."""
    sizes = []
    for path in sorted(folder.glob("*.onnx")):
        weights = path.with_name(f"{path.name}.data")
        n_bytes = path.stat().st_size + (weights.stat().st_size if weights.exists() else 0)
        sizes.append(f"{path.name} {n_bytes / 1e6:.1f} MB")
    fused = ", ".join(f"{name} {n}" for name, n in sorted(graphs.fusion.operators.items()))
    lines = [", ".join(sizes), f"fused: {fused or 'nothing, ' + graphs.fusion.note}"]
    error = getattr(graphs, "max_probe_error", None)
    return lines if error is None else [*lines, f"fp32 differs from the student by at most {error:.2g}"]
