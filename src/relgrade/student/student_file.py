"""`student.json`: what a student folder says of itself, and the only place that reads or writes it.

It knows nothing of weights. It is written last, so that a folder that has it is complete.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from relgrade.errors import InvalidInput, InvalidSettings
from relgrade.settings import StudentSettings

STUDENT_FILE_NAME = "student.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentFile:
    """What is needed to rebuild a student around its weights."""

    architecture: str
    settings: StudentSettings
    details: Mapping[str, Any] = field(default_factory=dict)  # JSON that only the architecture itself reads

    def write(self, folder: Path) -> None:
        """Write `student.json` into `folder`."""
        content = {"architecture": self.architecture, "settings": asdict(self.settings), **self.details}
        path = folder / STUDENT_FILE_NAME
        path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "StudentFile":
        """Inverse of `write`.

        Raises:
            InvalidInput: no `student.json`, or not one of this relgrade; names the file.
        """
        path = folder / STUDENT_FILE_NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InvalidInput(f"{folder}: a trained student was expected, {STUDENT_FILE_NAME} is not there") from error
        except ValueError as error:
            raise InvalidInput(f"{path}: not JSON: {error}") from error
        if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
            raise InvalidInput(f"{path}: an object with architecture and settings was expected")
        details = {name: value for name, value in content.items() if name not in ("architecture", "settings")}
        try:
            settings = StudentSettings(**content["settings"])
        except (TypeError, InvalidSettings) as error:
            raise InvalidInput(f"{path}: settings this relgrade cannot read: {error}") from error
        return cls(architecture=str(content.get("architecture")), settings=settings, details=details)
