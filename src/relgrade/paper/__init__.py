"""The configurations of the paper this method comes from, as rows of one table. Needs the extra `train`.

One row is one way to judge the same test pairs: a prompted model, a trained one, or a judge behind a server.
"""

import importlib
from typing import TYPE_CHECKING, Any

from relgrade.errors import MissingExtra

try:
    import torch
    import transformers
except ImportError as error:
    raise MissingExtra(error.name or "torch", extra="train", purpose="train the paper's configurations") from error

del torch, transformers

if TYPE_CHECKING:
    from relgrade.paper.results import read_results, render_diagnoses, render_table
    from relgrade.paper.settings import PaperSettings, RowSettings
    from relgrade.paper.table import run_rows

_MODULES = {
    "PaperSettings": "settings",
    "RowSettings": "settings",
    "read_results": "results",
    "render_diagnoses": "results",
    "render_table": "results",
    "run_rows": "table",
}

__all__ = ["PaperSettings", "RowSettings", "read_results", "render_diagnoses", "render_table", "run_rows"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
