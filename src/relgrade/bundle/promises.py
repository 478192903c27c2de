"""What an operating point promises, in words, and the table of a bundle's points."""

from collections.abc import Iterator, Sequence

from relgrade.bundle.markdown import table
from relgrade.records import OperatingPoint, Promise

NO_PROMISE = "nothing: chosen for the best F1"


def promise_in_words(promise: Promise | None) -> str:
    """One clause without its certainty: "of the documents kept, at least 80 % are relevant"."""
    if promise is None:
        return NO_PROMISE
    share = f"{100 * promise.target:g} %"
    return {
        "precision": f"of the documents kept, at least {share} are relevant",
        "recall": f"of the relevant documents, at least {share} are kept",
        "lost-queries": f"of the queries with a relevant document, at most {share} lose all of them",
        "false-keeps": f"of the queries without a relevant document, at most {share} keep any document",
    }[promise.kind]


def points_table(points: Sequence[OperatingPoint], *, default: str | None = None) -> Iterator[str]:
    """Lines of Markdown: threshold, promise, its risk and bound, and what was seen on the calibration queries.

    Args:
        points: in their order.
        default: name of the one that decides unless another is asked for; None marks none.
    """
    columns = ["point", "threshold", "promises", "wrong in at most", "bound", "queries", "precision", "recall"]
    rows = []
    for point in points:
        promises, evidence = promise_in_words(point.promise), point.evidence
        if point.promise is None and "fallback" in evidence:
            promises = "nothing here: the pooled point, since the collection's own queries support none"
        elif point.promise is None and "F1" not in str(evidence.get("chosen_by")):
            promises = "nothing"
        risk = "" if point.promise is None else f"{100 * point.promise.delta:g} % of calibrations"
        seen = [evidence.get(name, "") for name in ("bound", "n_queries", "precision", "recall")]
        seen = ["" if value is None else value for value in seen]
        name = f"{point.name} (default)" if point.name == default else point.name
        rows.append([name, f"{point.threshold:.4f}", promises, risk, *seen])
    yield from table(columns, rows).splitlines()
