"""The model card: everything the manifest knows, as a page a person reads before trusting the grader.

Generated, so that it cannot disagree with the bundle. All text of the manifest is untrusted and escaped: names of
sources come from files, and a card is shown on web pages.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from relgrade.bundle.markdown import escape, evidence_lines, table
from relgrade.bundle.promises import points_table
from relgrade.bundle.schema import CARD_NAME, Manifest
from relgrade.records import Calibration, Collections, OperatingPoint

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
    return "## Training data\n\n" + table(columns, body)


def _metrics(provenance: Mapping[str, Any]) -> str:
    metrics = provenance.get("metrics")
    if not isinstance(metrics, Mapping) or not metrics:
        return ""
    nested = {name: entry for name, entry in metrics.items() if isinstance(entry, Mapping)}
    single = [[name, entry] for name, entry in metrics.items() if name not in nested]
    parts = ["## Measured quality"]
    if single:
        parts.append(table(["measure", "value"], single))
    if nested:
        columns = list(dict.fromkeys(key for entry in nested.values() for key in entry))
        body = [[name, *(entry.get(column, "") for column in columns)] for name, entry in nested.items()]
        parts.append(table(["", *columns], body))
    return "\n\n".join(parts)


def _decision(manifest: Manifest) -> str:
    calibration = manifest.calibration
    lines = [
        "## Calibration and operating points",
        "",
        f"{_formula(calibration)}, method {escape(calibration.method)}.",
        *evidence_lines(calibration.evidence),
        "",
        "A document is kept when its probability is at least the threshold of the operating point. A promise is about "
        "queries drawn as the calibration queries were, and against the labels they had; see the evidence below.",
        "",
        *points_table(manifest.operating_points, default=manifest.default_point),
        *_left_out(manifest),
        *_verdicts(manifest),
        "",
    ]
    for point in manifest.operating_points:
        lines += _point(point, is_default=point.name == manifest.default_point)
    if manifest.collections is not None:
        lines += _collections(manifest.collections)
    if manifest.any_relevant is not None:
        lines += ["", "### Whether anything in a list is relevant", "", *evidence_lines(manifest.any_relevant.evidence)]
    return "\n".join(lines)


def _formula(calibration: Calibration) -> str:
    sign = "-" if calibration.intercept < 0 else "+"
    rest = f"{sign} {abs(calibration.intercept):.6g})"
    if calibration.knots:
        return f"probability = sigmoid(g(logit) {rest} with g straight between {len(calibration.knots)} knots"
    return f"probability = sigmoid({calibration.slope:.6g} logit {rest}"


def _point(point: OperatingPoint, *, is_default: bool) -> Iterator[str]:
    yield f"- **{escape(point.name)}**{' (default)' if is_default else ''}: threshold {point.threshold:.4f}"
    yield from (f"  {line}" for line in evidence_lines(point.evidence) or ["- no evidence recorded"])


def _left_out(manifest: Manifest) -> Iterator[str]:
    for entry in manifest.left_out_points:
        yield ""
        yield f"**There is no point {escape(entry.get('name'))}**, which was asked for: {escape(entry.get('reason'))}"


def _verdicts(manifest: Manifest) -> Iterator[str]:
    if manifest.verdict_points is None:
        return
    upper, lower = manifest.point(manifest.verdict_points.upper), manifest.point(manifest.verdict_points.lower)
    yield ""
    if upper.threshold <= lower.threshold:
        yield (
            f"Verdict: relevant from a probability of {upper.threshold:.4f} on ({escape(upper.name)}), else not "
            f"relevant. Nothing is unsure, since {escape(lower.name)} asks for no less."
        )
        return
    yield (
        f"Verdict: relevant from a probability of {upper.threshold:.4f} on ({escape(upper.name)}), not relevant below "
        f"{lower.threshold:.4f} ({escape(lower.name)}), unsure between them."
    )


def _collections(collections: Collections) -> Iterator[str]:
    yield ""
    yield f"### Points by {escape(collections.field)}"
    yield ""
    yield "Other values of the field, and documents without it, get the points above."
    for member in collections.members:
        yield ""
        yield f"**{escape(member.value)}**: {_formula(member.calibration)}."
        yield ""
        yield from points_table(member.operating_points)


def _training(provenance: Mapping[str, Any]) -> str:
    told = {key: value for key, value in provenance.items() if key not in ("sources", "metrics")}
    if not told:
        return ""
    lines = ["## How it was made", ""]
    for key, value in told.items():
        if isinstance(value, Mapping):
            lines.append(f"- {escape(key)}:")
            lines += [f"  {line}" for line in evidence_lines(value)]
        else:
            lines.append(f"- {escape(key)}: {escape(value)}")
    return "\n".join(lines)


def _files(manifest: Manifest) -> str:
    rows = [[name, entry.size, entry.sha256] for name, entry in sorted(manifest.files.items()) if name != CARD_NAME]
    intro = (
        "## Files\n\nLoading checks every file against `bundle.json`. The hash of the bundle is the sha256 of that "
        "file; `relgrade bundle show FOLDER` prints it, and every graded list carries it."
    )
    return intro + ("\n\n" + table(["file", "bytes", "sha256"], rows) if rows else "")
