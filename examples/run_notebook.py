"""Runs relgrade.ipynb and writes its outputs into it, as after a change of the grader.

    pip install 'relgrade[qdrant]' nbclient ipykernel
    python examples/run_notebook.py

A test holds the file to have been run from top to bottom without an error.
"""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).with_name("relgrade.ipynb")


def main() -> None:
    """Run all cells in this folder; an error stops it, and the file stays as it was."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=600, resources=resources, record_timing=False).execute()
    # What the kernel says of itself would change with every machine.
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.validate(notebook)
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
