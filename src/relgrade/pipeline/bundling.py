"""Step `bundle`: graphs, tokenizer, calibration, golden pairs and provenance become the folder that ships."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from relgrade import __version__
from relgrade.bundle import Bundle, GoldenPair, Manifest, goldens_to_bytes, write_bundle
from relgrade.encoding import clean_text
from relgrade.errors import InvalidInput
from relgrade.formats import read_pairs
from relgrade.pipeline.graphs import TOKENIZER_NAME, GraphsFile, open_runtime
from relgrade.pipeline.scoring import score_pairs
from relgrade.records import Calibration, OperatingPoint, Pair
from relgrade.settings import BundleSettings


def make_bundle(
    graphs_folder: Path,
    output: Path,
    *,
    settings: BundleSettings,
    calibration: Calibration,
    points: Sequence[OperatingPoint],
    goldens: Sequence[Pair],
    provenance: Mapping[str, Any],
) -> Bundle:
    """Write a bundle; the same arguments give the same bytes.

    Args:
        graphs_folder: that `export_student` wrote.
        output: folder of the bundle; an older bundle there is replaced.
        settings: name, description, rubric and licences.
        calibration: fitted on scores of these graphs.
        points: the first is the default.
        goldens: pairs whose logits travel along.
        provenance: JSON.

    Raises:
        InvalidInput: no golden pairs, or something else stands at `output`.
        OutputError: the disk is full, or the place may not be written.
    """
    if not goldens:
        raise InvalidInput("a bundle proves itself with at least one golden pair, got none")
    described = GraphsFile.read(graphs_folder)
    scores = score_pairs(goldens, open_runtime(graphs_folder))
    golden_rows = [
        GoldenPair(clean_text(pair.query), clean_text(pair.document), score.logit)
        for pair, score in zip(goldens, scores, strict=True)
    ]
    manifest = Manifest(
        name=settings.name,
        architecture=described.architecture,
        rubric=settings.rubric,
        graphs=described.graphs,
        template=described.template,
        calibration=calibration,
        operating_points=tuple(points),
        default_point=points[0].name,
        relgrade_version=__version__,
        description=settings.description,
        licence=settings.licence,
        provenance=provenance,
    )
    files: dict[str, Path | bytes] = {
        TOKENIZER_NAME: graphs_folder / TOKENIZER_NAME,
        "goldens.jsonl": goldens_to_bytes(golden_rows),
        "LICENSE": licence_text(settings, provenance).encode("utf-8"),
    }
    for name in described.graphs.values():
        files[name] = graphs_folder / name
        weights = graphs_folder / f"{name}.data"  # of graphs beyond the 2 GB of one file
        if weights.exists():
            files[weights.name] = weights
    return write_bundle(output, manifest, files, overwrite=True)


def choose_goldens(calibration_path: Path, settings: BundleSettings, *, seed: int) -> list[Pair]:
    """The golden pairs: those of the file that the settings name, else drawn from the calibration pairs.

    Raises:
        InvalidData: a file that cannot be read as pairs.
    """
    if settings.golden_pairs is not None:
        return list(read_pairs(settings.golden_pairs))
    return draw_pairs(list(read_pairs(calibration_path)), settings.n_golden, seed=seed)


def draw_pairs(pairs: Sequence[Pair], n_pairs: int, *, seed: int) -> list[Pair]:
    """At most `n_pairs` of them, drawn with the seed, in their order."""
    drawn = np.random.default_rng(seed).permutation(len(pairs))[:n_pairs]
    return [pairs[int(i)] for i in sorted(drawn)]


def licence_text(settings: BundleSettings, provenance: Mapping[str, Any]) -> str:
    """The file LICENSE: the licence by name, and those of what the grader was made from."""
    base = provenance.get("base")
    name = base.get("name", "unknown") if isinstance(base, Mapping) else "unknown"
    lines = [
        f"SPDX-License-Identifier: {settings.licence}",
        "",
        f"The weights and files of this grader, {settings.name}, are under the licence named above.",
        f"They derive from the pretrained model {name} (licence: {settings.base_licence}).",
    ]
    sources = provenance.get("sources")
    if isinstance(sources, list) and sources:
        lines += ["They were trained on labelled pairs of these sources, which are not part of it:", ""]
        lines += [f"- {source['name']} (licence: {source['licence']})" for source in sources]
    return "\n".join(lines) + "\n"
