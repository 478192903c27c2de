"""What annotators are told: the definition of "relevant" of a rubric, and the answers they can give."""

from dataclasses import dataclass

from relgrade.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer."""

    value: int  # 0 and 1, or a grade from 0 to 3; also the key that gives it
    name: str


@dataclass(frozen=True, slots=True)
class Guideline:
    """The definition people judge by."""

    rubric: str
    text: str  # plain text, paragraphs divided by blank lines
    choices: tuple[Choice, ...]  # rising

    @property
    def scale(self) -> str:
        """`binary` or `graded`."""
        return "binary" if len(self.choices) == 2 else "graded"


BINARY = (Choice(0, "Not relevant"), Choice(1, "Relevant"))
GRADED = (Choice(0, "Irrelevant"), Choice(1, "Related"), Choice(2, "Relevant"), Choice(3, "Perfect"))
GRADED_CUT = 2  # the lowest grade that counts as relevant

_ANSWER = (
    "Relevant: the document holds the answer to the query, or all that is needed to work it out.\n\n"
    "Not relevant: it is about the same topic, the same people or the same words, and the answer is not in it.\n\n"
)
_PARTIAL = (
    "Relevant: the document holds the answer, or at least one fact that the answer needs.\n\n"
    "Not relevant: nothing in it would go into a correct answer.\n\n"
)
_TOPICAL = (
    "Relevant: the document is about what the query asks about; it need not answer it.\n\n"
    "Not relevant: it is about something else, though words may be the same.\n\n"
)
_GRADED = (
    "0 Irrelevant: it has nothing to do with the query.\n\n"
    "1 Related: on the topic, without an answer.\n\n"
    "2 Relevant: it has some answer, but unclear, partial, or hidden among other things.\n\n"
    "3 Perfect: it is devoted to the query and holds the exact answer.\n\n"
)
_RULES = (
    "Judge by the text alone, not by what you know. A false answer that is stated clearly counts as an answer. "
    "Skip when you cannot tell; a guess costs more than a gap."
)
_TEXTS = {
    "answer-bearing": _ANSWER,
    "pass-fail": _ANSWER,
    "partial-evidence": _PARTIAL,
    "topical": _TOPICAL,
    "graded-0-3": _GRADED,
}


def guideline_for(rubric: str, *, text: str | None = None) -> Guideline:
    """The guideline of a rubric.

    Args:
        rubric: its name, perhaps with a version after `@`; a name that begins with `graded` is answered by 0 to 3.
        text: stands in place of the text that is known for the name.

    Raises:
        InvalidInput: no text, and none is known for the name; or a blank one.
    """
    name = rubric.partition("@")[0]
    if text is None and name not in _TEXTS:
        raise InvalidInput(f"no guideline is known for rubric {rubric!r} (known: {', '.join(_TEXTS)}); give its text")
    if text is not None and not text.strip():
        raise InvalidInput("the guideline is blank; annotators need to know what counts as relevant")
    return Guideline(rubric, text or _TEXTS[name] + _RULES, GRADED if name.startswith("graded") else BINARY)
