"""Queries that stand on both sides of a line that none may cross, such as calibration and test."""

from collections.abc import Iterable

from relgrade.bundle.query_prints import query_print
from relgrade.errors import SplitLeak

_SHOWN = 60  # characters of a query in a message


def shared_queries(first: Iterable[str], second: Iterable[str]) -> list[str]:
    """The queries of `first`, each once and in order, that `second` has too.

    Args:
        first: texts of queries; case, spacing and punctuation at the ends do not count.
        second: texts of queries.
    """
    known = {query_print(query) for query in second}
    return [query for query in dict.fromkeys(first) if query_print(query) in known]


def require_apart(queries: Iterable[str], others: Iterable[str], *, what: str) -> None:
    """Refuse queries that others have too.

    Args:
        queries: of the calibration pairs.
        others: that must be none of them.
        what: names the others in the message.

    Raises:
        SplitLeak: some are shared; says how many, and shows one.
    """
    if found := shared_queries(queries, others):
        raise SplitLeak(
            f"{len(found)} calibration queries stand in {what} too, such as {found[0][:_SHOWN]!r}; leave them out of "
            "one of the two: a promise made and checked on the same queries is worth nothing"
        )
