"""What the replies of a model that answers in words say about it, before any label is looked at."""

from collections.abc import Collection, Iterator, Mapping

from relgrade.paper.readings import Reply
from relgrade.paper.settings import Method

MAX_UNPARSED = 0.5  # of the replies; above it a measure that takes them as FAIL says what was asked, not what was known
_REMEDIES: Mapping[Method, str] = {
    "judge": "give another rubric, or take a model that was taught to follow instructions",
    "stock": "read its next-token probability, or take a base that was taught to follow instructions",
    "A": "read its next-token probability, or train it on more pairs, or at a higher rate",
}


def diagnose_replies(replies: Collection[Reply], method: Method) -> Iterator[str]:
    """Sentences about a model that does not answer, or answers the same to every pair."""
    verdicts = [reply.verdict for reply in replies if reply.verdict is not None]
    n_unparsed = len(replies) - len(verdicts)
    if n_unparsed > MAX_UNPARSED * len(replies):
        yield (
            f"{n_unparsed:,} of {len(replies):,} replies hold no answer, or two: counted as not relevant they decide "
            f"every measure; {_REMEDIES[method]}"
        )
    if len(verdicts) > 1 and len(set(verdicts)) == 1:
        said = "relevant" if verdicts[0] else "not relevant"
        yield f"all {len(verdicts):,} replies that parse say {said}, whatever the pair; {_REMEDIES[method]}"
