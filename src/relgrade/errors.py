"""Every error relgrade raises on purpose, as one tree.

    RelgradeError
    |-- InvalidInput        (ValueError)   an argument of a public function: a query, a document, a policy
    |   `-- UndefinedMeasure               the measure has no value on this data
    |-- NoSafeThreshold     (Exception)    no threshold keeps a promise; carries the closest one and what would do
    |-- InvalidSettings     (ValueError)   a settings file or field
    |-- InvalidData         (ValueError)   a line or file of pairs; carries the path and the line number
    |-- SplitLeak           (ValueError)   a query or document stands in two splits
    |-- OutputError         (OSError)      a file that cannot be written: full disk, no permission; carries the path
    |-- MissingExtra        (ImportError)  an optional dependency; carries the pip line
    |-- BundleError         (Exception)    a bundle that must not be loaded
    |   |-- BundleIncomplete               a file that the bundle lists is not there
    |   |-- BundleCorrupt                  a file whose bytes are not those that were hashed
    |   |-- BundleTooNew                   written by a newer relgrade
    |   `-- UnsafeBundle                   pickle or other code where weights belong
    |-- GradingError        (Exception)    the model gave no usable logit; carries the index of the document
    |-- TeacherError        (Exception)    a teacher that answers nothing: wrong key, no credit, no server
    |-- TrainingError       (Exception)    training cannot start or go on
    `-- ParityError         (Exception)    an exported model does not judge as the trained one does

A message says what was found, what was expected and what to do. Catching `RelgradeError` catches them all.
"""

from pathlib import Path


class RelgradeError(Exception):
    """Base of every error in this package."""


class InvalidInput(RelgradeError, ValueError):
    """An argument is of the wrong type, empty, or out of range."""


class UndefinedMeasure(InvalidInput):
    """The arguments are sound and the measure has no value on them, such as recall when nothing is relevant."""


class NoSafeThreshold(RelgradeError):
    """The calibration queries do not support the promise at any threshold.

    Attributes:
        closest_threshold: the threshold that came nearest, a calibrated probability; None when none keeps anything.
        bound: what can be promised there instead, a share in [0, 1]; None when nothing can.
        n_queries_needed: roughly how many calibration queries would do; None when no number would.
    """

    def __init__(
        self,
        message: str,
        *,
        closest_threshold: float | None = None,
        bound: float | None = None,
        n_queries_needed: int | None = None,
    ) -> None:
        self.closest_threshold = closest_threshold
        self.bound = bound
        self.n_queries_needed = n_queries_needed
        super().__init__(message)


class InvalidSettings(RelgradeError, ValueError):
    """A setting is unknown, of the wrong type, out of range, or contradicts another."""


class InvalidData(RelgradeError, ValueError):
    """A file, or one line of it, cannot be read as pairs.

    Attributes:
        path: the file, or None when the data did not come from one.
        line: line number counted from 1, or None when the whole file is meant.
    """

    def __init__(self, message: str, *, path: Path | str | None = None, line: int | None = None) -> None:
        self.path = None if path is None else Path(path)
        self.line = line
        place = "" if path is None else f"{path}: " if line is None else f"{path}:{line}: "
        super().__init__(place + message)


class SplitLeak(RelgradeError, ValueError):
    """The same query, or the same or nearly the same document, stands in two splits."""


class OutputError(RelgradeError, OSError):
    """A file cannot be written, as on a full disk; what was finished before is intact.

    Attributes:
        path: the file.
    """

    def __init__(self, message: str, *, path: Path | str) -> None:
        self.path = Path(path)
        super().__init__(f"{path}: {message}")

    @classmethod
    def from_os_error(cls, error: OSError, *, path: Path | str, state: str = "") -> "OutputError":
        """The system's words for `path`; `state` says what is left of the file."""
        reason = (error.strerror or str(error) or type(error).__name__).lower()
        found = cls(f"cannot be written: {reason}{'; ' if state else ''}{state}", path=path)
        found.errno = error.errno
        return found


class MissingExtra(RelgradeError, ImportError):
    """An optional dependency is not installed.

    Args:
        package: the distribution that could not be imported.
        extra: the extra of relgrade that brings it.
        purpose: what it is needed for, as the end of "is needed to ...".
    """

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f"{package} is needed to {purpose} and is not installed; run: pip install 'relgrade[{extra}]'")


class BundleError(RelgradeError):
    """A bundle cannot or must not be loaded."""


class BundleIncomplete(BundleError):
    """A file that `bundle.json` lists, or `bundle.json` itself, is not there."""


class BundleCorrupt(BundleError):
    """A file of the bundle does not have the bytes that were hashed when it was written."""


class BundleTooNew(BundleError):
    """The bundle was written in a schema newer than this relgrade reads."""


class UnsafeBundle(BundleError):
    """The bundle holds pickled data or another format that can run code on loading."""


class GradingError(RelgradeError):
    """The model returned no usable number for a document: an error, never a verdict.

    Attributes:
        index: position of the document in the call, counted from 0.
    """

    def __init__(self, message: str, *, index: int) -> None:
        self.index = index
        super().__init__(message)


class TeacherError(RelgradeError):
    """A teacher refuses or fails every request, so that going on is useless; labels received before are kept."""


class TrainingError(RelgradeError):
    """Training cannot start or cannot go on; the message names the last good checkpoint where there is one."""


class ParityError(RelgradeError):
    """An exported graph differs from the trained model, or its verdicts flip, by more than is allowed."""
