"""Decides which retrieved documents are relevant to a query, before they reach the generator of a RAG system.

    from relgrade import Grader

    grader = Grader.load()
    kept = grader.filter(query, documents).documents

Names are imported when they are first used, so that `import relgrade` costs nothing and loads no model runtime.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relgrade.errors import BundleCorrupt as BundleCorrupt
    from relgrade.errors import BundleError as BundleError
    from relgrade.errors import BundleIncomplete as BundleIncomplete
    from relgrade.errors import BundleTooNew as BundleTooNew
    from relgrade.errors import GradingError as GradingError
    from relgrade.errors import InvalidData as InvalidData
    from relgrade.errors import InvalidInput as InvalidInput
    from relgrade.errors import InvalidSettings as InvalidSettings
    from relgrade.errors import MissingExtra as MissingExtra
    from relgrade.errors import NoSafeThreshold as NoSafeThreshold
    from relgrade.errors import OutputError as OutputError
    from relgrade.errors import ParityError as ParityError
    from relgrade.errors import RelgradeError as RelgradeError
    from relgrade.errors import SplitLeak as SplitLeak
    from relgrade.errors import TeacherError as TeacherError
    from relgrade.errors import TrainingError as TrainingError
    from relgrade.errors import UndefinedMeasure as UndefinedMeasure
    from relgrade.errors import UnsafeBundle as UnsafeBundle
    from relgrade.grade.grader import Grader as Grader
    from relgrade.records import Calibration as Calibration
    from relgrade.records import Document as Document
    from relgrade.records import Grade as Grade
    from relgrade.records import GradedList as GradedList
    from relgrade.records import KeepPolicy as KeepPolicy
    from relgrade.records import OperatingPoint as OperatingPoint
    from relgrade.records import Pair as Pair
    from relgrade.records import Promise as Promise

__version__ = "0.1.0"  # as in pyproject.toml; a test compares them

_HOMES = {
    "relgrade.errors": (
        *("BundleCorrupt", "BundleError", "BundleIncomplete", "BundleTooNew", "GradingError", "InvalidData"),
        *("InvalidInput", "InvalidSettings", "MissingExtra", "NoSafeThreshold", "OutputError", "ParityError"),
        *("RelgradeError", "SplitLeak", "TeacherError", "TrainingError", "UndefinedMeasure", "UnsafeBundle"),
    ),
    "relgrade.grade.grader": ("Grader",),
    "relgrade.records": (
        "Calibration",
        "Document",
        "Grade",
        "GradedList",
        "KeepPolicy",
        "OperatingPoint",
        "Pair",
        "Promise",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
