"""Markdown that shows untrusted text as itself: escaped cells, tables, lists of evidence."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$\-])")
_MAX_CELL = 300  # characters; longer values stay in bundle.json
_MAX_ROWS = 60


def escape(value: Any) -> str:
    """Any value as one line of Markdown that shows as itself: no markup, no HTML, no line breaks, at most 300 signs."""
    text = " ".join(_shown(value).split())
    text = text if len(text) <= _MAX_CELL else text[: _MAX_CELL - 3] + "..."
    text = "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
    return _MARKDOWN.sub(r"\\\1", html.escape(text, quote=False))


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "unknown"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_shown(item) for item in value)
    return str(value)


def evidence_lines(evidence: Mapping[str, Any]) -> list[str]:
    """A list item for each entry of a JSON object; what is beyond the 60th stays in bundle.json."""
    return [f"- {escape(key)}: {escape(value)}" for key, value in list(evidence.items())[:_MAX_ROWS]]


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table of escaped cells; rows beyond the 60th are counted and stay in bundle.json."""
    lines = ["| " + " | ".join(escape(column) for column in columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in rows[:_MAX_ROWS]]
    if len(rows) > _MAX_ROWS:
        lines.append(f"\n{len(rows) - _MAX_ROWS} more rows stand in bundle.json.")
    return "\n".join(lines)
