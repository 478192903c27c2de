"""The report as one HTML file that loads nothing and runs nothing. Texts of logs are untrusted: each is escaped."""

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from relgrade.shadow.summary import NO_VALUE, clean_number, interval, sentences

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE = """
.pair { margin: .8rem 0; padding: .7rem 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; }
.pair p { margin: .2rem 0; max-width: none; overflow-wrap: anywhere; }
.pair .query { font-weight: 600; } .pair .ids { color: var(--muted); font-size: .8rem; }
"""


def render_page(report: Mapping[str, Any]) -> str:
    """One HTML file.

    Args:
        report: `ShadowReport.plain`, or what is read back from the file.
    """
    about = report["about"]
    style = files("relgrade.evaluate").joinpath("templates/report.css").read_text(encoding="utf-8") + _STYLE
    lead, *rest = sentences(report)
    title = f"{about.get('log') or 'Log'}: an LLM grader and relgrade"
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">\n<meta name="robots" content="noindex">',
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>",
        f'<header><p class="brand">relgrade shadow</p><h1>{escape(title)}</h1>{_facts(report)}</header>',
        f'<section class="verdict" aria-label="Summary"><p class="lead">{escape(lead)}</p>',
        f"<ul>{''.join(f'<li>{escape(each)}</li>' for each in rest)}</ul></section>",
        _tiles(report),
        "<h2>Who keeps what</h2>" + _crossing(report["table"]),
        "<h2>Time and money</h2>" + _costs(report),
        _pairs("Dropped by the LLM alone", report["dropped_alone"]["llm"]),
        _pairs("Dropped by relgrade alone", report["dropped_alone"]["relgrade"]),
        _pairs("Worth labelling first", report["wanted"]),
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(parts)


def _facts(report: Mapping[str, Any]) -> str:
    about, counts = report["about"], report["counts"]
    told = [
        f"{counts['verdicts']:,} verdicts on {counts['pairs']:,} pairs of {counts['queries']:,} queries",
        f"point {about['operating_point']}" if about.get("operating_point") else "",
        f"grader {about['grader']}" if about.get("grader") else "",
        str(about.get("created") or ""),
    ]
    return f'<p class="facts">{"".join(f"<span>{escape(each)}</span>" for each in told if each)}</p>'


def _tiles(report: Mapping[str, Any]) -> str:
    cells = []
    for name, key in (("Agreement", "raw"), ("Kappa", "kappa")):
        value = report["agreement"][key]
        cells.append((name, clean_number(value["value"]), interval(value)))
    queries = report["queries"]
    cells.append(("Emptied by the LLM alone", f"{queries['emptied_by_llm_alone']:,}", "queries left without documents"))
    cells.append(("Emptied by relgrade alone", f"{queries['emptied_by_relgrade_alone']:,}", "queries"))
    body = "".join(
        f'<div class="tile"><div class="name">{escape(name)}</div><div class="value">{escape(value)}</div>'
        f'<div class="between">{escape(note)}</div></div>'
        for name, value, note in cells
    )
    return f'<div class="tiles">{body}</div>'


def _crossing(table: Mapping[str, int]) -> str:
    rows = (
        ("LLM keeps", table["both_keep"], table["only_llm_keeps"]),
        ("LLM drops", table["only_relgrade_keeps"], table["both_drop"]),
    )
    return _table(("", "relgrade keeps", "relgrade drops"), [(name, f"{a:,}", f"{b:,}") for name, a, b in rows])


def _costs(report: Mapping[str, Any]) -> str:
    latency = report["latency"]
    rows = []
    for unit in ("document", "query"):
        for name, key in (("LLM", f"llm_{unit}_ms"), ("relgrade", f"relgrade_{unit}_ms")):
            spread = latency[key] or {"p50": None, "p95": None, "n": 0}
            told = [NO_VALUE if spread[each] is None else f"{spread[each]:,.1f}" for each in ("p50", "p95")]
            rows.append((f"{name}, by {unit}", *told, f"{spread['n']:,}"))
    return _table(("milliseconds", "median", "95 %", "measured on"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(each)}</th>' for each in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(each)}</td>" for each in row[1:])}</tr>'
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _pairs(title: str, pairs: Sequence[Mapping[str, Any]]) -> str:
    if not pairs:
        return ""
    body = "".join(
        f'<div class="pair"><p class="query">{escape(each["query"])}</p><p>{escape(each["document"])}</p>'
        f'<p class="ids">{escape(_note(each))}</p></div>'
        for each in pairs
    )
    return f"<h2>{escape(title)}</h2>{body}"


def _note(each: Mapping[str, Any]) -> str:
    probability = "no verdict" if each["probability"] is None else f"P = {each['probability']:.3f}"
    reason = f", {each['reason']}" if "reason" in each else ""
    return f"{probability}{reason}, query {each['query_id']}, document {each['doc_id']}"
