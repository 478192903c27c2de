"""The body of a reply to an answer, or to the reason why there is none.

A reply that cannot be read raises `UnusableReply`: it is never taken for "not relevant".
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from relgrade.errors import RelgradeError
from relgrade.label.rubric import Rubric

MIN_LABEL_MASS = 0.1  # below this the first token is no answer: "Based", "<think>"
_MAX_REPLY = 2_000  # characters kept of a reply
_NOT_WORD = " \t\r\n\"'`*_.,:;!?()[]{}#-\u2581\u0120\u010a"  # with the space and line marks of vocabularies
_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", flags=re.DOTALL | re.IGNORECASE)


class UnusableReply(RelgradeError):
    """A reply came, and holds no answer.

    Attributes:
        kind: "refusal", "unparseable", "no-logprobs" or "low-mass".
        reply: its text.
    """

    def __init__(self, message: str, *, kind: str, reply: str = "") -> None:
        self.kind = kind
        self.reply = reply[:_MAX_REPLY]
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An answer as it was read."""

    probability: float  # P(relevant) in [0, 1]
    grade: float | None = None  # of a graded rubric: the expected grade, or the one that was named
    label_mass: float | None = None  # share of the answer token's probability that lay on answers
    reply: str = ""
    is_prose: bool = False  # read from words, whatever was asked for


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request, as the server counted them."""

    input_tokens: int
    output_tokens: int


def read_usage(body: Mapping[str, Any]) -> Usage | None:
    """The tokens a reply says it took; None where it does not say."""
    usage = body.get("usage")
    if not isinstance(usage, Mapping):
        return None
    counts = [
        next((usage[name] for name in names if _is_count(usage.get(name))), None)
        for names in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
    ]
    return None if counts[0] is None else Usage(counts[0], counts[1] or 0)


def reply_text(body: Mapping[str, Any]) -> str:
    """The text of a chat completion.

    Raises:
        UnusableReply: a refusal, a reply cut off before it said anything, or none at all.
    """
    choice = _first_choice(body)
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise UnusableReply("the reply has no message", kind="unparseable", reply=json.dumps(body)[:_MAX_REPLY])
    text = message.get("content")
    if isinstance(text, list):
        text = "".join(str(part.get("text", "")) for part in text if isinstance(part, Mapping))
    text = text if isinstance(text, str) else ""
    if message.get("refusal"):
        raise UnusableReply("the teacher refused", kind="refusal", reply=str(message["refusal"]))
    if choice.get("finish_reason") == "content_filter":
        raise UnusableReply("the server's filter held the reply back", kind="refusal", reply=text)
    spoken = _THINKING.sub("", text).strip()
    if not spoken:
        is_cut = choice.get("finish_reason") == "length"
        reason = "the reply was cut off before the answer; raise max_tokens" if is_cut else "the reply is empty"
        raise UnusableReply(reason, kind="unparseable", reply=text)
    return spoken


def read_logprobs(body: Mapping[str, Any], rubric: Rubric) -> Reading:
    """A soft answer from the probabilities of the first token that is not blank.

    P(relevant) = mass on relevant answers / mass on all answers, each answer's mass being that of all its spellings
    among the listed tokens. An answer that is not among them has mass 0.

    Raises:
        UnusableReply: no logprobs, or hardly any of the mass lies on answers.
    """
    text = reply_text(body)
    logprobs = _first_choice(body).get("logprobs")
    tokens = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(tokens, list) or not tokens:
        raise UnusableReply("the server sent no logprobs", kind="no-logprobs", reply=text)
    position = next((item for item in tokens if _bare(_token(item))), tokens[0])
    listed = position.get("top_logprobs") if isinstance(position, Mapping) else None
    if not isinstance(listed, list) or not listed:
        raise UnusableReply("the server sent no alternatives", kind="no-logprobs", reply=text)
    mass = dict.fromkeys(rubric.answers, 0.0)
    for item in listed:
        logprob = item.get("logprob") if isinstance(item, Mapping) else None
        word = match_token(_token(item), rubric.answers)
        if word is not None and isinstance(logprob, int | float) and not math.isnan(logprob):
            mass[word] += math.exp(min(float(logprob), 0.0))
    total = math.fsum(mass.values())
    if total < MIN_LABEL_MASS:
        raise UnusableReply(f"only {total:.3f} of the probability lies on answers", kind="low-mass", reply=text)
    shares = {rubric.answers[word]: value / total for word, value in mass.items()}
    return _soft_reading(shares, rubric, label_mass=min(total, 1.0), reply=text)


def read_json(body: Mapping[str, Any], rubric: Rubric) -> Reading:
    """An answer from a reply in JSON; one that is not JSON is read as text.

    Raises:
        UnusableReply: neither holds an answer.
    """
    text = reply_text(body)
    start, end = text.find("{"), text.rfind("}")
    if 0 <= start < end:
        try:
            found = json.loads(text[start : end + 1])
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, Mapping):
            named = {str(name).casefold(): value for name, value in found.items()}
            word = match_value(named.get("answer"), rubric.answers)
            if word is not None:
                return _hard_reading(word, rubric, reply=text)
            raise UnusableReply(
                f"the JSON holds none of the answers {', '.join(rubric.words)}", kind="unparseable", reply=text
            )
    return read_text_of(text, rubric)


def read_text(body: Mapping[str, Any], rubric: Rubric) -> Reading:
    """An answer in words.

    Raises:
        UnusableReply: none, or two that contradict each other.
    """
    return read_text_of(reply_text(body), rubric)


def read_text_of(text: str, rubric: Rubric) -> Reading:
    """An answer in the text of a reply; same errors as `read_text`."""
    lines = [line for line in text.splitlines() if _bare(line)]
    answers = rubric.answers
    found: set[str] = set()
    if lines and rubric.verdict == "last-line":
        found = set(_words_in(lines[-1], answers))
    elif lines:
        named = re.findall(r"(?:answer|score|grade|verdict)\W{0,4}(\w+)", text, flags=re.IGNORECASE)
        candidates = [_split(lines[0])[0], _split(lines[-1])[-1], *named]
        found = {word for item in candidates if (word := match_value(item, answers)) is not None}
    if len(found) != 1:
        reason = "two answers that contradict each other" if found else "no answer"
        raise UnusableReply(
            f"{reason} in the reply; {' or '.join(rubric.words)} was asked", kind="unparseable", reply=text
        )
    return replace(_hard_reading(found.pop(), rubric, reply=text), is_prose=True)


def read_system_one(body: Mapping[str, Any], rubric: Rubric, *, question: str) -> Reading:
    """The answer of `/v1/systemone`: a noul, or a score with its probabilities.

    Raises:
        UnusableReply: no such answer, or a number out of range.
    """
    answers = body.get("answers")
    answer = answers.get(question) if isinstance(answers, Mapping) else None
    if not isinstance(answer, Mapping):
        raise UnusableReply("no answer to the question", kind="unparseable", reply=json.dumps(body))
    if rubric.kind == "binary":
        return _decided(answer.get("noul"), answer)
    probabilities = answer.get("probabilities")
    shares = dict(probabilities) if isinstance(probabilities, Mapping) else {}
    return _read_scores(((str(value), share) for value, share in shares.items()), rubric, answer)


def read_decision(body: Mapping[str, Any], rubric: Rubric) -> Reading:
    """The answer of `/v1/decisions`: a predicate, or a score with its probabilities.

    Raises:
        UnusableReply: a refusal, no such answer, or a number out of range.
    """
    answers = body.get("answers")
    answer = answers[0] if isinstance(answers, list) and answers else None
    if not isinstance(answer, Mapping):
        raise UnusableReply("no answer to the question", kind="unparseable", reply=json.dumps(body))
    if answer.get("type") == "refusal":
        raise UnusableReply("the teacher refused", kind="refusal", reply=json.dumps(answer))
    if rubric.kind == "binary":
        return _decided(answer.get("probability"), answer)
    listed = answer.get("probabilities")
    rows = [item for item in listed if isinstance(item, Mapping)] if isinstance(listed, list) else []
    return _read_scores(((str(item.get("value")), item.get("probability")) for item in rows), rubric, answer)


def match_token(token: str, answers: Mapping[str, int]) -> str | None:
    """The answer that a token spells, whole or by a beginning of two or more letters that fits no other answer."""
    bare = _bare(token).casefold()
    if not bare:
        return None
    exact = [word for word in answers if word.casefold() == bare]
    starts = [word for word in answers if len(bare) >= 2 and word.casefold().startswith(bare)]
    found = exact or starts
    return found[0] if len(found) == 1 else None


def match_value(value: Any, answers: Mapping[str, int]) -> str | None:
    """The answer that a value of JSON or a word names: its word, or its number; true and false where there are two."""
    if isinstance(value, bool):
        value = int(value) if len(answers) == 2 else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        return next((word for word, number in answers.items() if number == value), None)
    if not isinstance(value, str):
        return None
    bare = _bare(value).casefold()
    return next((word for word in answers if word.casefold() == bare), None)


def _soft_reading(shares: Mapping[int, float], rubric: Rubric, *, label_mass: float | None, reply: str) -> Reading:
    probability = math.fsum(share for value, share in shares.items() if value >= rubric.relevant_from)
    grade = math.fsum(value * share for value, share in shares.items()) if rubric.kind == "graded" else None
    clipped = min(max(probability, 0.0), 1.0)
    return Reading(probability=clipped, grade=grade, label_mass=label_mass, reply=reply[:_MAX_REPLY])


def _hard_reading(word: str, rubric: Rubric, *, reply: str) -> Reading:
    value = rubric.answers[word]
    grade = float(value) if rubric.kind == "graded" else None
    return Reading(probability=float(value >= rubric.relevant_from), grade=grade, reply=reply[:_MAX_REPLY])


def _decided(probability: Any, answer: Mapping[str, Any]) -> Reading:
    if not _is_number(probability) or not 0.0 <= probability <= 1.0:
        raise UnusableReply(f"no probability in [0, 1]: {probability!r}", kind="unparseable", reply=json.dumps(answer))
    return Reading(probability=float(probability))


def _read_scores(rows: Iterable[tuple[str, Any]], rubric: Rubric, answer: Mapping[str, Any]) -> Reading:
    shares: dict[int, float] = {}
    for name, share in rows:
        if name.isdecimal() and _is_number(share) and share >= 0.0:
            shares[int(name)] = float(share)
    total = math.fsum(shares.values())
    if not shares or max(shares) > rubric.max_value or not 0.5 <= total <= 1.5:  # rounding, not another scale
        raise UnusableReply("no probabilities of the grades", kind="unparseable", reply=json.dumps(answer))
    scaled = {value: share / total for value, share in shares.items()}
    return _soft_reading(scaled, rubric, label_mass=None, reply="")


def _first_choice(body: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, Mapping):
        raise UnusableReply("the reply has no choices", kind="unparseable", reply=json.dumps(body)[:_MAX_REPLY])
    return choice


def _token(item: Any) -> str:
    token = item.get("token") if isinstance(item, Mapping) else None
    return token if isinstance(token, str) else ""


def _bare(text: str) -> str:
    return text.strip(_NOT_WORD)


def _split(line: str) -> list[str]:
    return [item for item in (_bare(part) for part in line.split()) if item] or [""]


def _words_in(line: str, answers: Mapping[str, int]) -> list[str]:
    return [word for item in re.findall(r"\w+", line) if (word := match_value(item, answers)) is not None]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
