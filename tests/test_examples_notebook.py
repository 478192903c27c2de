import ast
import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "examples" / "relgrade.ipynb"


@pytest.fixture(scope="module")
def notebook():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source(cell):
    return "".join(cell["source"])


def test_it_was_run_from_top_to_bottom_without_an_error(notebook):
    cells = code_cells(notebook)
    assert len(cells) >= 6
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell["outputs"] for cell in cells)
    assert {output["output_type"] for cell in cells for output in cell["outputs"]} <= {"stream", "execute_result"}
    assert not any(output.get("name") == "stderr" for cell in cells for output in cell["outputs"])


def test_its_code_is_python_and_imports_what_is_there(notebook):
    for cell in code_cells(notebook):
        for node in ast.walk(ast.parse(source(cell))):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("relgrade"):
                module = __import__(node.module, fromlist=["x"])
                assert all(hasattr(module, alias.name) for alias in node.names)


def test_it_opens_with_a_title_and_is_told_in_between(notebook):
    assert source(notebook["cells"][0]).startswith("# ")
    assert sum(cell["cell_type"] == "markdown" for cell in notebook["cells"]) >= 5


def test_it_is_a_valid_notebook(notebook):
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["name"]) == (4, "python3")
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(nbformat.from_dict(notebook))
