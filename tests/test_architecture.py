"""Holds the source to docs/design.md: layers, heavy packages at home, and the house rules a linter cannot know.

The layers are read from the table of docs/design.md, so a module that the table does not name fails here.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "relgrade"
PACKAGE = "relgrade"
DOOR = {"__init__", "__main__"}  # the package's own front door may import anything
STEPS, TOP = 3, 4  # numbers of layers in the table
STEP_MAY_IMPORT = {"export": {"student", "grade"}, "client": {"grade"}, "serve": {"grade"}}
INTEGRATIONS_MAY_IMPORT = {"grade", "client"}

HOMES = {
    "torch": {"student", "export", "paper"},
    "transformers": {"student", "export", "paper"},
    "accelerate": {"student"},
    "peft": {"student"},
    "safetensors": {"student", "export"},
    "onnx": {"export"},
    "onnxruntime": {"grade", "export"},
    "sklearn": {"calibrate", "evaluate"},
    "bm25s": {"candidates", "evaluate"},
    "bs4": {"candidates"},
    "fastapi": {"serve"},
    "httpx": {"client", "grade", "label"},
    "jinja2": {"evaluate", "serve", "student"},
    "prometheus_client": {"serve"},
    "redis": {"serve"},
    "starlette": {"serve"},
    "uvicorn": {"serve"},
    "matplotlib": {"evaluate"},
    "chromadb": {"candidates"},
    "faiss": {"candidates"},
    "psycopg": {"candidates"},
    "pypdf": {"candidates"},
    "qdrant_client": {"candidates"},
    "semantic_text_splitter": {"candidates"},
    "pyarrow": {"formats"},
    "huggingface_hub": {"grade"},
    "click": {"cli"},
    "haystack": {"integrations"},
    "langchain_core": {"integrations"},
    "langgraph": {"integrations"},
    "llama_index": {"integrations"},
    "mcp": {"integrations"},
}
MAX_LINES = 320  # the aim is 250
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
# In halves, so that this file does not hold what it looks for.
PLACES = ["/wo" + "rk/", "/tmp" + "/w/", "/ro" + "ot/"]
HOSTS = ["py" + "pi.org", "python" + "hosted.org", "download.py" + "torch.org", "anacon" + "da.org"]


@dataclass(frozen=True)
class Import:
    place: str  # file:line
    module: str  # dotted, as far as the statement names it
    name: str = ""  # what `from module import name` takes


def imports(path: Path, *, root: Path = ROOT) -> Iterator[Import]:
    """Every import of a file: at any depth, in TYPE_CHECKING blocks, and import_module with a literal."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        place = f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            yield from (Import(place, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (Import(place, module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            literal = node.args[0] if node.args else None
            is_literal = isinstance(literal, ast.Constant) and isinstance(literal.value, str)
            if called in {"import_module", "__import__"} and is_literal:
                yield Import(place, literal.value)


def layers(design: str) -> dict[str, int]:
    """Module -> number of its layer, from the table `| layer | modules | may import |`."""
    rows = re.findall(r"^\| *(\d) *\|([^|]*)\|", design, flags=re.MULTILINE)
    return {name.rstrip("/"): int(number) for number, cell in rows for name in re.findall(r"`([^`]+)`", cell)}


def part_of(path: Path, source: Path = SOURCE) -> str:
    """The module or subpackage directly under the package that a file belongs to."""
    return path.relative_to(source).parts[0].removesuffix(".py")


def reason_against(importer: str, imported: str, layer: dict[str, int]) -> str | None:
    """Why one part of the package may not import another; None when it may."""
    if importer == imported or importer in DOOR:
        return None
    for name in (importer, imported):
        if name not in layer:
            return f"{name} has no layer in docs/design.md"
    here, there = layer[importer], layer[imported]
    if importer == "integrations" and there >= STEPS and imported not in INTEGRATIONS_MAY_IMPORT:
        return f"integrations imports {imported}; of steps it may import grade and client alone"
    if here == TOP or there < here or (here == there == 2):
        return None
    if imported in STEP_MAY_IMPORT.get(importer, ()):
        return None
    if here == there == STEPS:
        return f"step {importer} imports step {imported}; steps meet in pipeline/ and cli/"
    return f"{importer} (layer {here}) imports {imported} (layer {there})"


def layer_violations(source: Path, layer: dict[str, int], *, root: Path) -> list[str]:
    """`file:line: reason` for every import between parts of the package that the layers forbid."""
    found = []
    for path in sorted(source.rglob("*.py")):
        importer = part_of(path, source)
        for each in imports(path, root=root):
            parts = each.module.split(".")
            if each.module.startswith("."):
                found.append(f"{each.place}: relative import {each.module}")
            elif parts[0] == PACKAGE:
                imported = parts[1] if len(parts) > 1 else each.name
                if len(parts) == 1 and imported in {"", "__version__"}:
                    continue  # the package itself; its names load lazily
                if len(parts) == 1 and imported[0].isupper() and importer not in DOOR:
                    found.append(f"{each.place}: import {imported} from the module that owns it")
                elif reason := reason_against(importer, imported, layer):
                    found.append(f"{each.place}: {reason}")
    return found


def heavy_violations(source: Path, *, root: Path) -> list[str]:
    """`file:line: reason` for every import of a heavy package outside its home."""
    found = []
    for path in sorted(source.rglob("*.py")):
        importer = part_of(path, source)
        for each in imports(path, root=root):
            package = each.module.split(".")[0]
            if package in HOMES and importer not in HOMES[package]:
                homes = ", ".join(f"{home}/" for home in sorted(HOMES[package]))
                found.append(f"{each.place}: {importer} imports {package}, which stays in {homes}")
    return found


def print_calls(path: Path, *, root: Path = ROOT) -> list[str]:
    """`file:line` of every call of print."""
    return [
        f"{path.relative_to(root)}:{node.lineno}: print()"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]


def forbidden_text(text: str, name: str) -> list[str]:
    """`file:line` of every path of one machine and every host of an index of packages."""
    return [
        f"{name}:{number}: {each}"
        for number, line in enumerate(text.splitlines(), start=1)
        for each in [*PLACES, *HOSTS]
        if each in line
    ]


@pytest.fixture(scope="module")
def layer():
    return layers((ROOT / "docs" / "design.md").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def own_files():
    """Files under version control, or everything but environments and caches where there is no git."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        paths = [ROOT / name for name in listed.decode().split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        folders = [".ci", "benchmarks", "docs", "examples", "recipes", "src", "tests"]
        paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
        paths += ROOT.glob("*")
    return [path for path in paths if path.is_file()]


def fail_with(violations: list[str]) -> None:
    assert not violations, "\n" + "\n".join(violations)


# --- the package


def test_layers(layer):
    fail_with(layer_violations(SOURCE, layer, root=ROOT))


def test_heavy_packages_stay_home():
    fail_with(heavy_violations(SOURCE, root=ROOT))


def test_every_part_of_the_package_has_a_layer(layer):
    parts = {part_of(path) for path in SOURCE.rglob("*.py")} - DOOR
    assert parts <= set(layer), f"without a layer in docs/design.md: {sorted(parts - set(layer))}"


def test_files_are_short():
    checked = [path for folder in ("src", "benchmarks", "examples", "docs") for path in (ROOT / folder).rglob("*.py")]
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in checked}
    fail_with([f"{path.relative_to(ROOT)}:{n}: over {MAX_LINES} lines" for path, n in lengths.items() if n > MAX_LINES])


def test_every_module_says_what_it_does():
    checked = [path for folder in ("src", "benchmarks", "examples", "docs") for path in (ROOT / folder).rglob("*.py")]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in checked if path.stat().st_size}
    bare = [path for path, tree in trees.items() if not ast.get_docstring(tree)]
    fail_with([f"{path.relative_to(ROOT)}:1: no module docstring" for path in bare])


def test_no_module_is_named_after_nothing():
    named = [path for path in SOURCE.rglob("*") if path.name.removesuffix(".py") in VAGUE_NAMES]
    fail_with([f"{path.relative_to(ROOT)}: says nothing about its content" for path in named])


def test_the_library_never_prints():
    fail_with([line for path in sorted(SOURCE.rglob("*.py")) for line in print_calls(path)])


def test_no_file_names_a_machine_or_an_index(own_files):
    found = []
    for path in own_files:
        raw = path.read_bytes()
        if b"\0" not in raw:  # graphs and weights are data
            found += forbidden_text(raw.decode("utf-8", "replace"), str(path.relative_to(ROOT)))
    fail_with(found)


# --- the checks themselves


@pytest.fixture
def planted(tmp_path):
    """Write files of a package with the layout of ours and return its folder."""

    def plant(**files):
        source = tmp_path / "src" / "relgrade"
        for name, text in files.items():
            path = source / (name.replace("__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return source

    return plant


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("records", "\nfrom relgrade.metrics import recall", ":2: records (layer 1) imports metrics (layer 2)"),
        ("errors", "import relgrade.records", ":1: errors (layer 0) imports records (layer 1)"),
        ("records", "import relgrade.settings", ":1: records (layer 1) imports settings (layer 1)"),
        ("calibrate__fit", "def f():\n    from relgrade.grade import grader", ":2: step calibrate imports step grade"),
        ("grade__x", "from relgrade.export.graph import y", ":1: step grade imports step export"),
        ("data__x", "from relgrade import metrics, pipeline", ":1: data (layer 3) imports pipeline (layer 4)"),
        ("grade__x", "from relgrade import Grade", ":1: import Grade from the module that owns it"),
        ("grade__x", "from relgrade.novelty import y", ":1: novelty has no layer"),
        ("grade__x", "from .runtime import y", ":1: relative import .runtime"),
        ("integrations__x", "from relgrade.evaluate import y", ":1: integrations imports evaluate"),
        ("evaluate__x", "import importlib\nimportlib.import_module('relgrade.grade')", ":2: step evaluate imports"),
        (
            "metrics",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import relgrade.grade",
            ":3: metrics (layer 2) imports grade (layer 3)",
        ),
    ],
)
def test_a_planted_violation_of_the_layers_is_found(planted, tmp_path, layer, file, text, reason):
    (found,) = layer_violations(planted(**{file: text}), layer, root=tmp_path)
    assert f"src/relgrade/{file.replace('__', '/')}.py{reason}" in found


def test_what_the_layers_allow_is_not_reported(planted, tmp_path, layer):
    source = planted(
        export__x="from relgrade.student import a\nfrom relgrade.grade.runtime import b\nfrom relgrade import errors",
        metrics="from relgrade.probability import sigmoid\nimport numpy as np",
        cli__x="from relgrade import __version__\nfrom relgrade.grade import a\nfrom relgrade.pipeline import b",
        __init__="from relgrade.grade.grader import Grader",
    )
    assert layer_violations(source, layer, root=tmp_path) == []


@pytest.mark.parametrize("text", ["import torch", "def f():\n    from torch.nn import Linear", "__import__('torch')"])
def test_a_planted_heavy_import_is_found(planted, tmp_path, text):
    source = planted(grade__x=text, student__x=text)
    (found,) = heavy_violations(source, root=tmp_path)
    assert found.startswith("src/relgrade/grade/x.py:")
    assert "torch, which stays in export/, paper/, student/" in found


def test_planted_prints_and_places_are_found(planted, tmp_path):
    path = planted(x="def f():\n    print('x')") / "x.py"
    assert print_calls(path, root=tmp_path) == ["src/relgrade/x.py:2: print()"]
    for text in [*PLACES, *HOSTS]:
        assert forbidden_text(f"fine\nsee {text}x", "README.md") == [f"README.md:2: {text}"]


def test_the_table_of_layers_is_read(layer):
    assert layer["errors"] == 0
    assert layer["formats"] == layer["bundle"] == layer["encoding"] == 2
    assert layer["grade"] == STEPS
    assert layer["cli"] == layer["pipeline"] == TOP
