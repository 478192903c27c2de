"""What the replies of a model that answers in words say about it, before any label is looked at."""

from collections.abc import Collection, Iterator

from relgrade.paper.readings import Reply
from relgrade.student.generative import ANSWERS

MAX_UNPARSED = 0.5  # of the replies; above it a measure that takes them as FAIL says what was asked, not what was known


def diagnose_replies(replies: Collection[Reply]) -> Iterator[str]:
    """Sentences about a model that does not answer, or answers the same to every pair."""
    verdicts = [reply.verdict for reply in replies if reply.verdict is not None]
    n_unparsed = len(replies) - len(verdicts)
    if n_unparsed > MAX_UNPARSED * len(replies):
        yield (
            f"{n_unparsed:,} of {len(replies):,} replies say neither {ANSWERS[0]} nor {ANSWERS[1]}, or both: counted "
            f"as {ANSWERS[1]} they decide every measure. Read the next-token probability where there is one, give "
            "another rubric, or take a model that was taught to follow instructions"
        )
    if len(verdicts) > 1 and len(set(verdicts)) == 1:
        word = ANSWERS[0] if verdicts[0] else ANSWERS[1]
        yield (
            f"all {len(verdicts):,} replies that parse say {word}: the answer does not depend on the pair. Read the "
            "next-token probability where there is one, give another rubric, or take a larger model"
        )
