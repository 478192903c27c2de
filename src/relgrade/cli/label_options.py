"""Options that several commands of `relgrade label` take, and how they become a plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from relgrade.label.requests import APIS
from relgrade.label.rubric import DEFAULT_RUBRIC, METHODS, Sampling, read_rubric
from relgrade.label.teacher import Price, Teacher, read_prices

if TYPE_CHECKING:
    from relgrade.label.plan import Plan, ReadPairs

_Command = TypeVar("_Command", bound=Callable[..., Any])
_PLAN_OPTIONS = (
    click.option(
        "--model", "models", multiple=True, required=True, help="Name of the model at its server; repeatable."
    ),
    click.option(
        "--rubric", default=DEFAULT_RUBRIC, show_default=True, help="What relevant means: a name, or a .toml."
    ),
    click.option("--samples", default=1, show_default=True, type=click.IntRange(1), help="Answers of each teacher."),
    click.option("--temperature", type=float, help="Of replies; default: the rubric's, mostly 0."),
    click.option("--top-p", type=float, help="Of replies; default: the rubric's."),
    click.option("--max-reply-tokens", type=click.IntRange(1), help="Of replies; default: what an answer needs."),
    click.option("--seed", type=int, help="Of replies, where the server takes one; sample i gets seed + i."),
    click.option("--prices", type=click.Path(), help='TOML of prices per million tokens: ["MODEL"] input=.. output=..'),
    click.option("--journal", type=click.Path(), help="What was answered; default: LABELS.journal."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """The options of `plan_options`, as given."""

    models: Sequence[str]
    rubric: str
    samples: int
    temperature: float | None
    top_p: float | None
    max_reply_tokens: int | None
    seed: int | None
    prices: str | None
    journal: str | None

    @classmethod
    def take(cls, options: dict[str, Any]) -> PlanOptions:
        """Take them out of a command's options."""
        return cls(**{name: options.pop(name) for name in cls.__slots__})

    def plan(
        self,
        urls: Sequence[str],
        *,
        api: str = "chat",
        method: str | None = None,
        api_key_env: str | None = None,
        **limits: Any,
    ) -> Plan:
        """The plan; one URL serves all models, else each has its own."""
        from relgrade.label.limits import Limits
        from relgrade.label.plan import Plan

        if len(urls) not in (1, len(self.models)):
            raise click.UsageError(
                f"give one --teacher, or one for each --model; got {len(urls)} and {len(self.models)}"
            )
        places = list(urls) * len(self.models) if len(urls) == 1 else list(urls)
        rubric = read_rubric(self.rubric)
        base = rubric.sampling
        sampling = Sampling(
            temperature=base.temperature if self.temperature is None else self.temperature,
            top_p=base.top_p if self.top_p is None else self.top_p,
            max_tokens=self.max_reply_tokens or base.max_tokens,
            seed=base.seed if self.seed is None else self.seed,
        )
        prices: dict[str, Price] = read_prices(self.prices) if self.prices else {}
        teachers = tuple(
            Teacher(
                url=url,
                model=model,
                api=api,  # type: ignore[arg-type]  # click holds it to the names
                method=method,  # type: ignore[arg-type]
                sampling=sampling,
                api_key_env=api_key_env,
                price=prices.get(model),
            )
            for url, model in zip(places, self.models, strict=True)
        )
        return Plan(rubric, teachers, n_samples=self.samples, limits=Limits(**limits))

    def journal_for(self, output: str | Path) -> Path:
        """The journal that was named, or the one beside the output."""
        return Path(self.journal) if self.journal else Path(f"{output}.journal")


def plan_options(command: _Command) -> _Command:
    """Add the options of `PlanOptions`."""
    for option in reversed(_PLAN_OPTIONS):
        command = option(command)
    return command


API = click.option("--api", type=click.Choice(APIS), default="chat", show_default=True, help="What the server speaks.")
METHOD = click.option("--method", type=click.Choice(METHODS), help="How to get answers; default: the best that works.")


def pairs_reader(path: str, *, source: str | None = None, split: str | None = None) -> ReadPairs:
    """Opens the pairs anew each time it is called; they must be a file, since they are read more than once."""
    from relgrade.formats import read_pairs

    return lambda: read_pairs(path, source=source, split=split)
