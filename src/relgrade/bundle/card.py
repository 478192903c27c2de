"""The model card: everything the manifest knows, as a page a person reads before trusting the grader.

Generated, so that it cannot disagree with the bundle. All text of the manifest is untrusted and escaped: names of
sources come from files, and a card is shown on web pages.
"""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from relgrade.bundle.schema import CARD_NAME, Manifest
from relgrade.records import OperatingPoint

RUBRICS = {
    "answer-bearing": "A document is relevant when it holds what answers the query, in whole.",
    "partial-evidence": "A document is relevant when it holds a part of what answers the query, even if other "
    "documents are needed for the rest.",
    "answer-bearing or partial evidence": "A document is relevant when it holds the answer to the query, or a part "
    "of the evidence that the answer needs. Being about the same subject is not enough.",
    "topical": "A document is relevant when it is about the subject of the query, whether or not it answers it.",
}

_ARCHITECTURES = {
    "cross-encoder": "a cross-encoder: one pass of the model reads the query and the document together",
    "interaction": "an interaction model: one encoder reads query and document apart, and a small head weighs how "
    "their words and meanings meet",
}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$\-])")
_MAX_CELL = 300  # characters; longer values stay in bundle.json
_MAX_ROWS = 60


def render_card(manifest: Manifest) -> str:
    """The card as Markdown; the same manifest gives the same text.

    Args:
        manifest: with or without its `files`; an entry for the card itself is left out.
    """
    sections = [
        _introduction(manifest),
        _use(manifest),
        _data(manifest.provenance),
        _metrics(manifest.provenance),
        _decision(manifest),
        _training(manifest.provenance),
        _files(manifest),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


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


def _introduction(manifest: Manifest) -> str:
    architecture = _ARCHITECTURES.get(manifest.architecture, escape(manifest.architecture))
    lines = [f"# {escape(manifest.name)}", ""]
    if manifest.description:
        lines += [escape(manifest.description), ""]
    lines += [
        "A grader for relgrade, a Python library: it reads a query and a document and says how "
        f"probable it is that the document is relevant, and whether to keep it. It is {architecture}.",
        "",
        f"**What relevant means here** ({escape(manifest.rubric)}). "
        + RUBRICS.get(manifest.rubric, "The name of the rubric is all that is recorded."),
        "",
        f"Licence: {escape(manifest.licence)}. Written by relgrade {escape(manifest.relgrade_version)}.",
        "",
        "```python",
        "from relgrade import Grader",
        "",
        'grader = Grader.load("path/to/this/folder")',
        'for grade in grader.grade("your query", ["a document", "another"]):',
        "    print(grade.index, grade.probability, grade.relevant)",
        "```",
    ]
    return "\n".join(lines)


def _use(manifest: Manifest) -> str:
    return "\n".join(
        (
            "## Intended use and limits",
            "",
            "Made to drop documents that a retriever found and that do not help, before a generator reads them.",
            "",
            "- It judges relevance to the query, not whether a document is true, current or safe to repeat.",
            "- Probabilities and thresholds hold for queries and documents like those they were fitted on; on others, "
            "label some pairs of your own and calibrate again.",
            "- It reads a limited number of tokens; a grade whose `truncated` is true did not see the whole document.",
            "- Not made for decisions about people.",
        )
    )


def _data(provenance: Mapping[str, Any]) -> str:
    sources = provenance.get("sources")
    rows = [entry for entry in sources if isinstance(entry, Mapping)] if isinstance(sources, list) else []
    if isinstance(sources, Mapping):
        rows = [
            {"name": name, **entry} if isinstance(entry, Mapping) else {"name": name, "value": entry}
            for name, entry in sources.items()
        ]
    if not rows:
        return "## Training data\n\nNot recorded."
    columns = list(dict.fromkeys(key for row in rows for key in row))
    columns.sort(key=lambda key: {"name": 0, "licence": 1}.get(key, 2))
    body = [[row.get(column, "") for column in columns] for row in rows]
    return "## Training data\n\n" + _table(columns, body)


def _metrics(provenance: Mapping[str, Any]) -> str:
    metrics = provenance.get("metrics")
    if not isinstance(metrics, Mapping) or not metrics:
        return ""
    nested = {name: entry for name, entry in metrics.items() if isinstance(entry, Mapping)}
    single = [[name, entry] for name, entry in metrics.items() if name not in nested]
    parts = ["## Measured quality"]
    if single:
        parts.append(_table(["measure", "value"], single))
    if nested:
        columns = list(dict.fromkeys(key for entry in nested.values() for key in entry))
        body = [[name, *(entry.get(column, "") for column in columns)] for name, entry in nested.items()]
        parts.append(_table(["", *columns], body))
    return "\n\n".join(parts)


def _decision(manifest: Manifest) -> str:
    calibration = manifest.calibration
    sign = "-" if calibration.intercept < 0 else "+"
    lines = [
        "## Calibration and operating points",
        "",
        f"probability = sigmoid({calibration.slope:.6g} logit {sign} {abs(calibration.intercept):.6g}), "
        f"method {escape(calibration.method)}.",
        *_evidence(calibration.evidence),
        "",
        "A document is kept when its probability is at least the threshold of the operating point.",
        "",
    ]
    for point in manifest.operating_points:
        lines += _point(point, is_default=point.name == manifest.default_point)
    return "\n".join(lines)


def _point(point: OperatingPoint, *, is_default: bool) -> Iterator[str]:
    yield f"- **{escape(point.name)}**{' (default)' if is_default else ''}: threshold {point.threshold:.4f}"
    yield from (f"  {line}" for line in _evidence(point.evidence) or ["- no evidence recorded"])


def _evidence(evidence: Mapping[str, Any]) -> list[str]:
    return [f"- {escape(key)}: {escape(value)}" for key, value in list(evidence.items())[:_MAX_ROWS]]


def _training(provenance: Mapping[str, Any]) -> str:
    told = {key: value for key, value in provenance.items() if key not in ("sources", "metrics")}
    if not told:
        return ""
    lines = ["## How it was made", ""]
    for key, value in told.items():
        if isinstance(value, Mapping):
            lines.append(f"- {escape(key)}:")
            lines += [f"  {line}" for line in _evidence(value)]
        else:
            lines.append(f"- {escape(key)}: {escape(value)}")
    return "\n".join(lines)


def _files(manifest: Manifest) -> str:
    rows = [[name, entry.size, entry.sha256] for name, entry in sorted(manifest.files.items()) if name != CARD_NAME]
    intro = (
        "## Files\n\nLoading checks every file against `bundle.json`. The hash of the bundle is the sha256 of that "
        "file; `relgrade bundle show FOLDER` prints it, and every graded list carries it."
    )
    return intro + ("\n\n" + _table(["file", "bytes", "sha256"], rows) if rows else "")


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(escape(column) for column in columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in rows[:_MAX_ROWS]]
    if len(rows) > _MAX_ROWS:
        lines.append(f"\n{len(rows) - _MAX_ROWS} more rows stand in bundle.json.")
    return "\n".join(lines)
