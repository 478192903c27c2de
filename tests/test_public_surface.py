import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import relgrade
from relgrade import errors

PUBLIC = {
    "Grader",
    "Grade",
    "GradedList",
    "Document",
    "Pair",
    "KeepPolicy",
    "OperatingPoint",
    "Promise",
    "Calibration",
    "__version__",
}
ERRORS = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}

# One process answers all questions about a fresh import.
PROBE = """
import sys, time
start = time.process_time()
import relgrade
print(time.process_time() - start)
print(*sorted(name for name in sys.modules if "." not in name))
relgrade.Document, relgrade.RelgradeError
print(*sorted(name for name in sys.modules if "." not in name))
"""


@pytest.fixture(scope="module")
def probe():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    seconds, after_import, after_records = done.stdout.splitlines()
    return float(seconds), set(after_import.split()), set(after_records.split())


def test_the_public_names_are_these():
    assert set(relgrade.__all__) == PUBLIC | ERRORS
    assert set(relgrade.__all__) <= set(dir(relgrade))
    for name in relgrade.__all__:
        assert getattr(relgrade, name) is not None


def test_star_import_brings_them_and_nothing_else():
    names = {}
    exec("from relgrade import *", names)
    assert set(names) - {"__builtins__"} == set(relgrade.__all__)


def test_names_are_those_of_their_modules():
    from relgrade.grade.grader import Grader

    assert relgrade.Grader is Grader
    assert relgrade.UnsafeBundle is errors.UnsafeBundle


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'relgrade' has no attribute 'Graders'"):
        _ = relgrade.Graders


def test_every_error_is_caught_by_the_base():
    for name in ERRORS:
        assert issubclass(getattr(relgrade, name), relgrade.RelgradeError)


def test_the_type_checker_sees_what_runs():
    source = Path(relgrade.__file__).read_text(encoding="utf-8")
    for name in set(relgrade.__all__) - {"__version__"}:
        assert f" import {name} as {name}\n" in source, name


def test_import_is_quick_and_loads_no_runtime(probe):
    seconds, after_import, after_records = probe
    assert seconds < 0.15
    heavy = {"numpy", "onnxruntime", "tokenizers", "torch", "transformers", "click", "rich"}
    assert not heavy & after_import
    assert not heavy & after_records


def test_the_version_is_that_of_the_project():
    with (Path(__file__).parent.parent / "pyproject.toml").open("rb") as file:
        assert relgrade.__version__ == tomllib.load(file)["project"]["version"]


def test_types_travel_with_the_package():
    assert (Path(relgrade.__file__).parent / "py.typed").is_file()
