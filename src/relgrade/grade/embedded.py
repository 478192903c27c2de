"""Bundles that are part of the package, by name."""

from pathlib import Path


def embedded_bundle(source: str | Path, *, folder: Path) -> Path | None:
    """The folder of the bundle that is embedded under a name, such as "nano".

    Args:
        source: a name; a path, or a name that a file or folder in the working directory has, is none of ours.
        folder: where the embedded bundles lie.

    Returns:
        None where there is no such bundle.
    """
    if not isinstance(source, str) or source not in embedded_names(folder) or Path(source).exists():
        return None
    return folder / source


def embedded_names(folder: Path) -> list[str]:
    """Those of the bundles in a folder, sorted."""
    return sorted(path.parent.name for path in folder.glob("*/bundle.json"))
