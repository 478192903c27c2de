"""Where a grader comes from, as JSON for its manifest: no clock, no machine, no path. Equal runs give equal bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from relgrade.pipeline.ledger import file_sha256
from relgrade.records import Pair
from relgrade.settings import Recipe

_LIBRARIES = ("numpy", "onnx", "onnxruntime", "tokenizers", "torch", "transformers")


def library_versions() -> dict[str, str]:
    """Versions of the libraries that can move a number of the outcome."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def describe_base(recipe: Recipe) -> dict[str, Any]:
    """Name, licence and hashes of the pretrained model."""
    student = recipe.student
    folder = Path(student.base)
    described: dict[str, Any] = {"licence": recipe.bundle.base_licence}
    if folder.is_dir():
        weights = sorted(folder.glob("*.safetensors"))
        described["name"] = _folder_name(recipe)
        described["sha256"] = {path.name: file_sha256(path) for path in weights}
    else:
        described["name"] = student.base
        described["revision"] = student.revision
    return described


def describe_sources(recipe: Recipe, splits: Mapping[str, Sequence[Pair]]) -> list[dict[str, Any]]:
    """Licence, rubric and counts of each source, by split.

    Args:
        recipe: names the sources.
        splits: split -> its pairs, before balancing.
    """
    rows = []
    for source in recipe.sources:
        row: dict[str, Any] = {"name": source.name, "licence": source.licence, "rubric": source.rubric}
        for split, pairs in splits.items():
            own = [pair for pair in pairs if pair.source == source.name]
            row[split] = {
                "queries": len({pair.query_id for pair in own}),
                "pairs": len(own),
                "positives": sum((pair.label or 0.0) >= 0.5 for pair in own),
            }
        rows.append(row)
    return rows


def recipe_json(recipe: Recipe) -> dict[str, Any]:
    """The recipe with each path reduced to the name of its file."""
    plain = asdict(recipe)
    for source in plain["sources"]:
        source["path"] = Path(source["path"]).name
    if Path(recipe.student.base).is_dir():
        plain["student"]["base"] = _folder_name(recipe)
    if recipe.bundle.golden_pairs is not None:
        plain["bundle"]["golden_pairs"] = Path(recipe.bundle.golden_pairs).name
    plain["sources"] = list(plain["sources"])
    return plain


def _folder_name(recipe: Recipe) -> str:
    return recipe.bundle.base_name or Path(recipe.student.base).resolve().name
