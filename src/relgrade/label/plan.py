"""What is to be asked: rubric, teachers and samples, and the key under which each answer is kept."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from relgrade.errors import InvalidSettings
from relgrade.label.limits import Limits
from relgrade.label.requests import Api, sampling_for
from relgrade.label.rubric import Method, Rubric, Sampling
from relgrade.label.teacher import Teacher
from relgrade.records import Pair

ReadPairs = Callable[[], Iterable[Pair]]  # opens the pairs anew; they may be read several times
CHUNK = 32  # pairs handled together


@dataclass(frozen=True, slots=True)
class Job:
    """One request to be made, if nobody has its answer."""

    key: str
    teacher: int  # index in the plan
    sample: int  # from 0
    query: str
    document: str


@dataclass(frozen=True, slots=True)
class Plan:
    """How pairs are labelled."""

    rubric: Rubric
    teachers: tuple[Teacher, ...]
    n_samples: int = 1  # of each teacher
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.teachers:
            raise InvalidSettings("a plan needs at least one teacher")
        if self.n_samples < 1:
            raise InvalidSettings(f"n_samples must be at least 1, got {self.n_samples!r}")
        abouts = [self.about(i) for i in range(len(self.teachers))]
        if len(set(abouts)) < len(abouts):
            raise InvalidSettings("two teachers are the same model asked the same way; for several answers set samples")
        for i, teacher in enumerate(self.teachers):
            teacher.methods(self.rubric, n_samples=self.n_samples)
            if self.n_samples > 1 and (teacher.api != "chat" or self.sampling(i).temperature == 0):
                raise InvalidSettings(
                    f"{teacher.model}: several samples would be one and the same; set a temperature above 0"
                    if teacher.api == "chat"
                    else f"{teacher.model}: a decision API gives one probability; ask for one sample"
                )
            needs_price = self.limits.max_cost is not None or self.limits.max_request_cost is not None
            if needs_price and teacher.price is None:
                raise InvalidSettings(f"a limit in money needs the price of {teacher.model}; give it, or limit tokens")

    @property
    def model(self) -> str:
        """Names of the teachers."""
        return " + ".join(teacher.model for teacher in self.teachers)

    @property
    def n_answers(self) -> int:
        """Answers asked for each pair."""
        return len(self.teachers) * self.n_samples

    def sampling(self, teacher: int, *, sample: int = 0) -> Sampling:
        """As it is sent."""
        return sampling_for(self.rubric, self.teachers[teacher].sampling, sample=sample)

    def about(self, teacher: int) -> str:
        """Digest of rubric, model and sampling: everything that makes answers comparable."""
        each = self.teachers[teacher]
        return about_digest(
            self.rubric, model=each.model, api=each.api, method=each.method, sampling=self.sampling(teacher)
        )

    def jobs(self, pair: Pair) -> list[Job]:
        """The requests of a pair; pairs with the same texts have the same."""
        return [
            Job(answer_key(self.about(i), sample, pair.query, pair.document), i, sample, pair.query, pair.document)
            for i in range(len(self.teachers))
            for sample in range(self.n_samples)
        ]


def about_digest(rubric: Rubric, *, model: str, api: Api, method: Method | None, sampling: Sampling) -> str:
    """The digest of `Plan.about`. The server is not in it: a model is the same on another port."""
    content = {"rubric": rubric.hash, "model": model, "api": api, "method": method, "sampling": asdict(sampling)}
    return _digest(json.dumps(content, sort_keys=True))


def answer_key(about: str, sample: int, query: str, document: str) -> str:
    """32 hexadecimal digits that name an answer by its content."""
    return _digest(f"{about}\0{sample}\0{len(query)}\0{query}\0{document}")


def describe(plan: Plan, teacher: int) -> Mapping[str, Any]:
    """What the digest `about` stands for, so that a batch that comes back can be read without the plan."""
    each = plan.teachers[teacher]
    price = None if each.price is None else asdict(each.price)
    sampling = asdict(plan.sampling(teacher))
    return {"rubric": plan.rubric.to_json(), "model": each.model, "api": each.api, "sampling": sampling, "price": price}


def chunks(pairs: Iterable[Pair], size: int) -> Iterator[list[Pair]]:
    """Pairs in lists of `size`, the last one shorter."""
    iterator = iter(pairs)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
