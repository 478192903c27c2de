"""Bundles from the Hugging Face Hub (extra `hub`): one commit, and only the files that its manifest lists.

What is downloaded is checked by `load_bundle` like any other folder, so the Hub and its cache need not be trusted
beyond the manifest of the pinned commit.
"""

import re
from pathlib import Path
from typing import Any

from relgrade.bundle.safety import require_safe_name
from relgrade.bundle.schema import MANIFEST_NAME, Manifest
from relgrade.errors import BundleError, BundleIncomplete, InvalidInput, MissingExtra

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_HUB_ID = re.compile(f"{_PART}/{_PART}(@.*)?", re.DOTALL)
_COMMIT = re.compile("[0-9a-f]{40}")


def is_hub_id(source: str) -> bool:
    """True for `organisation/name` and `organisation/name@COMMIT`; whether that is a commit shows in `fetch_bundle`."""
    return _HUB_ID.fullmatch(source) is not None


def fetch_bundle(repo_id: str, *, revision: str | None) -> Path:
    """Download a bundle, or take it from the Hub's cache; offline, the cache is enough.

    Args:
        repo_id: `organisation/name`, or with its commit `organisation/name@COMMIT`.
        revision: full commit hash, where the id has none. Branches and tags are refused: they can be moved, and a
            grader whose verdicts may change overnight cannot be calibrated.

    Returns:
        A folder for `load_bundle`.

    Raises:
        InvalidInput: no commit hash, or two.
        MissingExtra: huggingface_hub is not installed.
        BundleError: the Hub cannot be reached, or has no such repository, commit or manifest, or asks for permission.
    """
    repo_id, revision = _pinned(repo_id, revision)
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        raise MissingExtra("huggingface_hub", extra="hub", purpose="load a bundle from the Hub") from error
    place = f"{repo_id} at {revision[:12]}"
    try:
        folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=[MANIFEST_NAME]))
        names = _listed_names(folder, place)
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=[MANIFEST_NAME, *names]))
    except BundleError:
        raise
    except Exception as error:
        message = _explain(error, errors)
        if message is None:
            raise
        raise BundleError(f"{place}: {message}") from error


def _pinned(source: str, revision: str | None) -> tuple[str, str]:
    """The id and its one commit, which stands in the id or beside it."""
    repo_id, at, commit = source.partition("@")
    if at and revision is not None:
        raise InvalidInput(f"{source}: its commit is there already, and revision={revision!r} besides; leave one out")
    found = commit if at else revision
    if not isinstance(found, str) or not _COMMIT.fullmatch(found):
        raise InvalidInput(
            f"{repo_id}: no folder here, and a Hub id needs the 40 hexadecimal digits of a commit, as "
            f"{repo_id}@COMMIT or as revision=COMMIT, got {'none' if found is None else repr(found)}; "
            "branches and tags can move, and the verdicts with them. The commit stands under 'Files and versions'"
        )
    return repo_id, found


def _listed_names(folder: Path, place: str) -> list[str]:
    path = folder / MANIFEST_NAME
    if not path.is_file():
        raise BundleIncomplete(f"{place}: no {MANIFEST_NAME} in this repository, so it is no bundle")
    names = sorted(Manifest.from_bytes(path.read_bytes()).files)
    for name in names:
        require_safe_name(name)  # also: no wildcard, as these become patterns
    return names


def _explain(error: Exception, errors: Any) -> str | None:
    """What to do about an error of the Hub client, None for one that is not its own."""
    if isinstance(error, errors.GatedRepoError):
        return "access is gated; accept its terms on the Hub, then log in with: hf auth login"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the repository has no such commit; check it"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "no such repository, or a private one; check the id, or log in with: hf auth login"
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled | ConnectionError):
        return "the Hub cannot be reached and the bundle is not in the cache; connect once, or load a folder"
    if isinstance(error, errors.HfHubHTTPError):
        return f"the Hub answered with an error: {str(error).strip().splitlines()[0][:200]}"
    # The client lets errors of its HTTP library through, and which library that is has changed twice.
    if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "requests"):
        return f"the connection to the Hub failed ({type(error).__name__}); try again, or load a folder"
    return None
