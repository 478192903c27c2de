"""What a run would ask and cost, counted without asking."""

from dataclasses import dataclass
from pathlib import Path

from relgrade.label.journal import Journal
from relgrade.label.plan import CHUNK, Job, Plan, ReadPairs, chunks
from relgrade.label.prompt import make_messages
from relgrade.label.requests import estimate_tokens

_SHORT_REPLY = 64  # tokens a reply of a word or an object is allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run would take."""

    n_pairs: int
    n_requests: int  # to be made: one for each answer that is not there
    n_found: int  # answers that are there
    n_exported: int  # out in a batch
    input_tokens: int  # of the requests, estimated from their bytes
    output_tokens: int  # at most
    cost: float | None  # at most, with the input as estimated; None: no prices


def estimate(read: ReadPairs, plan: Plan, *, journal: Path | str | None) -> Estimate:
    """Count what `label_pairs` would ask, and ask nothing.

    Args:
        read: opens the pairs.
        plan: as for the run.
        journal: answers in it are not asked again; None, or one that is not there: all are.
    """
    n_pairs = n_requests = n_found = n_exported = 0
    tallies = [_Tally(plan, i) for i in range(len(plan.teachers))]
    book = Journal(journal) if journal is not None and Path(journal).exists() else None
    try:
        for chunk in chunks(read(), CHUNK):
            jobs = {job.key: job for pair in chunk for job in plan.jobs(pair)}
            done = set() if book is None else set(book.answers(list(jobs)))
            exported = set() if book is None else set(book.exported(list(jobs))) - done
            left = [job for key, job in jobs.items() if key not in done and key not in exported]
            n_pairs += len(chunk)
            n_requests += len(left)
            n_found += len(done)
            n_exported += len(exported)
            for job in left:
                tallies[job.teacher].add(job)
    finally:
        if book is not None:
            book.close()
    costs = [tally.cost for tally in tallies if tally.cost is not None]
    return Estimate(
        n_pairs=n_pairs,
        n_requests=n_requests,
        n_found=n_found,
        n_exported=n_exported,
        input_tokens=sum(tally.input_tokens for tally in tallies),
        output_tokens=sum(tally.output_tokens for tally in tallies),
        cost=sum(costs) if costs else None,
    )


class _Tally:
    """Tokens of one teacher's requests."""

    def __init__(self, plan: Plan, teacher: int) -> None:
        self._rubric, self._teacher = plan.rubric, plan.teachers[teacher]
        self._method = self._teacher.methods(plan.rubric, n_samples=plan.n_samples)[0]
        self._per_reply = plan.sampling(teacher).max_tokens or _SHORT_REPLY
        self.input_tokens = self.output_tokens = 0

    def add(self, job: Job) -> None:
        """Count a request."""
        messages = make_messages(self._rubric, job.query, job.document, method=self._method)
        self.input_tokens += sum(estimate_tokens(message["content"]) for message in messages)
        self.output_tokens += self._per_reply

    @property
    def cost(self) -> float | None:
        """Of all of them; None: no price."""
        price = self._teacher.price
        return None if price is None else price.of(self.input_tokens, self.output_tokens)
