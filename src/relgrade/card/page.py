"""The card as one HTML file that loads nothing and runs nothing. Names of files and points are escaped."""

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from relgrade.card.render import equal_tokens_table, sentences, table, title

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render_page(card: Mapping[str, Any]) -> str:
    """One HTML file.

    Args:
        card: `Card.plain`, or what is read back from the file.
    """
    style = files("relgrade.evaluate").joinpath("templates/report.css").read_text(encoding="utf-8")
    about = card["about"]
    head = f"{about.get('queries') or 'A RAG system'}: what grading is worth"
    facts = [title(card), f"grader {about['grader']}" if about.get("grader") else "", str(about.get("created") or "")]
    equal = card["equal_tokens"]
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">\n<meta name="robots" content="noindex">',
        f"<title>{escape(head)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>",
        f'<header><p class="brand">relgrade card</p><h1>{escape(head)}</h1>',
        f'<p class="facts">{"".join(f"<span>{escape(each)}</span>" for each in facts if each)}</p></header>',
        _table(table(card)),
        _notes(sentences(card)),
        f"<h2>With {equal['tokens']:,.0f} tokens a question, as {escape(equal['as'])} sends</h2>",
        _table(equal_tokens_table(card)),
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _table(lines: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(each)}</th>' for each in lines[0])
    body = "".join(
        f'<tr><th scope="row">{escape(line[0])}</th>{"".join(f"<td>{escape(each)}</td>" for each in line[1:])}</tr>'
        for line in lines[1:]
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _notes(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(each.replace('`', ''))}</li>" for each in notes)
    return f"<ul>{items}</ul>"
