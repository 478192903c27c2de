"""The card as a table in Markdown, and in sentences that its numbers carry."""

from collections.abc import Mapping, Sequence
from typing import Any

from relgrade.card.report import BM25, COMPRESSED, COSINE, TUNED

COLUMNS = {
    "precision": "context precision",
    "recall": "context recall",
    "gold_survives": "gold survives",
    "answer_survives": "answer survives",
    "empty_unanswerable": "unanswerable: empty",
    "empty_answerable": "answerable: empty",
}
NO_VALUE = "-"


def table(card: Mapping[str, Any]) -> list[list[str]]:
    """Head, the number of questions behind each column, and a filter a line; columns without any value are left out.

    Args:
        card: `Card.plain`, or what is read back from the file.
    """
    rows = card["rows"]
    keys = [key for key in COLUMNS if any(row[key]["value"] is not None for row in rows)]
    counted = [f"n = {rows[0][key]['n_questions']:,}" for key in keys]
    lines = [["filter", *(COLUMNS[key] for key in keys), "tokens", "ms"]]
    lines.append(["", *counted, f"n = {rows[0]['tokens']['n_questions']:,}", ""])
    for row in rows:
        spent = row["milliseconds"]
        sent = NO_VALUE if row["tokens"]["value"] is None else f"{row['tokens']['value']:,.0f}"
        lines.append([row["filter"], *(cell(row[key]) for key in keys), sent, _milliseconds(spent)])
    return lines


def equal_tokens_table(card: Mapping[str, Any]) -> list[list[str]]:
    """The same of the filters that send equally much."""
    rows = card["equal_tokens"]["rows"]
    keys = [key for key in COLUMNS if any(row[key]["value"] is not None for row in rows)]
    lines = [["score", *(COLUMNS[key] for key in keys), "tokens"]]
    for row in rows:
        lines.append([row["filter"], *(cell(row[key]) for key in keys), f"{row['tokens']['value']:,.0f}"])
    return lines


def cell(found: Mapping[str, Any]) -> str:
    """`0.57 [0.47, 0.68]`, or a dash."""
    if found["value"] is None:
        return NO_VALUE
    if found["low"] is None:
        return f"{found['value']:.2f}"
    return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"


def markdown(lines: Sequence[Sequence[str]], *, is_aligned: bool = False) -> str:
    """A table in Markdown; the first line is its head.

    Args:
        lines: cells.
        is_aligned: fill cells up, for a terminal.
    """
    widths = [max(len(line[i]) for line in lines) if is_aligned else 0 for i in range(len(lines[0]))]
    rule = ["-" * max(3, width) for width in widths]
    clean = [[each.replace("|", "\\|").ljust(widths[i]) for i, each in enumerate(line)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in (clean[0], rule, *clean[1:]))


def sections(card: Mapping[str, Any]) -> list[str | list[list[str]]]:
    """The whole card in the order of reading: texts, and tables as lines of cells."""
    equal = card["equal_tokens"]
    head = f"With {equal['tokens']:,.0f} tokens a question, as {equal['as']} sends:"
    return [title(card), table(card), *sentences(card), head, equal_tokens_table(card)]


def title(card: Mapping[str, Any]) -> str:
    """What was measured, in a line."""
    sample, about = card["sample"], card["about"]
    retriever = f"{about['retriever']}, " if about.get("retriever") else ""
    known = f"{sample['n_answerable']:,} answerable, {sample['n_unanswerable']:,} unanswerable"
    corpus = f", {about['n_documents']:,} documents" if about.get("n_documents") else ""
    return f"{retriever}top {sample['n_top']}: {sample['n_questions']:,} questions ({known}){corpus}"


def sentences(card: Mapping[str, Any]) -> list[str]:
    """What a reader must know of the numbers, and the plainest comparison; nothing that they do not carry."""
    limits = card["limits"]
    found = [
        "Brackets: 95 % intervals from drawing whole questions. Milliseconds: median of what the filter adds to a "
        "question, on this machine.",
    ]
    if limits["values"]:
        found.append(f"Limits of {_names(limits['values'])}: best F1 on {limits['chosen_on']}.")
    found += [f"{_NAMES[name]} is left out: {reason}." for name, reason in limits["missing"].items()]
    return [*found, *_comparison(card)]


_NAMES = {"bm25_share": BM25, "cosine": COSINE, "relgrade": TUNED}


def _names(values: Mapping[str, Any]) -> str:
    return ", ".join(f"`{_NAMES[name]}`" for name in values)


def _comparison(card: Mapping[str, Any]) -> list[str]:
    rows = {row["filter"]: row for row in card["rows"]}
    first = card["rows"][0]
    own = rows[f"relgrade {card['points']['default']}"]
    told = []
    if first["tokens"]["value"] and own["tokens"]["value"] is not None:
        share = 1.0 - own["tokens"]["value"] / first["tokens"]["value"]
        told.append(f"At {card['points']['default']}, {100 * share:.0f} % of the tokens are not sent")
    if own["gold_survives"]["value"] is not None:
        told.append(f"{_percent(own['gold_survives'])} of the questions with a relevant document keep one")
    if own["empty_unanswerable"]["value"] is not None:
        told.append(f"{_percent(own['empty_unanswerable'])} of the unanswerable ones get an empty context")
    sentence = "; ".join(told)
    compressed = rows.get(COMPRESSED)
    if compressed is None or not own["tokens"]["value"]:
        return [f"{sentence}."] if told else []
    saved = 1.0 - compressed["tokens"]["value"] / own["tokens"]["value"]
    return [f"{sentence}.", f"Compression saves {100 * saved:.0f} % more of what is left."]


def _percent(found: Mapping[str, Any]) -> str:
    return f"{100 * found['value']:.0f} %"


def _milliseconds(spent: Mapping[str, Any] | None) -> str:
    if spent is None:
        return NO_VALUE
    return f"{spent['p50']:,.1f}" if spent["p50"] < 10 else f"{spent['p50']:,.0f}"
