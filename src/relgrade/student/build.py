"""Make a student, new or from its folder; the architecture is chosen here and nowhere else."""

import importlib
from pathlib import Path
from typing import Any

from relgrade.errors import InvalidInput
from relgrade.settings import StudentSettings
from relgrade.student.student import Student
from relgrade.student.student_file import STUDENT_FILE_NAME, StudentFile

# Imported on demand: one architecture's imports are no burden on the other.
_CLASSES = {
    "cross-encoder": ("relgrade.student.cross_encoder", "CrossEncoderStudent"),
    "interaction": ("relgrade.student.interaction", "InteractionStudent"),
    # No value of StudentSettings.architecture: only `relgrade paper` makes one, and saves it.
    "generative": ("relgrade.student.generative", "GenerativeStudent"),
}


def build_student(settings: StudentSettings, *, seed: int) -> Student:
    """A student to be trained: a pretrained backbone under a new head.

    Args:
        settings: `architecture` and `base` decide which.
        seed: of the new weights; the global random state is left as it was.

    Raises:
        TrainingError: the base model cannot be loaded; says what to do.
        InvalidSettings: the base model cannot do what the settings ask.
    """
    student: Student = _class_of(settings.architecture, place="student").build(settings, seed=seed)
    return student


def load_student(folder: Path | str) -> Student:
    """The student that `Student.save` wrote, in evaluation mode, on the CPU.

    Raises:
        InvalidInput: the folder holds no student, or a damaged one.
    """
    folder = Path(folder)
    architecture = StudentFile.read(folder).architecture
    student: Student = _class_of(architecture, place=str(folder / STUDENT_FILE_NAME)).load(folder)
    return student.eval()


def _class_of(architecture: str, *, place: str) -> Any:  # a subclass of Student with `build` and `load`
    if architecture not in _CLASSES:
        known = ", ".join(sorted(_CLASSES))
        raise InvalidInput(f"{place}: unknown architecture {architecture!r}; known here: {known}")
    module, name = _CLASSES[architecture]
    return getattr(importlib.import_module(module), name)
