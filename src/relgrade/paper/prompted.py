"""The stock model: prompted, untrained, its words parsed and the probability of its next token read."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relgrade.paper.readings import Reply
from relgrade.paper.samples import Samples
from relgrade.paper.scoring import Key, reading_device, reading_precision, score_in_pieces
from relgrade.paper.settings import PaperSettings, RowSettings
from relgrade.records import Pair
from relgrade.student.generative import ANSWERS, GenerativeStudent


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a prompted model said, and what asking took."""

    replies: Mapping[Key, Reply]
    has_probabilities: bool
    n_parameters: int | None  # None: it is behind a server
    seconds: float
    details: Mapping[str, Any] = field(default_factory=dict)  # JSON


def ask_stock(
    row: RowSettings,
    settings: PaperSettings,
    samples: Samples,
    *,
    folder: Path,
    on_piece: Callable[[str, int, int], None],
) -> Asked:
    """Ask the table's base model about every test pair.

    Raises:
        TrainingError: the base cannot be loaded, or is no language model.
        InvalidSettings: the table's template is not `pass-fail`.
    """
    student = GenerativeStudent.build(settings.student, seed=settings.seed).to(reading_device())
    started_s = time.monotonic()
    rows = ask_in_words(student, samples.tested(), folder / "replies.jsonl", settings, on_piece)
    return Asked(
        replies={key: read_reply(each) for key, each in rows.items()},
        has_probabilities=True,
        n_parameters=sum(parameter.numel() for parameter in student.parameters()),
        seconds=time.monotonic() - started_s,
        details={"mean_answer_mass": sum(each["mass"] for each in rows.values()) / len(rows)},
    )


def ask_in_words(
    student: GenerativeStudent,
    pairs: Sequence[Pair],
    path: Path,
    settings: PaperSettings,
    on_piece: Callable[[str, int, int], None],
) -> dict[Key, dict[str, Any]]:
    """The reply to each pair as JSON (`logit`, `mass`, `text`), written to `path` as they come."""

    def ask(piece: Sequence[Pair]) -> list[dict[str, Any]]:
        with reading_precision(settings, student):
            said = [student.reply(pair) for pair in piece]
        return [{"logit": each.logit, "mass": each.mass, "text": each.text} for each in said]

    return score_in_pieces(pairs, path, ask, piece=16, on_piece=lambda done, total: on_piece("ask", done, total))


def read_reply(row: Mapping[str, Any]) -> Reply:
    """A verdict where exactly one of the two words stands in the reply; anything else does not parse."""
    found = {word for word in ANSWERS if word in _words(row["text"])}
    verdict = found == {ANSWERS[0]} if len(found) == 1 else None
    return Reply(verdict, row["text"], row["logit"])


def _words(text: str) -> set[str]:
    return {word.strip("*_`\"'.,:;!?()[]").upper() for word in text.split()}
