"""Fills the tables of docs/paper.md from benchmarks/paper/results.

    python docs/make_paper.py

A table stands between `<!-- table NAME -->` and `<!-- /table -->`; NAME is that of `python -m benchmarks.paper.tables`.
tests/test_filled_pages.py fails while the page is out of date.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "paper.md"
PART = re.compile(r"(?P<start><!-- table (?P<name>[^>]+?) -->\n).*?(?P<end><!-- /table -->)", re.DOTALL)


def main() -> None:
    """Write the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def filled(page: str) -> str:
    """The page with its tables replaced.

    Raises:
        KeyError: it asks for a table that has no results.
    """
    sys.path.insert(0, str(ROOT))
    from benchmarks.paper.tables import FOLDER, all_tables

    tables = all_tables(FOLDER)
    return PART.sub(lambda part: f"{part['start']}\n{tables[part['name']]}\n\n{part['end']}", page)


if __name__ == "__main__":
    main()
