"""The report in sentences, for the terminal and the page."""

from collections.abc import Mapping
from typing import Any

NO_VALUE = "-"


def sentences(report: Mapping[str, Any]) -> list[str]:
    """What came of it, the most important first; nothing that the numbers do not carry."""
    return [each for each in (_lead(report), *_details(report)) if each]


def clean_number(value: float | None) -> str:
    """Two digits, or a dash."""
    return NO_VALUE if value is None else f"{value:.2f}"


def interval(estimate: Mapping[str, Any]) -> str:
    """The 95 % interval, or why there is none."""
    if estimate["low"] is None:
        return str(estimate["reason"] or "")
    return f"{estimate['low']:.2f} to {estimate['high']:.2f}"


def _lead(report: Mapping[str, Any]) -> str:
    raw, kappa = report["agreement"]["raw"], report["agreement"]["kappa"]
    if raw["value"] is None:
        return "No pair has a verdict of both graders."
    agreed = f"They agree on {100 * raw['value']:.0f} % of {report['counts']['compared']:,} pairs ({interval(raw)})"
    return f"{agreed}; kappa {clean_number(kappa['value'])} ({interval(kappa)})."


def _details(report: Mapping[str, Any]) -> list[str]:
    counts, table, queries = report["counts"], report["table"], report["queries"]
    found = [
        f"The LLM alone drops {table['only_relgrade_keeps']:,} pairs, relgrade alone {table['only_llm_keeps']:,}. "
        "Agreement is no measure of truth: label the pairs in which they differ to learn who is right.",
        f"Queries left without any document: {queries['emptied_by_both']:,} by both, "
        f"{queries['emptied_by_llm_alone']:,} by the LLM alone, "
        f"{queries['emptied_by_relgrade_alone']:,} by relgrade alone.",
    ]
    if counts["unreadable"]:
        found.append(f"{counts['unreadable']:,} verdicts of the LLM cannot be read; they count for neither side.")
    if counts["not_graded"]:
        found.append(f"{counts['not_graded']:,} pairs got no verdict from relgrade; they count for neither side.")
    again = report["self_agreement"]
    if again["pairs"]:
        found.append(
            f"Of {again['pairs']:,} pairs that the LLM judged more than once, it said the same about "
            f"{100 * again['share']:.0f} %."
        )
    return [*found, *_time(report), *_money(report)]


def _time(report: Mapping[str, Any]) -> list[str]:
    llm, own = report["latency"]["llm_document_ms"], report["latency"]["relgrade_document_ms"]
    if own is None:
        return []
    here = f"relgrade took {own['p50']:,.1f} ms a document (median)"
    if llm is None:
        return [f"{here}; the log holds no times of the LLM."]
    saved = llm["p50"] - own["p50"]
    return [f"{here}, the LLM {llm['p50']:,.0f} ms: {saved:,.0f} ms less for each document asked about in turn."]


def _money(report: Mapping[str, Any]) -> list[str]:
    money = report["money"]
    if money["cost"] is None:
        return ["The log holds no costs, and no prices were given."]
    missing = report["counts"]["verdicts"] - money["verdicts_with_cost"]
    unknown = f"; {missing:,} more have no known cost" if missing else ""
    return [
        f"The LLM's verdicts cost {money['cost']:.4g}, {money['cost_per_1000_verdicts']:.4g} for a thousand"
        f"{unknown}. relgrade asks nobody for money; its own machine is not counted."
    ]
