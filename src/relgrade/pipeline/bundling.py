"""Step `bundle`: graphs, tokenizer, calibration, golden pairs and provenance become the folder that ships."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from relgrade import __version__
from relgrade.bundle import (
    CALIBRATION_QUERIES_NAME,
    Bundle,
    Decision,
    GoldenPair,
    Manifest,
    goldens_to_bytes,
    prints_to_bytes,
    write_bundle,
)
from relgrade.bundle.schema import CARD_NAME
from relgrade.encoding import clean_text
from relgrade.errors import InvalidInput
from relgrade.formats import read_pairs
from relgrade.pipeline.graphs import TOKENIZER_NAME, GraphsFile, open_runtime
from relgrade.pipeline.scoring import score_pairs
from relgrade.records import Pair
from relgrade.settings import BundleSettings

LICENCES = Path(__file__).parent / "licences"  # SPDX identifier -> full text, which some licences ask to be handed on


def make_bundle(
    graphs_folder: Path,
    output: Path,
    *,
    settings: BundleSettings,
    decision: Decision,
    goldens: Sequence[Pair],
    provenance: Mapping[str, Any],
    calibration_queries: Iterable[str] = (),
) -> Bundle:
    """Write a bundle; the same arguments give the same bytes.

    Args:
        graphs_folder: that `export_student` wrote.
        output: folder of the bundle; an older bundle there is replaced.
        settings: name, description, rubric and licences.
        decision: made from scores of these graphs; its first point is the default.
        goldens: pairs whose logits travel along.
        provenance: JSON.
        calibration_queries: texts; their fingerprints travel along, so that an evaluation can refuse them. None known:
            no such file.

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
        calibration=decision.calibration,
        operating_points=decision.operating_points,
        default_point=decision.operating_points[0].name,
        verdict_points=decision.verdict_points,
        collections=decision.collections,
        any_relevant=decision.any_relevant,
        left_out_points=decision.left_out_points,
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
    if prints := prints_to_bytes(calibration_queries):
        files[CALIBRATION_QUERIES_NAME] = prints
    for name in described.graphs.values():
        files[name] = graphs_folder / name
        weights = graphs_folder / f"{name}.data"  # of graphs beyond the 2 GB of one file
        if weights.exists():
            files[weights.name] = weights
    return write_bundle(output, manifest, files, overwrite=True)


def recalibrated_bundle(
    bundle: Bundle,
    output: Path,
    *,
    decision: Decision,
    calibration_queries: Iterable[str] = (),
    overwrite: bool = False,
) -> Bundle:
    """Write a copy of a bundle with another calibration and other points; the model and the golden pairs are the same.

    Args:
        bundle: whose graphs made the scores.
        output: folder of the copy; that of the bundle itself needs `overwrite`.
        decision: its first point is the default.
        calibration_queries: texts, as for `make_bundle`.
        overwrite: replace another bundle at `output`.

    Raises:
        InvalidInput: something stands at `output` that is not to be replaced.
        OutputError: the disk is full, or the place may not be written.
    """
    # Measured at a threshold that is gone: kept, they would read as the quality of the new points.
    kept = {name: value for name, value in bundle.manifest.provenance.items() if name != "metrics"}
    provenance = {**kept, "recalibrated": {"from": bundle.hash, "relgrade": __version__}}
    manifest = replace(bundle.manifest, provenance=provenance).with_decision(decision)
    left_behind = (CARD_NAME, CALIBRATION_QUERIES_NAME)  # the card is rendered anew
    files: dict[str, Path | bytes] = {
        name: bundle.path(name).resolve() for name in bundle.manifest.files if name not in left_behind
    }
    if prints := prints_to_bytes(calibration_queries):
        files[CALIBRATION_QUERIES_NAME] = prints
    return write_bundle(output, manifest, files, overwrite=overwrite)


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
    """The file LICENSE: the licence by name, those of what the grader was made from, and its text where it is known."""
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
    full = LICENCES / f"{Path(settings.licence).name}.txt"
    text = f"\n{full.read_text(encoding='utf-8')}" if full.is_file() else ""
    return "\n".join(lines) + "\n" + text
