"""Bundles on disk: written whole or not at all, read only when every byte is the one that was written."""

import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from relgrade.bundle.card import render_card
from relgrade.bundle.goldens import GOLDENS_NAME, GoldenPair, goldens_from_bytes
from relgrade.bundle.safety import require_safe_content, require_safe_name, require_safe_suffix
from relgrade.bundle.schema import CARD_NAME, MANIFEST_NAME, REQUIRED_FILES, FileEntry, Manifest
from relgrade.errors import (
    BundleCorrupt,
    BundleError,
    BundleIncomplete,
    InvalidInput,
    OutputError,
    RelgradeError,
    UnsafeBundle,
)

MAX_MANIFEST_BYTES = 16 * 2**20  # it is read before anything is known about it
_PIECE_BYTES = 2**20
# Left by version control and download clients; nothing here opens them.
_FOREIGN = frozenset((".git", ".gitattributes", ".gitignore", ".cache", ".huggingface", ".DS_Store"))


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files were checked when it was loaded."""

    folder: Path
    manifest: Manifest
    hash: str  # sha256 of bundle.json, which holds the hashes of all other files

    def path(self, name: str) -> Path:
        """Where a file of the bundle lies.

        Raises:
            BundleIncomplete: the manifest lists no such file.
        """
        if name not in self.manifest.files:
            listed = ", ".join(sorted(self.manifest.files))
            raise BundleIncomplete(f"the bundle {self.manifest.name!r} has no file {name!r}; it has: {listed}")
        return self.folder / name

    def read_bytes(self, name: str) -> bytes:
        """The bytes of a file of the bundle; raises as `path` does."""
        return self.path(name).read_bytes()

    @property
    def goldens(self) -> tuple[GoldenPair, ...]:
        """The golden pairs, at least one."""
        return goldens_from_bytes(self.read_bytes(GOLDENS_NAME))


def load_bundle(folder: Path | str) -> Bundle:
    """Check a bundle and open it. No graph is loaded.

    A listed file may be a link, as download caches make them: its bytes are checked, not its place. Whatever the
    manifest does not list must be harmless, and links and folders out of the bundle are refused.

    Args:
        folder: with `bundle.json` in it.

    Raises:
        BundleIncomplete: the folder, `bundle.json` or a listed file is not there.
        BundleTooNew: the manifest has a newer schema.
        BundleCorrupt: the manifest or the golden pairs cannot be read, or a file has other bytes than were hashed.
        UnsafeBundle: a file is a pickle or code, has an unsafe name, or is not a regular file.
    """
    folder = Path(folder)
    content = _read_manifest(folder)
    manifest = Manifest.from_bytes(content)
    for name in manifest.files:
        require_safe_name(name)
    for name in (*REQUIRED_FILES, *manifest.graphs.values()):
        if name not in manifest.files:
            raise BundleIncomplete(f"{folder / MANIFEST_NAME} does not list {name!r}, which a bundle needs")
    for name, entry in sorted(manifest.files.items()):
        _check_file(folder, name, entry)
    for name in _unlisted(folder, manifest):
        require_safe_suffix(name)
        require_safe_content(name, folder / name)
    bundle = Bundle(folder, manifest, hashlib.sha256(content).hexdigest())
    goldens_from_bytes(bundle.read_bytes(GOLDENS_NAME))
    return bundle


def write_bundle(
    folder: Path | str, manifest: Manifest, files: Mapping[str, Path | bytes], *, overwrite: bool = False
) -> Bundle:
    """Write a bundle; a reader never sees half of one.

    All files go to a folder beside the target, are synced to disk and checked as `load_bundle` does, and then take the
    target's name in one step. The card is rendered from the manifest unless `files` brings a README.md.

    Args:
        folder: must not exist or be empty, or hold a bundle when `overwrite` is set. A bundle there that is already
            the one to write is left alone, so that a step that was done can be done again.
        manifest: its `files` are filled in here.
        files: name in the bundle -> file to copy, or content; without bundle.json.
        overwrite: replace another bundle that stands there.

    Raises:
        UnsafeBundle: a name leads out of the folder, a source is a link, or a file is a pickle or code.
        BundleIncomplete: a graph, tokenizer.json or goldens.jsonl is not among `files`.
        BundleCorrupt: goldens.jsonl cannot be read as golden pairs.
        InvalidInput: two names differ in case only, or something else stands at `folder`.
        OutputError: the disk is full, or the place may not be written.
    """
    folder = Path(folder)
    _check_names(files)
    draft = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.partial"
    try:
        draft.mkdir(parents=True)
        entries = {name: _write_file(draft / name, name, source) for name, source in files.items()}
        if CARD_NAME not in entries:
            card = render_card(replace(manifest, files=entries))
            entries[CARD_NAME] = _write_file(draft / CARD_NAME, CARD_NAME, card.encode("utf-8"))
        complete = replace(manifest, files=entries)
        _write_file(draft / MANIFEST_NAME, MANIFEST_NAME, complete.to_bytes())
        bundle = load_bundle(draft)
        for place in (draft, *(path for path in draft.rglob("*") if path.is_dir())):
            _sync_folder(place)
        _publish(draft, folder, bundle.hash, overwrite=overwrite)
    except OSError as error:
        if isinstance(error, RelgradeError):
            raise
        raise OutputError.from_os_error(error, path=folder, state="what stood there before is intact") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # gone already when all went well
    return replace(bundle, folder=folder)


def _publish(draft: Path, folder: Path, wanted_hash: str, *, overwrite: bool) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InvalidInput(f"{folder} is not a folder; choose another place for the bundle")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / MANIFEST_NAME).is_file():
            raise InvalidInput(f"{folder} holds files that are no bundle; choose another folder")
        if _is_same_bundle(folder, wanted_hash):
            return
        if not overwrite:
            raise InvalidInput(f"{folder} holds another bundle; choose another folder, remove it, or set overwrite")
        old = draft.with_suffix(".old")
        folder.rename(old)
        try:
            draft.rename(folder)
        except OSError:
            old.rename(folder)
            raise
        shutil.rmtree(old)
    else:
        draft.rename(folder)  # an empty folder gives way
    _sync_folder(folder.parent)


def _is_same_bundle(folder: Path, wanted_hash: str) -> bool:
    try:
        return load_bundle(folder).hash == wanted_hash
    except BundleError:
        return False


def _check_names(files: Mapping[str, Path | bytes]) -> None:
    seen: dict[str, str] = {}
    for name in files:
        require_safe_name(name)
        if name == MANIFEST_NAME:
            raise InvalidInput(f"{MANIFEST_NAME} is written from the manifest; leave it out of the files")
        if (twin := seen.setdefault(name.lower(), name)) != name:
            raise InvalidInput(f"{twin!r} and {name!r} are one file on systems that ignore case; rename one")


def _write_file(target: Path, name: str, source: Path | bytes) -> FileEntry:
    """Copy or write, sync to disk, check what was written, and hash it on the way."""
    digest, size = hashlib.sha256(), 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        for piece in _pieces(name, source):
            digest.update(piece)
            size += len(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    require_safe_content(name, target)
    return FileEntry(digest.hexdigest(), size)


def _pieces(name: str, source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    if not isinstance(source, Path):
        raise InvalidInput(f"{name}: a Path or bytes was expected, got {type(source).__name__}")
    if source.is_symlink():
        raise UnsafeBundle(f"{name}: {source} is a link; name the file it leads to")
    if not source.is_file():
        raise BundleIncomplete(f"{name}: {source} is not a file")
    with source.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_manifest(folder: Path) -> bytes:
    path = folder / MANIFEST_NAME
    try:
        is_there = folder.is_dir()
    except OSError:  # a name that is too long for a folder
        is_there = False
    if not is_there:
        raise BundleIncomplete(f"{folder}: there is no such folder; a folder with a {MANIFEST_NAME} was expected")
    if not path.exists():
        raise BundleIncomplete(f"{folder}: no {MANIFEST_NAME} in this folder, so it is no bundle")
    if not path.is_file() or path.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleCorrupt(f"{path}: a regular file of at most {MAX_MANIFEST_BYTES // 2**20} MB was expected")
    return path.read_bytes()


def _check_file(folder: Path, name: str, entry: FileEntry) -> None:
    path = folder / name
    if not path.exists():
        raise BundleIncomplete(f"{path}: listed in {MANIFEST_NAME} and not there; restore it from where it came")
    if not path.is_file():
        raise UnsafeBundle(f"{path}: a regular file was expected")
    found_size = path.stat().st_size
    if found_size != entry.size:
        raise BundleCorrupt(f"{path}: expected {entry.size} bytes, found {found_size}; restore it from where it came")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    if digest.hexdigest() != entry.sha256:
        raise BundleCorrupt(
            f"{path}: expected sha256 {entry.sha256}, found {digest.hexdigest()}; restore it from where it came"
        )
    require_safe_content(name, path)


def _unlisted(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Names of the files that the manifest does not list, for a look at what came along."""
    listed = {MANIFEST_NAME, *manifest.files}
    stack = [folder]
    while stack:
        for path in sorted(stack.pop().iterdir()):
            name = path.relative_to(folder).as_posix()
            if name in listed or path.name in _FOREIGN:
                continue
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                stack.append(path)
            elif stat.S_ISREG(mode):
                yield name
            else:
                raise UnsafeBundle(f"{path}: a link or device that {MANIFEST_NAME} does not list; remove it")
