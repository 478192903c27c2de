"""What a comparison says: agreement, who drops what alone, money, time, and which pairs to label. JSON out.

Everything is a function of `Compared`; nothing is graded or read here.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.evaluate.intervals import Estimate, draw_queries, estimate, ratio_draws
from relgrade.shadow.compare import Compared
from relgrade.shadow.queue import Wanted, labelling_queue

SHOWN_CHARACTERS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Of the LLM, where the log has no costs; in any currency, the report repeats the numbers."""

    input_per_million: float | None = None  # tokens
    output_per_million: float | None = None  # tokens
    per_verdict: float | None = None  # flat; tokens are then not looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSettings:
    """How the report is made."""

    n_draws: int = 1000  # of the bootstrap over queries
    seed: int = 0  # of the bootstrap
    n_examples: int = 10  # of each kind, in the report
    n_wanted: int = 100  # pairs worth labelling
    prices: Prices = field(default_factory=Prices)


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """The comparison of two graders."""

    plain: dict[str, Any]  # all of it, as JSON
    wanted: tuple[Wanted, ...]  # pairs worth labelling, the most telling first


def build_report(
    compared: Sequence[Compared], settings: ReportSettings | None = None, *, about: dict[str, Any] | None = None
) -> ShadowReport:
    """Measure.

    Args:
        compared: at least one; a pair that the LLM judged twice counts once in the agreement, by its last verdict.
        settings: None: `ReportSettings()`.
        about: facts to carry along, JSON.
    """
    settings = settings or ReportSettings()
    last = list({(each.logged.query_id, each.logged.doc_id): each for each in compared}.values())
    whole = [each for each in last if each.is_whole]
    wanted = labelling_queue(last, limit=settings.n_wanted)
    plain = {
        "schema": 1,
        "about": about or {},
        "counts": _counts(compared, last, whole),
        "agreement": _agreement(whole, settings),
        "table": _table(whole),
        "queries": _queries(whole),
        "self_agreement": _self_agreement(compared),
        "money": _money(compared, settings.prices),
        "latency": _latency(compared),
        "dropped_alone": {
            "llm": _examples(whole, settings.n_examples, is_llm=True),
            "relgrade": _examples(whole, settings.n_examples, is_llm=False),
        },
        "wanted": [each.to_json() for each in wanted[: settings.n_examples]],
        "method": {"n_draws": settings.n_draws, "seed": settings.seed, "unit": "query"},
    }
    return ShadowReport(plain, tuple(wanted))


def _counts(compared: Sequence[Compared], last: Sequence[Compared], whole: Sequence[Compared]) -> dict[str, int]:
    return {
        "verdicts": len(compared),
        "pairs": len(last),
        "queries": len({each.logged.query_id for each in last}),
        "compared": len(whole),
        "unreadable": sum(each.logged.is_relevant is None for each in compared),
        "not_graded": sum(each.own.is_relevant is None for each in last),
    }


def _cells(whole: Sequence[Compared]) -> NDArray[np.float64]:
    """Counts by query of: both keep, the LLM alone keeps, ours alone keeps, both drop; shape (n_queries, 4)."""
    rows = {name: i for i, name in enumerate(dict.fromkeys(each.logged.query_id for each in whole))}
    cells = np.zeros((len(rows), 4))
    for each in whole:
        cells[rows[each.logged.query_id], 2 * (not each.logged.is_relevant) + (not each.own.is_relevant)] += 1
    return cells


def _agreement(whole: Sequence[Compared], settings: ReportSettings) -> dict[str, Any]:
    cells = _cells(whole)
    n_queries, n_pairs = len(cells), len(whole)
    if n_queries == 0:
        none = asdict(Estimate(None, None, None, 0, 0, "no pair has a verdict of both"))
        return {"raw": none, "kappa": none}
    draws = draw_queries(n_queries, n_draws=settings.n_draws, seed=settings.seed)
    agreed, total = cells[:, 0] + cells[:, 3], cells.sum(axis=1)
    raw = estimate(
        float(agreed.sum() / total.sum()), ratio_draws(draws, agreed, total), n_queries=n_queries, n_pairs=n_pairs
    )
    value = float(_kappa(cells.sum(axis=0)[None])[0])
    kappa = estimate(
        None if np.isnan(value) else value,
        _kappa(draws @ cells),
        n_queries=n_queries,
        n_pairs=n_pairs,
        reason="both say one and the same throughout" if np.isnan(value) else None,
    )
    return {"raw": asdict(raw), "kappa": asdict(kappa)}


def _kappa(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cohen's kappa (Cohen 1960) of tables of counts, shape (n, 4) as in `_cells` to (n,); NaN where undefined."""
    total = cells.sum(axis=1)
    observed = (cells[:, 0] + cells[:, 3]) * total
    by_chance = (cells[:, 0] + cells[:, 1]) * (cells[:, 0] + cells[:, 2])
    by_chance = by_chance + (cells[:, 2] + cells[:, 3]) * (cells[:, 1] + cells[:, 3])
    # Multiplied out by total squared, so that an empty table divides by nothing.
    room = total**2 - by_chance
    kappa: NDArray[np.float64] = np.divide(observed - by_chance, room, out=np.full(total.shape, np.nan), where=room > 0)
    return kappa


def _table(whole: Sequence[Compared]) -> dict[str, int]:
    both, llm, own, neither = (int(n) for n in _cells(whole).sum(axis=0)) if whole else (0, 0, 0, 0)
    return {"both_keep": both, "only_llm_keeps": llm, "only_relgrade_keeps": own, "both_drop": neither}


def _queries(whole: Sequence[Compared]) -> dict[str, int]:
    """Queries that a grader leaves without any document: where a wrong drop hurts most."""
    cells = _cells(whole)
    llm_empty = cells[:, 0] + cells[:, 1] == 0
    own_empty = cells[:, 0] + cells[:, 2] == 0
    return {
        "compared": len(cells),
        "emptied_by_both": int((llm_empty & own_empty).sum()),
        "emptied_by_llm_alone": int((llm_empty & ~own_empty).sum()),
        "emptied_by_relgrade_alone": int((own_empty & ~llm_empty).sum()),
    }


def _self_agreement(compared: Sequence[Compared]) -> dict[str, Any]:
    """How often the LLM repeats itself on a pair that it judged more than once; ours always does."""
    said: dict[tuple[str, str], list[bool]] = {}
    for each in compared:
        if each.logged.is_relevant is not None:
            said.setdefault((each.logged.query_id, each.logged.doc_id), []).append(each.logged.is_relevant)
    repeated = [verdicts for verdicts in said.values() if len(verdicts) > 1]
    same = sum(len(set(verdicts)) == 1 for verdicts in repeated)
    return {"pairs": len(repeated), "same": same, "share": same / len(repeated) if repeated else None}


def _money(compared: Sequence[Compared], prices: Prices) -> dict[str, Any]:
    """What the LLM's verdicts cost; those without a known cost are counted apart, never as free."""
    costs = [cost for each in compared if (cost := _cost(each, prices)) is not None]
    tokens_in = [each.logged.input_tokens for each in compared if each.logged.input_tokens is not None]
    tokens_out = [each.logged.output_tokens for each in compared if each.logged.output_tokens is not None]
    total = sum(costs) if costs else None
    return {
        "cost": total,
        "cost_per_1000_verdicts": None if total is None else 1000.0 * total / len(costs),
        "verdicts_with_cost": len(costs),
        "input_tokens": sum(tokens_in) if tokens_in else None,
        "output_tokens": sum(tokens_out) if tokens_out else None,
        "prices": asdict(prices),
    }


def _cost(each: Compared, prices: Prices) -> float | None:
    logged = each.logged
    if logged.cost is not None:
        return logged.cost
    if prices.per_verdict is not None:
        return prices.per_verdict
    parts = ((logged.input_tokens, prices.input_per_million), (logged.output_tokens, prices.output_per_million))
    known = [n * price / 1e6 for n, price in parts if n is not None and price is not None]
    return sum(known) if known else None


def _latency(compared: Sequence[Compared]) -> dict[str, Any]:
    """Milliseconds by document, and by query when the LLM is asked one document after the other."""
    llm = [each.logged.latency_s for each in compared if each.logged.latency_s is not None]
    own = [each.own.latency_s for each in compared if each.own.latency_s is not None]
    by_query: dict[str, list[Compared]] = {}
    for each in compared:
        by_query.setdefault(each.logged.query_id, []).append(each)
    llm_query = [
        sums for each in by_query.values() if (sums := _sum([one.logged.latency_s for one in each])) is not None
    ]
    own_query = [sums for each in by_query.values() if (sums := _sum([one.own.latency_s for one in each])) is not None]
    return {
        "llm_document_ms": _spread(llm),
        "relgrade_document_ms": _spread(own),
        "llm_query_ms": _spread(llm_query),
        "relgrade_query_ms": _spread(own_query),
    }


def _sum(values: Sequence[float | None]) -> float | None:
    """The sum; None when one of them is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def _spread(seconds: Sequence[float]) -> dict[str, Any] | None:
    if not seconds:
        return None
    p50, p95 = np.quantile(np.array(seconds) * 1000.0, [0.5, 0.95])
    return {"n": len(seconds), "p50": float(p50), "p95": float(p95)}


def _examples(whole: Sequence[Compared], limit: int, *, is_llm: bool) -> list[dict[str, Any]]:
    """What one grader drops and the other keeps, where ours is surest first."""
    found = [each for each in whole if not each.is_agreed and each.logged.is_relevant is not is_llm]
    found.sort(key=lambda each: -abs(each.own.margin or 0.0))
    return [
        {
            "query": each.logged.query[:SHOWN_CHARACTERS],
            "document": each.logged.document[:SHOWN_CHARACTERS],
            "query_id": each.logged.query_id,
            "doc_id": each.logged.doc_id,
            "probability": each.own.probability,
        }
        for each in found[:limit]
    ]
