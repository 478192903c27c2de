"""What is said where a bundle was named and there is none. It knows names and paths, and opens nothing."""

import errno
from pathlib import Path

from relgrade.errors import BundleIncomplete
from relgrade.grade.embedded import embedded_names


def require_bundle(path: Path, *, folder: Path, also: str = "") -> Path:
    """The path, where something stands there.

    Args:
        path: of a bundle.
        folder: where the embedded bundles lie, whose names the message offers.
        also: what else would do, for the message.

    Raises:
        BundleIncomplete: nothing stands there.
    """
    if not is_there(path):
        raise BundleIncomplete(f"{path}: there is no such folder; {expected_bundle(folder)}{also}")
    return path


def expected_bundle(folder: Path) -> str:
    """What may be named where a bundle is asked for, in words."""
    names = ", ".join(embedded_names(folder))
    return "a folder with a bundle.json was expected" + (f", or the name of an embedded one ({names})" if names else "")


def is_there(path: Path) -> bool:
    """True where something stands at a path; a name too long for the file system is nowhere."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False
