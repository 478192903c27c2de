"""The models that learn to judge: architectures, losses, and the loop that fits them. Needs the extra `train`."""

import importlib
from typing import TYPE_CHECKING, Any

from relgrade.errors import MissingExtra

try:
    import safetensors
    import torch
    import transformers
except ImportError as error:
    raise MissingExtra(error.name or "torch", extra="train", purpose="train a model") from error

del safetensors, torch, transformers

if TYPE_CHECKING:
    from relgrade.student.build import build_student, load_student
    from relgrade.student.cross_encoder import CrossEncoderStudent
    from relgrade.student.interaction import InteractionStudent
    from relgrade.student.student import Student
    from relgrade.student.training import fit

# Read on first use: an architecture or the training loop costs nothing to those who want another one.
_MODULES = {
    "CrossEncoderStudent": "cross_encoder",
    "InteractionStudent": "interaction",
    "Student": "student",
    "build_student": "build",
    "fit": "training",
    "load_student": "build",
}

__all__ = ["CrossEncoderStudent", "InteractionStudent", "Student", "build_student", "fit", "load_student"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
