"""The folder of a bundle for commands that read its files, and so take no Hub id."""

from __future__ import annotations

from pathlib import Path

from relgrade.errors import InvalidInput


def bundle_folder(source: str | Path | None) -> Path:
    """Where a bundle lies that was named by its folder or as an embedded one; the embedded default for None.

    Raises:
        InvalidInput: there is no bundle.
    """
    from relgrade.grade.embedded import embedded_bundle
    from relgrade.grade.grader import DEFAULT_BUNDLE  # onnxruntime comes with it
    from relgrade.grade.hub import is_hub_id
    from relgrade.grade.missing import expected_bundle, is_there

    if source is None:
        return DEFAULT_BUNDLE
    named = embedded_bundle(str(source), folder=DEFAULT_BUNDLE.parent)
    if named is not None:
        return named
    folder = Path(source)
    if is_there(folder / "bundle.json"):
        return folder
    expected = expected_bundle(DEFAULT_BUNDLE.parent)
    if is_hub_id(str(source)) and not is_there(folder):
        expected += "; a Hub id cannot stand here: download what it names, and give that folder"
    raise InvalidInput(f"{source}: no bundle here; {expected}")
