"""How a base model's tokenizer becomes a `PairTemplate`: the ids around a query and a document.

Everything a tokenizer knows of special tokens and chat templates is used up here; later steps see ids alone.
"""

from typing import Any

from relgrade.encoding import PairTemplate
from relgrade.errors import InvalidSettings
from relgrade.settings import StudentSettings

INSTRUCTION = (
    "You decide whether retrieved text is of use. You are given a QUESTION and DOCUMENTS. "
    'Reply with "PASS" if the DOCUMENTS are relevant in answering the QUESTION, and with "FAIL" if they are not.'
)
MAX_DOCUMENT_WORDS = 300  # of the pass-fail prompt, as in the paper it follows

_QUERY, _DOCUMENT = "RELGRADE-QUERY-PLACE", "RELGRADE-DOCUMENT-PLACE"
# A line break before each text: the texts are tokenised on their own, and after one a tokenizer starts afresh.
_BODY = f"QUESTION:\n{_QUERY}\n\nDOCUMENTS:\n{_DOCUMENT}"
_CUE = "\n\nPASS or FAIL:"  # ends the prompt where no chat template opens the reply
# Some chat templates print today's date, which would make a prompt of today's students differ from tomorrow's.
_DATE = "01 Jan 2025"


def build_template(tokenizer: Any, settings: StudentSettings, *, has_type_ids: bool) -> PairTemplate:
    """The template that the settings name, for one tokenizer.

    Args:
        tokenizer: transformers' fast tokenizer.
        settings: `template`, `max_tokens` and `max_query_tokens` are read.
        has_type_ids: whether the model tells a second segment from the first.

    Raises:
        InvalidSettings: no room for a document, or a chat template that does not show both texts once, in order.
    """
    if settings.template == "pass-fail":
        prefix, separator, suffix = _pass_fail_parts(tokenizer)
    else:
        prefix, separator, suffix = _pair_parts(tokenizer)
    n_needed = len(prefix) + len(separator) + len(suffix) + settings.max_query_tokens + 1
    if n_needed > settings.max_tokens:
        raise InvalidSettings(
            f"student.max_tokens ({settings.max_tokens}) leaves no room for a document: template "
            f"{settings.template!r} and student.max_query_tokens ({settings.max_query_tokens}) take {n_needed - 1}"
        )
    return PairTemplate(
        prefix=tuple(prefix),
        separator=tuple(separator),
        suffix=tuple(suffix),
        max_tokens=settings.max_tokens,
        max_query_tokens=settings.max_query_tokens,
        max_document_words=MAX_DOCUMENT_WORDS if settings.template == "pass-fail" else None,
        has_type_ids=has_type_ids,
    )


def _pair_parts(tokenizer: Any) -> tuple[list[int], list[int], list[int]]:
    """The special tokens that the tokenizer itself puts around two texts."""
    encoding = tokenizer("a", "a").encodings[0]
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    n_seen = 0
    for token, sequence in zip(encoding.ids, encoding.sequence_ids, strict=True):
        if sequence is None:
            parts[n_seen].append(token)
        else:
            n_seen = sequence + 1
    if not parts[1]:  # such a tokenizer would glue the two texts together
        parts[1].extend(_ids(tokenizer, "\n\n") or [tokenizer.sep_token_id or tokenizer.eos_token_id])
    return parts


def _pass_fail_parts(tokenizer: Any) -> tuple[list[int], list[int], list[int]]:
    if tokenizer.chat_template:
        before, after = [], []
        text = _chat(tokenizer)
    else:
        encoding = tokenizer("a").encodings[0]
        places = [i for i, sequence in enumerate(encoding.sequence_ids) if sequence is not None]
        before, after = encoding.ids[: places[0]], encoding.ids[places[-1] + 1 :]
        text = f"{INSTRUCTION}\n\n{_BODY}{_CUE}"
    if text.count(_QUERY) != 1 or text.count(_DOCUMENT) != 1 or text.index(_QUERY) > text.index(_DOCUMENT):
        raise InvalidSettings(
            "the tokenizer's chat template does not show the user's message once and unchanged, so template "
            "'pass-fail' cannot be built from it; use template 'pair' or another base"
        )
    head, rest = text.split(_QUERY)
    middle, tail = rest.split(_DOCUMENT)
    return [*before, *_ids(tokenizer, head)], _ids(tokenizer, middle), [*_ids(tokenizer, tail), *after]


def _chat(tokenizer: Any) -> str:
    """The conversation up to where the model would reply, as text."""
    from jinja2.exceptions import TemplateError  # a requirement of torch, and of chat templates

    user = {"role": "user", "content": _BODY}
    options = {"tokenize": False, "add_generation_prompt": True, "date_string": _DATE}
    try:
        text: str = tokenizer.apply_chat_template([{"role": "system", "content": INSTRUCTION}, user], **options)
    except TemplateError:
        text = ""
    if INSTRUCTION not in text:  # Gemma and others know no system role: they refuse it, or leave it out
        user["content"] = f"{INSTRUCTION}\n\n{_BODY}"
        text = tokenizer.apply_chat_template([user], **options)
    return text


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids
