"""Asks one teacher for one answer: the body, the ladder when the server refuses it, the reading of the reply."""

from dataclasses import dataclass, replace

from relgrade.label.journal_schema import Answer, Totals
from relgrade.label.ladder import Ladder
from relgrade.label.plan import Job, Plan
from relgrade.label.replies import Reading, UnusableReply, read_text, read_usage
from relgrade.label.requests import (
    body_bytes,
    chat_body,
    decision_body,
    estimate_tokens,
    read_reply,
    system_one_body,
)
from relgrade.label.rubric import Method
from relgrade.label.transport import Received, RequestRejected, Transport

_MAX_STEPS = 12  # every field dropped and every method tried


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer and what all requests for it cost."""

    answer: Answer
    spent: Totals


class RequestTooLarge(RequestRejected):
    """The request is over the limit of one request; it was not sent."""

    def __init__(self, detail: str) -> None:
        super().__init__(0, detail)

    def __str__(self) -> str:
        return self.detail


class Asker:
    """One teacher under one plan.

    Args:
        plan: rubric, sampling, limits.
        teacher: index in the plan.
        ladder: what its server can do.
        transport: to its server.
    """

    def __init__(self, plan: Plan, teacher: int, *, ladder: Ladder, transport: Transport) -> None:
        self._plan, self._index = plan, teacher
        self._teacher = plan.teachers[teacher]
        self._about = plan.about(teacher)
        self._ladder, self._transport = ladder, transport

    def content(self, job: Job, method: Method) -> bytes:
        """The bytes of a request."""
        rubric, model = self._plan.rubric, self._teacher.model
        if self._teacher.api == "systemone":
            return body_bytes(system_one_body(rubric, job.query, job.document, model=model))
        if self._teacher.api == "decisions":
            return body_bytes(decision_body(rubric, job.query, job.document, model=model))
        sampling = self._plan.sampling(self._index, sample=job.sample)
        dropped = self._ladder.dropped
        body = chat_body(
            rubric, job.query, job.document, method=method, model=model, sampling=sampling, dropped=dropped
        )
        return body_bytes(body)

    def most(self, job: Job) -> tuple[float, float]:
        """Tokens and cost a request may take at most: twice the usual tokens of its bytes, and the longest reply."""
        n_input = len(self.content(job, self._ladder.method)) / 2
        n_output = self._plan.sampling(self._index).max_tokens or 64
        price = self._teacher.price
        return n_input + n_output, 0.0 if price is None else price.of(n_input, n_output)

    async def ask(self, job: Job) -> Asked:
        """Ask until there is an answer, or a reply that holds none and leaves nothing to try.

        Raises:
            RequestRejected: the server will not have this pair, or it is over the limit of a request.
            RequestFailed: no try came through.
            TeacherError: the server will have no request.
        """
        method, spent = self._ladder.method, Totals()
        for _ in range(_MAX_STEPS):
            content = self.content(job, method)
            tokens = self._check_size(content)
            try:
                received = await self._transport.post(content, tokens=tokens)
            except RequestRejected as error:
                next_method = self._after_rejection(method, error)
                if next_method is None:
                    raise
                method = next_method
                continue
            usage = self._usage(received, content)
            spent = spent.plus(usage)
            self._transport.tokens.correct(usage.tokens - tokens)
            try:
                reading = self._read(received, method)
            except UnusableReply as error:
                lower = self._after_unusable(method, error)
                if lower is None:
                    return self._asked(job, received, method, spent, error=error)
                method = lower
                continue
            return self._asked(job, received, method, spent, reading=reading)
        raise RequestRejected(0, "the server refused every form of the request")

    def _check_size(self, content: bytes) -> int:
        limits = self._plan.limits
        n_input = estimate_tokens(content)
        n_output = self._plan.sampling(self._index).max_tokens or 64
        if limits.max_request_tokens is not None and n_input + n_output > limits.max_request_tokens:
            raise RequestTooLarge(
                f"about {n_input + n_output:,} tokens, the limit of a request is {limits.max_request_tokens:,}"
            )
        price = self._teacher.price
        cost = 0.0 if price is None else price.of(n_input, n_output)
        if limits.max_request_cost is not None and cost > limits.max_request_cost:
            raise RequestTooLarge(f"would cost up to {cost:g}, the limit of a request is {limits.max_request_cost:g}")
        return n_input + n_output

    def _read(self, received: Received, method: Method) -> Reading:
        try:
            reading = read_reply(received.body, self._plan.rubric, api=self._teacher.api, method=method)
        except UnusableReply as error:
            if error.kind != "no-logprobs":
                raise
            # The reply is paid: what it says in words is taken, and logprobs are not asked for again.
            reading = read_text(received.body, self._plan.rubric)
            self._ladder.give_up(method)
            return reading
        if reading.is_prose and method != "text" and not self._ladder.has_worked(method):
            self._ladder.give_up(method)  # the server passed over the field in silence
        else:
            self._ladder.note_answer(method)
        return reading

    def _after_rejection(self, method: Method, error: RequestRejected) -> Method | None:
        """How to ask next; None gives up."""
        if isinstance(error, RequestTooLarge) or self._teacher.api != "chat" or error.status not in (400, 422, 501):
            return None
        was = self._ladder.method
        if method != was and not self._ladder.has_worked(method):
            return was if self._ladder.has_worked(was) else self._lower(method)
        if self._ladder.note_rejection(method, error.detail):
            return self._ladder.method
        if self._ladder.has_worked(method):
            return None
        return self._lower(method)

    def _lower(self, method: Method) -> Method | None:
        self._ladder.note_fruitless(method)
        return self._ladder.below(method)

    def _after_unusable(self, method: Method, error: UnusableReply) -> Method | None:
        if self._teacher.api != "chat" or error.kind == "refusal":
            return None
        if error.kind == "no-logprobs":
            lower = self._ladder.below(method)
            self._ladder.give_up(method)
            return lower
        # First tokens that are no answers come with single documents too; a schema that failed once fails again.
        if method == "logprobs" or not self._ladder.has_worked(method):
            return self._lower(method)
        return None

    def _usage(self, received: Received, content: bytes) -> Totals:
        usage = read_usage(received.body)
        n_input = estimate_tokens(content) if usage is None else usage.input_tokens
        n_output = 0 if usage is None else usage.output_tokens
        price = self._teacher.price
        cost = 0.0 if price is None else price.of(n_input, n_output)
        return Totals(requests=1, input_tokens=n_input, output_tokens=n_output, cost=cost)

    def _asked(
        self,
        job: Job,
        received: Received,
        method: Method,
        spent: Totals,
        *,
        reading: Reading | None = None,
        error: UnusableReply | None = None,
    ) -> Asked:
        served = received.body.get("model")
        answer = Answer(
            key=job.key,
            about=self._about,
            method=method if self._teacher.api == "chat" else self._teacher.api,
            served_model=served if isinstance(served, str) else None,
            input_tokens=spent.input_tokens,
            output_tokens=spent.output_tokens,
            cost=None if self._teacher.price is None else spent.cost,
        )
        if error is not None:
            return Asked(replace(answer, error=str(error), kind=error.kind, reply=error.reply), spent)
        assert reading is not None
        was_chat = self._teacher.api == "chat"
        return Asked(
            replace(
                answer,
                method="text" if was_chat and reading.is_prose else answer.method,
                probability=reading.probability,
                grade=reading.grade,
                label_mass=reading.label_mass,
                reply=reading.reply,
            ),
            spent,
        )
