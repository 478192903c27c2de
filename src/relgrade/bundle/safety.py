"""What may not be in a bundle: pickles, code, and names that lead out of the folder.

relgrade itself never unpickles or runs anything of a bundle. These checks keep a bundle from carrying such a file to
somebody else's tool. They look at names and bytes; they are no proof against someone who hides data on purpose.
"""

import ast
import pickletools
import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO

from relgrade.errors import UnsafeBundle

_PICKLE_SUFFIX = re.compile(r"\.(pkl|pickle|p|pt|pth|pt2|bin|ckpt|joblib|dill|cloudpickle|h5|keras)", re.IGNORECASE)
_CODE_SUFFIX = re.compile(
    r"\.(py|pyc|pyo|pyd|pyz|so|dylib|dll|exe|com|sh|bash|bat|cmd|ps1|js|mjs|jar|class|whl|egg|wasm|app|msi|deb|rpm"
    r"|vbs|lnk)",
    re.IGNORECASE,
)

_MAGICS = {
    b"\x7fELF": "a program",
    b"MZ": "a program",
    b"\xcf\xfa\xed\xfe": "a program",
    b"\xce\xfa\xed\xfe": "a program",
    b"\xca\xfe\xba\xbe": "a program",
    b"#!": "a script",
    b"\x89HDF\r\n": "HDF5, which can hold code",
}
_NAME_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_NPY_MAGIC = b"\x93NUMPY"
_HEAD_BYTES = 4096
_MAX_TEXT_PICKLE_BYTES = 2**20  # pickles of protocol 0 are text without a mark; larger ones are not written by anybody


def require_safe_name(name: str) -> None:
    """Raise unless the name is a plain relative path that means the same on every system.

    Raises:
        UnsafeBundle: absolute, with `..`, a drive, a backslash, a hidden part or other signs, or a suffix of pickle
            or code.
    """
    parts = name.split("/") if isinstance(name, str) else []
    is_plain = bool(parts) and all(
        _NAME_PART.fullmatch(part) and not part.endswith(".") and not _RESERVED.fullmatch(part) for part in parts
    )
    if not is_plain:
        raise UnsafeBundle(
            f"{name!r} is no name for a file of a bundle; a relative path of letters, digits, '_', '-' and '.' "
            "was expected, without '..' and hidden parts"
        )
    require_safe_suffix(name)


def require_safe_suffix(name: str) -> None:
    """Raise when the file's name says pickle or code.

    Raises:
        UnsafeBundle: names the suffix.
    """
    for suffix in PurePosixPath(name).suffixes:
        if _PICKLE_SUFFIX.fullmatch(suffix):
            raise UnsafeBundle(
                f"{name}: {suffix} files can hold pickled code; only ONNX, safetensors, JSON and text are allowed"
            )
        if _CODE_SUFFIX.fullmatch(suffix):
            raise UnsafeBundle(f"{name}: {suffix} files are code; a bundle holds data only")


def require_safe_content(name: str, path: Path) -> None:
    """Raise when the bytes of a file are a pickle, a program or an archive, whatever its name says.

    Args:
        name: for the message.
        path: a regular file.

    Raises:
        UnsafeBundle: says what was found.
    """
    with path.open("rb") as file:
        found = _find_danger(file)
    if found:
        raise UnsafeBundle(f"{name}: holds {found}; only ONNX, safetensors, JSON and text are allowed in a bundle")


def _find_danger(file: IO[bytes]) -> str | None:
    head = file.read(_HEAD_BYTES)
    for magic, meaning in _MAGICS.items():
        if head.startswith(magic):
            return meaning
    if head.startswith(_NPY_MAGIC):
        return "a numpy array of pickled objects" if _has_object_dtype(head) else None
    # The third byte is an opcode in a pickle and zero in the length that begins a safetensors file.
    if head[:1] == b"\x80" and head[1:2] and head[1] in range(1, 6) and head[2:3] != b"\0":
        return "a pickle"
    if zipfile.is_zipfile(file):
        return _find_in_archive(file)
    file.seek(0)
    content = file.read(_MAX_TEXT_PICKLE_BYTES + 1)
    if len(content) <= _MAX_TEXT_PICKLE_BYTES and _is_text_pickle(content):
        return "a pickle"
    return None


def _find_in_archive(file: IO[bytes]) -> str | None:
    """A zip of plain .npy arrays is a .npz; any other archive could hold what no check here sees."""
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                if not member.endswith(".npy"):
                    return f"an archive with {member[:80]!r}"
                with archive.open(member) as array:
                    if _has_object_dtype(array.read(_HEAD_BYTES)):
                        return "a numpy array of pickled objects"
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError):
        return "an archive that cannot be read"
    return None


def _has_object_dtype(head: bytes) -> bool:
    """True for an array of Python objects, and for a header that is none (numpy/lib/format.py, versions 1 to 3)."""
    start = 10 if head[6:7] == b"\x01" else 12
    length = int.from_bytes(head[8:start], "little")
    try:
        description = ast.literal_eval(head[start : start + length].decode("utf-8").strip())["descr"]
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError):
        return True
    return "O" in str(description)  # "|O" on its own or as a field; no other type code has the letter


def _is_text_pickle(content: bytes) -> bool:
    try:
        for number, (opcode, _, position) in enumerate(pickletools.genops(content)):
            if opcode.name == "STOP":
                return number > 0 and not content[(position or 0) + 1 :].strip()
    except Exception:  # whatever bytes that are no pickle make it stumble over
        return False
    return False
