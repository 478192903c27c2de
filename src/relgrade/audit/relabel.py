"""Sends doubtful labels back and takes corrections in: the queue, and labels that keep what they were before.

A label that is replaced moves into field `label_history`, oldest first, with who gave it; nothing is forgotten.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from relgrade.audit.annotations import Annotation
from relgrade.audit.cases import Case, SampleKey, common_rubric
from relgrade.audit.guideline import GRADED_CUT
from relgrade.audit.judged import LABEL_BY
from relgrade.audit.suspects import Suspicion
from relgrade.errors import InvalidInput
from relgrade.formats.lines import dump_json
from relgrade.formats.write import replaced_file
from relgrade.records import Pair

HISTORY = "label_history"
# They describe the label they came with, and go into the history with it.
_ABOUT_LABEL = (
    *("rubric_hash", "model", "method", "majority", "teacher_grade", "label_mass", "n_samples", "disagreement"),
    *("input_tokens", "output_tokens", "cost", "reply"),
)
_Name = tuple[str | None, str, str]


@dataclass(frozen=True, slots=True)
class Queued:
    """One label to be looked at again."""

    case: Case  # with ids, without a label: whoever judges it again is not told what was said
    suspicion: float  # P(the label is wrong) as far as a student can tell, in [0, 1]


@dataclass(frozen=True, slots=True)
class Correction:
    """A better label for one pair."""

    query_id: str
    doc_id: str
    source: str | None  # None: whatever the pair's is
    label: float  # P(relevant) in [0, 1]
    by: str  # who
    about: Mapping[str, Any] = field(default_factory=dict)  # fields that come with it: people's grade, the model


@dataclass(frozen=True, slots=True)
class Corrected:
    """Labels after corrections, in the order they had."""

    pairs: tuple[Pair, ...]
    n_changed: int  # verdicts that turned
    n_confirmed: int  # pairs whose verdict stands
    n_unknown: int  # corrections of pairs that are not there


def relabel_queue(
    pairs: Sequence[Pair], suspicion: Suspicion, *, judged: Sequence[int] = (), n: int | None = None
) -> tuple[Queued, ...]:
    """The most suspicious labels first.

    Args:
        pairs: those that the suspicion is about.
        suspicion: from `suspect_labels`.
        judged: indices of pairs that people judged already; they are left out.
        n: how many, at most; None: all.

    Raises:
        InvalidInput: the pairs name several rubrics.
    """
    rubric, done = common_rubric(pairs), set(judged)
    kept = [i for i in suspicion.order.tolist() if i not in done][:n]
    ids = "\0".join(f"{pairs[i].source}\0{pairs[i].query_id}\0{pairs[i].doc_id}" for i in kept)
    queue = hashlib.blake2b(ids.encode("utf-8"), digest_size=8).hexdigest()
    return tuple(
        Queued(
            Case(
                case=hashlib.blake2b(f"{queue}\0{i}".encode(), digest_size=8).hexdigest(),
                query=pairs[i].query,
                document=pairs[i].document,
                rubric=rubric,
                queue=queue,
                query_id=pairs[i].query_id,
                doc_id=pairs[i].doc_id,
                source=pairs[i].source,
            ),
            float(suspicion.wrong[i]),
        )
        for i in kept
    )


def write_queue(path: Path, queue: Sequence[Queued]) -> None:
    """Write a line of JSON per pair: `relgrade audit serve` reads it, and a second teacher does as pairs."""
    with replaced_file(path) as file:
        for each in queue:
            row = {name: value for name, value in asdict(each.case).items() if value is not None}
            file.write(dump_json({**row, "suspicion": round(each.suspicion, 6)}).encode("utf-8") + b"\n")


def corrections_from_people(annotations: Sequence[Annotation], *, key: SampleKey | None = None) -> list[Correction]:
    """One correction a pair: what most people said; pairs with as many for as against are left as they are.

    Raises:
        InvalidInput: answers about a drawn sample without its key.
    """
    entries = {} if key is None else {entry.case: entry for entry in key.entries}
    said: dict[_Name, list[Annotation]] = {}
    for each in annotations:
        entry = entries.get(each.case or "")
        if entry is not None:
            name: _Name = (entry.source, entry.query_id, entry.doc_id)
        elif each.query_id is not None and each.doc_id is not None:
            name = (each.source, each.query_id, each.doc_id)
        else:
            raise InvalidInput(f"case {each.case!r} is of a drawn sample; give the key that lies beside it")
        said.setdefault(name, []).append(each)
    corrections = []
    for (source, query_id, doc_id), answers in said.items():
        relevant = [each.answer >= (GRADED_CUT if each.scale == "graded" else 1) for each in answers]
        share = sum(relevant) / len(relevant)
        if share == 0.5:
            continue
        grades = [each.answer for each in answers if each.scale == "graded"]
        corrections.append(
            Correction(
                query_id=query_id,
                doc_id=doc_id,
                source=source,
                label=float(share > 0.5),
                by=", ".join(sorted({each.annotator for each in answers})),
                about={"grade": int(np.quantile(grades, 0.5, method="lower"))} if grades else {},
            )
        )
    return corrections


def corrections_from_labels(pairs: Sequence[Pair], *, by: str | None = None) -> list[Correction]:
    """One correction for each labelled pair, as a second teacher wrote them; `by` stands for field `model`."""
    found = []
    for pair in pairs:
        if pair.label is not None:
            who = str(by or pair.fields.get("model") or "second teacher")
            about = {name: pair.fields[name] for name in _ABOUT_LABEL if name in pair.fields}
            found.append(Correction(pair.query_id, pair.doc_id, pair.source, pair.label, who, about))
    return found


def apply_corrections(pairs: Sequence[Pair], corrections: Sequence[Correction]) -> Corrected:
    """Replace labels and keep what they were. Applying the same corrections again changes nothing.

    Args:
        pairs: not changed.
        corrections: the last one of a pair wins.
    """
    by_name: dict[_Name, Correction] = {(each.source, each.query_id, each.doc_id): each for each in corrections}
    used: set[_Name] = set()
    n_changed = n_confirmed = 0
    found = []
    for pair in pairs:
        names: list[_Name] = [(pair.source, pair.query_id, pair.doc_id), (None, pair.query_id, pair.doc_id)]
        name = next((each for each in names if each in by_name), None)
        if name is None:
            found.append(pair)
            continue
        used.add(name)
        correction = by_name[name]
        is_same_side = pair.label is not None and (pair.label >= 0.5) == (correction.label >= 0.5)
        n_confirmed, n_changed = n_confirmed + is_same_side, n_changed + (not is_same_side)
        found.append(_corrected(pair, correction))
    return Corrected(tuple(found), n_changed, n_confirmed, len(by_name) - len(used))


def _corrected(pair: Pair, correction: Correction) -> Pair:
    fields: dict[str, Any] = dict(pair.fields)
    if pair.label == correction.label and fields.get(LABEL_BY) == correction.by:
        return pair
    history = fields.pop(HISTORY, [])
    if not isinstance(history, list):
        raise InvalidInput(f"pair {pair.query_id!r}, {pair.doc_id!r}: `{HISTORY}` must be a list, got {history!r:.40}")
    before: Mapping[str, Any] = {
        "label": pair.label,
        "by": fields.pop(LABEL_BY, None) or fields.get("model") or "teacher",
        **{name: fields.pop(name) for name in _ABOUT_LABEL if name in fields},
    }
    fields |= {**correction.about, LABEL_BY: correction.by, HISTORY: [*history, before]}
    return replace(pair, label=correction.label, fields=fields)
