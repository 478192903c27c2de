"""The manifest of a bundle as data: what `bundle.json` holds, how it is checked, how it becomes bytes.

It reads and writes no file. The same manifest always gives the same bytes, so the hash of those bytes names a grader.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Self

from relgrade.bundle import strict_json
from relgrade.bundle.goldens import GOLDENS_NAME
from relgrade.errors import BundleCorrupt, BundleTooNew, InvalidInput
from relgrade.records import Calibration, OperatingPoint, Promise

SCHEMA_VERSION = 1  # raised when an older relgrade could no longer read, or would misread, a bundle
MANIFEST_NAME = "bundle.json"
TOKENIZER_NAME = "tokenizer.json"
CARD_NAME = "README.md"
REQUIRED_FILES = (GOLDENS_NAME, TOKENIZER_NAME)

_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What a file of the bundle must be, byte for byte."""

    sha256: str  # 64 lower-case hexadecimal digits
    size: int  # bytes

    def __post_init__(self) -> None:
        if not isinstance(self.sha256, str) or len(self.sha256) != 64 or not set(self.sha256) <= _HEX:
            raise InvalidInput(f"a sha256 is 64 lower-case hexadecimal digits, got {self.sha256!r}")
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 0:
            raise InvalidInput(f"a file size is a whole number >= 0, got {self.size!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything a bundle says about itself. Mappings hold plain JSON and are never changed after creation."""

    name: str
    architecture: str  # which runtime reads the graphs: "cross-encoder" or "interaction"
    rubric: str  # what "relevant" means here, by name
    graphs: Mapping[str, str]  # role -> file: {"model": "model.int8.onnx"}, or {"encoder": ..., "head": ...}
    template: Mapping[str, Any]  # `to_json` of PairTemplate or TextTemplate
    calibration: Calibration
    operating_points: tuple[OperatingPoint, ...]
    default_point: str  # name of the point that decides unless the caller names another
    relgrade_version: str  # that wrote the bundle
    description: str = ""
    licence: str = "unknown"
    options: Mapping[str, Any] = field(default_factory=dict)  # whatever else the architecture needs
    provenance: Mapping[str, Any] = field(
        default_factory=dict
    )  # base model with revision and sha256, sources with licences and counts, recipe, seed, metrics
    files: Mapping[str, FileEntry] = field(default_factory=dict)  # every file but bundle.json; filled when written
    activation: str = "sigmoid"  # from calibrated logit to probability
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for name in ("name", "architecture", "rubric", "default_point", "relgrade_version"):
            _require_text(name, getattr(self, name))
        for name in ("description", "licence"):
            _require(isinstance(getattr(self, name), str), f"{name} must be a string, got {getattr(self, name)!r}")
        _require(self.schema_version == SCHEMA_VERSION, f"schema_version must be {SCHEMA_VERSION}")
        _require(self.activation == "sigmoid", f"activation must be 'sigmoid', got {self.activation!r}")
        _require(isinstance(self.graphs, Mapping) and len(self.graphs) > 0, "graphs must map a role to a file")
        for role, file in self.graphs.items():
            _require_text("a role in graphs", role)
            _require_text(f"graphs.{role}", file)
        names = [point.name for point in self.operating_points]
        for name in names:
            _require_text("the name of an operating point", name)
        _require(len(set(names)) == len(names), f"two operating points have one name: {names}")
        _require(self.default_point in names, f"default_point {self.default_point!r} is none of {names}")
        for name in ("template", "options", "provenance"):
            _require(isinstance(getattr(self, name), Mapping), f"{name} must be a JSON object")
            # A copy: what the caller does to their mapping later must not reach a frozen record.
            object.__setattr__(self, name, strict_json.plain(getattr(self, name), name))
        strict_json.plain(self.calibration.evidence, "calibration.evidence")
        for point in self.operating_points:
            strict_json.plain(point.evidence, f"operating_points.{point.name}.evidence")

    def point(self, name: str | None = None) -> OperatingPoint:
        """The operating point of that name, the default one for None.

        Raises:
            InvalidInput: the bundle has no such point.
        """
        wanted = self.default_point if name is None else name
        for point in self.operating_points:
            if point.name == wanted:
                return point
        known = ", ".join(point.name for point in self.operating_points)
        raise InvalidInput(f"no operating point {wanted!r} in the bundle {self.name!r}; it has: {known}")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, as it stands in `bundle.json`."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["calibration"] = asdict(self.calibration)
        values["operating_points"] = [asdict(point) for point in self.operating_points]
        values["files"] = {name: asdict(entry) for name, entry in self.files.items()}
        return {name: strict_json.plain(value, name) for name, value in values.items()}

    def to_bytes(self) -> bytes:
        """`bundle.json`: UTF-8, sorted keys, no time stamps; equal manifests give equal bytes."""
        return json.dumps(self.to_json(), sort_keys=True, indent=2, allow_nan=False).encode("ascii") + b"\n"

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Inverse of `to_json`.

        Raises:
            BundleTooNew: `schema_version` is higher than this relgrade reads.
            BundleCorrupt: a field is missing, unknown, of the wrong type or out of range.
        """
        if not isinstance(data, Mapping):
            raise BundleCorrupt(f"{MANIFEST_NAME}: a JSON object was expected, got {type(data).__name__}")
        _check_version(data.get("schema_version"))
        try:
            values = _checked_fields(cls, data, "the manifest")
            values["calibration"] = _record(Calibration, values["calibration"], "calibration")
            values["operating_points"] = tuple(
                _record(OperatingPoint, entry, f"operating_points[{i}]")
                for i, entry in enumerate(_list(values["operating_points"], "operating_points"))
            )
            entries = _mapping(values["files"], "files")
            values["files"] = {name: _record(FileEntry, entry, f"files.{name}") for name, entry in entries.items()}
            return cls(**values)
        except InvalidInput as error:
            raise BundleCorrupt(f"{MANIFEST_NAME}: {error}; restore the bundle from where it came") from error

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Inverse of `to_bytes`; raises as `from_json` does."""
        try:
            data = strict_json.parse(content)
        except ValueError as error:
            message = f"{MANIFEST_NAME} is not JSON: {error}; restore the bundle from where it came"
            raise BundleCorrupt(message) from error
        return cls.from_json(data)


def _check_version(version: Any) -> None:
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise BundleCorrupt(f"{MANIFEST_NAME}: schema_version must be a whole number >= 1, got {version!r}")
    if version > SCHEMA_VERSION:
        raise BundleTooNew(
            f"{MANIFEST_NAME}: schema {version}, this relgrade reads up to {SCHEMA_VERSION}; "
            "run: pip install --upgrade relgrade"
        )


def _checked_fields(kind: Any, data: Mapping[str, Any], place: str) -> dict[str, Any]:
    """A copy of `data` that has the fields of the dataclass, all those without a default, and no other."""
    known = {item.name: item for item in fields(kind)}
    unknown = sorted(set(data) - set(known))
    _require(not unknown, f"{place} has unknown fields {unknown}")
    # A manifest is always written whole, so a missing field is damage even where the class has a default.
    whole = kind is Manifest
    missing = [
        name
        for name, item in known.items()
        if name not in data and (whole or (item.default is MISSING and item.default_factory is MISSING))
    ]
    _require(not missing, f"{place} lacks the fields {missing}")
    return dict(data)


def _record(kind: Any, data: Any, place: str) -> Any:
    values = _checked_fields(kind, _mapping(data, place), place)
    for name in ("threshold", "slope", "intercept"):
        if name in values:
            is_number = strict_json.is_number(values[name])
            _require(is_number, f"{place}.{name} must be a finite number, got {values[name]!r}")
            values[name] = float(values[name])
    for name in ("name", "method"):
        _require(isinstance(values.get(name, ""), str), f"{place}.{name} must be a string")
    _mapping(values.get("evidence", {}), f"{place}.evidence")
    if values.get("promise") is not None:
        values["promise"] = Promise(**_checked_fields(Promise, _mapping(values["promise"], place), f"{place}.promise"))
    return kind(**values)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidInput(message)


def _require_text(name: str, value: Any) -> None:
    is_text = isinstance(value, str) and bool(value.strip())
    _require(is_text, f"{name} must be a string that is not empty, got {value!r}")


def _mapping(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{place} must be a JSON object, got {value!r}")
    return value


def _list(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidInput(f"{place} must be a list, got {value!r}")
    return value
