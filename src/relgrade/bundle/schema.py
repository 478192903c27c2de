"""The manifest of a bundle as data: what `bundle.json` holds, how it is checked, how it becomes bytes.

It reads and writes no file. The same manifest always gives the same bytes, so the hash of those bytes names a grader.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

from relgrade.bundle import strict_json
from relgrade.bundle.decision import (
    LATER_FIELDS,
    Decision,
    check_decision,
    decision_from_json,
    decision_to_json,
)
from relgrade.bundle.fields import checked_fields, mapping, require, require_text
from relgrade.bundle.goldens import GOLDENS_NAME
from relgrade.errors import BundleCorrupt, BundleTooNew, InvalidInput
from relgrade.records import Calibration, Collections, ListCalibration, OperatingPoint, VerdictPoints

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
    verdict_points: VerdictPoints | None = None  # this and the next three as in `Decision`
    collections: Collections | None = None
    any_relevant: ListCalibration | None = None
    left_out_points: tuple[Mapping[str, Any], ...] = ()
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        for name in ("name", "architecture", "rubric", "default_point", "relgrade_version"):
            require_text(name, getattr(self, name))
        for name in ("description", "licence"):
            require(isinstance(getattr(self, name), str), f"{name} must be a string, got {getattr(self, name)!r}")
        require(self.schema_version == SCHEMA_VERSION, f"schema_version must be {SCHEMA_VERSION}")
        require(self.activation == "sigmoid", f"activation must be 'sigmoid', got {self.activation!r}")
        require(isinstance(self.graphs, Mapping) and len(self.graphs) > 0, "graphs must map a role to a file")
        for role, file in self.graphs.items():
            require_text("a role in graphs", role)
            require_text(f"graphs.{role}", file)
        check_decision(self)
        names = [point.name for point in self.operating_points]
        require(self.default_point in names, f"default_point {self.default_point!r} is none of {names}")
        for name in ("template", "options", "provenance"):
            require(isinstance(getattr(self, name), Mapping), f"{name} must be a JSON object")
            # A copy: what the caller does to their mapping later must not reach a frozen record.
            object.__setattr__(self, name, strict_json.plain(getattr(self, name), name))

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
        left_out = [entry for entry in self.left_out_points if entry.get("name") == wanted]
        reason = f"; it was left out: {left_out[0].get('reason')}" if left_out else ""
        raise InvalidInput(f"no operating point {wanted!r} in the bundle {self.name!r}; it has: {known}{reason}")

    def with_decision(self, decision: Decision) -> Self:
        """The same manifest with another calibration and other points; the first point is the default."""
        changed = {item.name: getattr(decision, item.name) for item in fields(decision)}
        return replace(self, **changed, default_point=decision.operating_points[0].name)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, as it stands in `bundle.json`."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values |= decision_to_json(self)
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
            # A manifest is always written whole, so a missing field is damage even where the class has a default.
            later: dict[str, Any] = {name: [] if name == "left_out_points" else None for name in LATER_FIELDS}
            values = decision_from_json(checked_fields(cls, {**later, **data}, "the manifest", is_whole=True))
            entries = mapping(values["files"], "files")
            values["files"] = {name: _file_entry(entry, f"files.{name}") for name, entry in entries.items()}
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


def _file_entry(data: Any, place: str) -> FileEntry:
    return FileEntry(**checked_fields(FileEntry, data, place))
