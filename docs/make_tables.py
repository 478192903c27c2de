"""Fills the tables of docs/paper.md and docs/performance.md from the results that are committed.

    python docs/make_tables.py

A table stands between `<!-- table NAME -->` and `<!-- /table -->`. tests/test_filled_pages.py fails while a page is out
of date.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PART = re.compile(r"(?P<start><!-- table (?P<name>[^>]+?) -->\n).*?(?P<end><!-- /table -->)", re.DOTALL)


def main() -> None:
    """Write the pages."""
    for page, tables in tables_of_pages().items():
        path = ROOT / "docs" / page
        path.write_text(filled(path.read_text(encoding="utf-8"), tables), encoding="utf-8")


def tables_of_pages() -> dict[str, dict[str, str]]:
    """Markdown by page and name of a table."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.paper.tables import all_tables as of_paper
    from benchmarks.speed.tables import all_tables as of_speed

    return {"paper.md": of_paper(), "performance.md": of_speed()}


def filled(page: str, tables: Mapping[str, str]) -> str:
    """The page with its tables replaced.

    Raises:
        KeyError: it asks for a table that has no results.
    """
    return PART.sub(lambda part: f"{part['start']}\n{tables[part['name']]}\n\n{part['end']}", page)


if __name__ == "__main__":
    main()
