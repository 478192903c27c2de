"""Which pairs of a comparison are worth a person's time, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any, Literal

from relgrade.records import Pair
from relgrade.shadow.compare import Compared

Reason = Literal["only the LLM keeps it", "only relgrade keeps it", "the LLM gave no verdict", "close to the threshold"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pair to label, and why."""

    compared: Compared
    reason: Reason

    def to_pair(self) -> Pair:
        """A row without a label, as `relgrade audit` and other commands read it."""
        logged, own = self.compared.logged, self.compared.own
        said = {"llm": logged.is_relevant, "relgrade": own.is_relevant, "probability": own.probability}
        document = logged.document if logged.title is None else f"title: {logged.title}\n{logged.document}"
        return Pair(
            query_id=logged.query_id,
            query=logged.query,
            doc_id=logged.doc_id,
            document=document,
            source="shadow",
            fields={"reason": self.reason, **{name: value for name, value in said.items() if value is not None}},
        )

    def to_json(self) -> dict[str, Any]:
        """What the report shows of it."""
        logged, own = self.compared.logged, self.compared.own
        return {
            "query": logged.query[:400],
            "document": logged.document[:400],
            "query_id": logged.query_id,
            "doc_id": logged.doc_id,
            "reason": self.reason,
            "llm": logged.is_relevant,
            "relgrade": own.is_relevant,
            "probability": own.probability,
        }


def labelling_queue(compared: Sequence[Compared], *, limit: int) -> list[Wanted]:
    """The pairs that tell most about which grader to trust, the most telling first.

    Disagreements of both kinds take turns, ours surest first, since one of the two is clearly wrong there; then what
    the LLM could not be read on; then what both agree on and ours is least sure of. Such a choice finds errors, and is
    no sample: shares measured on it say nothing about all pairs (`relgrade audit` draws samples).

    Args:
        compared: each pair once.
        limit: at most so many, >= 0.
    """
    surest = sorted(compared, key=lambda each: -_certainty(each))
    disagreed = [each for each in surest if each.is_whole and not each.is_agreed]
    llm = [Wanted(each, "only the LLM keeps it") for each in disagreed if each.logged.is_relevant]
    own = [Wanted(each, "only relgrade keeps it") for each in disagreed if each.own.is_relevant]
    unread = [Wanted(each, "the LLM gave no verdict") for each in surest if each.logged.is_relevant is None]
    close = [Wanted(each, "close to the threshold") for each in reversed(surest) if each.is_agreed]
    turns = [each for each in chain.from_iterable(zip_longest(llm, own)) if each is not None]
    return [*turns, *unread, *close][:limit]


def _certainty(each: Compared) -> float:
    """Distance to the threshold in log-odds; 0 where there is no verdict."""
    return abs(each.own.margin) if each.own.margin is not None else 0.0
